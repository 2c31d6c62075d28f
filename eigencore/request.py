"""The request to a solver: how many eigenpairs, from which end of the spectrum, and how accurately."""

from __future__ import annotations

import numbers
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from eigencore.space import Array, Floats

WHICH = {"LM": "largest magnitude", "LA": "largest", "SA": "smallest", "BE": "both ends"}


@dataclass(frozen=True)
class Request:
    """A request for k eigenpairs from one end of the spectrum, or from both, for any solver.

    Attributes:
        k: the number of eigenpairs, at least 1.
        which: LM largest magnitude, LA largest, SA smallest, BE both ends (for an odd k, one more from
            the upper end).
        tol: a pair has converged when ||A v - theta v|| <= max(tol |theta|, precision floor).
        seed: the seed of all random numbers.
        start: a vector (n,) or block (n, b) to start from. Solvers always get one: a random vector of norm 1
            if the caller gives none.

    Raises:
        UsageError: k, which, tol or seed is invalid.

    Example:
        import numpy as np
        import eigencore

        request = eigencore.Request(k=2, which="LM", tol=1e-6)
        values = np.array([0.5, -4.0, 3.0])
        print(values[request.order(values)])
    """

    k: int = 5
    which: str = "LM"
    tol: float = 1e-3
    seed: int = 0
    start: Array | None = None

    def __post_init__(self) -> None:
        if not _is_integer(self.k) or self.k < 1:
            raise UsageError(f"k is {self.k!r}; expected a whole number of at least 1")
        if self.which not in WHICH:
            ends = ", ".join(f"{name} ({text})" for name, text in WHICH.items())
            raise UsageError(f"which is {self.which!r}; expected one of {ends}")
        if not isinstance(self.tol, numbers.Real) or not 0 < self.tol < 1:
            raise UsageError(f"tol is {self.tol!r}; expected a number above 0 and below 1")
        if not _is_integer(self.seed) or self.seed < 0:
            raise UsageError(f"seed is {self.seed!r}; expected a whole number of at least 0")
        # NumPy numbers are accepted; as Python numbers they compare, print and are saved like any others.
        for name, plain in (("k", int), ("tol", float), ("seed", int)):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def check_size(self, n: int, rows: int | None = None) -> None:
        """Checks the request against an operator of n rows.

        Args:
            rows: the rows of a vector, if it is a shard; None: n.

        Raises:
            UsageError: k is larger than n, or `start` has another number of rows.
        """
        rows = n if rows is None else rows
        if self.k > n:
            raise UsageError(
                f"k is {self.k}, but the operator has only {n} eigenvalues", hint=f"Ask for k <= {n}."
            )
        if self.start is None:
            return
        shape = tuple(self.start.shape) if hasattr(self.start, "shape") else None
        if shape is None or len(shape) not in (1, 2) or shape[0] != rows:
            given = f"is of type {type(self.start).__name__}" if shape is None else f"has shape {shape}"
            raise UsageError(
                f"start {given}; expected an array of shape ({rows},), or ({rows}, b) with one vector per "
                "column"
            )

    def order(self, values: Floats) -> npt.NDArray[np.int64]:
        """The indices (at most k) of the requested values among `values`, in the order of the request.

        LM is sorted by descending magnitude (a positive value before its negative), SA ascending, LA and BE
        descending.
        """
        import numpy as np

        descending = np.argsort(-values, kind="stable")
        if self.which == "LM":
            return descending[np.argsort(-np.abs(values[descending]), kind="stable")][: self.k]
        if self.which == "SA":
            return np.argsort(values, kind="stable")[: self.k]
        if self.which == "LA" or self.k >= len(values):
            return descending[: self.k]
        low = self.k // 2
        return np.concatenate([descending[: self.k - low], descending[len(descending) - low :]])

    def thresholds(self, values: Floats, floor: float) -> Floats:
        """The residual norms up to which pairs with these values count as converged.

        Args:
            values: Ritz values (m,).
            floor: the precision floor, the residual norm that rounding alone causes.
        """
        import numpy as np

        return np.maximum(self.tol * np.abs(values), floor)


def precision_floor(eps: float, norm: float) -> float:
    """The precision floor 4 eps ||A||: an estimate of the residual norm that rounding alone causes."""
    return 4 * eps * norm


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
