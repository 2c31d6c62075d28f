"""`eigen analyze --resume DIR`: with the arguments of the run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import eigencore
from eigencore.cli import main
from eigencore.results import Step
from eigencore.runs.unfinished import begin

RUN = (
    "analyze",
    "demo:quadratic",
    "-k",
    "3",
    "--tol",
    "1e-5",
    "--analyses",
    "none",
    "--set",
    "lanczos.basis=9",
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    return code, *capsys.readouterr()


def answer(text: str) -> dict[str, Any]:
    read = json.loads(text)
    return {name: read[name] for name in ("eigenvalues", "residuals", "certificate", "matvecs", "status")}


def test_a_run_whose_arguments_alone_were_written_starts(capsys: Any, monkeypatch: pytest.MonkeyPatch):
    """It was killed while PyTorch was imported, for example."""

    def killed(**arguments: Any) -> None:
        raise KeyboardInterrupt

    whole = printed(capsys, *RUN, "--json")[1]
    with monkeypatch.context() as patched:
        patched.setattr("eigencore.pipeline.analyze", killed)
        assert printed(capsys, *RUN, "--out", "run")[0] == 130
    assert sorted(path.name for path in Path("run").iterdir()) == ["journal", "run.toml"]
    code, out, err = printed(capsys, "analyze", "--resume", "run", "--json")
    assert (code, err, answer(out)) == (0, "", answer(whole))
    read = json.loads(out)["run"]
    assert read["options"]["lanczos"]["basis"] == 9  # the arguments are those of the run


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--max-matvecs", "9"), 3)])
def test_a_run_that_has_ended_is_printed(capsys: Any, more: tuple[str, ...], code: int):
    first = printed(capsys, *RUN, *more, "--out", "run")
    assert first[0] == code
    assert printed(capsys, "analyze", "--resume", "run") == first
    as_json = printed(capsys, "analyze", "--resume", "run", "--json", "--csv", "table.csv")
    assert as_json == (code, Path("run/result.json").read_text(), "")
    assert len(Path("table.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("-k", "4"), "-k"),
        (("demo:digits",), "problem"),
        (("--set", "lanczos.basis=8"), "--set"),
    ],
)
def test_other_arguments_beside_it_are_refused(capsys: Any, more: tuple[str, ...], named: str):
    printed(capsys, *RUN, "--out", "run")
    code, _, err = printed(capsys, "analyze", "--resume", "run", *more)
    assert code == 2
    assert f"{named}" in err
    assert "can't be given with --resume: the run goes on with the arguments that it began with" in err


def test_a_folder_without_a_run_or_without_its_arguments_is_refused(capsys: Any):
    code, _, err = printed(capsys, "analyze", "--resume", "nowhere")
    assert (code, err.splitlines()[0]) == (2, "eigen: there is no run in nowhere")

    def stops(news: Any) -> None:
        if isinstance(news, Step):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        eigencore.analyze("demo:quadratic", 3, out="run", progress=stops)
    code, _, err = printed(capsys, "analyze", "--resume", "run")
    assert code == 2
    assert "run does not have the arguments of its run: there is no run.toml" in err
    assert "analyze(..., out=..., resume=True)" in err


def test_arguments_that_were_edited_are_named(capsys: Any, monkeypatch: pytest.MonkeyPatch):
    def stops(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("eigencore.pipeline.run.run_analyses", stops)
        assert printed(capsys, *RUN, "--out", "run")[0] == 130
    text = Path("run/run.toml").read_text()
    Path("run/run.toml").write_text(text.replace("k = 3", "k = 5").replace('basis = "9"', 'basis = "8"'))
    code, _, err = printed(capsys, "analyze", "--resume", "run")
    assert code == 2
    assert "k was 3 and is now 5; options.lanczos.basis was 9 and is now 8" in err


def test_an_invalid_request_leaves_no_folder(capsys: Any):
    assert printed(capsys, "analyze", "demo:quadratic", "-k", "0", "--out", "run")[0] == 2
    assert not Path("run").exists()
    Path("run").mkdir()
    assert printed(capsys, "analyze", "demo:quadratc", "--out", "run")[0] == 2
    assert not list(Path("run").iterdir())


def test_a_new_run_does_not_take_the_place_of_an_unfinished_one(capsys: Any):
    folder = Path("run")
    folder.mkdir()
    begin(folder)  # without a product, it may be replaced
    assert printed(capsys, *RUN, "--out", "run")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["result.json", "vectors.npy"]
    (folder / "journal").write_text("my diary")
    code, _, err = printed(capsys, *RUN, "--out", "run")
    assert code == 2
    assert "run/journal exists, and is not the journal of a run" in err
    assert (folder / "journal").read_text() == "my diary"


def test_a_request_that_turns_out_to_be_invalid_keeps_its_products(capsys: Any, place: Path):
    """A backend may refuse a later product by a UsageError, for its limit on memory."""
    (place / "limited.py").write_text(LIMITED)
    assert printed(capsys, "analyze", "limited.py:make", "-k", "3", "--out", "run")[0] == 2
    assert {path.name for path in Path("run").iterdir()} >= {"journal", "run.toml"}
    code, _, err = printed(capsys, "analyze", "limited.py:make", "-k", "3", "--out", "run")
    assert (code, "run holds an unfinished run with 5 products" in err) == (2, True)


LIMITED = """
import numpy as np
import eigencore
from eigencore.errors import UsageError

def make():
    made = []
    def product(v):
        made.append(1)
        if len(made) > 5:
            raise UsageError("the memory of the solve exceeds the limit")
        return np.linspace(1, 2, 300) ** 9 * v
    return eigencore.Problem(operator=eigencore.as_operator(product, n=300))
"""
