"""`eigen analyze --samples` and `--rtol`, as a user types them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import eigencore
from eigencore.cli import main

pytest.importorskip("sklearn")  # demo:digits-numpy needs it
PROBLEM = ["demo:digits-numpy", "--which", "LA", "-k", "2"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["analyze", *PROBLEM, *arguments]) == 0
    return capsys.readouterr().out


def test_the_intervals_of_a_sample_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    text = printed(capsys, "--samples", "400", "--out", folder)
    sampling = eigencore.solve("demo:digits-numpy", 2, which="LA", samples=400).sampling
    assert sampling is not None
    assert "all data   95 % interval" in text
    for one in sampling.intervals:
        assert f"{one.low:.3f} to {one.high:.3f}"[:5] in text
    assert "sample: 400 draws by weight from 1,437 samples, in 20 groups" in text
    assert "eigenvalues of the sample" in text
    assert "the sum of eigenvalues 1 to 2 of all data:" in text
    assert "robustness" not in text
    assert main(["show", folder]) == 0
    assert capsys.readouterr().out == text


def test_refusals_say_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--samples", "9")
    assert text.count(" refused ") == 2
    assert "no interval for eigenvalue 1, 2: there are 9 groups; expected at least 10; about 10 draws" in text


def test_the_costs_of_accuracies_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--rtol", "0.2")
    assert "predicted from the pilot sample: 20 % " in text
    assert "; all data, " in text
    full = printed(capsys, "--rtol", "1e-6")
    assert "all 1,437 samples of the data were used" in full
    assert "interval" not in full.partition("predicted")[0]


def test_json_and_csv_have_the_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "--samples", "400", "--json"))
    sampling = found["sampling"]
    assert (sampling["method"], sampling["draws"]) == ("sample", 400)
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "--samples", "400", "--csv", "-"))))
    assert [float(row["low"]) for row in rows] == [one["low"] for one in sampling["intervals"]]


def test_an_invalid_number_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", *PROBLEM, "--samples", "1438"]) == 2
    assert "expected 2 to 1437" in capsys.readouterr().err
