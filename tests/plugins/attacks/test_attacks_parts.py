"""The parts of the attacks: losses, norm balls and active samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from eigencore import arrays
from eigencore.interfaces import Objective
from eigencore.objectives import DLR, CrossEntropy
from eigencore.testing.attacks.classifiers import Dense
from eigencore.testing.libraries import Library, library
from eigencore_attacks.active_samples import ActiveSamples
from eigencore_attacks.half_space import shortest_step
from eigencore_attacks.losses import LOSSES, LogOdds, NegativeMargin, ScaleFree, largest_others, towards
from eigencore_attacks.norm_ball import Norm, NormBall, unit_rows

NUMPY = library("numpy-float64")
RNG = np.random.default_rng(0)
LOGITS, LABELS = 3 * RNG.standard_normal((40, 5)), RNG.integers(0, 5, 40)
TARGETS = (LABELS + RNG.integers(1, 5, 40)) % 5


# -- losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LOSSES, "targeted"])
def test_a_loss_is_positive_exactly_where_the_label_is_not_the_largest_logit(
    name: str, array_library: Library
) -> None:
    y = array_library.xp.asarray(LABELS)
    loss = LOSSES[name] if name in LOSSES else towards(DLR, array_library.xp.asarray(TARGETS))
    value = arrays.to_host(loss.value(array_library.array(LOGITS), y))
    wrong = LOGITS.argmax(axis=1) != LABELS
    assert 0 < wrong.sum() < len(wrong)
    assert np.array_equal(value > 0, wrong)


@pytest.mark.parametrize(
    "loss",
    [LogOdds(), NegativeMargin(), DLR(), DLR(TARGETS), NegativeMargin(TARGETS), towards(DLR, TARGETS)],
    ids=repr,
)
def test_the_derivatives_of_a_loss_match_its_values(loss: Objective) -> None:
    v, h = RNG.standard_normal(LOGITS.shape), 1e-6
    ahead, behind = LOGITS + h * v, LOGITS - h * v
    slope = (loss.value(ahead, LABELS) - loss.value(behind, LABELS)) / (2 * h)
    np.testing.assert_allclose(np.sum(loss.grad(LOGITS, LABELS) * v, axis=1), slope, rtol=1e-6, atol=1e-7)
    turn = (loss.grad(ahead, LABELS) - loss.grad(behind, LABELS)) / (2 * h)
    np.testing.assert_allclose(loss.hvp(LOGITS, LABELS, v), turn, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("loss", [*LOSSES.values(), towards(DLR, TARGETS)], ids=repr)
def test_the_direction_of_a_loss_does_not_depend_on_the_scale_of_the_logits(
    loss: Objective, factor: float
) -> None:
    expected = unit_rows(loss.grad(LOGITS, LABELS))
    np.testing.assert_allclose(unit_rows(loss.grad(factor * LOGITS, LABELS)), expected, atol=1e-9)


def test_scale_free_is_the_objective_of_logits_with_one_lead() -> None:
    """Its derivatives treat the factor as constant."""
    lead = np.max(LOGITS, axis=1) - np.sort(LOGITS, axis=1)[:, 1]
    factor, v = 8 / lead[:, None], RNG.standard_normal(LOGITS.shape)
    loss, odds = ScaleFree(LogOdds()), LogOdds()
    np.testing.assert_allclose(loss.value(LOGITS, LABELS), odds.value(factor * LOGITS, LABELS))
    np.testing.assert_allclose(loss.grad(LOGITS, LABELS), factor * odds.grad(factor * LOGITS, LABELS))
    np.testing.assert_allclose(
        loss.hvp(LOGITS, LABELS, v), factor**2 * odds.hvp(factor * LOGITS, LABELS, v), atol=1e-12
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_scale_free_still_orders_samples_by_their_distance_to_the_boundary(classes: int) -> None:
    own = np.array([0.1, 0.5, 1.0])
    logits = np.stack([own, *([np.zeros(3), np.full(3, -1.0)][: classes - 1])], axis=1)
    assert np.all(np.diff(ScaleFree(LogOdds()).value(logits, np.zeros(3, int))) < 0)


def test_equal_logits_and_an_excluded_class_leave_the_loss_usable() -> None:
    y, loss = np.array([0]), ScaleFree(LogOdds())
    assert np.isfinite(loss.grad(np.zeros((1, 4)), y)).all()
    logits = np.array([[1.0, 2.0, 0.5, 0.0, -1e9]], dtype=np.float32)
    assert loss.value(logits, y)[0] > 0
    assert loss.grad(logits, y)[0, 1] > 0.5


def test_log_odds_and_cross_entropy_increase_together() -> None:
    """Their gradients have the same direction."""
    odds, entropy = LogOdds(), CrossEntropy()
    for misclassified in (True, False):
        chosen = (LOGITS.argmax(axis=1) != LABELS) == misclassified
        order = np.argsort(odds.value(LOGITS, LABELS)[chosen])
        assert np.all(np.diff(entropy.value(LOGITS, LABELS)[chosen][order]) > 0)
    one, other = odds.grad(LOGITS, LABELS), entropy.grad(LOGITS, LABELS)
    np.testing.assert_allclose(unit_rows(one), unit_rows(other), atol=1e-12)


def test_log_odds_have_a_gradient_where_the_softmax_has_none() -> None:
    logits = np.array([[1e4, 0.0, -1.0]], dtype=np.float32)
    y = np.array([0])
    assert not CrossEntropy().grad(logits, y).any()
    np.testing.assert_allclose(LogOdds().grad(logits, y), [[-1, 0.7310586, 0.2689414]], rtol=1e-6)
    assert LogOdds().value(logits, y)[0] == pytest.approx(-1e4, rel=1e-3)


def test_the_largest_other_classes(array_library: Library) -> None:
    found = largest_others(array_library.array(LOGITS), array_library.xp.asarray(LABELS), 3)
    others = LOGITS.copy()
    others[np.arange(40), LABELS] = -np.inf
    assert np.array_equal(arrays.to_host(found), np.argsort(-others, axis=1)[:, :3])


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_a_tie_is_not_misclassified(name: str) -> None:
    """Nor is a lead that rounding may remove in another batch."""
    lead = np.array([0.0, 1e-7, 1e-4], dtype=np.float32)
    logits = np.stack([np.ones(3, np.float32), 1 + lead, np.zeros(3, np.float32)], axis=1)
    assert (LOSSES[name].value(logits, np.zeros(3, int)) > 0).tolist() == [False, False, True]


# -- norm balls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize(
    "bounds", [None, (np.full(6, -1.0), np.full(6, 2.0)), (np.linspace(-3, -1, 6), np.linspace(2, 5, 6))]
)
def test_projection_respects_ball_and_bounds_and_keeps_inner_points(norm, bounds, array_library) -> None:
    centre = array_library.array(RNG.uniform(-1, 2, (50, 6)))
    ball = NormBall(
        0.3,
        norm,
        None if bounds is None else (array_library.array(bounds[0]), array_library.array(bounds[1])),
    )
    x = ball.project(centre + array_library.array(RNG.standard_normal((50, 6))), centre)
    change = arrays.to_host(x - centre)
    distance = np.linalg.norm(change, ord=np.inf if norm == "Linf" else 2, axis=1)
    assert np.all(distance <= 0.3 * (1 + 10 * array_library.eps))
    if bounds is not None:
        slack = 4 * array_library.eps
        assert np.all((arrays.to_host(x) >= bounds[0] - slack) & (arrays.to_host(x) <= bounds[1] + slack))
    again = arrays.to_host(ball.project(x, centre))
    np.testing.assert_allclose(again, arrays.to_host(x), atol=4 * array_library.eps)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_step_is_the_steepest_of_its_length(norm: str) -> None:
    gradient, order = RNG.standard_normal((20, 6)), np.inf if norm == "Linf" else 2
    step = NormBall(0.3, norm, None).steepest_step(gradient)
    np.testing.assert_allclose(np.linalg.norm(step, ord=order, axis=1), 0.3)
    dual = np.linalg.norm(gradient, ord=1 if norm == "Linf" else 2, axis=1)
    np.testing.assert_allclose(np.sum(step * gradient, axis=1), 0.3 * dual)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_random_perturbations_are_uniform_in_the_ball(norm: str) -> None:
    """The share of points within half the radius is the share of the volume, 2^-d."""
    points = NormBall(0.5, norm, None).random_perturbations(np.random.default_rng(1), (40_000, 3))
    distance = np.linalg.norm(points, ord=np.inf if norm == "Linf" else 2, axis=1)
    assert 0.49 < distance.max() <= 0.5
    assert np.mean(distance < 0.25) == pytest.approx(1 / 8, abs=0.006)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.006)


def test_unit_rows_of_small_large_and_zero_rows(array_library: Library) -> None:
    x = array_library.array(np.array([[3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]]))
    np.testing.assert_allclose(arrays.to_host(unit_rows(x)), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


# -- half-spaces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("bounded", [True, False])
def test_the_shortest_step_into_a_half_space(norm: Norm, bounded: bool, array_library: Library) -> None:
    """It rises as asked, within the bounds, and no step that does so is shorter: SciPy finds none."""
    rng, low, high = np.random.default_rng(3), np.full(6, -1.0), np.linspace(0.2, 2.0, 6)
    x, normal = rng.uniform(low, high, (12, 6)), rng.standard_normal((12, 6))
    most = np.sum(np.maximum(normal * (high - x), normal * (low - x)), axis=1)
    rise = most * rng.uniform(0, 0.95, 12)
    bounds = (array_library.array(low), array_library.array(high)) if bounded else None
    given = (array_library.array(part) for part in (x, normal, rise[:, None]))
    step = arrays.to_host(shortest_step(*given, norm, bounds))
    np.testing.assert_allclose(np.sum(step * normal, axis=1), rise, atol=30 * array_library.eps)
    if bounded:
        slack = 4 * array_library.eps
        assert np.all((x + step >= low - slack) & (x + step <= high + slack))
    for row in range(12):
        # Over (s, t): minimise t with |s| <= t, or |s|^2, subject to normal . s = rise and the bounds.
        room = list(zip(low - x[row], high - x[row], strict=True)) if bounded else [(None, None)] * 6
        if norm == "Linf":
            ones = np.ones((6, 1))
            above = np.block([[np.eye(6), -ones], [-np.eye(6), -ones]])
            best = optimize.linprog(
                [0.0] * 6 + [1.0],
                A_ub=above,
                b_ub=np.zeros(12),
                A_eq=[[*normal[row], 0.0]],
                b_eq=[rise[row]],
                bounds=[*room, (0, None)],
            ).fun
            assert np.abs(step[row]).max() == pytest.approx(best, abs=1e-5)
        else:
            reached = {"type": "eq", "fun": lambda s, row=row: s @ normal[row] - rise[row]}
            best = optimize.minimize(
                lambda s: s @ s, step[row] / 2, jac=lambda s: 2 * s, bounds=room, constraints=reached
            )
            assert np.linalg.norm(step[row]) == pytest.approx(np.sqrt(best.fun), abs=1e-5)


def test_a_step_without_a_normal_or_beyond_the_bounds_is_finite() -> None:
    x, bounds = np.zeros((2, 3)), (np.full(3, -1.0), np.ones(3))
    normal, rise = np.array([[0.0, 0, 0], [1, 1, 1]]), np.array([[1.0], [10.0]])
    for norm in ("L2", "Linf"):
        assert not shortest_step(x, normal, rise, norm, None)[0].any()
        assert shortest_step(x, normal, rise, norm, bounds).tolist() == [[0, 0, 0], [1, 1, 1]]


# -- active samples ----------------------------------------------------------------------------------------


def test_active_samples_keep_the_best_iterate_and_leave_when_half_of_them_are_misclassified(
    array_library: Library,
) -> None:
    x, y = array_library.array(np.arange(8.0).reshape(4, 2)), array_library.xp.asarray(np.arange(4))
    space = Dense(array_library, np.zeros((4, 2)), np.zeros(4), np.zeros((4, 2)))
    active = ActiveSamples(space, x, y, targets=array_library.xp.asarray(np.arange(4)[:, None]))

    def record(loss: list[float], iterate: Any, state: Any) -> list[float]:
        (rest,) = active.record(array_library.array(np.array(loss)), iterate, state)
        return arrays.to_host(rest).tolist()

    assert record([-1.0, 2, -3, -4], x + 10, y) == [0, 1, 2, 3]
    assert len(active) == 3
    # What follows a misclassified iterate, such as that of the second row, does not matter.
    assert record([-2.0, 9, -1, 5], x + 20, y) == [0, 2]
    assert len(active) == 2
    assert active.index.tolist() == [0, 2]
    assert arrays.to_host(active.targets).tolist() == [[0], [2]]
    assert record([1.0, -2], active.x + 30, active.y) == [2]
    assert (len(active), active.index.tolist()) == (1, [2])
    # The rows come from the third call, the first one, and twice the second one.
    assert arrays.to_host(active.results()).tolist() == [[30, 31], [12, 13], [24, 25], [26, 27]]
    assert arrays.to_host(active.best_loss).tolist() == [-1]
