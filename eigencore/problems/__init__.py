"""Problems: a model with its data and loss, or an operator that is given directly.

- `lookup`: from the name of a registered problem, a file or a module to a Problem.
- `binding`: a Problem on a backend, and its operators.
- `sharing`: what backends have in common.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
