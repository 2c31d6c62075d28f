"""Arrays as eigencore passes them around, the space that they live in, and the operators on a space.

Shapes: a vector is flat `(n,)`; a block is `(n, b)`, one vector per column; a batch of samples is `(b, d)`,
one sample per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]  # numbers on the host

Array: TypeAlias = Any  # an array of any library that follows the Python array API


class Space(Protocol):
    """Where arrays live: their array library, data type and device."""

    @property
    def xp(self) -> Any:
        """The array-API namespace."""

    @property
    def dtype(self) -> Any: ...
    @property
    def device(self) -> Any: ...


class Parameter(NamedTuple):
    """One parameter of a model: its slice of the flat vector of weights, and the norm of its weights."""

    name: str
    where: slice
    norm: float


# A glob of parameter names, a regular expression after "re:", or a function that takes a name.
Pattern: TypeAlias = str | Callable[[str], bool]
# A pattern, several globs as "A,B", a list of patterns, or None for all trainable parameters.
Params: TypeAlias = Pattern | Sequence[Pattern] | None


class LinearOperator(Space, Protocol):
    """A symmetric linear map on the flat vectors of a space."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def matvec(self, v: Array, /) -> Array:
        """A v, for v of shape (n,). This is the unit of cost: one product."""

    def matmat(self, V: Array, /) -> Array:
        """A V, for V of shape (n, b). This costs b products."""


@runtime_checkable
class ShardedSpace(Space, Protocol):
    """A space whose vectors are cut into shards, one in each of several processes that run the same program.

    The `shape` of an operator is that of the whole: n rows. Its vectors (n,) and blocks (n, b) are arrays of
    fewer rows, those of this process. Dot products and norms are sums over the processes, and every process
    takes the same decisions, because it sees the same sums. A space without these two methods is not cut.

    A limit on time must not end the solve in one process alone: limit the products instead.
    """

    def sum(self, x: Array, /) -> Array:
        """The sum of x, a small array of any shape, over the processes: the same bits in each of them."""

    def shard(self, x: Floats, /) -> Floats:
        """The rows of this process, from a host array (n, ...). Random vectors are drawn whole, then cut.

        So the numbers are the same however many processes there are.
        """


@runtime_checkable
class MinibatchOperator(LinearOperator, Protocol):
    """An operator that is a mean over data and can be estimated from a random sample of the batches."""

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """An unbiased estimate of the operator from `batches` random batches, and their share of the data.

        The same step and seed select the same batches. The share is in (0, 1].
        """


@runtime_checkable
class MeanOperator(LinearOperator, Protocol):
    """An operator that is a mean over samples, of which any selection can be taken, with weights.

    It is (sum_s A_s) / N + c I over the N samples of the data, in the order of the data.
    """

    def sample_scores(self) -> Floats:
        """How much each sample may contribute, (N,): numbers of at least 0, from one forward pass.

        A sample is drawn with a probability that grows with its score, and the spread of the estimates is
        least if the score is proportional to the trace of A_s. Equal scores mean that nothing is known.

        Raises:
            CapabilityError: this operator is not a mean over samples.
        """

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> SampleMean:
        """The weighted mean over drawn samples, in groups: (sum_j w_j A_s(j)) / draws + c I.

        Args:
            groups: the indices of the samples that were drawn, in 0 to N - 1; some may occur repeatedly.
            weights: the weight w_j of each draw (draws,), in the order of the groups.
        """


@runtime_checkable
class SampleMean(LinearOperator, Protocol):
    """The weighted mean over some samples, from which the error of the mean can be estimated."""

    @property
    def shift(self) -> float:
        """The number c, which does not depend on the samples."""

    def group_products(self, V: Array | Callable[[int], Array], /) -> Iterator[Array]:
        """For each group the mean over its draws, without c I, times V (n, b); each product (n, b).

        Together they cost as much as the products of the operator itself with V.

        Args:
            V: the same block for all groups; or a function from the number of a group, from 0, to its block.
        """

    def curvatures(self, V: Array, /) -> Floats:
        """w_j v'A_s(j) v for each draw j and column v of V: (draws, b), in the order of the groups."""


@runtime_checkable
class BlockedOperator(LinearOperator, Protocol):
    """An operator over parameters that multiplies several diagonal blocks in one pass over the data."""

    def block_products(self, blocks: Sequence[Sequence[slice]], Vs: Sequence[Array], /) -> list[Array]:
        """A_bb V_b for each block b: A restricted to the rows and columns of b.

        Args:
            blocks: the slices of a vector that belong to each block, each that of a whole parameter.
            Vs: the vectors (n_b, c_b) of each block, whose rows are those of its slices, one after another.

        Returns:
            The products (n_b, c_b) of each block, for which the cost is at most that of c_b products.
        """


@runtime_checkable
class NotedOperator(LinearOperator, Protocol):
    """An operator that reports facts about its products, which become notes of the result of a solve."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The facts so far, such as that memory ran out and that the batches were split."""


@runtime_checkable
class InexactOperator(LinearOperator, Protocol):
    """An operator whose products may have a larger error than rounding, such as differences of gradients.

    The certificate measures the error, which becomes its precision floor.
    """

    @property
    def inexact(self) -> bool:
        """Whether they have. A wrapper has both methods, whatever it wraps."""

    def product_error(self, v: Array, product: Array, /) -> float:
        """A measurement of the norm of the error of a product A v, at the cost of another product."""


@dataclass(frozen=True)
class Approximation:
    """A cheaper operator that is nearly the same, such as one whose products are in low precision.

    Attributes:
        operator: the cheaper operator, of the same shape and in the same space.
        name: what its products are, for messages and notes, such as "products in bfloat16".
        remedy: how to do without it, for hints, such as "set torch.products=full".
    """

    operator: LinearOperator
    name: str
    remedy: str


@runtime_checkable
class ApproximatedOperator(LinearOperator, Protocol):
    """An operator with an approximation, by which solvers multiply in its place.

    Only the search for the vectors uses the approximation: `solve` measures its error on Ritz vectors, and
    computes values, residuals and certificate from products of the operator itself. So does everything else
    that multiplies by the operator.

    Attributes:
        approximation: the approximation; None: solvers multiply by the operator itself.
    """

    approximation: Approximation | None


@runtime_checkable
class CachingOperator(LinearOperator, Protocol):
    """An operator that keeps intermediate results from one product to the next, such as gradient graphs."""

    def release(self, needed: int | None = None) -> None:
        """Frees what can be computed again. Products stay correct; the next one may be more expensive.

        Args:
            needed: the bytes that the caller is about to allocate. Nothing is freed while they are free where
                the intermediate results are, and afterwards the operator keeps no more than leaves them free.
                An operator with a limit of its own may count them, and refuse more than it by a UsageError.
                `solve` reports those of the solve before the first product. None: frees everything.
        """
