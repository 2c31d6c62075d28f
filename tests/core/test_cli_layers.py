"""The command `eigen layers`, as a user types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from eigencore import layers
from eigencore.cli import main

pytest.importorskip("sklearn")  # demo:digits-numpy needs it
PROBLEM = "demo:digits-numpy"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["layers", PROBLEM, *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_and_the_verdict_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys)
    assert [line.split()[0] for line in text.splitlines()[:5]] == ["block", "W1", "b1", "W2", "b2"]
    assert layers(PROBLEM).verdict in text


def test_json_has_the_numbers_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "-k", "2", "--kind", "ggn", "--json", "--seed", "3"))
    expected = layers(PROBLEM, 2, kind="ggn", seed=3)
    assert expected.whole is not None
    assert expected.couplings is not None
    assert (found["problem"], found["kind"]) == (PROBLEM, "ggn")
    assert [block["eigenvalues"] for block in found["blocks"]] == expected.values.tolist()
    assert found["whole"]["eigenvalues"] == expected.whole.values.tolist()
    assert found["couplings"] == expected.couplings.tolist()
    assert found["verdict"] == expected.verdict


def test_csv_is_read_again_without_a_loss(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = tmp_path / "layers.csv"
    assert "eigenvalue" in printed(capsys, "--csv", str(place))
    assert printed(capsys, "--csv", "-") == place.read_text()
    rows = list(csv.DictReader(io.StringIO(place.read_text())))
    assert [float(row["eigenvalue"]) for row in rows] == layers(PROBLEM).values[:, 0].tolist()


def test_groups_params_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    damped = ["--kind", "ggn", "--set", "ggn.damping=10", "--params", "W*", "--json", "--probes", "0"]
    (block,) = json.loads(printed(capsys, *damped, "--group", "all=W1,W2"))["blocks"]
    assert block["name"] == "all"
    assert block["trace"] is None
    plain = layers(PROBLEM, kind="ggn", params="W*", probes=0)
    assert plain.whole is not None
    np.testing.assert_allclose(block["eigenvalues"], plain.whole.values + 10, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--group", "W1"], "--group W1; expected NAME=A,B"),
        (["--group", "a=W1", "--group", "a=W2"], "--group a is given twice"),
        (["--group", "a=W1", "--group", "b=W*"], "W1 is in the groups a and b"),
        (["--by", "neuron"], "neuron"),
        (["--probes", "-1"], "probes is -1"),
        (["--set", "pgd.steps=3"], "options are given for pgd, which is not used here"),
        (["--kind", "hesian"], "hesian"),
        (["--csv", "-", "--json"], "--csv - and --json both print on stdout"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layers", PROBLEM, *arguments]) == 2
    text = "".join(capsys.readouterr())
    assert words in text
    assert "Traceback" not in text


def test_a_matrix_has_no_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", "demo:quadratic"]) != 0
    assert "has no parameters" in capsys.readouterr().err
