"""Products with diagonal blocks of an operator, those of several blocks in one pass over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.space import BlockedOperator

if TYPE_CHECKING:
    from eigencore.space import Array, LinearOperator


class BlockProducts:
    """Products with the diagonal blocks of an operator, which are counted in passes over the data.

    An operator that is no BlockedOperator multiplies whole vectors, zero outside the block.

    Args:
        operator: the whole operator.
        blocks: the slices of a vector that belong to each block.
    """

    def __init__(self, operator: LinearOperator, blocks: Sequence[Sequence[slice]]):
        self._operator, self.blocks = operator, blocks
        self.sizes = [sum(where.stop - where.start for where in block) for block in blocks]
        self.count = 0

    def products(self, wanted: Mapping[int, Array]) -> Mapping[int, Array]:
        self.count += 1
        blocks, Vs = [self.blocks[i] for i in wanted], list(wanted.values())
        if isinstance(self._operator, BlockedOperator):
            found = self._operator.block_products(blocks, Vs)
        else:
            found = [self._restricted(block, V) for block, V in zip(blocks, Vs, strict=True)]
        return dict(zip(wanted, found, strict=True))

    def _restricted(self, block: Sequence[slice], V: Array) -> Array:
        product = self._operator.matmat(embedded(self._operator, block, V))
        return self._operator.xp.concat([product[where, :] for where in block])


def embedded(operator: LinearOperator, block: Sequence[slice], V: Array) -> Array:
    """Vectors (n_b, c) of a block as vectors (n, c) of the operator, zero outside the block."""
    whole, start = arrays.zeros((operator.shape[0], V.shape[1]), operator), 0
    for where in block:
        stop = start + where.stop - where.start
        whole = arrays.write(whole, (where, ...), V[start:stop, :])
        start = stop
    return whole
