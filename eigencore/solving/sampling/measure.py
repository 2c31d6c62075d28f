"""The statistics of the groups of a sample, from their products with the Ritz vectors of its mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request
from eigencore.results import EigenvalueInterval
from eigencore.solving.sampling.estimate import GroupStatistics

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator, SampleMean
    from eigencore.operators.draws import Draw
    from eigencore.space import Array, Floats


def measure(mean: SampleMean, V: Array, wanted: int, which: str, draw: Draw) -> GroupStatistics:
    """The statistics of the groups, for the Ritz values of the mean in the span of V.

    Args:
        V: orthonormal vectors (n, K).
        wanted: the number k <= K of eigenvalues that the intervals are for, the first ones.
        which: their order, as for `solve`.
    """
    K = V.shape[1]
    inside, outside = [], []
    total, error = np.zeros((K, K)), arrays.zeros(tuple(V.shape), mean)
    for group, product in zip(draw.groups, mean.group_products(V), strict=True):
        G = arrays.total(V.T @ product, mean)
        E = product - V @ G
        share = len(group) / draw.draws
        error = error + share * E
        G, M = arrays.to_host_at_once(G, arrays.total(E.T @ E, mean))
        inside.append((G + G.T) / 2)
        outside.append(M)
        total += share * inside[-1]
    theta, Q = _ordered(total, which, mean.shift)
    U = V @ arrays.from_host(Q[:, :wanted], mean)
    outer = arrays.to_host(arrays.total(error.T @ error, mean))
    residuals = np.sqrt(np.maximum(np.diagonal(Q.T @ outer @ Q), 0.0))
    magnitudes = np.abs(theta + mean.shift) if which == "LM" else theta
    complete = mean.shape[0] == K
    return GroupStatistics(
        theta=theta,
        inside=np.stack([Q.T @ G @ Q for G in inside]),
        outside=np.stack([Q.T @ M @ Q for M in outside]),
        residuals=residuals,
        curvatures=mean.curvatures(U),
        unseen=draw.unseen,
        gaps=np.full(wanted, np.inf) if complete else magnitudes[:wanted] - magnitudes[-1],
    )


def polish(
    operator: LinearOperator, V: Array, wanted: int, which: str, shift: float
) -> tuple[EigenvalueInterval, ...]:
    """Intervals from one product of the operator of all data with each of the vectors of a sample.

    With the Ritz values theta in the span of V and the residuals r, theta is at most the eigenvalue of the
    same rank, and theta + |r|^2 / theta an estimate of it whose error on trained networks was at most that
    correction; the upper end adds the correction twice.

    Args:
        V: orthonormal vectors (n, K).
        wanted, which: as for `measure`.
        shift: the part c I of the operator.
    """
    W = operator.matmat(V)
    G = arrays.total(V.T @ W, operator)
    R = W - V @ G
    G, M = arrays.to_host_at_once(G, arrays.total(R.T @ R, operator))
    theta, Q = _ordered((G + G.T) / 2 - shift * np.eye(len(G)), which, shift)
    squares = np.maximum(np.diagonal(Q.T @ M @ Q), 0.0)
    found = []
    for i in range(wanted):
        value = float(theta[i])
        correction = float(squares[i]) / value if value else 0.0
        low, high = sorted((value, value + 2 * correction))
        found.append(EigenvalueInterval(i + 1, i + 1, value + correction + shift, low + shift, high + shift))
    return tuple(found)


def _ordered(G: Floats, which: str, shift: float) -> tuple[Floats, Floats]:
    """The eigenvalues of G (K, K) and its eigenvectors, in the order of the request."""
    theta, Q = np.linalg.eigh(G)
    order = Request(len(theta), which).order(theta + shift)
    return theta[order], Q[:, order]
