"""Problems: a model with its data and loss, or an operator that is given directly.

- `lookup`: finds a Problem by the name of a registered problem, of a factory in a file or a module, or of the
  file of a matrix.
- `matrix_files`: symmetric matrices in files.
- `contained_arrays`: the arrays that a part of a problem contains, for its digest and its precision.
- `binding`: binds a Problem to a backend, which provides its operators.
- `sharing`: what backends have in common.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
