"""Operators on NumPy with an approximation: one that rounds, as products in low precision do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import numpy as xp

from eigencore.interfaces import Approximation
from eigencore.operators import FunctionOperator

Floats = npt.NDArray[np.float64]
NAME, REMEDY = "rounded products", "set rounding=none"


def rounded(x: Floats, bits: int) -> Floats:
    """x with this many significant bits."""
    mantissa, exponent = np.frexp(x)
    return np.asarray(np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent))


class Approximated(FunctionOperator):
    """A symmetric matrix A, whose approximation is another one, and rounds what it multiplies by that.

    Args:
        A: the matrix (n, n).
        bits: the significant bits of the numbers in the approximation, its vectors and its products.
        B: the matrix of the approximation; None: A with its numbers rounded.

    Attributes:
        own, cheap: the products with A and with its approximation.
    """

    def __init__(self, A: Floats, bits: int, B: Floats | None = None):
        self.own = self.cheap = 0
        B = rounded(A, bits) if B is None else B

        def multiply(V: Floats) -> Floats:
            self.own += V.shape[1]
            return np.asarray(A @ V)

        def approximate(V: Floats) -> Floats:
            self.cheap += V.shape[1]
            return rounded(B @ rounded(V, bits), bits)

        super().__init__(**_parts(multiply, len(A)))
        cheap = FunctionOperator(**_parts(approximate, len(A)))
        self.approximation = Approximation(cheap, NAME, REMEDY)


def _parts(product: Callable[[Floats], Floats], n: int) -> dict[str, Any]:
    space = {"xp": xp, "dtype": np.dtype("float64"), "device": "cpu"}
    return {"matvec": lambda v: product(v[:, None])[:, 0], "matmat": product, "n": n, **space}
