"""What is asked of a solver: how many pairs, of which end, how exact. The same for every solver."""

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
    """k eigenpairs of one end of the spectrum.

    Attributes:
        k: how many, at least 1.
        which: LM largest magnitude, LA largest, SA smallest, BE both ends (k odd: one more of the high end).
        tol: a pair has converged when ||A v - theta v|| <= max(tol |theta|, floor).
        seed: of every random number.
        start: a vector (n,) or block (n, b) to start from; None: random.

    Raises:
        UsageError: k, which, tol or seed is none that can be asked for.
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
        # NumPy's numbers count as well; as plain ones they compare, print and save like any other.
        for name, plain in (("k", int), ("tol", float), ("seed", int)):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def check_size(self, n: int) -> None:
        """Raises UsageError where an operator of n rows can't answer this."""
        if self.k > n:
            raise UsageError(
                f"k is {self.k}, and the operator has {n} eigenvalues", hint=f"Ask for k <= {n}."
            )
        if self.start is None:
            return
        shape = tuple(self.start.shape) if hasattr(self.start, "shape") else None
        if shape is None or len(shape) not in (1, 2) or shape[0] != n:
            told = f"is a {type(self.start).__name__}" if shape is None else f"has shape {shape}"
            raise UsageError(f"start {told}; expected an array ({n},) or ({n}, b), a column a vector")

    def order(self, values: Floats) -> npt.NDArray[np.int64]:
        """Indices of the (at most k) wanted among `values`, the first wanted first.

        LM comes in falling magnitude (a positive before its negative), SA rising, LA and BE falling.
        """
        import numpy as np

        falling = np.argsort(-values, kind="stable")
        if self.which == "LM":
            return falling[np.argsort(-np.abs(values[falling]), kind="stable")][: self.k]
        if self.which == "SA":
            return np.argsort(values, kind="stable")[: self.k]
        if self.which == "LA" or self.k >= len(values):
            return falling[: self.k]
        low = self.k // 2
        return np.concatenate([falling[: self.k - low], falling[len(falling) - low :]])

    def thresholds(self, values: Floats, floor: float) -> Floats:
        """The residual up to which each pair counts as converged, for a floor of the products' precision."""
        import numpy as np

        return np.maximum(self.tol * np.abs(values), floor)


def precision_floor(eps: float, norm: float) -> float:
    """The residual that rounding alone leaves, as far as it is known without measuring: 4 eps ||A||."""
    return 4 * eps * norm


def _is_integer(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
