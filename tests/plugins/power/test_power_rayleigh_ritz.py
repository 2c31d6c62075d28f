"""Rayleigh-Ritz on known spans: values, residuals and bounds as accurate as on the host in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.blocks import multiply, orthonormalise
from eigencore_power.rayleigh_ritz import (
    RitzDecomposition,
    locally_optimal_update,
    measure,
    rayleigh_ritz,
    ritz_block,
)

CASE = Case("both signs", filled(60, [10.0, -9.0, 7.0, 7.0, -3.0]))
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)


def rows(library: Library, count: int, seed: int = 0) -> Any:
    return library.array(np.random.default_rng(seed).standard_normal((count, CASE.n)))


def defect(X: Any) -> float:
    host = arrays.to_host(X)
    return float(np.max(np.abs(host @ host.T - np.eye(len(host))), initial=0.0))


@LIBRARIES
def test_the_part_of_a_block_outside_others_extends_the_span(library: Library) -> None:
    """The block shares one direction with each of two others, and adds a single one."""
    operator = CASE.operator(library)
    X, _ = orthonormalise(operator, rows(library, 5))
    first, scale = multiply(operator, X[:2, :])
    second, _ = multiply(operator, X[2:4, :], scale)
    shares = operator.xp.stack([X[0, :], X[3, :], X[1, :] + X[4, :]])
    other, _ = multiply(operator, orthonormalise(operator, shares)[0], scale)
    ritz, _ = rayleigh_ritz(operator, (first, second), other)
    judge(library, ritz, arrays.to_host(X), scale)


@LIBRARIES
@pytest.mark.parametrize("part", [0.0, 1e-5, 1.0])
def test_a_block_that_is_nearly_inside_the_others_costs_no_accuracy(library: Library, part: float) -> None:
    """Directions of rounding error, of which there are many in a small space, have no part in residuals."""
    operator = CASE.operator(library)
    X, _ = orthonormalise(operator, rows(library, 40))
    block, scale = multiply(operator, X)
    near = X[10:, :] + part * rows(library, 30, 1)
    other, _ = multiply(operator, orthonormalise(operator, near)[0], scale)
    ritz, _ = rayleigh_ritz(operator, (block,), other)
    V = arrays.to_host(ritz_block(operator, ritz, slice(None)).X)
    assert len(V) == (60 if part > np.sqrt(library.eps) else 40)
    # The products of a part that was small are as much less accurate.
    judge(library, ritz, V, scale, noise=3000 if len(V) == 40 else 3000 + 10 / part)


@LIBRARIES
def test_ritz_pairs_of_a_random_span(library: Library) -> None:
    """Values, residuals, and singular values that bound the eigenvalues of their rank from below."""
    operator = CASE.operator(library)
    X, _ = orthonormalise(operator, rows(library, 7))
    left, scale = multiply(operator, X[:4, :])
    right, _ = multiply(operator, X[4:, :], scale)
    ritz, _ = rayleigh_ritz(operator, (left, right))
    judge(library, ritz, arrays.to_host(X), scale)


def judge(library: Library, ritz: RitzDecomposition, X: Any, scale: float, noise: float = 300) -> None:
    """Checks all that is known of the Ritz pairs of the span of orthonormal rows X."""
    V = ritz.rotation @ np.concatenate([arrays.to_host(part) for part in ritz.bases])
    assert np.allclose(V @ V.T, np.eye(len(X)), atol=noise * library.eps)
    assert np.allclose(np.linalg.svd(V @ X.T, compute_uv=False), 1, atol=noise * library.eps)
    AV = CASE.exact(library).matmat(V.T).T / scale
    noise *= library.eps * CASE.norm / scale
    assert np.allclose(ritz.values, np.sum(V * AV, axis=1), atol=noise)
    assert np.allclose(ritz.residuals, np.linalg.norm(AV - ritz.values[:, None] * V, axis=1), atol=noise)
    assert np.all(np.diff(np.abs(ritz.values)) <= 0)
    # Small singular values are accurate as far as their squares are.
    assert np.allclose(ritz.singular_values**2, np.linalg.svd(AV, compute_uv=False) ** 2, atol=10 * noise)
    sizes = np.sort(np.abs(CASE.spectrum))[::-1][: len(X)] / scale
    assert np.all(ritz.singular_values**2 <= sizes**2 + 10 * noise)
    assert np.all(np.abs(ritz.values) <= sizes + noise)


@LIBRARIES
def test_an_invariant_span_gives_eigenpairs(library: Library) -> None:
    operator = CASE.operator(library)
    vectors = [operator.from_eigenbasis(np.eye(CASE.n)[i]) for i in (0, 1, 4)]
    block, scale = multiply(operator, operator.xp.stack(vectors))
    ritz, _ = rayleigh_ritz(operator, (block,))
    assert np.allclose(ritz.values * scale, [10, -9, -3], rtol=100 * library.eps)
    assert np.max(ritz.residuals) < 300 * library.eps * CASE.norm / scale


@LIBRARIES
@pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
def test_an_update_starts_with_the_requested_vectors_and_keeps_the_previous_ones(
    library: Library, which: str
) -> None:
    """Also after a loss of orthonormality; without a second block, it is Rayleigh-Ritz alone."""
    operator, leading = CASE.operator(library), Request(3, which)
    X = arrays.to_host(orthonormalise(operator, rows(library, 8))[0])
    skew = np.eye(8) + 1e-3 * np.random.default_rng(5).standard_normal((8, 8))
    parts = [library.array(part) for part in np.split(skew @ X, [5])]
    blocks = [multiply(operator, part, 8.0)[0] for part in parts]
    values = np.linalg.eigvalsh(X @ CASE.exact(library).matmat(X.T)) / 8
    kept, pairs = locally_optimal_update(operator, blocks, leading.order)
    H = arrays.to_host(kept.X @ kept.AX.T)
    assert kept.width == 6
    assert defect(kept.X) < 100 * library.eps
    assert np.allclose(np.diag(H)[:3], values[leading.order(values)], atol=300 * library.eps)
    assert np.allclose(H[:3, :3], np.diag(np.diag(H)[:3]), atol=300 * library.eps)
    true = arrays.to_host(operator.matmat(kept.X.T)).T / 8
    assert np.allclose(arrays.to_host(kept.AX), true, atol=300 * library.eps)
    previous = arrays.to_host(blocks[0].X)[:3]
    assert np.allclose(
        np.linalg.norm(arrays.to_host(kept.X) @ previous.T, axis=0),
        np.linalg.norm(previous, axis=1),
        rtol=1e-5,
    )
    V = arrays.to_host(kept.X)[:3]
    R = CASE.exact(library).matmat(V.T).T / 8 - pairs.values[:, None] * V
    assert np.allclose(pairs.values, np.diag(H)[:3], atol=300 * library.eps)
    assert np.allclose(pairs.residuals, np.linalg.norm(R, axis=1), atol=300 * library.eps)
    assert np.allclose(pairs.overlaps, R @ R.T, atol=300 * library.eps)
    assert locally_optimal_update(operator, blocks[:1], Request(5, which).order)[0].width == 5


@LIBRARIES
def test_residuals_are_accurate_even_if_almost_all_cancels(library: Library) -> None:
    """E is then combined on the device, which takes a second transfer."""
    operator = CASE.operator(library)
    vectors = operator.xp.stack([operator.from_eigenbasis(np.eye(CASE.n)[i]) for i in range(3)])
    block, _ = multiply(operator, orthonormalise(operator, vectors + 1e-2 * rows(library, 3))[0])
    large = np.eye(3) + 1e8 * np.outer([1, 0, 0], [0.6, 0.0, 0.8])
    measured, _ = measure(operator, (block.X,), (block.AX, block.AX))
    Y = np.hstack([large, np.eye(3) - large])  # the large parts of the two equal products cancel
    found = measured.residuals(operator, Y, np.eye(3), np.zeros(3))
    true = np.linalg.norm(arrays.to_host(block.AX), axis=1)
    assert np.allclose(found, true, rtol=0, atol=10 * 1e8 * library.eps)
