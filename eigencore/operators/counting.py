"""Operators that count their products and call a hook before and after each one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from eigencore import arrays
from eigencore.errors import Culprit, EigencoreError, OperatorError, blame
from eigencore.interfaces import InexactOperator, LinearOperator, MinibatchOperator
from eigencore.operators.caching import release
from eigencore.operators.conversion import FunctionOperator, is_inexact, notes_of
from eigencore.operators.matrix_like import MatrixLike
from eigencore.space import Array

T = TypeVar("T")


class CountingOperator(MatrixLike):
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
        self._A, self._before, self._after, self._failed = A, before, after, failed
        self._after_sample = after_sample or after
        self.shape, self.xp, self.dtype, self.device = A.shape, A.xp, A.dtype, A.device
        if arrays.is_sharded(A):
            self.sum, self.shard = A.sum, A.shard
        self.matvecs = 0.0

    def matvec(self, v: Array, /) -> Array:
        return self._count(self._A.matvec, v, 1.0, self._after)

    def matmat(self, V: Array, /) -> Array:
        return self._count(self._A.matmat, V, float(V.shape[1]), self._after)

    def release(self, needed: int | None = None) -> None:
        release(self._A, needed=needed)

    def _count(
        self,
        product: Callable[[Array], Array],
        V: Array,
        cost: float,
        after: Callable[[Array, Array], None],
    ) -> Array:
        self._before(cost)
        AV = self._made("a product", lambda: product(V))
        self.matvecs += cost
        after(V, AV)
        return AV

    def _made(self, what: str, make: Callable[[], T]) -> T:
        """What the operator returns. Raises OperatorError if it fails; our own errors keep their type."""
        try:
            return make()
        except (Exception, SystemExit) as error:
            failure = blame(error, Culprit.OPERATOR, OperatorError, f"{what} failed")
            self._failed(failure)
            raise failure from failure.__cause__

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(self._A)

    @property
    def inexact(self) -> bool:
        return is_inexact(self._A)

    def product_error(self, v: Array, product: Array, /) -> float:
        """The measurement of an InexactOperator, which counts as a product; 0 for any other operator."""
        A = self._A
        if not (isinstance(A, InexactOperator) and A.inexact):
            return 0.0
        self._before(1.0)
        error = self._made("measuring the error of a product", lambda: A.product_error(v, product))
        self.matvecs += 1.0
        return error


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


def counting(A: LinearOperator, **hooks: Callable[..., None]) -> CountingOperator:
    """A CountingOperator of A, which has minibatches if A has them; `hooks` are its keyword arguments."""
    return (CountingMinibatchOperator if isinstance(A, MinibatchOperator) else CountingOperator)(A, **hooks)
