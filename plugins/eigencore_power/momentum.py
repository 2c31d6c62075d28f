"""How much momentum: the largest |eigenvalue| to damp, from what the span of two blocks shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore_power.blocks import Ritz

TIE = 0.001  # sizes as near as this count as tied, and the edge stays this far below them


def lower_bound(operator: LinearOperator, ritz: Ritz, k: int, b: int) -> float:
    """Of the largest |eigenvalue| that momentum must damp for the k-th pair's sake; 0.0 where none is seen.

    It is at most a singular value of A on the span, so at most the |eigenvalue| of the same rank
    (interlacing); the rank is half way from the block's width to the span's, since Rayleigh-Ritz by itself
    tells the k-th pair from some that the block doesn't hold. And it is at most what A stretches the k-th
    residual by within the span: copies of the k-th eigenvalue have no part in that, and are no error. As long
    as the momentum is too small, what it misses decays slowest, and so comes to make up that residual.
    """
    if len(ritz.values) <= b:
        return 0.0
    values, rotation = np.linalg.eigh(ritz.projected[:b, :b])
    kth = Request(k=k).order(values)[k - 1]
    residual = ritz.projected[b:, :b] @ rotation[:, kth]
    size = float(np.linalg.norm(residual))
    if size <= 10 * arrays.eps(operator) * abs(float(ritz.values[0])):
        return 0.0  # rounding has no direction
    image = arrays.from_host(residual / size, operator) @ ritz.blocks[-1].AX
    return min(float(ritz.sizes[beyond_block(ritz, b)]), arrays.norm(image))


def beyond_block(ritz: Ritz, b: int) -> int:
    """Index half way between the block's width and the span's, from zero."""
    return (b + len(ritz.values)) // 2


def edge_below_ties(ritz: Ritz, k: int, b: int, reach: float) -> float:
    """The reach; or just below the k-th, where eigenvalues of its size and both signs lie beyond the block.

    The span of two blocks tells such apart without help. At their size, nothing would be told from the rest.
    """
    m = beyond_block(ritz, b)
    signed, wanted = ritz.values[: m + 1], abs(float(ritz.values[k - 1]))
    tied = np.abs(np.abs(signed) - wanted) <= TIE * wanted
    if len(signed) > m and tied[m] and np.ptp(np.sign(signed[tied])) > 0:
        return min(reach, (1 - TIE) * wanted)
    return reach
