"""`eigen study` and `infer_study`: what a user types, sees, and may get wrong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigencore.cli import main
from eigencore.errors import UnknownNameError, UsageError
from eigencore_robustness import infer_study

FILE = """
from pathlib import Path
import numpy as np
import eigencore

def networks(n: int = 10, fails: bool = False, stops: bool = False):
    for i in range(n):
        rank = (7 * i) % n
        yield eigencore.Member(
            f"network {i}",
            lambda i=i: matrix(i, fails, stops),
            {"size": i, "robust": i + 0.1 * rank, "note": "x"},
        )

def matrix(i, fails, stops):
    print("a line of the user")
    if fails and i == 2:
        raise ValueError("it did not train")
    if stops and i == 2 and not Path("stopped").exists():
        Path("stopped").touch()
        raise KeyboardInterrupt
    return (1.0 + i) * np.diag(np.arange(1.0, 20))

def problem():
    return eigencore.Problem(operator=np.eye(3))
"""
TYPED = [
    "--analyses",
    "none",
    "--jobs",
    "1",
    "--metric",
    "lambda_1",
    "--outcome",
    "robust",
    "--control",
    "none",
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments) is `eigen study file.py:networks ...`: the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    Path("file.py").write_text(FILE)

    def typed(*arguments: str, members: str = "file.py:networks") -> tuple[int, str, str]:
        code = main(["study", members, *TYPED, *arguments])
        return code, *capsys.readouterr()

    return typed


def test_the_rows_and_what_they_show(run: Run) -> None:
    code, out, err = run("--out", "rows.jsonl")
    assert code == 0
    first, _, heading, *rows = out.splitlines()
    assert first == "10 networks · rows.jsonl"
    assert heading.split() == ["name", "lambda_1"]
    assert [float(row.split()[-1]) for row in rows[:10]] == [19.0 * (i + 1) for i in range(10)]
    assert "associated: lambda_1 with robust (rho 1.00)" in out
    assert out.rstrip().endswith("Controls: none.")
    assert err == 10 * "a line of the user\n"
    code, again, err = run("--out", "rows.jsonl")
    assert (code, again, err) == (0, out, "")


def test_json_and_csv_have_all_columns(run: Run) -> None:
    code, out, _ = run("--json", "--csv", "table.csv", "-k", "2")
    document = json.loads(out)
    assert code == 0
    assert document["settings"]["arguments"]["k"] == 2
    assert [row["name"] for row in document["rows"]] == [f"network {i}" for i in range(10)]
    (association,) = document["inference"]["found"]["associations"]
    assert association["rho"] == pytest.approx(1)
    table = list(csv.DictReader(Path("table.csv").read_text().splitlines()))
    assert [float(row["lambda_2"]) for row in table] == [row["eigenvalues"][1] for row in document["rows"]]
    assert table[3]["note"] == "x"
    assert run("--csv", "-")[1].startswith("name,group,seed,size,robust,note,lambda_1,")


def test_a_row_that_failed_is_named_and_left_out(run: Run) -> None:
    code, out, _ = run("--set", "problem.fails=true")
    assert code == 1
    assert "failed: network 2: ValueError: it did not train\n" in out
    assert "Across 9 networks" in out


def test_an_eigenvalue_that_did_not_converge(run: Run) -> None:
    code, out, _ = run("--max-matvecs", "1")
    assert code == 3
    assert "No inference: every network lacks one of the columns." in out


def test_ctrl_c_prints_what_is_done_and_how_to_continue(run: Run) -> None:
    stops = ("--out", "rows.jsonl", "--set", "problem.stops=true")
    code, out, err = run(*stops)
    assert code == 130
    assert out.startswith("2 networks · rows.jsonl")
    assert err.endswith("interrupted: 2 rows are done; the same command continues\n")
    code, out, _ = run(*stops, "--log", "study.log")
    assert code == 0
    log = Path("study.log").read_text()
    assert "2 of 10 rows are done already" in log
    assert len(re.findall(r" study: \d of 8 rows · .* · network \d, [\d.]+ s$", log, re.MULTILINE)) == 8
    Path("stopped").unlink()
    assert "without --out, they are not kept" in run("--set", "problem.stops=true")[2]


def test_few_networks_are_not_enough(run: Run) -> None:
    code, out, _ = run("--set", "problem.n=7")
    assert code == 0
    assert "No inference: there are 7, and with 0 controls at least 8" in out


def test_several_problems_by_name(run: Run) -> None:
    code, out, _ = run("demo:quadratic")
    assert code == 0
    assert out.startswith("11 networks")


@pytest.mark.parametrize(
    ("arguments", "members", "code", "words"),
    [
        ((), "file.py:netwrks", 2, "unknown factory in file.py: 'netwrks'\n  Did you mean networks?"),
        ((), "file.py:problem", 1, "file.py:problem returned a Problem; expected eigencore.Member"),
        ((), "file.py", 2, "file.py names a file but no factory in it"),
        (("--set", "problem.n=0"), "file.py:networks", 2, "file.py:networks yields no member"),
        (("--set", "problem.m=0"), "file.py:networks", 2, "unknown option of problem: 'm'"),
        (("--jobs", "0"), "file.py:networks", 2, "jobs is 0"),
        (
            ("--metric", "lamda_1"),
            "file.py:networks",
            2,
            "unknown column: 'lamda_1'\n  Did you mean lambda_1",
        ),
        (("--metric", "note"), "file.py:networks", 2, "the column note holds text; expected numbers"),
        (("--out", "file.py"), "file.py:networks", 1, "file.py is not the file of a study"),
        (("--out", "."), "file.py:networks", 2, ". is a folder; expected a file"),
        (("--csv", "no/table.csv"), "file.py:networks", 2, "there is no folder no"),
        (("--csv", "-", "--json"), "file.py:networks", 2, "both print on stdout"),
    ],
)
def test_what_a_user_may_get_wrong(
    run: Run, arguments: tuple[str, ...], members: str, code: int, words: str
) -> None:
    found, out, err = run(*arguments, members=members)
    assert found == code
    assert words in (out if "--json" in arguments else err)
    assert "Traceback" not in out + err
    assert Path("file.py").read_text() == FILE


def test_a_misspelt_column_costs_no_rows(run: Run) -> None:
    _, out, _ = run("--outcome", "robsut")
    assert out.startswith("10 networks")
    assert "network 9" in out


def test_without_members_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == 2
    assert "Missing argument 'MEMBERS...'" in capsys.readouterr().err


def test_the_help_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["study", "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) < 80
    for option in ("--out FILE", "--jobs N", "--retry", "--metric COLUMN", "--control COLUMN"):
        assert option in page


# -- infer_study -------------------------------------------------------------------------------------------


@pytest.fixture
def columns() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    r1, loss = rng.standard_normal((2, 20))
    return {
        "name": np.array([f"n{i}" for i in range(20)], dtype=object),
        "group": np.array([f"g{i // 2}" for i in range(20)], dtype=object),
        "adversarial": np.tile([0.0, 1.0], 10),
        "network.median_r1": r1,
        "network.lambda_clean": rng.standard_normal(20),
        "network.lambda_scaled": np.full(20, np.nan),
        "network.train_loss": loss,
        "network.robust_accuracy": r1 + loss,
    }


def test_defaults_are_the_columns_that_the_study_has(columns: dict[str, Any]) -> None:
    found = infer_study(columns)
    assert found.metrics == ("network.lambda_clean", "network.median_r1")
    assert found.outcomes == ("network.robust_accuracy",)
    assert found.controls == ("network.train_loss", "adversarial")
    assert found.found is not None
    assert found.found.units == 10
    assert found.verdict.endswith("Controls: network.train_loss, adversarial.")
    columns["adversarial"] = np.ones(20)
    assert infer_study(columns).controls == ("network.train_loss",)
    del columns["group"]
    alone = infer_study(columns).found
    assert alone is not None
    assert alone.units == 20
    (strongest, *_) = alone.table.rows
    assert strongest[:2] == ("network.median_r1", "network.robust_accuracy")
    assert strongest[2] > 0.9


def test_what_cannot_be_inferred_is_said(columns: dict[str, Any]) -> None:
    assert "none of the metrics network.lambda_clean" in infer_study({"a": np.ones(9)}).verdict
    assert infer_study(columns, metrics=[]).verdict.startswith(
        "No inference: the study has none of the metrics"
    )
    with pytest.raises(UnknownNameError, match="unknown column: 'r1'"):
        infer_study(columns, metrics=["r1"])
    with pytest.raises(UsageError, match="the column name holds text"):
        infer_study(columns, controls=["name"])
    missing = infer_study(columns, metrics=["network.lambda_scaled"])
    assert missing.verdict == "No inference: every network lacks one of the columns."
