"""Every benchmark says its claim and how to run it, and the page of results shows the results."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = {"networks.py", "records.py"}  # of the others
CLAIMS = sorted(path for path in BENCHMARKS.glob("*.py") if path.name not in PARTS)


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_a_benchmark_says_its_claim_and_how_to_run_it(
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


def test_the_page_shows_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tables = runpy.run_path(str(BENCHMARKS / "tables.py"))
    page = tables["PAGE"].read_text()
    assert all(f"<!-- {name} -->" in page for name in tables["TABLES"])
    assert tables["filled"](page) == page


def test_the_page_is_refused_with_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tables = runpy.run_path(str(BENCHMARKS / "tables.py"))
    page = tables["PAGE"].read_text()
    changed = page.replace("eigencore lanczos |", "eigencore lanczos | 1", 1)
    assert changed != page
    assert tables["filled"](changed) == page
