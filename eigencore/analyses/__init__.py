"""Analyses of a problem and its eigenpairs.

- `schedule`: selects the analyses of a run, and runs them so that a failed one does not affect the rest.
- `layer_blocks`, with `block_products` and `block_estimates`: the function `layers`.
- `layer_result`, with `layer_figures`: what it returns.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
