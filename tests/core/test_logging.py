"""Messages are logged under "eigencore", and are not shown unless logging is configured."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

import eigencore
from eigencore.errors import NotFiniteError

MATRIX = np.diag([9.0, 5.0, 2.0, 1.0])
SOLVE = "import eigencore, numpy; eigencore.solve(numpy.eye(4), k=2)"


@pytest.mark.parametrize("analyzed", [False, True], ids=["solve", "analyze"])
def test_the_end_of_a_solve_is_logged(caplog: pytest.LogCaptureFixture, analyzed: bool):
    with caplog.at_level(logging.INFO, logger="eigencore"):
        found = eigencore.analyze(MATRIX, k=2).eigen if analyzed else eigencore.solve(MATRIX, k=2)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("eigencore.solving.solve", logging.INFO)
    assert record.getMessage().startswith(f"lanczos: {found.advice} ({found.matvecs:g} products, ")


def test_snapshots_are_logged_at_debug(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="eigencore"):
        found = eigencore.solve(MATRIX, k=2)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert len(messages) == len(found.history)
    assert messages[-1] == f"{found.history[-1].matvecs:g} products: 2 of 2 converged"


def test_the_end_of_an_analysis_is_logged(caplog: pytest.LogCaptureFixture, plug):
    plug(
        "extra",
        """
        from eigencore.results import AnalysisResult

        @hookimpl
        def eigen_analyses():
            return [AnalysisEntry(name=name, summary="", load=f"plugged_extra:{name}") for name in ("a", "b")]

        def a(context, options):
            yield AnalysisResult(verdict="fine")

        def b(context, options):
            raise RuntimeError("unlucky")
            yield
        """,
    )
    with caplog.at_level(logging.INFO, logger="eigencore.analyses.schedule"):
        eigencore.analyze(MATRIX, k=2, analyses="a,b")
    records = [record for record in caplog.records if record.name == "eigencore.analyses.schedule"]
    assert [record.getMessage() for record in records] == [
        "a: done (0 products)",
        "b: failed with RuntimeError: unlucky (0 products)",
    ]


def test_a_solve_that_fails_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="eigencore"), pytest.raises(NotFiniteError):
        eigencore.solve(np.full((4, 4), np.nan), k=1)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("before", "lines"),
    [("", 0), ("logging.basicConfig()", 0), ("logging.basicConfig(level='INFO')", 1)],
    ids=["by default", "with default logging", "at INFO"],
)
def test_the_log_on_stderr(before: str, lines: int):
    before = f"import logging; {before}; " if before else ""
    ran = subprocess.run([sys.executable, "-c", before + SOLVE], capture_output=True, text=True, timeout=600)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert len(ran.stderr.splitlines()) == lines
    assert all(line.startswith("INFO:eigencore.solving.solve:lanczos: ") for line in ran.stderr.splitlines())


def test_the_only_handler_is_a_null_handler():
    handlers = logging.getLogger("eigencore").handlers
    assert [type(one) for one in handlers] == [logging.NullHandler]
