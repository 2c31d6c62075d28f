"""The batched Lanczos process against dense eigenvalues, and the cautious radius against its definition."""

from __future__ import annotations

from types import SimpleNamespace

import array_api_compat.numpy as xp
import numpy as np
import pytest

from eigencore.objectives import CrossEntropy, Margin
from eigencore.testing.libraries import library
from eigencore_robustness.over_inputs.input_curvature import cautious_radius, is_flat, quadratic_radius
from eigencore_robustness.over_inputs.input_eigenpairs import TOL, largest_eigenpairs
from eigencore_robustness.over_inputs.sample_columns import sample_columns

SPACE = SimpleNamespace(xp=xp, dtype=np.float64, device="cpu")


def symmetric(rng: np.random.Generator, b: int, d: int) -> np.ndarray:
    H = rng.standard_normal((b, d, d))
    return H + H.transpose(0, 2, 1)


def times(H: np.ndarray):
    return lambda v: np.einsum("bij,bj->bi", H, v)


def stack() -> np.ndarray:
    """Returns Hessians (12, 30, 30): full, zero, of rank one and four, of one sign, multiples of others."""
    rng = np.random.default_rng(0)
    H = symmetric(rng, 12, 30)
    J = rng.standard_normal((30, 4))
    H[1], H[2], H[3], H[4] = 0, J @ J.T, -J @ J.T, np.outer(J[:, 0], J[:, 0])
    H[5], H[6], H[7], H[8] = np.eye(30), -np.eye(30), 1e-8 * H[0], 1e8 * H[0]
    return H


def test_every_row_finds_its_own_largest_eigenvalue():
    H = stack()
    found = largest_eigenpairs(times(H), H.shape[:2], SPACE, 0)
    exact = np.linalg.eigvalsh(H)
    size = np.abs(exact).max(axis=1)
    assert (np.abs(found.values[:, 0] - exact[:, -1]) <= TOL * np.abs(exact[:, -1]) + 1e-13 * size).all()


def test_the_residuals_bound_the_errors():
    H = symmetric(np.random.default_rng(1), 20, 40)
    found = largest_eigenpairs(times(H), H.shape[:2], SPACE, 0)
    nearest = np.abs(np.linalg.eigvalsh(H) - found.values[:, :1]).min(axis=1)
    assert (nearest <= found.residuals[:, 0] + 1e-12).all()
    assert (found.residuals[:, 0] <= TOL * np.abs(found.values[:, 0])).all()


def test_a_row_does_not_depend_on_the_others():
    H = stack()
    together = largest_eigenpairs(times(H), H.shape[:2], SPACE, 0)
    exact = np.linalg.eigvalsh(H)[:, -1]
    order = np.random.default_rng(2).permutation(len(H))
    mixed = largest_eigenpairs(times(H[order]), H.shape[:2], SPACE, 5)
    assert np.allclose(mixed.values[:, 0], together.values[:, 0][order], rtol=TOL, atol=1e-9)
    assert np.allclose(mixed.values[:, 0], exact[order], rtol=TOL, atol=1e-6 * 1e-6)


def test_a_shift_of_the_matrices_shifts_the_eigenvalues():
    H = symmetric(np.random.default_rng(3), 6, 25)
    plain = largest_eigenpairs(times(H), (6, 25), SPACE, 0).values[:, 0]
    shifted = largest_eigenpairs(times(H + 7 * np.eye(25)), (6, 25), SPACE, 0).values[:, 0]
    assert np.allclose(shifted, plain + 7, rtol=TOL)


@pytest.mark.parametrize("name", ["strict-float64", "torch-float64"])
def test_on_every_array_library(name):
    H = symmetric(np.random.default_rng(4), 5, 12)
    lib = library(name)
    A = lib.array(H)
    space = SimpleNamespace(xp=lib.xp, dtype=lib.dtype, device=A.device)

    def product(v):
        return lib.xp.sum(A * v[:, None, :], axis=2)

    found = largest_eigenpairs(product, (5, 12), space, 0)
    assert np.allclose(found.values[:, 0], np.linalg.eigvalsh(H)[:, -1], rtol=TOL)


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin()], ids=["cross-entropy", "margin"])
def test_three_hundred_digits_against_their_dense_hessians(digits, objective):
    classifier = digits.classifier("float64")
    x, y = classifier.samples(300)
    product = classifier.input_products(objective, x, y)
    columns = [product(np.tile(e, (300, 1))) for e in np.eye(x.shape[1])]
    exact = np.linalg.eigvalsh(np.stack(columns, axis=2))[:, -1]
    found = largest_eigenpairs(product, x.shape, classifier, 0)
    assert np.allclose(found.values[:, 0], exact, rtol=1e-3, atol=1e-9 * np.abs(exact).max())
    assert found.products < x.shape[1]


