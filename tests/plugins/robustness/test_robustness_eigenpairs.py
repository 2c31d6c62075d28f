"""The block Lanczos process over the rows of a batch against dense eigenpairs."""

from __future__ import annotations

from types import SimpleNamespace

import array_api_compat.numpy as xp
import numpy as np
import pytest

from eigencore import arrays
from eigencore.objectives import CrossEntropy
from eigencore.testing.libraries import installed
from eigencore_robustness.over_inputs.input_eigenpairs import (
    MAX_PRODUCTS_FOR_SPANS,
    TILT,
    TOL,
    largest_eigenpairs,
)

SPACE = SimpleNamespace(xp=xp, dtype=np.float64, device="cpu")


def times(H: np.ndarray):
    return lambda v: np.einsum("bij,bj->bi", H, v)


def with_spectra(spectra, d: int = 24) -> np.ndarray:
    """Matrices (b, d, d) with random eigenvectors; a spectrum is continued by zeros."""
    rng = np.random.default_rng(0)
    matrices = []
    for spectrum in spectra:
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        values = np.zeros(d)
        values[: len(spectrum)] = spectrum
        matrices.append((Q * values) @ Q.T)
    return np.array(matrices)


def found_in(H: np.ndarray, k: int = 4, spans=(1, 3), seed: int = 0):
    return largest_eigenpairs(times(H), H.shape[:2], SPACE, seed, k=k, spans=spans)


