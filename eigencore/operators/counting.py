"""Operators that count their products and call a hook before and after each one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from eigencore import arrays
from eigencore.errors import Culprit, EigencoreError, OperatorError, blame
from eigencore.interfaces import (
    InexactOperator,
    LinearOperator,
    MeanOperator,
    MinibatchOperator,
    SampleMean,
)
from eigencore.operators.caching import release
from eigencore.operators.conversion import FunctionOperator, notes_of
from eigencore.operators.matrix_like import MatrixLike
from eigencore.operators.wrapped import WrappedOperator
from eigencore.processes import processes_of
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.space import Floats

T = TypeVar("T")

# Measured, in products with the same samples: the scores of samples, which take a pass through the network,
# and the second derivative of each sample's loss along a vector.
SCORES, CURVATURE = 0.2, 3.0


class CountingOperator(WrappedOperator):
    """An operator that counts its products, in units of one product over the full data.

    Args:
        A: the operator to count the products of.
        before: called with the cost of a product before it is made; it can prevent the product by raising an
            error.
        after: called with V and A V after each product.
        after_sample: called instead of `after` for products with a minibatch; None: `after` is called.
        failed: called with the error of a product before it is raised; it can raise something else, such as
            an exception that a solver cannot catch.

    Attributes:
        matvecs: the products so far.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators import CountingOperator

        counted = CountingOperator(as_operator(np.eye(3)))
        counted.matvec(np.ones(3))
        counted.matmat(np.ones((3, 2)))
        print(counted.matvecs)
    """

    def __init__(
        self,
        A: LinearOperator,
        *,
        before: Callable[[float], None] = lambda cost: None,
        after: Callable[[Array, Array], None] = lambda V, AV: None,
        after_sample: Callable[[Array, Array], None] | None = None,
        failed: Callable[[EigencoreError], None] = lambda error: None,
    ):
        super().__init__(A)
        self._before, self._after, self._failed = before, after, failed
        self._after_sample = after_sample or after
        if arrays.is_sharded(A):
            self.sum, self.shard = A.sum, A.shard
        self.matvecs = 0.0

    def matvec(self, v: Array, /) -> Array:
        return self._count(self._A.matvec, v, 1.0, self._after)

    def matmat(self, V: Array, /) -> Array:
        return self._count(self._A.matmat, V, float(V.shape[1]), self._after)

    def _count(
        self,
        product: Callable[[Array], Array],
        V: Array,
        cost: float,
        after: Callable[[Array, Array], None],
    ) -> Array:
        AV = self._count_part("a product", lambda: product(V), cost)
        after(V, AV)
        return AV

    def _count_part(self, what: str, make: Callable[[], T], cost: float) -> T:
        """What the operator returns, once its cost is allowed; it is counted if nothing fails."""
        self._before(cost)
        found = self._made(what, make)
        self.matvecs += cost
        return found

    def _made(self, what: str, make: Callable[[], T]) -> T:
        """What the operator returns. Raises OperatorError if it fails; our own errors keep their type."""
        try:
            return make()
        except (Exception, SystemExit) as error:
            failure = blame(error, Culprit.OPERATOR, OperatorError, f"{what} failed")
            self._failed(failure)
            raise failure from failure.__cause__

    def product_error(self, v: Array, product: Array, /) -> float:
        """The measurement of an InexactOperator, which counts as a product; 0 for any other operator."""
        A = self._A
        if not (isinstance(A, InexactOperator) and A.inexact):
            return 0.0
        return self._count_part("measuring the error of a product", lambda: A.product_error(v, product), 1.0)


class CountingMinibatchOperator(CountingOperator):
    """A counting operator with minibatches. A product with a minibatch costs its share of the data.

    It is a separate class so that `isinstance(operator, MinibatchOperator)` is true only for operators that
    have minibatches.
    """

    _A: MinibatchOperator

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        def draw() -> tuple[LinearOperator, float]:
            sample, share = self._A.minibatch(step, seed, batches)
            return self._share(sample, share), share

        return self._made("drawing a minibatch", draw)

    def _share(self, sample: LinearOperator, share: float) -> LinearOperator:
        def apply(product: Callable[[Array], Array], columns: int, V: Array) -> Array:
            return self._count(product, V, share * columns, self._after_sample)

        return FunctionOperator(
            lambda v: apply(sample.matvec, 1, v),
            sample.shape[0],
            xp=sample.xp,
            dtype=sample.dtype,
            device=sample.device,
            matmat=lambda V: apply(sample.matmat, V.shape[1], V),
            space=sample,
        )


class CountingMeanOperator(CountingOperator):
    """A counting operator of which samples can be taken. A product with a sample costs its share of the data.

    A sample of N draws from N samples of the data costs as much as all data. The scores cost a fifth of a
    product. Like that of minibatches, it is a separate class.
    """

    _A: MeanOperator
    _samples = 0

    def sample_scores(self) -> Floats:
        scores = self._count_part("computing the scores of the samples", self._A.sample_scores, SCORES)
        self._samples = len(scores)
        return scores

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> SampleMean:
        if not self._samples:
            self.sample_scores()
        mean = self._made("taking a sample of the data", lambda: self._A.sampled(groups, weights))
        return _CountedSample(self, mean, [len(group) / self._samples for group in groups])


class _CountedSample(MatrixLike):
    """The mean over a sample, whose products are counted as those of the operator that it was taken from.

    Args:
        shares: the share of each group in the data.
    """

    def __init__(self, whole: CountingMeanOperator, mean: SampleMean, shares: Sequence[float]):
        self._whole, self._mean, self._shares, self.shift = whole, mean, shares, mean.shift
        self.shape, self.xp, self.dtype, self.device = mean.shape, mean.xp, mean.dtype, mean.device
        self.processes = processes_of(mean)
        if arrays.is_sharded(mean):
            self.sum, self.shard = mean.sum, mean.shard

    def matvec(self, v: Array, /) -> Array:
        return self._counted(lambda: self._mean.matvec(v), v, sum(self._shares))

    def matmat(self, V: Array, /) -> Array:
        return self._counted(lambda: self._mean.matmat(V), V, V.shape[1] * sum(self._shares))

    def group_products(self, V: Array | Callable[[int], Array], /) -> Iterator[Array]:
        block = V if callable(V) else lambda number: V
        # The block of a group is made once, and its cost is known before its product.
        made = list[Array]()
        products = self._mean.group_products(lambda number: made[0])
        for number, share in enumerate(self._shares):
            made[:] = [block(number)]
            yield self._counted(lambda: next(products), made[0], share * made[0].shape[1])

    def curvatures(self, V: Array, /) -> Floats:
        cost = CURVATURE * V.shape[1] * sum(self._shares)
        return self._whole._count_part("the curvature of samples", lambda: self._mean.curvatures(V), cost)

    def release(self, needed: int | None = None) -> None:
        release(self._mean, needed=needed)

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(self._mean)

    def _counted(self, product: Callable[[], Array], V: Array, cost: float) -> Array:
        AV = self._whole._count_part("a product with a sample", product, cost)
        self._whole._after_sample(V, AV)
        return AV


class _CountingAll(CountingMinibatchOperator, CountingMeanOperator):
    """A counting operator with minibatches, of which samples can be taken."""

    _A: Any  # which is both


def counting(A: LinearOperator, **hooks: Callable[..., None]) -> CountingOperator:
    """A CountingOperator of A, with the minibatches and samples of A; `hooks` are its keyword arguments."""
    if isinstance(A, MinibatchOperator):
        return (_CountingAll if isinstance(A, MeanOperator) else CountingMinibatchOperator)(A, **hooks)
    return (CountingMeanOperator if isinstance(A, MeanOperator) else CountingOperator)(A, **hooks)
