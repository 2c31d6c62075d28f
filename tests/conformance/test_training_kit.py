"""The kit for monitored trainings: it passes on two frameworks, and each check fails on a broken one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import eigencore
from eigencore.problems import find_problem
from eigencore.testing import check_training, training_checks
from eigencore_torch.training.torch_training import TorchMoment, TorchTraining
from kit.numpy_training import GradientDescent, NumpyTraining


def in_torch(kind=torch.optim.Adam, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.0), nn.Linear(6, 3))
    x, y, loss = torch.randn(20, 4), torch.randint(3, (20,)), nn.CrossEntropyLoss()
    optimizer = kind(model.parameters(), lr=0.05, **settings)

    def step():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return eigencore.Problem(model, [(x, y)], loss), optimizer, step


def with_momentum():
    return in_torch(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.01)


def in_numpy():
    problem = find_problem("demo:digits-numpy")
    problem = replace(problem, data=problem.data[:1])
    optimizer = GradientDescent(problem.model, 0.05)

    def step():
        bound = eigencore.bind(problem)
        optimizer.step(bound.gradient(), bound.layout())

    return problem, optimizer, step


CHECKS = [
    *training_checks(in_torch),
    *training_checks(with_momentum),
    *training_checks(in_numpy, backend=NumpyTraining),
]


@pytest.mark.parametrize("check", CHECKS)
def test_two_frameworks_conform(check):
    check()


class Moving(TorchTraining):
    """Leaves the weights at the end of the line."""

    def at(self, optimizer):
        return MovingMoment(super().at(optimizer).bound)


class MovingMoment(TorchMoment):
    @contextmanager
    def update_line(self, batch):
        with super().update_line(batch) as line:
            yield line
        with torch.no_grad():
            next(iter(self.bound.problem.model.parameters())).add_(1e-6)


class Stale(TorchTraining):
    """Remembers the weights of the first look."""

    first = None

    def at(self, optimizer):
        if self.first is None:
            self.first = (
                super().at(optimizer),
                eigencore.bind(self._bound.problem, dtype="float64").gradient(),
            )
        moment = super().at(optimizer)
        moment.bound.gradient = lambda params=None, minibatch=None: self.first[1].float()
        return moment


class Steep(TorchTraining):
    """States twice the slope."""

    def at(self, optimizer):
        return SteepMoment(super().at(optimizer).bound)


class SteepMoment(TorchMoment):
    @contextmanager
    def update_line(self, batch):
        with super().update_line(batch) as line:
            yield replace(line, slope=2 * line.slope)


class Short(TorchTraining):
    """Takes the gradient for the step of Adam."""

    def at(self, optimizer):
        moment = super().at(optimizer)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        moment.bound = moment.bound.renewed(torch.optim.SGD(params, lr=optimizer.param_groups[0]["lr"]))
        return moment


class Negative(TorchTraining):
    """States a negative threshold."""

    def at(self, optimizer):
        return NegativeMoment(super().at(optimizer).bound)


class NegativeMoment(TorchMoment):
    @property
    def rule(self):
        return replace(super().rule, threshold=-1.0)


class Backwards(TorchTraining):
    """Has a clock that goes back."""

    def clock(self):
        return -super().clock()


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Moving, "looks_change_nothing"),
        (Stale, "a_moment_has_the_weights_of_its_time"),
        (Steep, "the_line_is_that_of_the_loss"),
        (Short, "the_next_step_is_on_the_line"),
        (Negative, "the_rule_is_sensible"),
        (Backwards, "the_clock_goes_on"),
    ],
)
def test_each_check_fails_on_a_broken_framework(broken, law):
    failed = []
    for check in training_checks(in_torch, backend=broken):
        try:
            check()
        except AssertionError:
            failed.append(check.name)
    assert failed == [law]
    with pytest.raises(AssertionError, match=law):
        check_training(in_torch, backend=broken)


def test_a_training_that_starts_differently_each_time_is_told_apart_from_a_disturbed_one():
    seeds = iter(range(9))

    def unseeded():
        problem, optimizer, step = in_torch()
        with torch.no_grad():
            problem.model[0].bias.add_(float(np.float32(next(seeds))) / 10)
        return problem, optimizer, step

    with pytest.raises(AssertionError, match="start the training with the same weights"):
        training_checks(unseeded)[0]()