def sines(H: np.ndarray, span: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The largest sine between each span and as many exact first eigenvectors."""
    exact = np.linalg.eigh(H)[1][:, :, ::-1]
    found = []
    for V, rows, rank in zip(exact, span, ranks, strict=True):
        P, own = V[:, :rank] @ V[:, :rank].T, rows[:rank]
        found.append(np.linalg.norm(own - own @ P, ord=2) if rank else 0.0)
    return np.array(found)


SPECTRA = {
    "separate": [9, 6, 4, 2, 1, 0.5, *-np.ones(6)],
    "twice": [5, 5, 2, 1, 0.3, -4],
    "four times": [3, 3, 3, 3, 1],
    "near": [4, 3.999, 2, 1.999, 0.1],
    "rank one": [7],
    "rank two": [7, 1],
    "indefinite": [2, -1, -3, -3, -8],
    "negative": -np.arange(1.0, 25.0),
    "zero": [],
    "large": [1e9, 1e8, 1e7, 1e6],
    "small": [1e-9, 1e-10, 1e-11],
}


@pytest.mark.parametrize("seed", range(3))
def test_values_and_residuals_are_those_of_dense_matrices(seed):
    H = with_spectra(SPECTRA.values())
    found = found_in(H, seed=seed)
    exact = np.linalg.eigvalsh(H)[:, ::-1]
    size = np.abs(exact).max(axis=1, keepdims=True)
    assert (np.abs(found.values[:, 0] - exact[:, 0]) <= TOL * np.abs(exact[:, 0]) + 1e-13 * size[:, 0]).all()
    assert (found.values <= exact[:, :4] + 1e-12 * size).all()  # Ritz values are at most eigenvalues
    own = np.einsum("bij,bkj->bki", H, found.vectors) - found.values[:, :, None] * found.vectors
    assert np.allclose(np.linalg.norm(own, axis=2), found.residuals, atol=1e-12 * size.max(), rtol=1e-6)
    gram = np.einsum("bkd,bjd->bkj", found.vectors, found.vectors)
    assert np.allclose(gram, np.eye(4), atol=1e-12)


def test_repeated_eigenvalues_are_found_as_often_as_they_occur():
    H = with_spectra([SPECTRA["twice"], SPECTRA["four times"], [2] * 24])
    assert np.allclose(found_in(H).values, [[5, 5, 2, 1], [3, 3, 3, 3], [2, 2, 2, 2]], atol=1e-9)


def test_the_tilt_bounds_the_angle_and_repeated_eigenvalues_leave_it_undetermined():
    H = with_spectra(SPECTRA.values())
    found, names = found_in(H), list(SPECTRA)
    for k in (1, 3):
        tilts, ranks = found.tilts(k), found.ranks(k)
        determined = tilts <= TILT
        bounded = sines(H, found.span(k), ranks) <= tilts + 1e-9
        assert bounded[determined].all()
        undetermined = {name for name, is_so in zip(names, determined, strict=True) if not is_so}
        assert undetermined == {1: {"twice", "four times"}, 3: {"four times"}}[k]
    expected = {"rank one": 1, "rank two": 2, "indefinite": 1, "negative": 0, "zero": 0, "separate": 3}
    assert {name: found.ranks(3)[names.index(name)] for name in expected} == expected
    assert np.linalg.matrix_rank(found.span(3)[names.index("rank two")]) == 2


def test_a_process_that_stops_early_says_so():
    """Without `spans`, it ends at the first pair, and the tilt of the others shows it."""
    H = with_spectra([0.95 ** np.arange(200)], 200)
    early, late = found_in(H, spans=()), found_in(H)
    assert early.products < late.products
    assert early.tilts(3)[0] > TILT
    assert sines(H, late.span(3), late.ranks(3))[0] <= late.tilts(3)[0] <= TILT


def test_a_span_that_is_not_determined_is_given_up():
    H = with_spectra([[4, 3, 2, 2, 2, *np.linspace(1.99, 0, 145)]], 150)
    found = found_in(H)
    assert MAX_PRODUCTS_FOR_SPANS <= found.products < MAX_PRODUCTS_FOR_SPANS + 4
    assert found.tilts(1)[0] <= TILT < found.tilts(3)[0]


def test_in_fewer_dimensions_than_pairs():
    H = with_spectra([[3, 1], [0, 0], [2, 2]], 2)
    found = found_in(H)
    assert np.allclose(found.values[:, :2], [[3, 1], [0, 0], [2, 2]])
    assert np.isneginf(found.values[:, 2:]).all()
    assert (found.vectors[:, 2:] == 0).all()
    assert (found.tilts(3) == 0).all()  # the span is the whole space


def test_a_rotation_of_the_space_rotates_the_span():
    H = with_spectra([SPECTRA["separate"]] * 3)
    R = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 24)))[0]
    span, turned = found_in(H, seed=3).span(3), found_in(R @ H @ R.T, seed=4).span(3)
    P, Q = (np.einsum("bki,bkj->bij", one, one) for one in (span, turned))
    assert np.abs(R @ P @ R.T - Q).max() <= 2 * TILT


@pytest.mark.parametrize("lib", installed(), ids=str)
def test_on_every_array_library(lib):
    H = with_spectra([SPECTRA["separate"], SPECTRA["twice"], SPECTRA["rank two"]], 12)
    A = lib.array(H)
    space = SimpleNamespace(xp=lib.xp, dtype=lib.dtype, device=arrays.device_of(A))
    found = largest_eigenpairs(
        lambda v: lib.xp.matmul(A, v[:, :, None])[:, :, 0], (3, 12), space, 0, k=4, spans=(1, 3)
    )
    exact = np.linalg.eigvalsh(H)[:, ::-1][:, :4]
    assert np.allclose(found.values[:, :3], exact[:, :3], rtol=TOL, atol=1e-5)
    assert found.ranks(3).tolist() == [3, 3, 2]
    assert (found.tilts(3) <= TILT).all()


@pytest.mark.parametrize("k", [1, 3])
def test_spans_of_digits_are_those_of_their_dense_hessians(digits, k):
    classifier = digits.classifier("float64")
    x, y = classifier.samples(60)
    product = classifier.input_products(CrossEntropy(), x, y)
    H = np.stack([product(np.tile(e, (60, 1))) for e in np.eye(x.shape[1])], axis=2)
    found = largest_eigenpairs(product, x.shape, classifier, 0, k=4, spans=(1, 3))
    assert (found.tilts(k) <= TILT).all()
    assert found.products < x.shape[1]
    assert (sines(H, found.span(k), found.ranks(k)) <= TILT).all()
