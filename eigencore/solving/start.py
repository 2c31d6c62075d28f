"""What a solve begins from: a start vector, random or with a random part; or an earlier solve's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.solving.snapshots import Pace

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array

# The length of the random part relative to the caller's vector. With 1, 0.1 and 0.01, completeness took 9.6
# to 12 products from the right vector, about as many as from a random one.
RANDOM_PART = 0.1


@dataclass(frozen=True)
class EarlierPart:
    """What the core knows of an unfinished solve, so that a solve of the same request continues it exactly.

    Attributes:
        asked: the request, the probability of completeness and the options of the solver.
        spent: the products of the solver and of the search for missed eigenvalues.
        pace: its progress.
        search: what the search for missed eigenvalues has shown (`CompletenessSearch.memory`).
    """

    asked: tuple[Any, ...]
    spent: float
    pace: Pace
    search: Mapping[str, Any] | None


@dataclass(frozen=True)
class ResumableState:
    """What `solve(..., state=...)` resumes from.

    Attributes:
        solver: the name of the solver whose state this is.
        state: the solver's own state: arrays, numbers and small matrices.
        rows, dtype: the length of its vectors, in this process, and the name of their data type.
        norm: a lower bound of ||A||.
        chains: the number of random vectors that were drawn in search of missed eigenvalues. A vector that
            was used twice could miss the same eigenvalue twice.
        products: the name of the approximation that the solver multiplied by; "" for the operator itself.
        part: what the core knows of the solve, if some pair had not passed; None: a new search begins.
    """

    solver: str
    state: Any = field(repr=False)
    rows: int
    dtype: str
    norm: float = 0.0
    chains: int = 0
    products: str = ""
    part: EarlierPart | None = field(default=None, repr=False)

    def earlier_part(self, asked: tuple[Any, ...]) -> EarlierPart | None:
        """The part that a solve of this request continues exactly; None: it begins from the state alone."""
        return self.part if self.part is not None and self.part.asked == asked else None


def asked_of(request: Request, complete: float | None, options: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be the same for a solve to continue an earlier one exactly.

    Args:
        complete: the probability at which nothing is to be missed.
        options: those of the solver.
    """
    return request.k, request.which, request.tol, request.seed, complete, tuple(options.items())


def start_vector(request: Request, operator: LinearOperator, *, mixed: bool) -> tuple[Array, float]:
    """The start vector (n,) or block (n, b) that a solver gets, and what is known of it.

    Args:
        request: its `start` is the caller's; None: a random vector.
        mixed: whether a single vector of the caller's gets a random part. It excludes that the vector is
            orthogonal to a wanted eigenvector, as that of an earlier network may be.

    Returns:
        The vectors, and a factor: the part of the vector along any eigenvector is at most the factor times
        delta, for the delta of a random unit vector, with no larger probability. It is 0.0 for a vector
        without a random part, and for a block.
    """
    given, n = request.start, operator.shape[0]
    if given is not None and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given is not None and (given.ndim == 2 or not mixed):
        return given, 0.0
    x = arrays.random_normal(arrays.generator(request.seed, "start"), (n,), operator)
    x = x / arrays.norm(x, operator)
    if given is None:
        return x, 1.0
    # A known vector added to a random one makes a small part along an eigenvector less probable.
    both = given / arrays.norm(given, operator) + RANDOM_PART * x
    length = arrays.norm(both, operator)
    return both / length, RANDOM_PART / length
