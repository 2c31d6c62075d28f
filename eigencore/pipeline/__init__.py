"""A whole run: problem, operator, eigenpairs, analyses, and what is saved of it.

- `run`: the function `analyze`.
- `resumption`: the journal of a run, and what must be the same when it is resumed.
- `samples`: the analyses that run from a sample of the data, and what they are given.
- `setup`: what a run works with, from validated arguments.
- `monitoring`: the class `Monitor`, which looks at a network while it is trained.
- `spectral`: the functions `density`, `trace`, `diagonal` and `norms`, each a run of one analysis.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
