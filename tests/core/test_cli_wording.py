"""Advice and hints name options of the command, in place of arguments of Python."""

from __future__ import annotations

import inspect
import re

import pytest

from eigencore.cli.analyze import analyze as command
from eigencore.cli.wording import _ARGUMENTS, for_command
from eigencore.pipeline import analyze
from eigencore.solving import RESUME
from eigencore.solving.advice import Outcome, advise
from eigencore.solving.budget import Ending


@pytest.mark.parametrize(
    ("python", "shown"),
    [
        ("Raise max_matvecs to 40.", "Raise --max-matvecs to 40."),
        ("raise max_seconds to 9, or tol", "raise --max-seconds to 9, or --tol"),
        ('Use solver="lanczos", or raise tol.', "Use --solver lanczos, or raise --tol."),
        ("Convert them with dtype='float32'.", "Convert them with --dtype float32."),
        ("Set k=3 and tol=1e-3.", "Set -k 3 and --tol 1e-3."),
        ("all 5 pairs converged (relative tolerance 0.001)",) * 2,
        ("Set Problem(reduction='mean') or torch.microbatch=none.",) * 2,
        ("Give one device for all: device=...",) * 2,
    ],
)
def test_arguments_become_options(python, shown):
    assert for_command(python) == shown


def test_the_command_has_an_option_for_every_argument_that_is_replaced():
    options = {option for parameter in command.params for option in parameter.opts}
    for argument in (*_ARGUMENTS.split("|"), "k"):
        assert argument in inspect.signature(analyze).parameters
        assert for_command(f"{argument}=2").removesuffix(" 2") in options


ENDINGS = [ending for ending in Ending if ending is not Ending.PASSED]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
@pytest.mark.parametrize("solver", ["lanczos", "arpack"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("refuted", [False, True])
def test_no_advice_of_the_command_names_an_argument(ending, solver, dtype, refuted):
    advice = advise(
        Outcome(
            ending=ending,
            refuted=refuted,
            exact=False,
            k=5,
            converged=3,
            tol=1e-3,
            residual=1.0,
            threshold=0.1,
            solver=solver,
            dtype=dtype,
            matvecs=20.0,
            seconds=9.0,
            max_matvecs=20.0,
            max_seconds=9.0,
            reserved=3,
            per_product=0.5,
            failure="a product failed",
            history=(),
        )
    )
    shown = for_command(advice)
    named = re.findall(r"(?<!-)\\b(?:max_\\w+|tol|solver=|dtype=|state=)", shown)
    assert not named, shown
    assert RESUME not in shown
    assert "--" in shown
