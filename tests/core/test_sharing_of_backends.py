"""What more than one backend used to have: layouts, shapes, reductions, and refusing wrong derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.problems.sharing import (
    DerivativeGaps,
    FlatLayout,
    LossGaps,
    Minibatch,
    check_derivatives,
    check_direction,
    check_finite_weights,
    check_labels,
    check_row_vectors,
    check_rows,
    decide_reduction,
    flat_layout,
    is_objective,
    random_direction,
)

# -- flat layouts ------------------------------------------------------------------------------------------


def test_a_vector_has_the_selected_weights_one_after_the_other(array_library):
    rng = np.random.default_rng(0)
    host = {"a": rng.standard_normal((2, 3)), "b": rng.standard_normal(()), "c": rng.standard_normal(4)}
    weights = {name: array_library.array(w) for name, w in host.items()}
    layout = flat_layout(weights, ["c", "a"])
    assert (layout.names, layout.n) == (("a", "c"), 10)
    v = layout.flatten(weights)
    np.testing.assert_array_equal(
        np.asarray(v), np.asarray(array_library.array(np.concatenate([host["a"].ravel(), host["c"]])))
    )
    pieces = layout.unflatten(v)
    assert list(pieces) == ["a", "c"]
    for name, piece in pieces.items():
        np.testing.assert_array_equal(np.asarray(piece), np.asarray(weights[name]))
    first, second = layout.parameters(host)
    assert (first.name, first.where, second.where) == ("a", slice(0, 6), slice(6, 10))
    assert second.norm == pytest.approx(float(np.linalg.norm(host["c"])))
    with pytest.raises(UnknownNameError, match="d"):
        flat_layout(weights, "d")


def test_a_layout_can_be_hashed_and_equals_that_of_other_weights_of_the_same_shapes():
    one, other = (flat_layout({"a": np.full((2, 3), value)}) for value in (0.0, 1.0))
    assert one.slices == (slice(0, 6),)  # what is kept of it changes nothing
    assert one == other == FlatLayout(("a",), ((2, 3),))
    assert hash(one) == hash(other)


# -- samples of a minibatch --------------------------------------------------------------------------------


def test_the_samples_of_a_minibatch_have_the_factors_of_their_batches():
    sizes, values = [2, 3, 1], np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    rows, factors = Minibatch({2: 0.5, 0: 1.5}, share=0.5).samples(sizes)
    assert rows.tolist() == [0, 1, 5]
    assert float(factors @ values[rows]) == 1.5 * (1 + 2) + 0.5 * 32


# -- shapes and arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda: check_rows(np.zeros((2, 3)), 4), r"inputs of shape \(2, 3\); expected \(b, 4\)"),
        (lambda: check_rows(np.zeros(4), 4), r"inputs of shape \(4,\); expected \(b, 4\)"),
        (lambda: check_labels(np.zeros((2, 1)), np.zeros((2, 3))), r"expected \(2,\), one label per input"),
        (lambda: check_row_vectors(np.zeros((1, 3)), np.zeros((2, 3))), r"expected \(2, 3\), one row per"),
        (lambda: check_direction(np.zeros((4, 1)), 4), r"a direction of shape \(4, 1\); expected \(4,\)"),
    ],
)
def test_what_has_another_shape_is_refused(check, words):
    with pytest.raises(UsageError, match=words):
        check()


def test_what_has_the_right_shape_is_not():
    x = np.zeros((2, 3))
    check_rows(x, 3)
    check_labels(np.zeros(2), x)
    check_row_vectors(x, x)
    check_direction(np.zeros(4), 4)


def test_weights_that_are_not_finite_and_losses_that_are_objectives():
    check_finite_weights("w", 0, 9)
    with pytest.raises(ProblemError, match="w contains NaN or infinite weights: 2 of 9"):
        check_finite_weights("w", 2, 9)
    assert not is_objective(lambda logits, y: 0.0)


# -- mean or sum -------------------------------------------------------------------------------------------


def gaps_of(loss, w=0.7, x=(1.0, 2.0, 4.0), scale=1.0):
    """The gaps of a loss of (w - x)**2 / 2 for some x, whose derivative is w - x."""
    losses, gradients = scale * (w - np.array(x)) ** 2 / 2, scale * (w - np.array(x))
    value, g, s = loss(losses), loss(gradients), gradients.sum()
    norm = max(abs(g), abs(s)) / len(x)
    return LossGaps(value, losses.mean(), losses.mean(), losses.sum(), norm, abs(g - s / len(x)), abs(g - s))


@pytest.mark.parametrize("eps", [2.0**-52, 2.0**-23])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_mean_a_sum_and_neither_are_distinguished(eps, scale):
    assert gaps_of(np.mean, scale=scale).fitting(3, eps) == {"mean"}
    assert gaps_of(np.sum, scale=scale).fitting(3, eps) == {"sum"}
    assert gaps_of(np.median, scale=scale).fitting(3, eps) == set()
    assert gaps_of(lambda one: np.mean(one) * (1 + 1e-2), scale=scale).fitting(3, eps) == set()
    assert gaps_of(lambda one: np.mean(one) * (1 + 0.1 * eps), scale=scale).fitting(3, eps) == {"mean"}


def test_losses_that_are_equal_or_zero_are_decided_by_gradients():
    value = LossGaps(0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0)
    assert value.fitting(3, 2.0**-52) == {"mean"}


def test_the_reduction_is_the_one_that_fits_and_was_declared():
    assert decide_reduction({"mean"}, "infer", 3) == decide_reduction({"mean", "sum"}, "infer", 1) == "mean"
    assert decide_reduction({"sum"}, "infer", 3) == decide_reduction({"mean", "sum"}, "sum", 3) == "sum"
    with pytest.raises(ProblemError, match="can't be determined"):
        decide_reduction({"mean", "sum"}, "infer", 3)
    with pytest.raises(ProblemError, match="reduction is 'mean', but the loss is the sum"):
        decide_reduction({"sum"}, "mean", 3)


# -- wrong derivatives -------------------------------------------------------------------------------------


def test_derivatives_that_are_wrong_at_a_kink_alone_are_right():
    shifts = []

    def gaps(shift):
        shifts.append(shift)
        return DerivativeGaps(0.3 if shift is None else 1e-6, 0.0)

    check_derivatives(gaps, 5, weights_norm=2.0, tolerance=1e-4, hint="")
    assert shifts[0] is None
    assert np.linalg.norm(shifts[1]) == pytest.approx(2e-3)
    shifts.clear()
    check_derivatives(lambda shift: shifts.append(shift) or DerivativeGaps(0.0, 0.0), 5, 2.0, 1e-4, "")
    assert shifts == [None]


def test_derivatives_that_are_wrong_nearby_are_refused_with_the_hint():
    with pytest.raises(
        ProblemError, match="would be wrong: along a random direction, the Hessian pro"
    ) as caught:
        check_derivatives(
            lambda shift: DerivativeGaps(0.0, 0.5), 5, 2.0, 1e-4, lambda found: f"{found.product}"
        )
    assert caught.value.hint == "0.5"


def test_random_directions_have_norm_1_and_depend_on_the_seed():
    one, other = random_direction(9, 0), random_direction(9, 1)
    assert np.linalg.norm(one) == pytest.approx(1.0)
    np.testing.assert_array_equal(one, random_direction(9, 0))
    assert abs(one @ other) < 0.9
