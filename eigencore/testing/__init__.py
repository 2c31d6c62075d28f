"""What plugin authors test with.

    from eigencore.testing import check_solver, solver_checks

`checks` says how; `gallery` and `spectra` hold matrices of known spectrum. Imported when first used: pytest
loads this package in every project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.testing.checks import check_solver as check_solver
    from eigencore.testing.checks import solver_checks as solver_checks

__all__ = ["check_solver", "solver_checks"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'eigencore.testing' has no attribute {name!r}")
        return getattr(import_module("eigencore.testing.checks"), name)
