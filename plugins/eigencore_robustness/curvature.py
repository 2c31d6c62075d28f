"""The largest eigenvalue of each sample's Hessian over its input, all samples at once, by Lanczos.

A row is a sample: one product multiplies every sample's Hessian with its own vector, and each row runs its
own three-term recurrence (Lanczos 1950), fully reorthogonalised. A row whose Krylov space is used up stays
where it is, at zero, while the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space

TOL = 1e-3  # residual over eigenvalue: the value itself is then right to about its square
MOST_STEPS = 200
LOOK_EVERY = 4


@dataclass(frozen=True)
class Largest:
    """Of each sample (b,), on the host: the largest eigenvalue, and ||H v - lambda v|| of its Ritz vector."""

    values: Floats
    residuals: Floats
    steps: int


def largest_eigenvalues(
    product: Callable[[Array], Array], shape: tuple[int, int], space: Space, seed: int
) -> Largest:
    """Of symmetric maps of rows, shape (samples, d), until each residual is at most TOL times its eigenvalue.

    What is zero to rounding, measured by the largest product seen in the row, counts as zero.
    """
    (samples, d), xp = shape, space.xp
    v = _normalised(arrays.random_normal(np.random.default_rng(seed), shape, space))[0]
    basis, alphas, betas = [v], [], []
    size = np.zeros(samples)
    rounding = 10 * arrays.eps(space) * d**0.5
    for step in range(1, min(d, MOST_STEPS) + 1):
        w = product(basis[-1])
        size = np.maximum(size, arrays.to_host(xp.linalg.vector_norm(w, axis=1)))
        alphas.append(arrays.to_host(xp.sum(w * basis[-1], axis=1)))
        w = _orthogonal(w, basis)
        w, norm = _normalised(w, floor=arrays.from_host(rounding * size, space))
        betas.append(arrays.to_host(norm))
        if step % LOOK_EVERY == 0 or not betas[-1].any() or step == min(d, MOST_STEPS):
            found = _ritz(np.array(alphas), np.array(betas))
            if np.all(found.residuals <= np.maximum(TOL * np.abs(found.values), rounding * size)):
                break
        basis.append(w)
    return found


def _normalised(w: Array, floor: Array | None = None) -> tuple[Array, Array]:
    """Rows of norm 1, and the norms; rows whose norm is at most the floor become zero, and so do those."""
    xp = arrays.namespace(w)
    norm = xp.linalg.vector_norm(w, axis=1)
    gone = norm <= (xp.zeros_like(norm) if floor is None else floor)
    safe = xp.where(gone, xp.ones_like(norm), norm)
    return xp.where(gone[:, None], xp.zeros_like(w), w / safe[:, None]), xp.where(
        gone, xp.zeros_like(norm), norm
    )


def _orthogonal(w: Array, basis: list[Array]) -> Array:
    """w without its parts along the basis, row by row; twice, since once leaves rounding behind."""
    xp = arrays.namespace(w)
    for _ in range(2):
        for v in basis:
            w = w - xp.sum(w * v, axis=1, keepdims=True) * v
    return w


def _ritz(alphas: Floats, betas: Floats) -> Largest:
    """From the recurrences (m, b): the last beta is the coupling to what comes next."""
    m, samples = alphas.shape
    T = np.zeros((samples, m, m))
    diagonal = np.arange(m)
    T[:, diagonal, diagonal] = alphas.T
    T[:, diagonal[:-1], diagonal[1:]] = T[:, diagonal[1:], diagonal[:-1]] = betas[:-1].T
    # A row that was used up went on at zero, which is no Ritz value: put below all that are.
    rows, steps = np.nonzero(np.cumsum(betas[:-1] == 0, axis=0).T > 0)
    T[rows, steps + 1, steps + 1] = -1 - 2 * np.abs(T).sum(axis=(1, 2))[rows]
    values, vectors = np.linalg.eigh(T)
    return Largest(values[:, -1], np.abs(betas[-1] * vectors[:, -1, -1]), m)


def cautious_radius(margin: Floats, slope: Floats, curvature: Floats) -> Floats:
    """Where a quadratic model of the margin can be zero at the earliest (b,).

    The smallest r with m - ||g|| r - nu r^2 / 2 = 0, for the margin m, the norm of its gradient and
    nu = lambda_max of minus its Hessian, here (Moosavi-Dezfooli et al. 2019, arXiv:1811.09716, theorem 1). It
    bounds that model, not the network: no certificate. Where nu is negative it counts as
    zero; where there is no slope either, the radius is infinite.
    """
    bend = np.maximum(curvature, 0.0)
    # Not (||g|| / nu)(sqrt(1 + 2 nu m / ||g||^2) - 1), which is the same and cancels for small nu.
    fall = slope + np.sqrt(slope**2 + 2 * bend * margin)
    return np.divide(2 * margin, fall, out=np.full_like(margin, np.inf), where=fall > 0)


def is_flat(curvature: Floats, slope: Floats) -> bool:
    """Whether margins have no curvature at any sample, as those of a piecewise linear network."""
    return bool(np.all(np.abs(curvature) <= 1e-9 * slope))