def test_the_cautious_radius_is_the_first_zero_of_the_quadratic_model():
    rng = np.random.default_rng(5)
    m, g, nu = rng.random(50), rng.random(50), 10 * rng.random(50)
    r = cautious_radius(m, g, nu)
    assert np.allclose(m - g * r - nu * r**2 / 2, 0, atol=1e-12)
    assert (r <= m / g).all()


def test_without_curvature_the_cautious_radius_is_the_first_order_one():
    m, g = np.array([1.0, 2.0]), np.array([0.5, 4.0])
    assert np.allclose(cautious_radius(m, g, np.zeros(2)), m / g)
    assert np.allclose(cautious_radius(m, g, np.full(2, -3.0)), m / g)
    assert np.allclose(cautious_radius(m, g, np.full(2, 1e-14)), m / g, rtol=1e-12)


def test_the_second_order_radius_is_the_first_zero_of_the_margin_along_its_gradient():
    rng = np.random.default_rng(6)
    m, a, kappa = rng.random(200), rng.random(200), 4 * rng.standard_normal(200)
    r = quadratic_radius(m, a, kappa)
    reached = a**2 >= 2 * kappa * m
    assert 20 < reached.sum() < 180
    assert np.isinf(r[~reached]).all()
    m, a, kappa, r = (column[reached] for column in (m, a, kappa, r))
    assert np.allclose(m - a * r + kappa * r**2 / 2, 0, atol=1e-11)
    for before in np.linspace(0, 0.999, 20)[:, None] * r:
        assert (m - a * before + kappa * before**2 / 2 > 0).all()
    assert (cautious_radius(m, a, abs(kappa)) <= r * (1 + 1e-12)).all()


def test_the_second_order_radius_without_curvature_or_slope():
    m, a = np.array([1.0, 2.0]), np.array([0.5, 4.0])
    for kappa in (0.0, 1e-14, -1e-14):
        assert np.allclose(quadratic_radius(m, a, np.full(2, kappa)), m / a, rtol=1e-12)
    assert np.isinf(quadratic_radius(np.ones(1), np.zeros(1), np.zeros(1))).all()
    assert np.allclose(quadratic_radius(np.ones(1), np.zeros(1), np.full(1, -2.0)), 1.0)


def test_the_second_order_radius_has_the_curvature_of_the_margin_along_its_gradient(digits):
    """It equals the first zero of the quadratic through the margin and its differences on that line."""
    classifier = digits.classifier("float64")
    x, y = classifier.samples(60)
    correct = classifier.logits(x).argmax(axis=1) == y
    x, y = x[correct], y[correct]
    found = sample_columns(classifier, x, y, 25, 0, lambda _: None)
    columns, flat = found.columns, found.flat
    assert not flat
    margin = Margin(columns["r1_class"].astype(int))
    m, gradient = classifier.value_and_grad(margin, x, y)
    length = np.linalg.norm(gradient, axis=1)
    h = 1e-4
    ahead, behind = (
        margin.value(classifier.logits(x + s * h * gradient / length[:, None]), y) for s in (1, -1)
    )
    kappa = (ahead - 2 * m + behind) / h**2
    assert np.allclose(columns["r2"], quadratic_radius(m, length, kappa), rtol=1e-5)
    assert np.median(abs(columns["r2"] / columns["r1"] - 1)) > 1e-3  # it is not r1


def test_the_margin_of_a_relu_network_is_flat_and_that_of_softplus_is_not(two_layers):
    for activation, flat in {"relu": True, "softplus": False}.items():
        classifier = two_layers(activation).classifier("float64")
        x, y = classifier.samples()
        found = largest_eigenpairs(classifier.input_products(Margin(), x, y), x.shape, classifier, 0)
        slope = np.linalg.norm(classifier.value_and_grad(Margin(), x, y)[1], axis=1)
        assert is_flat(found.values[:, 0], slope) == flat
