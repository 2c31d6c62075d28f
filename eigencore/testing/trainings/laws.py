"""What holds of every training that a monitor watches."""

from __future__ import annotations

import math

import numpy as np

from eigencore.testing.checks import demand
from eigencore.testing.trainings.subject import TrainingSubject, gradient

STEPS = 3


def looks_change_nothing(subject: TrainingSubject) -> None:
    """After some steps, the gradient is the same to the last bit with looks and without them."""
    alone, watched = subject.started(), subject.started()
    for _ in range(STEPS):
        alone.step()
        watched.step()
        moment = watched.training.at(watched.optimizer)
        with moment.update_line(None) as line:
            line.at(moment.rule.learning_rate or 1.0)
        moment.bound.gradient()
    expected, found = gradient(alone.bound()), gradient(watched.bound())
    again = subject.started()
    for _ in range(STEPS):
        again.step()
    demand(
        np.array_equal(gradient(again.bound()), expected),
        "two trainings without looks differ: start the training with the same weights and data each time",
    )
    demand(np.array_equal(found, expected), "the gradient differs from that of a training without looks")


def a_moment_has_the_weights_of_its_time(subject: TrainingSubject) -> None:
    """Each moment has the loss and the gradient of the weights that the model then has."""
    one = subject.started()
    losses = []
    for _ in range(STEPS):
        one.step()
        moment, fresh = one.training.at(one.optimizer), one.bound()
        losses.append(fresh.loss())
        demand(
            math.isclose(moment.bound.loss(), losses[-1], rel_tol=1e-6),
            f"the loss of a moment is {moment.bound.loss():.6g}; expected {losses[-1]:.6g}",
        )
        difference = np.linalg.norm(gradient(moment.bound) - gradient(fresh))
        demand(
            difference <= 1e-5 * np.linalg.norm(gradient(fresh)), "the gradient of a moment is that of others"
        )
    demand(len(set(losses)) == STEPS, "the steps of the training do not change the loss")


def the_line_is_that_of_the_loss(subject: TrainingSubject) -> None:
    """The loss at 0 is that of the problem, and the slope is that of differences of the loss."""
    one = subject.started()
    one.step()
    moment = one.training.at(one.optimizer)
    with moment.update_line(None) as line:
        expected = moment.bound.loss()
        for loss in (line.loss, line.at(0.0)):
            demand(
                math.isclose(loss, expected, rel_tol=1e-5),
                f"the loss at the beginning of the line is {loss:.6g}; expected {expected:.6g}",
            )
        # One of these is small enough for a difference, and large enough for the rounding of the loss.
        h = moment.rule.learning_rate or 1e-3
        slopes = [(line.at(step) - line.at(-step)) / (2 * step) for step in (h / 100, h / 10, h)]
        error = min(abs(slope - line.slope) for slope in slopes)
        demand(
            error <= 0.02 * abs(line.slope),
            f"the slope is {line.slope:.4g}; differences of the loss give {slopes[1]:.4g}",
        )


def the_next_step_is_on_the_line(subject: TrainingSubject) -> None:
    """With the gradient of all data, the optimizer's next step has the loss at its learning rate."""
    one = subject.started()
    one.step()
    moment = one.training.at(one.optimizer)
    with moment.update_line(None) as line:
        before, expected = line.loss, line.at(moment.rule.learning_rate)
    one.step()
    found = one.bound().loss()
    demand(
        abs(found - expected) <= 1e-3 * abs(before - found) + 1e-6 * abs(found),
        f"the loss after the next step is {found:.6g}; on the line it is {expected:.6g}",
    )


def the_rule_is_sensible(subject: TrainingSubject) -> None:
    """Rates and thresholds are numbers of at least 0."""
    one = subject.started()
    one.step()
    rule = one.training.at(one.optimizer).rule
    demand(rule.learning_rate >= 0, f"the learning rate is {rule.learning_rate!r}")
    for name in ("threshold", "preconditioned_threshold"):
        value = getattr(rule, name)
        demand(value is None or value > 0, f"{name} is {value!r}; expected a number above 0, or None")


def the_clock_goes_on(subject: TrainingSubject) -> None:
    """The clock never goes back, and it goes on with steps and looks."""
    one = subject.started()
    times = [one.training.clock()]
    for _ in range(STEPS):
        one.step()
        times.append(one.training.clock())
        one.training.at(one.optimizer)
        times.append(one.training.clock())
    demand(times == sorted(times), f"the clock goes back: {times}")
    demand(times[-1] > times[0], "the clock stands still")
