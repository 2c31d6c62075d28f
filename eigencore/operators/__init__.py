"""Symmetric linear operators, in any array library.

- `conversion`: `as_operator` makes an operator from anything that multiplies vectors.
- `matrix_like`: products by `@`, and use with SciPy, for the class of an operator.
- `weights`: vectors in the shapes of parameters, for the class of an operator over weights.
- `counting`: operators that count their products.
- `journaled`: operators whose products pass through the journal of a run.
- `draws`: weighted random samples of the data, for operators that are means over samples.
- `caching`: freeing the intermediate results that an operator keeps between products.
- `algebra`: sums, multiples, shifts, congruences, projections and restrictions.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
