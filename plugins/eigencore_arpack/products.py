"""Products on the host, and the map given to ARPACK: scaled and shifted, to make its test the request's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array, Floats

# The shift relative to ||A||. On graph Laplacians, `eigsh` always found the eigenvalue 0 with 1e-3 and 1e-1,
# but often not with 1e-6 or less; with a larger shift, its test of small eigenvalues is too lenient.
SHIFT = 2.0**-10


class HostProduct:
    """The map v -> A v on host arrays.

    Attributes:
        eps: the rounding unit of the operator.
        dtype: NumPy's type of this precision, float32 or float64.
        norm: the largest ||A v|| of a unit vector so far, a lower bound of ||A||.
    """

    def __init__(self, operator: LinearOperator):
        self.operator, self.eps = operator, arrays.eps(operator)
        self.dtype: np.dtype[Any] = np.dtype(np.float64 if self.eps < 1e-12 else np.float32)
        self.norm = 0.0

    def __call__(self, v: Any) -> Floats:
        """A v for a unit vector (n,), or A V for a block (n, b) of unit vectors, in float64."""
        V = self.on_device(v)
        AV = arrays.to_host(self.operator.matvec(V) if v.ndim == 1 else self.operator.matmat(V))
        self.norm = max(self.norm, *(arrays.norm(column) for column in AV.reshape(len(AV), -1).T))
        return AV

    def on_device(self, v: Floats) -> Array:
        return arrays.from_host(v, self.operator)


class ArpackProduct:
    """The map v -> (A / unit + shift) v in the operator's precision, whose eigenpairs ARPACK computes.

    Unit: ARPACK accepts a pair at the residual tol max(|theta|, eps^(2/3)), whatever the norm. The unit, a
    power of two, is such that tol eps^(2/3) is the precision floor 4 eps ||A||, as in the request.

    Shift: with LA, SA and BE, the eigenvalue 0 of a singular matrix may be wanted. `eigsh` then often returns
    the next ones instead. The shift moves 0, and the eigenvalues on its inner side, away from 0.

    Attributes:
        tol: ARPACK's tolerance.
    """

    def __init__(self, product: HostProduct, request: Request):
        self.product, self.dtype = product, product.dtype
        # A shift away from zero at most doubles values that are larger than the shift. The precision floor
        # bounds the tolerance that ARPACK can reach.
        tol = request.tol if request.which == "LM" else request.tol / 2
        self.tol = max(tol, 4 * product.eps)
        self._smallest = float(np.finfo(self.dtype).eps) ** (2 / 3)
        self._direction = {"LM": 0, "LA": -1, "SA": 1, "BE": 1}[request.which]
        self._unit = self._shift = 0.0
        self._products = 0

    def __call__(self, v: Any) -> Any:
        Av = self.product(v)
        if self._unit == 0 and self.product.norm > 0:
            size = self.tol * self._smallest / (4 * self.product.eps)
            self._unit = 2.0 ** math.floor(math.log2(self.product.norm / size))
            if self._products == 0:  # a start in the null space was multiplied without a shift
                self._shift = self._direction * SHIFT * self.product.norm / self._unit
        self._products += 1
        return (Av / (self._unit or 1.0) + self._shift * v).astype(self.dtype)

    def values_and_bounds(self, found: Any) -> tuple[Floats, Floats]:
        """The eigenvalues (m,) of A for those that ARPACK found, and the bounds of their residuals."""
        found = found.astype(np.float64)
        bounds = self.tol * np.maximum(np.abs(found), self._smallest)
        return (found - self._shift) * self._unit, bounds * self._unit
