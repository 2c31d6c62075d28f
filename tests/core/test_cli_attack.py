"""The command `eigen attack`, as a user types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from eigencore import attack
from eigencore.cli import main

pytest.importorskip("sklearn")  # demo:digits-numpy needs it
PROBLEM = "demo:digits-numpy"
FEW = ["--images", "20"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["attack", PROBLEM, *FEW, *arguments]) == 0
    return capsys.readouterr().out


def test_the_accuracies_at_each_radius_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = printed(capsys, "--eps", "0.02,8/80").splitlines()
    assert head == f"{PROBLEM} · pgd · Linf · 20 samples, 20 of them classified correctly"
    cells = [line.split() for line in lines[1:]]
    expected = attack(PROBLEM, "pgd", eps=[0.02, 0.1], images=20)
    assert [float(row[0]) for row in cells] == [0.02, 0.1]
    assert [float(row[1]) for row in cells] == [100 * one.accuracy for one in expected]
    assert [int(row[2]) for row in cells] == [one.success.sum() for one in expected]


def test_the_distances_are_printed_if_there_is_no_radius(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--attack", "deepfool", "--set", "deepfool.norm=Linf")
    expected = attack(PROBLEM, "deepfool", images=20, norm="Linf").distance
    assert f"{np.sort(expected)[round(0.5 * 19)]:.6g}"[:6] in text
    assert "20 of 20 samples fooled" in text


def test_a_sample_that_is_not_fooled_counts_as_far(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--attack", "ddn", "--set", "ddn.steps=1", "--set", "ddn.init_norm=0.01")
    assert "0 of 20 samples fooled" in text


def test_json_has_the_numbers_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "--attack", "apgd", "--eps", "0.05,0.1", "--seed", "3", "--json"))
    assert (found["problem"], found["attack"]) == (PROBLEM, "apgd")
    for given, one in zip(
        found["results"], attack(PROBLEM, "apgd", eps=(0.05, 0.1), seed=3, images=20), strict=True
    ):
        assert given | {"seconds": 0} == one.as_data() | {"seconds": 0}
        assert given["accuracy"] == one.accuracy
        assert [one is None for one in given["samples"]["distance"]] == (~one.success).tolist()


def test_csv_has_a_row_for_each_sample_and_radius(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "samples.csv"
    assert "accuracy" in printed(capsys, "--eps", "0.05,0.1", "--csv", str(place))
    assert printed(capsys, "--eps", "0.05,0.1", "--csv", "-") == place.read_text()
    rows = list(csv.DictReader(io.StringIO(place.read_text())))
    expected = attack(PROBLEM, "pgd", eps=[0.05, 0.1], images=20)
    assert [float(row["distance"]) for row in rows] == [d for one in expected for d in one.distance]
    assert [(float(row["eps"]), int(row["sample"])) for row in rows] == [
        (eps, i) for eps in (0.05, 0.1) for i in range(20)
    ]
    without = list(csv.DictReader(io.StringIO(printed(capsys, "--attack", "ddn", "--csv", "-"))))
    assert "eps" not in without[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--eps is missing; pgd attacks within a radius"),
        (["--eps", "a"], "--eps is a; expected numbers or fractions separated by commas"),
        (["--eps", "1/0"], "--eps is 1/0; expected"),
        (["--eps", "-1"], "eps is -1.0; pgd needs a radius"),
        (["--eps", "0.1", "--attack", "ddn"], "eps is 0.1; ddn takes no radius"),
        (["--eps", "0.1", "--attack", "pdg"], "Did you mean pgd"),
        (["--eps", "0.1", "--images", "0"], "images is 0"),
        (
            ["--eps", "0.1", "--set", "lanczos.basis=9"],
            "options are given for lanczos, which is not used here",
        ),
        (["--eps", "0.1", "--set", "pgd.steps=0"], "pgd.steps is '0'"),
        (["--eps", "0.1", "--set", "problem.size=3"], "unknown option of problem: 'size'"),
        (["--eps", "0.1", "--csv", "-", "--json"], "--csv - and --json both print on stdout"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attack", PROBLEM, *arguments]) == 2
    text = "".join(capsys.readouterr())
    assert words in text
    assert "Traceback" not in text


def test_a_matrix_has_nothing_to_attack(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "demo:quadratic", "--eps", "0.1"]) != 0
    assert "has no inputs" in capsys.readouterr().err


def test_options_of_the_factory_reach_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = tmp_path / "attacked.py"
    module.write_text(
        "from eigencore.problems import find_problem\n\n"
        "def make(digits: str = ''):\n    return find_problem(digits)\n"
    )
    given = ["--eps", "0.1", *FEW, "--set", f"problem.digits={PROBLEM}"]
    assert main(["attack", f"{module}:make", *given]) == 0
    assert "20 of them classified correctly" in capsys.readouterr().out
