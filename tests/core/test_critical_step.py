"""The critical step: the smallest along a line at which a loss exceeds its present value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eigencore.errors import ProblemError
from eigencore.pipeline.monitoring.critical_step import (
    MOST_PASSES,
    RESOLUTION,
    critical_step,
    curvature_along,
    parabola_step,
)
from eigencore.training import UpdateLine


def line(loss, slope, rounding=1e-13):
    return UpdateLine(loss(0.0), slope, 1.0, rounding, loss)


LINES = {
    "quadratic": (lambda s: 1 - 2 * s + 5 * s**2, -2.0, 0.4),
    "quartic": (lambda s: 1 - 2 * s + 5 * s**4, -2.0, 0.4 ** (1 / 3)),
    "symmetric": (lambda s: math.cosh(s - 1), -math.sinh(1), 2.0),
    "infinite beyond": (lambda s: -s if s <= 1 else math.inf, -1.0, 1.0),
    "not a number beyond": (lambda s: -s if s <= 1 else math.nan, -1.0, 1.0),
}


@pytest.mark.parametrize("guess", [1e-4, 0.1, 0.4, 1.0, 300.0])
@pytest.mark.parametrize(("loss", "slope", "root"), LINES.values(), ids=LINES)
def test_it_encloses_the_step(loss, slope, root, guess):
    found = critical_step(line(loss, slope), guess)
    assert found.low <= root * (1 + 1e-12)
    assert root <= found.high
    assert found.low <= found.step <= found.high
    assert abs(found.step / root - 1) <= RESOLUTION
    assert found.passes <= 12
    sharpness, low, high = found.sharpness
    assert low <= 2 / root * (1 + 1e-12)
    assert 2 / root <= high * (1 + 1e-12)
    assert low <= sharpness <= high


def test_on_a_quadratic_two_losses_give_the_step_exactly():
    loss, slope, root = LINES["quadratic"]
    for guess in (0.2, 1.0, 20.0, root * 0.98, root, root * 1.02):
        found = critical_step(line(loss, slope), guess)
        assert found.passes == 2
        assert found.step == pytest.approx(root, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 30.0])
def test_the_curvature_along_one_update_gives_the_step_along_another(scale):
    # The loss w'w of a plane has the same curvature along every unit vector.
    w = np.array([1.0, 2.0])

    def toward(u):
        loss = lambda s: float((w - s * u) @ (w - s * u))  # noqa: E731
        return UpdateLine(loss(0.0), -2 * float(w @ u), float(np.linalg.norm(u)), 0.0, loss)

    before, after = toward(2 * w), toward(scale * np.array([0.3, 0.1]))
    curvature = curvature_along(before, critical_step(before, 0.1).step)
    assert curvature == pytest.approx(2.0)
    guess = parabola_step(after, curvature)
    assert after.at(guess) == pytest.approx(after.loss)
    assert critical_step(after, guess).passes == 2


def test_it_counts_its_losses():
    calls = []
    found = critical_step(line(lambda s: calls.append(s) or 1 - 2 * s + 5 * s**2, -2.0), 0.01)
    calls.pop(0)  # that at zero
    assert found.passes == len(calls)


def test_an_update_along_which_the_loss_rises_at_once_has_a_critical_step_of_zero():
    found = critical_step(line(lambda s: 1 + s, 1.0), 0.1)
    assert (found.step, found.passes) == (0.0, 0)
    assert found.sharpness[0] == math.inf


@pytest.mark.parametrize(
    ("loss", "slope", "rounding", "says"),
    [
        (lambda s: -s, -1.0, 0.0, "does not exceed the present one along the update"),
        (lambda s: 1 - 1e-9 * s + 1e-9 * s**2, -1e-9, 1e-7, "no more than its rounding errors"),
        (lambda s: math.nan, -1.0, 0.0, "the loss is nan"),
        (lambda s: 0.0, math.nan, 0.0, "its slope along the update nan"),
    ],
)
def test_what_has_no_critical_step_is_an_error(loss, slope, rounding, says):
    with pytest.raises(ProblemError, match=says):
        critical_step(line(loss, slope, rounding), 0.5)


def test_a_loss_that_oscillates_gives_a_crossing_within_the_limit_of_passes():
    loss = lambda s: -s + 0.5 * math.sin(40 * s) ** 2 + s**2  # noqa: E731
    found = critical_step(line(loss, -1.0), 0.5)
    assert found.passes <= MOST_PASSES
    assert loss(found.low) <= 0 < loss(found.high)
