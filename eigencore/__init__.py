"""Certified top eigenvalues of a network's Hessian, and what they say about how easily it can be fooled.

import eigencore

run = eigencore.analyze("demo:digits", k=5)         # problem -> operator -> eigenpairs -> analyses
result = eigencore.solve(matrix, k=5, which="LA")   # from anything that multiplies vectors

The public names are listed in `__init__.pyi`, and each is imported when it is first used. They are stable
within a minor version, as are the modules `interfaces`, `training`, `entries`, `arrays`, `operators` and
`testing`.

The library prints nothing. Progress is logged under "eigencore": the end of each solve and analysis at
level INFO, each snapshot of a solver at DEBUG. `logging.basicConfig(level=logging.INFO)` shows it.
"""

from __future__ import annotations

import logging

import lazy_loader

_attribute, _names, __all__ = lazy_loader.attach_stub(__name__, __file__)

logging.getLogger("eigencore").addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("eigencore")
    if name not in __all__:
        raise AttributeError(f"module 'eigencore' has no attribute {name!r}")
    value: object = _attribute(name)
    return value


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
