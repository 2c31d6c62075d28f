"""Selects the conformance checks of what a backend offers to a monitor."""

from __future__ import annotations

from collections.abc import Mapping

from eigencore.testing.checks import Check, Law, checks_of, runner_of, with_known_failures
from eigencore.testing.trainings import laws
from eigencore.testing.trainings.subject import Start, TrainingSubject
from eigencore.training import TrainingBackend

ALWAYS: tuple[Law[TrainingSubject], ...] = (
    laws.looks_change_nothing,
    laws.a_moment_has_the_weights_of_its_time,
    laws.the_line_is_that_of_the_loss,
    laws.the_next_step_is_on_the_line,
    laws.the_rule_is_sensible,
    laws.the_clock_goes_on,
)


def training_checks(
    start: Start,
    *,
    backend: TrainingBackend | None = None,
    known_failures: Mapping[str, str] | None = None,
) -> list[Check[TrainingSubject]]:
    """The checks of a training that a monitor watches.

    Args:
        start: starts a training: it returns a Problem with the model that is trained, its optimizer, and a
            function that makes a step with the gradient of all data. Every call starts the same training.
        backend: what watches it; None: what is registered for the backend of the problem.
        known_failures: name of a check, with * for any text -> why the check fails.

    Raises:
        ValueError: a known failure matches no check.

    Example:
        import pytest
        import torch
        import eigencore
        from eigencore.testing import training_checks

        def a_training():
            torch.manual_seed(0)
            model, x, y = torch.nn.Linear(4, 3), torch.randn(20, 4), torch.randint(3, (20,))
            optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()

            def step():
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()

            return eigencore.Problem(model, [(x, y)], loss), optimizer, step

        @pytest.mark.parametrize("check", training_checks(a_training))
        def test_my_framework(check):
            check()
    """
    subject = TrainingSubject(start, backend)
    return with_known_failures(checks_of(subject, ALWAYS), known_failures, subject.where)


check_training = runner_of(
    training_checks,
    example="""import torch
        import eigencore
        from eigencore.testing import check_training

        def a_training():
            torch.manual_seed(0)
            model, x, y = torch.nn.Linear(4, 3), torch.randn(20, 4), torch.randint(3, (20,))
            optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss()

            def step():
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()

            return eigencore.Problem(model, [(x, y)], loss), optimizer, step

        check_training(a_training)""",
)
