"""An operator whose whole vectors several processes have, as one whose vectors they have cut into shards.

Every process then holds n / count numbers of a vector, so that the basis of a solver takes that part of its
memory. A product puts its vectors together in every process for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eigencore.errors import CapabilityError
from eigencore.operators.wrapped import WrappedOperator
from eigencore.processes import own_part
from eigencore.space import Array, InexactOperator, LinearOperator, MinibatchOperator

if TYPE_CHECKING:
    from eigencore.space import Floats


class CutOperator(WrappedOperator):
    """An operator on shards (see `eigencore.space.ShardedSpace`), from one on whole vectors.

    Args:
        A: an operator whose products several processes compute together, in its attribute `processes`.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators import CutOperator

        A = CutOperator(as_operator(np.eye(3)))  # of one process, which holds the whole vector
        print(A @ np.ones(3), A.shard(np.arange(3.0)))
    """

    def __init__(self, A: LinearOperator):
        super().__init__(A)
        self._own = own_part(self.shape[0], self.processes)

    def sum(self, x: Array, /) -> Array:
        """The sum of a small array over the processes."""
        return self.processes.sum(lambda: x, "a sum over the shards")

    def shard(self, x: Floats, /) -> Floats:
        """The rows of this process, from a host array (n, ...)."""
        return x[self._own]

    def matvec(self, v: Array, /) -> Array:
        """The rows of A v of this process, from those of v."""
        return self._cut(self._A.matvec, v)

    def matmat(self, V: Array, /) -> Array:
        """The rows of A V (n, b) of this process, from those of V."""
        return self._cut(self._A.matmat, V)

    def _cut(self, product: Callable[[Array], Array], V: Array) -> Array:
        whole = product(self._joined(V))
        return self.xp.asarray(whole[self._own, ...], copy=True)  # so that the whole is freed

    def _joined(self, V: Array) -> Array:
        return self.processes.gather(lambda: V, "the shards of a vector")

    def product_error(self, v: Array, product: Array, /) -> float:
        """The measurement of A, from the rows of this process; 0 if its products are exact."""
        if not (isinstance(self._A, InexactOperator) and self._A.inexact):
            return 0.0
        return self._A.product_error(self._joined(v), self._joined(product))

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """A minibatch of A (see `MinibatchOperator`), on shards.

        Raises:
            CapabilityError: A has no minibatches.
        """
        if not isinstance(self._A, MinibatchOperator):
            raise CapabilityError("the operator has no minibatches")
        sample, share = self._A.minibatch(step, seed, batches)
        return CutOperator(sample), share
