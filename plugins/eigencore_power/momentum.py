"""The momentum of power iteration, found during the run by one rule.

Power iteration with momentum damps |eigenvalues| up to the edge 2 sqrt(beta), and a block of k vectors
converges fastest if the edge is |l_{k+1}|, the largest unwanted one. The span of the last two blocks, whose
products are known, gives lower bounds of it without a product (`damping_lower_bound`):

    beta = (bound / 2)^2, where bound is the largest lower bound so far

By interlacing, the edge never exceeds |l_{k+1}|, so that the momentum is never too large to converge. While
it is too small, the eigenvalues just beyond the edge decay slowest, come to dominate what is left of the
error, and so raise the bound. There is one exception, for ties (`edge_below_ties`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from eigencore import arrays
from eigencore.request import Request
from eigencore_power.constants import DAMPED_RANK, TIE_TOLERANCE

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore_power.rayleigh_ritz import RitzDecomposition


def damping_lower_bound(operator: LinearOperator, ritz: RitzDecomposition, k: int) -> float:
    """Returns a lower bound of |l_{k+1}|, from the span of two blocks of k vectors; 0.0 if none is known.

    It is at most a singular value of A on the span, hence at most the |eigenvalue| of the same rank
    (interlacing). A Ritz value would not do: eigenvalues of opposite sign cancel in it. The rank is half way
    from the width of the block to that of the span, because Rayleigh-Ritz alone separates the k-th pair from
    some pairs that the block does not contain.

    It is also at most the factor by which A stretches the k-th residual within the span. Repeats of the k-th
    eigenvalue have no part in this residual, and cause no error. While the momentum is too small, the
    eigenvalues that it does not damp decay slowest, and so come to dominate this residual.
    """
    if len(ritz.values) <= k:
        return 0.0
    values, rotation = np.linalg.eigh(ritz.projected[:k, :k])
    kth = Request(k=k).order(values)[k - 1]
    residual = ritz.projected[k:, :k] @ rotation[:, kth]
    size = float(np.linalg.norm(residual))
    if size <= 10 * arrays.eps(operator) * abs(float(ritz.values[0])):
        return 0.0  # the direction of rounding error is meaningless
    stretch = math.sqrt(max(float(residual @ ritz.stretched[k:, k:] @ residual), 0)) / size
    return min(float(ritz.singular_values[damped_index(len(ritz.values), k)]), stretch)


def damped_index(width: int, k: int) -> int:
    """Returns the index, from zero, of the singular value that bounds the |eigenvalues| to damp.

    Args:
        width: of the span of two blocks.
        k: the width of a block.
    """
    return min(k + int(DAMPED_RANK * (width - k)), width - 1)


def edge_below_ties(ritz: RitzDecomposition, k: int, bound: float) -> float:
    """Returns the end of the damped range: `bound`, or a value just below the k-th |eigenvalue|.

    The latter applies if the eigenvalues that are tied with the k-th in magnitude have both signs and are too
    many for the block. The span of two blocks resolves such a tie, but only if the damped range ends below
    the tied magnitudes. A Ritz value counts as tied if an eigenvalue is: one lies within its residual.
    """
    m = damped_index(len(ritz.values), k)
    if m < k:
        return bound
    signed, wanted = ritz.values[: m + 1], abs(float(ritz.values[k - 1]))
    tied = np.abs(np.abs(signed) - wanted) + ritz.residuals[: m + 1] <= TIE_TOLERANCE * wanted
    if tied[m] and np.ptp(np.sign(signed[tied])) > 0:
        return min(bound, (1 - TIE_TOLERANCE) * wanted)
    return bound


def damped_edge(
    momentum: Literal["auto"] | float, ritz: RitzDecomposition, k: int, bound: float, scale: float
) -> float:
    """Returns the end of the damped range in units of the scale: 2 sqrt(beta) if the momentum beta is given.

    Args:
        momentum: as in the options.
        ritz, k, bound: as for `edge_below_ties`.
        scale: the scale of the Ritz pairs.
    """
    return edge_below_ties(ritz, k, bound) if momentum == "auto" else 2 * math.sqrt(momentum) / scale


def momentum_note(momentum: Literal["auto"] | float, edge: float, wanted: float) -> str:
    """Returns the note on the momentum in use.

    Args:
        momentum: as in the options.
        edge: |eigenvalues| up to this value are damped.
        wanted: the smallest wanted |Ritz value|.
    """
    used = (
        f"{(edge / 2) ** 2:.4g}, found during the run" if momentum == "auto" else f"{momentum:.4g}, as given"
    )
    note = f"momentum {used}: |eigenvalues| up to {edge:.4g} are damped"
    if edge >= wanted > 0:
        note += f", including the wanted {wanted:.4g}: set momentum below {(wanted / 2) ** 2:.4g}"
    return note
