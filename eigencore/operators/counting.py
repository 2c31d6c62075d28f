"""Operators that count their products, and let the core check each one before and after."""

from __future__ import annotations

from collections.abc import Callable

from eigencore.errors import EigencoreError, OperatorError
from eigencore.interfaces import LinearOperator, MinibatchOperator
from eigencore.operators.conversion import FunctionOperator
from eigencore.space import Array


class CountingOperator:
    """Counts products in units of one over the full data, and lets a hook look before and after each.

    `before(columns)` may refuse a product by raising; `after(V, AV)` sees what came of it. A minibatch's
    product is seen by `after_sample` where that is given.
    """

    def __init__(
        self,
        A: LinearOperator,
        *,
        before: Callable[[float], None] = lambda columns: None,
        after: Callable[[Array, Array], None] = lambda V, AV: None,
        after_sample: Callable[[Array, Array], None] | None = None,
    ):
        self._A, self._before, self._after = A, before, after
        self._after_sample = after_sample or after
        self.shape, self.xp, self.dtype, self.device = A.shape, A.xp, A.dtype, A.device
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
        self._before(cost)
        try:
            AV = product(V)
        except EigencoreError:
            raise
        except (Exception, SystemExit) as error:
            raise OperatorError(f"a product failed: {type(error).__name__}: {error}") from error
        self.matvecs += cost
        after(V, AV)
        return AV


class CountingMinibatchOperator(CountingOperator):
    """The same for an operator with minibatches, whose products cost their share of the data.

    A class of its own, so that asking an operator whether it has minibatches gives an honest answer.
    """

    _A: MinibatchOperator

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        sample, share = self._A.minibatch(step, seed, batches)
        return self._share(sample, share), share

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
        )


def counting(A: LinearOperator, **hooks: Callable[..., None]) -> CountingOperator:
    """The counting wrapper that fits A."""
    return (CountingMinibatchOperator if isinstance(A, MinibatchOperator) else CountingOperator)(A, **hooks)
