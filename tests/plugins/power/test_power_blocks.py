"""Blocks: orthonormal bases of deficient rank, accurate products, Rayleigh-Ritz on known spans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.request import Request
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power.blocks import (
    fill_with_random,
    locally_optimal_update,
    multiply,
    orthonormalise,
    part_outside,
    rayleigh_ritz,
    start_block,
)

CASE = Case("both signs", filled(60, [10.0, -9.0, 7.0, 7.0, -3.0]))
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)


def rows(library: Library, count: int, seed: int = 0) -> Any:
    return library.array(np.random.default_rng(seed).standard_normal((count, CASE.n)))


def defect(X: Any) -> float:
    host = arrays.to_host(X)
    return float(np.max(np.abs(host @ host.T - np.eye(len(host))), initial=0.0))


@LIBRARIES
@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_an_orthonormal_basis_has_the_rank_of_its_rows(library: Library, rank: int) -> None:
    operator = CASE.operator(library)
    mix = library.array(np.random.default_rng(1).standard_normal((4, 4)) * (np.arange(4) < rank))
    W = mix @ rows(library, 4)
    Q, T = orthonormalise(operator, W)
    assert Q.shape == (rank, CASE.n)
    assert defect(Q) < 50 * library.eps
    assert np.allclose(arrays.to_host(Q), T @ arrays.to_host(W), atol=1e3 * library.eps)


@LIBRARIES
def test_filling_keeps_the_given_rows_and_adds_orthonormal_ones(library: Library) -> None:
    operator = CASE.operator(library)
    Q, _ = orthonormalise(operator, rows(library, 3))
    whole = fill_with_random(operator, Q, 7, np.random.default_rng(2))
    assert whole.shape == (7, CASE.n)
    assert np.array_equal(arrays.to_host(whole[:3, :]), arrays.to_host(Q))
    assert defect(whole) < 50 * library.eps


@LIBRARIES
def test_the_part_outside_other_blocks_keeps_its_products(library: Library) -> None:
    """The part of a block outside two others, of which it shares one direction with each."""
    operator = CASE.operator(library)
    X, _ = orthonormalise(operator, rows(library, 5))
    first, scale = multiply(operator, X[:2, :])
    second, _ = multiply(operator, X[2:4, :], scale)
    shares = operator.xp.stack([X[0, :], X[3, :], X[1, :] + X[4, :]])
    other, _ = multiply(operator, orthonormalise(operator, shares)[0], scale)
    found = part_outside(operator, (first, second), other)
    assert found.width == 1
    assert abs(abs(float(found.X[0, :] @ X[4, :])) - 1) < 50 * library.eps
    true = arrays.to_host(operator.matmat(found.X.T)).T / scale
    assert np.allclose(arrays.to_host(found.AX), true, atol=200 * library.eps)


@LIBRARIES
def test_ritz_pairs_of_a_random_span(library: Library) -> None:
    """Values, residuals, and singular values that bound the eigenvalues of their rank from below."""
    operator = CASE.operator(library)
    X, _ = orthonormalise(operator, rows(library, 7))
    left, scale = multiply(operator, X[:4, :])
    right, _ = multiply(operator, X[4:, :], scale)
    ritz = rayleigh_ritz(operator, (left, right), 7)

    V = ritz.rotation @ arrays.to_host(X)
    AV = CASE.exact(library).matmat(V.T).T / scale
    noise = 300 * library.eps * CASE.norm / scale
    assert np.allclose(ritz.values, np.sum(V * AV, axis=1), atol=noise)
    assert np.allclose(ritz.residuals, np.linalg.norm(AV - ritz.values[:, None] * V, axis=1), atol=noise)
    assert np.all(np.diff(np.abs(ritz.values)) <= 0)
    assert np.allclose(ritz.singular_values, np.linalg.svd(AV, compute_uv=False), atol=noise)
    sizes = np.sort(np.abs(CASE.spectrum))[::-1][:7] / scale
    assert np.all(ritz.singular_values <= sizes + noise)
    assert np.all(np.abs(ritz.values) <= sizes + noise)


@LIBRARIES
def test_an_invariant_span_gives_eigenpairs(library: Library) -> None:
    operator = CASE.operator(library)
    vectors = [operator.from_eigenbasis(np.eye(CASE.n)[i]) for i in (0, 1, 4)]
    block, scale = multiply(operator, operator.xp.stack(vectors))
    ritz = rayleigh_ritz(operator, (block,), 3)
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
    kept = locally_optimal_update(operator, blocks, leading.order)
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
    assert locally_optimal_update(operator, blocks[:1], Request(5, which).order).width == 5


@LIBRARIES
def test_a_start_block_begins_with_the_given_columns(library: Library) -> None:
    """Given columns of any length, even zero, come first; then random ones; no more than fit."""
    operator, rng = CASE.operator(library), np.random.default_rng(3)
    given = np.random.default_rng(4).standard_normal((CASE.n, 3))
    given[:, 1] = 0
    start = start_block(operator, library.array(given * 1e-20), 4, rng)
    assert start.shape == (4, CASE.n)
    assert defect(start) < 50 * library.eps
    shares = np.linalg.norm(
        arrays.to_host(start) @ (given[:, [0, 2]] / np.linalg.norm(given[:, [0, 2]], axis=0)), axis=0
    )
    assert np.all(shares > 1 - 10 * np.sqrt(library.eps))
    assert start_block(operator, library.array(given), 2, rng).shape == (2, CASE.n)
    one = start_block(operator, library.array(given[:, 0]), 1, rng)
    assert abs(arrays.to_host(one)[0] @ given[:, 0]) > (1 - 10 * np.sqrt(library.eps)) * np.linalg.norm(
        given[:, 0]
    )


def test_the_scale_is_a_power_of_two_and_one_for_a_zero_operator() -> None:
    library = Library("numpy", "float64")
    for spectrum, scale in ((3e40 * CASE.spectrum, None), (np.zeros(CASE.n), 1.0)):
        operator = Case("scaled", spectrum).operator(library)
        block, found = multiply(operator, rows(library, 2))
        assert scale is None or found == scale
        assert np.log2(found) == round(np.log2(found))
        assert np.max(np.abs(block.AX)) < 100
