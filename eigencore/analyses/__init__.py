"""Analyses of a problem and its eigenpairs.

- `schedule`: which analyses run, and running each so that one that fails costs nothing but itself.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
