"""Objectives in logit space: their derivatives are those of their values, on every array library."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.arrays import to_host
from eigencore.errors import UsageError
from eigencore.objectives import DLR, CrossEntropy, LabelOdds, Margin
from eigencore.testing.libraries import installed

B, C = 12, 5
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((B, C))
LABELS = np.arange(B) % C
RIVALS = (LABELS + 1 + np.arange(B) % (C - 1)) % C

# `labels` makes an array in the library under test.
OBJECTIVES = {
    "cross-entropy": lambda labels: CrossEntropy(),
    "label odds": lambda labels: LabelOdds(),
    "margin to the runner-up": lambda labels: Margin(),
    "margin to a class": lambda labels: Margin(against=2),
    "margin to a class each": lambda labels: Margin(against=labels(RIVALS)),
    "dlr": lambda labels: DLR(),
}
SMOOTH_STEP = 1e-6
DOUBLE = [one for one in installed() if one.precision == "float64"]


class On:
    """An objective in one array library, with arguments and results on the host."""

    def __init__(self, name, library):
        self.xp, self.library = library.xp, library
        self.objective = OBJECTIVES[name](self.labels)

    def labels(self, y):
        return self.xp.asarray(y, dtype=self.xp.int64)

    def value(self, logits, y=LABELS):
        return to_host(self.objective.value(self.library.array(logits), self.labels(y)))

    def grad(self, logits, y=LABELS):
        return to_host(self.objective.grad(self.library.array(logits), self.labels(y)))

    def hvp(self, logits, v, y=LABELS):
        return to_host(self.objective.hvp(self.library.array(logits), self.labels(y), self.library.array(v)))


@pytest.fixture(params=DOUBLE, ids=str)
def library(request):
    return request.param


@pytest.fixture(params=OBJECTIVES)
def on(request, library):
    return On(request.param, library)


def test_the_gradient_is_the_derivative_of_the_value(on):
    v = RNG.standard_normal((B, C))
    difference = (on.value(LOGITS + SMOOTH_STEP * v) - on.value(LOGITS - SMOOTH_STEP * v)) / (2 * SMOOTH_STEP)
    np.testing.assert_allclose(np.sum(on.grad(LOGITS) * v, axis=1), difference, rtol=0, atol=1e-8)


def test_the_product_is_the_derivative_of_the_gradient(on):
    v = RNG.standard_normal((B, C))
    difference = (on.grad(LOGITS + SMOOTH_STEP * v) - on.grad(LOGITS - SMOOTH_STEP * v)) / (2 * SMOOTH_STEP)
    np.testing.assert_allclose(on.hvp(LOGITS, v), difference, rtol=0, atol=1e-8)


def test_the_product_is_symmetric(on):
    u, v = RNG.standard_normal((2, B, C))
    one, other = np.sum(u * on.hvp(LOGITS, v), axis=1), np.sum(v * on.hvp(LOGITS, u), axis=1)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if "each" not in name])
def test_rows_are_independent(name, library):
    on, subset = On(name, library), [7, 2, 3]
    for method, *v in (("value",), ("grad",), ("hvp", LOGITS)):
        few = getattr(on, method)(LOGITS[subset], *(one[subset] for one in v), LABELS[subset])
        np.testing.assert_allclose(few, getattr(on, method)(LOGITS, *v)[subset], rtol=0, atol=1e-15)


def test_a_shift_of_all_logits_changes_nothing(on):
    shift = RNG.standard_normal((B, 1)) * 10
    v = RNG.standard_normal((B, C))
    for shifted, original in (
        (on.value(LOGITS + shift), on.value(LOGITS)),
        (on.grad(LOGITS + shift), on.grad(LOGITS)),
        (on.hvp(LOGITS + shift, v), on.hvp(LOGITS, v)),
    ):
        np.testing.assert_allclose(shifted, original, rtol=0, atol=1e-12)
    # Hence the derivatives have no component along a shift.
    np.testing.assert_allclose(on.grad(LOGITS).sum(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose(on.hvp(LOGITS, np.ones((B, C))), 0, atol=1e-13)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_shapes_and_types_are_those_of_the_logits(name, array_library):
    on = On(name, array_library)
    logits, y = array_library.array(LOGITS), on.labels(LABELS)
    value, grad, hvp = (
        on.objective.value(logits, y),
        on.objective.grad(logits, y),
        on.objective.hvp(logits, y, logits),
    )
    assert (value.shape, grad.shape, hvp.shape) == ((B,), (B, C), (B, C))
    assert {one.dtype for one in (value, grad, hvp)} == {logits.dtype}
    assert {type(one) for one in (value, grad, hvp)} == {type(logits)}


# -- definitions -------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_negative_log_of_the_softmax(library):
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    expected = -np.log(softmax[np.arange(B), LABELS])
    np.testing.assert_allclose(On("cross-entropy", library).value(LOGITS), expected, rtol=1e-13)


def test_margins_are_differences_of_two_logits(library):
    own = LOGITS[np.arange(B), LABELS]
    others = np.where(np.arange(C) == LABELS[:, None], -np.inf, LOGITS)
    expected = {
        "margin to the runner-up": own - others.max(axis=1),
        "margin to a class": own - LOGITS[:, 2],
        "margin to a class each": own - LOGITS[np.arange(B), RIVALS],
    }
    for name, margin in expected.items():
        np.testing.assert_allclose(On(name, library).value(LOGITS), margin, rtol=0, atol=1e-14)


def test_the_class_of_a_margin_may_be_a_number_of_any_library():
    expected = Margin(against=2).value(LOGITS, LABELS)
    for against in (np.int64(2), np.array(2)):
        np.testing.assert_array_equal(Margin(against=against).value(LOGITS, LABELS), expected)


@pytest.mark.parametrize("against", [-1, C])
def test_a_margin_against_an_unknown_class_is_refused(against):
    with pytest.raises(UsageError, match=rf"against class {against}; expected a class from 0 to 4"):
        Margin(against=against).value(LOGITS, LABELS)


def test_dlr_is_the_ratio_of_the_paper(library):
    ordered = np.sort(LOGITS, axis=1)
    own = LOGITS[np.arange(B), LABELS]
    others = np.where(np.arange(C) == LABELS[:, None], -np.inf, LOGITS).max(axis=1)
    expected = -(own - others) / (ordered[:, -1] - ordered[:, -3])
    np.testing.assert_allclose(On("dlr", library).value(LOGITS), expected, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1e4])
def test_dlr_is_invariant_to_scaling(library, scale):
    on = On("dlr", library)
    np.testing.assert_allclose(on.value(scale * LOGITS), on.value(LOGITS), rtol=1e-8)
    np.testing.assert_allclose(scale * on.grad(scale * LOGITS), on.grad(LOGITS), rtol=0, atol=1e-8)
    # DLR is homogeneous of degree zero, so its derivative along the logits vanishes.
    np.testing.assert_allclose(np.sum(on.grad(LOGITS) * LOGITS, axis=1), 0, atol=1e-10)


def test_dlr_of_a_correct_sample_is_at_least_minus_one_and_negative(library):
    correct = LOGITS.argmax(axis=1)
    assert np.all(On("dlr", library).value(LOGITS, correct) >= -1)
    assert np.all(On("dlr", library).value(LOGITS, correct) < 0)


@pytest.mark.parametrize("method", ["value", "grad", "hvp"])
def test_dlr_of_two_classes_is_refused(method):
    logits, y = LOGITS[:, :2], LABELS % 2
    with pytest.raises(UsageError, match="at least three classes; these logits have 2"):
        getattr(DLR(), method)(logits, y, *([logits] if method == "hvp" else []))


@pytest.mark.parametrize("objective", [CrossEntropy(), Margin()], ids=["cross-entropy", "margin"])
def test_the_other_objectives_accept_two_classes(objective):
    logits, y = LOGITS[:, :2], LABELS % 2
    step = 1e-6 * np.array([1.0, 0.0])
    slope = (objective.value(logits + step, y) - objective.value(logits - step, y)) / 2e-6
    np.testing.assert_allclose(objective.grad(logits, y)[:, 0], slope, atol=1e-8)


# -- extreme logits ----------------------------------------------------------------------------------------

EXTREME = np.array([[1e4, 0, -1e4, 1.0], [-1e4, -1e4, 1e4, 0], [1e4, 1e4 - 1, 0, 0], [2.0, 2, 2, 2]])


@pytest.mark.parametrize("label", range(4))
@pytest.mark.parametrize("name", ["cross-entropy", "margin to the runner-up", "margin to a class", "dlr"])
def test_extreme_logits_and_ties_give_finite_numbers(name, label, array_library):
    on, y = On(name, array_library), np.full(4, label)
    for numbers in (on.value(EXTREME, y), on.grad(EXTREME, y), on.hvp(EXTREME, np.ones((4, 4)), y)):
        assert np.all(np.isfinite(numbers))


def test_cross_entropy_of_extreme_logits_is_exact(array_library):
    on = On("cross-entropy", array_library)
    values = on.value(EXTREME, np.array([0, 0, 1, 3]))
    np.testing.assert_allclose(values, [0, 2e4, 1 + np.log1p(np.exp(-1)), np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(on.grad(EXTREME[:1], np.array([2])), [[1, 0, -1, 0]], atol=1e-7)


def test_a_small_loss_of_large_logits_keeps_its_digits(array_library):
    """A value rounded relative to the size of the logits would be wrong for every confident sample."""
    logits = np.array([[32.0, 25.0, -8.0]])
    value = On("cross-entropy", array_library).value(logits, np.array([0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-7.0)), rtol=0, atol=array_library.eps)


def test_at_a_tie_the_derivative_is_that_of_one_class(library):
    tied = np.array([[3.0, 1.0, 1.0, 0.0]])
    gradient = On("margin to the runner-up", library).grad(tied, np.array([0]))
    assert gradient.tolist() in ([[1, -1, 0, 0]], [[1, 0, -1, 0]])
    assert np.count_nonzero(On("dlr", library).grad(tied, np.array([0]))) <= 3


def test_a_sample_that_ties_with_its_rival_has_no_margin(library):
    tied = np.array([[2.0, 2.0, 0.0, -1.0]])
    for name in ("margin to the runner-up", "dlr"):
        assert On(name, library).value(tied, np.array([1])).tolist() == [0]


# -- automatic differentiation -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_torch_computes_the_same_derivatives_of_the_value(name):
    torch = pytest.importorskip("torch")
    (library,) = (one for one in DOUBLE if one.name == "torch")
    on, v = On(name, library), RNG.standard_normal((B, C))
    logits = torch.tensor(LOGITS, requires_grad=True)
    values = on.objective.value(logits, on.labels(LABELS))
    (gradient,) = torch.autograd.grad(values.sum(), logits, create_graph=True)
    np.testing.assert_allclose(gradient.detach().numpy(), on.grad(LOGITS), rtol=0, atol=1e-12)
    if gradient.requires_grad:
        (product,) = torch.autograd.grad((gradient * torch.tensor(v)).sum(), logits, allow_unused=True)
        product = np.zeros((B, C)) if product is None else product.numpy()
        np.testing.assert_allclose(product, on.hvp(LOGITS, v), rtol=0, atol=1e-12)
    else:  # the gradient of a margin does not depend on the logits
        assert np.all(on.hvp(LOGITS, v) == 0)


def test_the_log_odds_are_those_of_the_cross_entropy_and_keep_their_gradient():
    logits, y = np.vstack([LOGITS, [[900.0, 0.0, 0.0, 0.0, 0.0]]]), np.append(LABELS, 0)
    odds, entropy = LabelOdds().value(logits, y), CrossEntropy().value(logits, y)
    np.testing.assert_allclose(np.log1p(np.exp(odds)), entropy, rtol=1e-12, atol=1e-300)
    assert odds[-1] == pytest.approx(np.log(4) - 900)
    assert np.linalg.norm(LabelOdds().grad(logits, y)[-1]) > 1
    assert np.linalg.norm(CrossEntropy().grad(logits, y)[-1]) == 0
