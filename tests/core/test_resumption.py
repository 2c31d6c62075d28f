"""Runs that are killed: resumed, they give what a run that was not stopped gives, to the last bit."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest
from kit.sample_means import RankOneMean

import eigencore
from eigencore import analyze
from eigencore.errors import OperatorError, UsageError
from eigencore.interfaces import Problem
from eigencore.pipeline import RunInterrupted
from eigencore.results import Run, Status
from eigencore.runs import journal as journal_module
from eigencore.runs.journal import Journal
from eigencore.runs.journal_file import JournalFile, read_records
from eigencore.runs.unfinished import locked

SPECTRUM = np.concatenate([[40.0, 25, -16, 10, 6], np.linspace(-1, 1, 295)])
DIGITS = "demo:digits-numpy"


class Killed(BaseException):
    """Stands for SIGKILL: nothing but the end of the process can be done about it."""


class Killer:
    """Ends a run when it computes its product number `at`, from 1; products of the journal do not count.

    Attributes:
        computed: the products that were computed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.at, self.computed = 0, 0
        product = Journal.product

        def watched(
            journal: Journal, what: str, inputs: Sequence[Any], make: Callable[[], Any], space: Any
        ) -> Any:
            def counted() -> Any:
                self.computed += 1
                if self.computed == self.at:
                    raise Killed
                return make()

            return product(journal, what, inputs, counted, space)

        monkeypatch.setattr(Journal, "product", watched)

    def kill(self, at: int, run: Callable[[], Run]) -> bool:
        """Whether a run was killed at this product; if not, it has ended before."""
        self.at, self.computed = at, 0
        try:
            run()
        except Killed:
            return True
        finally:
            self.at = 0
        return False


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def diagonal(spectrum: np.ndarray = SPECTRUM, **more: Any) -> Problem:
    """A problem without a digest, as one of a data loader: its matrix is a function."""
    A = eigencore.as_operator(lambda v: spectrum * v, n=len(spectrum))
    return Problem(operator=A, **more)


def of_samples() -> Problem:
    rng = np.random.default_rng(0)
    scales = np.geomspace(1.0, 0.05, 40)
    mean = RankOneMean(rng.standard_normal((900, 40)) * scales, rng.uniform(0.5, 1.5, 900))
    return Problem(operator=mean)


def content(run: Run) -> dict[str, Any]:
    """Everything of a run that a resumed one must have as well; not the time, and not how it was resumed."""
    found: dict[str, Any] = {"failed": sorted(run.failed), "finished": run.manifest["finished"]}
    if run.pairs is not None:
        pairs = {one.name: getattr(run.pairs, one.name) for one in dataclasses.fields(run.pairs)}
        del pairs["seconds"], pairs["state"]
        history = pairs.pop("history")
        found |= pairs | {"history": [dataclasses.replace(step, seconds=0.0) for step in history]}
    for name, result in run.analyses.items():
        shown = dataclasses.replace(result, columns={}, figures=(), seconds=0.0)
        found[name] = shown
        found |= {f"{name}/{column}": values for column, values in result.columns.items()}
    return found


def assert_same(run: Run, reference: Run) -> None:
    found, expected = content(run), content(reference)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            assert found[name] == value, name


# Each is killed at about six products, and lanczos at every one.
CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "lanczos": (diagonal, {"k": 4, "tol": 1e-6}),
    "lanczos, repeated eigenvalues": (
        lambda: diagonal(np.repeat([9.0, 5.0, 1.0, 0.5], 90)),
        {"k": 3, "options": {"lanczos": {"basis": 12}}},
    ),
    "arpack": (diagonal, {"k": 4, "solver": "arpack"}),
    "lobpcg": (diagonal, {"k": 3, "solver": "lobpcg", "which": "LA"}),
    "deflated_power": (diagonal, {"k": 2, "solver": "deflated_power"}),
    "minibatches": (lambda: DIGITS, {"k": 2, "solver": "accel_power"}),
    "a full certificate": (diagonal, {"k": 3, "certify": "full", "which": "BE"}),
    "a budget": (diagonal, {"k": 6, "tol": 1e-9, "max_matvecs": 15}),
    "samples": (of_samples, {"k": 2, "samples": 300, "which": "LA"}),
    "an accuracy": (of_samples, {"k": 2, "rtol": 0.1, "which": "LA"}),
    "analyses": (lambda: DIGITS, {"k": 2, "analyses": "density,trace,diagonal"}),
    "an analysis of a sample": (lambda: DIGITS, {"k": 0, "analyses": "trace", "samples": 200}),
    "an analysis that solves": (lambda: DIGITS, {"k": 1, "analyses": "batch_sharpness"}),
    "PyTorch": (lambda: "demo:digits", {"k": 2, "analyses": "none"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_killed_at_any_product_is_resumed(case: str, tmp_path: Path, killer: Killer):
    make, arguments = CASES[case]
    arguments = {"analyses": "none", **arguments}
    if case == "PyTorch":
        pytest.importorskip("torch")
    reference = analyze(make(), **arguments)
    kept = {**arguments, "out": tmp_path / "run"}
    assert not killer.kill(0, lambda: analyze(make(), **kept))
    total = killer.computed
    shutil.rmtree(tmp_path / "run")
    for at in range(1, total + 1, 1 if case == "lanczos" else max(total // 6, 1)):
        assert killer.kill(at, lambda: analyze(make(), **kept))
        killer.computed = 0
        resumed = analyze(make(), **kept, resume=True)
        assert killer.computed == total - at + 1  # what was kept is not computed again
        assert_same(resumed, reference)
        assert sorted(path.suffix for path in (tmp_path / "run").iterdir())[-1] == ".npy" or arguments["k"] == 0
        shutil.rmtree(tmp_path / "run")


def test_a_run_is_resumed_again_and_again(tmp_path: Path, killer: Killer):
    out, kept = tmp_path / "run", {"k": 4, "tol": 1e-6, "analyses": "none", "out": tmp_path / "run"}
    parts = 0
    while killer.kill(4, lambda: analyze(diagonal(), **kept, resume=True)):
        parts += 1
    assert parts > 4
    resumed = eigencore.load(out)
    assert resumed.manifest["resumption"] == [f"continued from {3 * parts} products that were saved"]
    assert_same(analyze(diagonal(), **kept, resume=True), resumed)  # it has ended
