"""The screen of a run, from invented results."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import eigencore
from eigencore.cli import main
from eigencore.cli.page import Terminal
from eigencore.cli.print_run import print_pairs, print_run
from eigencore.figures import Table
from eigencore.results import AnalysisResult, Certificate, EigenResult, Run, Status
from eigencore.runs.eigen_text import certificate_lines, cost, header, residuals

EIGEN = [sys.executable, "-c", "import sys; from eigencore.cli import main; sys.exit(main())"]
CERTIFIED = Certificate(
    "sketch", 3.0, bound=0.0123, confidence=0.99, not_proved="that no larger eigenvalue was missed"
)


@pytest.fixture(scope="module")
def eigen() -> EigenResult:
    return eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=5)


def manifest(**more: Any) -> dict[str, Any]:
    operator = {"kind": "hessian", "params": None}
    return {
        "problem": "mine",
        "backend": "torch",
        "operator": operator,
        "backend_description": "torch 2",
    } | more


@pytest.mark.parametrize(
    ("given", "resolved", "shown"),
    [
        ({}, {"basis": None}, "lanczos"),
        ({"basis": "30"}, {"basis": 30}, "lanczos, basis 30"),
        ({"block": "off"}, {"basis": None, "block": False}, "lanczos, block no"),
        ({}, {"momentum": "adapted"}, "lanczos, momentum adapted"),
        ({}, {"momentum": "auto"}, "lanczos"),
        ({"momentum": "auto"}, {"momentum": "auto"}, "lanczos, momentum auto"),
    ],
    ids=["nothing set", "a number set", "a switch set", "text, set or not", "auto", "auto, set"],
)
def test_the_header_shows_the_options_that_were_set(eigen, given, resolved, shown):
    run = Run(replace(eigen, options=resolved), manifest=manifest(arguments={"options": {"lanczos": given}}))
    assert header(run)[1] == f"torch 2 · hessian · {shown} · seed 0"


def test_the_header_shows_the_parameters(eigen):
    run = Run(eigen, manifest=manifest(operator={"kind": "hessian", "params": "0.*"}))
    assert " · hessian of parameters 0.* · " in header(run)[1]


def test_an_estimate_below_the_precision_floor_is_shown_as_less_than_the_floor(eigen):
    estimates = np.array([1e-19, 3e-5, 2e-4, 0.0, 1e-4])
    found = replace(eigen, residuals=estimates, certificate=Certificate("sketch", floor=2.5e-5))
    assert residuals(found) == ["<0.00003", "0.00003", "0.00020", "<0.00003", "0.00010"]
    exact = replace(found, certificate=Certificate("full", floor=2.5e-5, exact=True))
    assert residuals(exact) == residuals(found)
    assert residuals(replace(found, residuals=np.maximum(estimates, 2.5e-5))) == residuals(found)
    zero = replace(found, residuals=np.zeros(5), certificate=Certificate("full", floor=0.0, exact=True))
    assert residuals(zero)[0] == "0"


@pytest.mark.parametrize(
    ("certificate", "k", "lines"),
    [
        (
            CERTIFIED,
            5,
            [
                "certificate (99 %): the 5 values are together within 0.012 of 5 eigenvalues",
                "not proved: that no larger eigenvalue was missed",
            ],
        ),
        (
            replace(CERTIFIED, confidence=1.0, not_proved=""),
            1,
            ["certificate: this value is within 0.012 of an eigenvalue"],
        ),
        (
            Certificate("none", not_proved="that the values are near eigenvalues (certify is none)"),
            5,
            ["no certificate", "not proved: that the values are near eigenvalues (certify is none)"],
        ),
        (
            replace(CERTIFIED, contradicted=True, not_proved=""),
            5,
            [
                "fresh products contradict the solver's estimated residuals",
                "certificate (99 %): the 5 values are together within 0.012 of 5 eigenvalues",
            ],
        ),
    ],
    ids=["sketch", "full, of one", "none", "contradicted"],
)
def test_the_lines_of_a_certificate(eigen, certificate, k, lines):
    found = replace(eigen, values=eigen.values[:k], which="LA", certificate=certificate)
    assert certificate_lines(found) == lines


@pytest.mark.parametrize(
    ("which", "above", "below", "line"),
    [
        ("LM", 8.83, None, "complete (99 %): none larger in magnitude than 8.83 was missed"),
        ("LA", 8.83, None, "complete (99 %): none above 8.83 was missed"),
        ("SA", None, -2.5, "complete (99 %): none below -2.5 was missed"),
        ("BE", 8.83, -2.5, "complete (99 %): none above 8.83 or below -2.5 was missed"),
    ],
)
def test_the_line_of_completeness(eigen, which, above, below, line):
    shown = Certificate(
        "none", complete=True, complete_confidence=0.99, complete_above=above, complete_below=below
    )
    assert certificate_lines(replace(eigen, which=which, certificate=shown)) == ["no certificate", line]


@pytest.mark.parametrize(
    ("matvecs", "searching", "certifying", "seconds", "line"),
    [
        (1, 0, 0, 0.04, "1 product in 0.0 s"),
        (44, 0, 3, 5.94, "44 products in 5.9 s (3 to certify)"),
        (
            44,
            8,
            3,
            5.94,
            "44 products in 5.9 s (8 to search for missed eigenvalues, 3 to certify)",
        ),
        (1234.5, 0, 0, 1234.5, "1,234.5 products in 1,234 s"),
    ],
)
def test_the_cost_of_a_solve(eigen, matvecs, searching, certifying, seconds, line):
    spent = replace(eigen.certificate, matvecs=certifying, complete_matvecs=searching)
    assert cost(replace(eigen, matvecs=matvecs, seconds=seconds, certificate=spent)) == line


def test_computed_and_exact_values_have_the_same_digits(eigen, capsys):
    found = replace(eigen, values=np.array([39.9996, 20.5, 3.0, 2.0, 1.0]))
    print_pairs(found, exact=[40.0, 20.5, 3.0, 2.0, 1.0, 0.5])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1][1:3] == ["39.9996", "40.0000"]
    assert rows[2][1:3] == ["20.5000", "20.5000"]


def test_pairs_that_did_not_converge_are_highlighted(eigen):
    """The advice is bold yellow, and `no` is yellow."""
    shown = io.StringIO()
    page = Terminal(Console(file=shown, force_terminal=True, color_system="standard", width=100))
    left = replace(
        eigen, status=Status.BUDGET, advice="2 of 5 pairs have not converged", converged=np.arange(5) < 3
    )
    print_run(Run(left), page)
    assert "\x1b[1;33m2 of 5 pairs have not converged\x1b[0m" in shown.getvalue()
    assert len(re.findall(r"\x1b\[33mno *\x1b\[0m", shown.getvalue())) == 2
    shown.truncate(0)
    print_run(Run(eigen), page)
    assert "\x1b[1;33m" not in shown.getvalue()


def test_no_color_turns_colors_off(eigen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = io.StringIO()
    print_run(Run(eigen), Terminal(Console(file=shown, force_terminal=True)))
    assert "\x1b[32m" not in shown.getvalue()
    assert " yes " in shown.getvalue()


def test_tables_that_are_not_shown_first_are_shown_on_request(eigen, capsys):
    one = Table(("class", "rho"), (("a", 0.5),))
    result = AnalysisResult("so it is", tables={"first": one, "second": one}, remarks=("also elsewhere",))
    run = Run(eigen, {"mine": result})
    print_run(run)
    assert capsys.readouterr().out.count("class   rho") == 2
    run = Run(eigen, {"mine": replace(result, shown=("second",))})
    print_run(run)
    brief = capsys.readouterr().out
    assert brief.index("so it is") < brief.index("  second")
    assert "  first" not in brief
    assert "also elsewhere" not in brief
    assert "--verbose shows 1 further table and remarks" in brief
    print_run(run, everything=True)
    whole = capsys.readouterr().out
    assert "so it is also elsewhere" in whole
    assert whole.count("class   rho") == 2
    assert "--verbose" not in whole


# -- unusual command lines ---------------------------------------------------------------------------------


def test_which_and_certify_in_either_case(capsys):
    arguments = ["analyze", "demo:quadratic", "--set", "problem.n=50", "-k", "2", "--json"]
    for which, certify in (("sa", "FULL"), ("SA", "full")):
        assert main([*arguments, "--which", which, "--certify", certify]) == 0
    one, other = capsys.readouterr().out.split("\n}\n")[:2]
    assert '"which": "SA"' in one
    assert one.split('"seconds"')[0] == other.split('"seconds"')[0]


def test_an_option_before_its_command_gets_a_hint(capsys):
    assert main(["-k", "5", "analyze"]) == 2
    assert "options of a command follow its name, as in `eigen analyze -k 5`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--eps", "0.1"], "Write --set robustness.eps=0.1."),
        (["--eps=0.1,0.2"], "Write --set robustness.eps=0.1,0.2."),
        (["demo:digits", "--eps"], "Write --set robustness.eps=VALUE."),
        (["--eps", "--json"], "Write --set robustness.eps=VALUE."),
        (["--init-norm", "2"], "Write --set ddn.init_norm=2."),
        (["--steps", "7"], "Write --set ENTRY.steps=7, where ENTRY is one of apgd, apgd_t, "),
        (["--colour", "red"], "Options of solvers, attacks and analyses are set as in --set pgd.steps=20."),
    ],
)
def test_an_option_of_a_plugin_gets_the_line_to_write(given, line, capsys):
    assert main(["analyze", *given]) == 2
    out, err = capsys.readouterr()
    assert line in (out or err)


@pytest.mark.parametrize(
    "closed",
    [{"stdout"}, {"stderr"}, {"stdout", "stderr"}],
    ids=lambda names: "+".join(sorted(names)),
)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["solvers"], 0), (["anlyze"], 2), (["solvers", "--json"], 0)],
    ids=["0", "2", "json"],
)
def test_closed_streams_are_not_a_failure(closed, arguments, code):
    """The shell closes them with `>&-`."""

    def close() -> None:
        for name in closed:
            os.close({"stdout": 1, "stderr": 2}[name])

    ran = subprocess.run(
        [*EIGEN, *arguments], capture_output=True, text=True, timeout=600, preexec_fn=close, check=False
    )
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr
