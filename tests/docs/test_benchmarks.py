"""Every benchmark states its claim and how to run it, and the pages show the results."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = {"judge.py", "networks.py", "records.py"}  # imported by the benchmarks
CLAIMS = sorted(path for path in BENCHMARKS.glob("*.py") if path.name not in PARTS)


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_a_benchmark_states_its_claim_and_how_to_run_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    help_ = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "\nClaim: " in help_
    assert f"    python benchmarks/{path.name}" in help_


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "tables.py"))


def test_the_pages_show_the_results(tables: dict[str, Any]) -> None:
    for table, (name, _) in tables["TABLES"].items():
        page = tables["PAGES"][name].read_text()
        assert f"<!-- {table} -->" in page
        assert tables["filled"](page, name) == page


def test_a_page_with_other_numbers_is_detected(tables: dict[str, Any]) -> None:
    page = tables["PAGES"]["benchmarks.md"].read_text()
    changed = page.replace("eigencore lanczos |", "eigencore lanczos | 1", 1)
    assert changed != page
    assert tables["filled"](changed, "benchmarks.md") == page


def test_the_judge_distinguishes_a_correct_answer_from_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import torch

    from eigencore import Problem, bind

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    judging = runpy.run_path(str(BENCHMARKS / "judge.py"))
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 4)
    x, y = torch.randn(30, 5), torch.randint(0, 4, (30,))
    problem = Problem(model=model, data=[(x, y)], loss=torch.nn.CrossEntropyLoss())
    operator = bind(problem, dtype="float64").operator()
    values, vectors = np.linalg.eigh(operator.matmat(torch.eye(24, dtype=torch.float64)).numpy())
    judge = judging["Judge"](problem, 3, 1e-3)

    def verdict(values: Any, vectors: Any) -> Any:
        return judge.grade(judging["Answer"](values, torch.from_numpy(vectors.copy()), 1))["verdict"]

    top, missed, repeated = slice(-3, None), [-1, -2, -5], [-1, -1, -1]
    assert verdict(values[top], vectors[:, top]) == "reached"
    assert verdict(values[missed], vectors[:, missed]).startswith("wrong: a value is")
    assert verdict(values[repeated], vectors[:, repeated]) == "wrong: 1 different vectors of 3"
    assert verdict(1.1 * values[top], vectors[:, top]) == "not reached: residual 0.09"
