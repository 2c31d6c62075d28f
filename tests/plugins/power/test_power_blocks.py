"""Blocks: orthonormal bases of deficient rank, start blocks, scales, and combinations of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library, installed
from eigencore_power import blocks
from eigencore_power.blocks import (
    combine,
    fill_with_random,
    multiply,
    orthonormalise,
    qr,
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
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_factorisation_is_orthonormal_whatever_the_rank(library: Library, rank: int) -> None:
    mix = library.array(np.random.default_rng(1).standard_normal((4, 4)) * (np.arange(4) < rank))
    W = mix @ rows(library, 4)
    Q, R = qr(CASE.operator(library), W)
    assert defect(Q) < 50 * library.eps
    assert np.allclose(arrays.to_host(R.T @ Q), arrays.to_host(W), atol=200 * library.eps)


@LIBRARIES
def test_combinations_of_long_rows(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the rows are longer than a chunk, and not a multiple of one."""
    Y = np.random.default_rng(2).standard_normal((3, 5))
    parts = [rows(library, 2), rows(library, 3, seed=1)]
    whole = np.concatenate([arrays.to_host(part) for part in parts])
    for chunk in (7, 1 << 15):
        monkeypatch.setattr(blocks, "CHUNK", chunk)
        found = combine(CASE.operator(library), parts, Y)
        assert np.allclose(arrays.to_host(found), Y @ whole, atol=100 * library.eps)


@LIBRARIES
def test_filling_keeps_the_given_rows_and_adds_orthonormal_ones(library: Library) -> None:
    operator = CASE.operator(library)
    Q, _ = orthonormalise(operator, rows(library, 3))
    whole = fill_with_random(operator, Q, 7, np.random.default_rng(2))
    assert whole.shape == (7, CASE.n)
    assert np.array_equal(arrays.to_host(whole[:3, :]), arrays.to_host(Q))
    assert defect(whole) < 50 * library.eps


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


@LIBRARIES
@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_the_scale_is_near_the_largest_norm_of_a_product(library: Library, factor: float) -> None:
    """Also if the squares of the products overflow or vanish."""
    operator = Case("scaled", factor * CASE.spectrum).operator(library)
    block, scale = multiply(operator, orthonormalise(operator, rows(library, 3))[0])
    longest = np.max(np.linalg.norm(arrays.to_host(block.AX), axis=1))
    assert 0.7 < longest < 1.5
    assert 0.01 * factor * CASE.norm < scale <= 2 * factor * CASE.norm


@LIBRARIES
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_first_product_that_is_not_finite_is_refused(library: Library, bad: float) -> None:
    spectrum = CASE.spectrum.copy()
    spectrum[7] = bad
    operator = Case("bad", spectrum, rotated=False).operator(library)
    with np.errstate(invalid="ignore"), pytest.raises(NotFiniteError, match="a product is not finite"):
        multiply(operator, rows(library, 2))
