"""Lanczos quadrature against the spectral measure itself, which is known for a diagonal matrix."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore import as_operator
from eigencore.testing.libraries import Library, installed
from eigencore_spectrum.complement import Complement
from eigencore_spectrum.quadrature import Quadrature, quadratures

RNG = np.random.default_rng(0)
SPECTRA = {
    "uniform": np.sort(RNG.uniform(-1, 1, 120)),
    "half zero": np.sort(np.concatenate([np.zeros(60), RNG.normal(0, 1, 55), [30, 20, 10, 9, -5.0]])),
    "copies": np.sort(np.concatenate([np.full(30, 2.0), RNG.normal(0, 0.3, 90)])),
    "1/i": np.sort(1 / np.arange(1, 121)),
}


def whole(operator) -> Complement:
    return Complement(operator, np.zeros(0), np.zeros(0), None)


def last(operator, z, steps) -> list[Quadrature]:
    *_, rules = quadratures(whole(operator), z, steps)
    return rules


def measure(values, z, x):
    """The mass of the spectral measure of z up to x."""
    mass = np.cumsum(z**2 / np.sum(z**2))
    return np.concatenate([[0.0], mass])[np.searchsorted(values, x, side="right")]


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [1, 2, 5, 25])
def test_the_bounds_hold_at_every_point(name, steps):
    values = SPECTRA[name]
    x = np.concatenate([np.linspace(values[0] - 1, values[-1] + 1, 150), values + 1e-9, values - 1e-9])
    for seed in range(3):
        z = np.random.default_rng(seed).standard_normal((len(values), 1))
        (rule,) = last(as_operator(np.diag(values)), z, steps)
        low, high = rule.bounds(x)
        exact = measure(values, z[:, 0], x)
        assert np.all(low <= exact + 1e-9)
        assert np.all(exact <= high + 1e-9)


def test_the_bounds_are_those_of_the_gauss_rule_at_its_nodes_and_no_wider_between_them():
    values = SPECTRA["uniform"]
    (rule,) = last(as_operator(np.diag(values)), np.ones((120, 1)), 12)
    nodes, weights = rule.rule()
    low, high = rule.bounds(nodes)
    upto = np.cumsum(weights)
    np.testing.assert_allclose(high, upto, atol=1e-5)
    np.testing.assert_allclose(low, upto - weights, atol=1e-5)
    between = (nodes[1:] + nodes[:-1]) / 2
    low, high = rule.bounds(between)
    assert np.all(high - low < np.minimum(weights[1:] + weights[:-1], 1.0))


def test_a_gap_beside_a_converged_eigenvalue_is_sharp():
    """The bounds at the nodes alone would leave the weight of the eigenvalue open in the gap beside it."""
    values = SPECTRA["half zero"]
    (rule,) = last(as_operator(np.diag(values)), np.ones((120, 1)), 25)
    low, high = rule.bounds(np.array([15.0, 25.0]))
    assert np.all(high - low < 1e-9)


def test_the_rule_is_exact_for_polynomials_of_degree_2m_minus_1():
    values = SPECTRA["uniform"]
    z = RNG.standard_normal((120, 1))
    (rule,) = last(as_operator(np.diag(values)), z, 6)
    nodes, weights = rule.rule()
    share = z[:, 0] ** 2 / np.sum(z**2)
    for degree in range(12):
        assert np.sum(weights * nodes**degree) == pytest.approx(np.sum(share * values**degree), abs=1e-13)
    assert np.sum(weights * nodes**12) != pytest.approx(np.sum(share * values**12), abs=1e-9)


def test_converged_nodes_do_not_come_back_as_copies():
    values = np.concatenate([np.linspace(-1, 1, 197), [50.0, 100.0, 200.0]])
    (rule,) = last(as_operator(np.diag(values)), np.ones((200, 1)), 100)
    nodes, _ = rule.rule()
    assert np.sum(nodes > 10) == 3
    (rule,) = last(as_operator(np.diag(SPECTRA["copies"])), np.ones((120, 1)), 60)
    nodes, weights = rule.rule()
    near = np.abs(nodes - 2.0) < 1e-6
    assert np.sum(near) == 1
    assert np.sum(weights[near]) == pytest.approx(30 / 120)


def test_an_invariant_subspace_ends_the_recurrence_and_the_measure_is_exact():
    values = np.repeat([1.0, 2.0, 5.0], 4)
    (rule,) = last(as_operator(np.diag(values)), np.ones((12, 1)), 10)
    assert rule.exhausted
    nodes, weights = rule.rule()
    np.testing.assert_allclose(nodes, [1, 2, 5])
    np.testing.assert_allclose(weights, [1 / 3] * 3)
    low, high = rule.bounds(np.array([0.0, 1.5, 5.1]))
    np.testing.assert_allclose(low, [0, 1 / 3, 1], atol=1e-12)
    np.testing.assert_allclose(low, high)


@pytest.mark.parametrize("library", installed(), ids=str)
def test_every_library_gives_the_same_rules_with_one_vector_or_a_block(library: Library):
    values = SPECTRA["1/i"]
    z = np.random.default_rng(3).standard_normal((120, 2))
    operator = as_operator(library.array(np.diag(values)))
    both = last(operator, library.array(z), 8)
    for i, rule in enumerate(both):
        (exact,) = last(as_operator(np.diag(values)), z[:, i : i + 1], 8)
        (alone,) = last(operator, library.array(z[:, i : i + 1]), 8)
        tolerance = 1e3 * library.eps
        for found in (rule, alone):
            np.testing.assert_allclose(found.diagonal, exact.diagonal, atol=tolerance)
            np.testing.assert_allclose(found.couplings, exact.couplings, atol=tolerance)


def test_vectors_in_the_complement_stay_there():
    values = SPECTRA["half zero"]
    V = np.eye(120)[:, -3:]
    known = Complement(as_operator(np.diag(values)), values[-3:], np.zeros(3), V)
    Z = known.project(np.random.default_rng(0).standard_normal((120, 1)))
    *_, (rule,) = quadratures(known, Z, 40)
    assert np.max(rule.rule()[0]) <= values[-4] + 1e-12
