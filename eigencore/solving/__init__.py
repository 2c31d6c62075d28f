"""Solving: k eigenpairs of an operator, within a budget, with a certificate.

- `solve`: the function `eigencore.solve`, which checks its arguments and selects the solver.
- `loop`: one solve; it consumes the solver's snapshots and decides when to stop.
- `budget`, `clock`, `interrupt`, `callback`: products and seconds; the clock of a run; Ctrl-C and
  SIGTERM; exceptions of the caller's function.
- `product_checks`: every product must be finite, and the first few symmetric.
- `certificate`: fresh products bound the error of the answer and decide which pairs have converged.
- `advice`: how the solve ended, and what to do next.

The function `solve` is not exported from here, because the module of the same name would hide it: import it
from `eigencore`, or from `eigencore.solving.solve`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
