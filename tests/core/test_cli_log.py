"""The option --log: a line with date and time for all that happens."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from pathlib import Path

import pytest

from eigencore.cli import main
from eigencore.cli.layers import layers
from eigencore.cli.log_file import log_file

QUADRATIC = ("analyze", "demo:quadratic", "-k", "2", "--set", "problem.n=60")


def logged(file: Path) -> list[str]:
    """The lines without their times, each of which must be a date and time with its zone."""
    texts = []
    for line in file.read_text().splitlines():
        when, text = line.split(" ", 1)
        assert datetime.fromisoformat(when).tzinfo is not None
        texts.append(text)
    return texts


def test_a_solve_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.log"
    assert main([*QUADRATIC, "--log", str(file)]) == 0
    out, err = capsys.readouterr()
    lines = logged(file)
    assert lines[0].startswith("eigen analyze begins: ")
    assert "problem=demo:quadratic" in lines[0]
    assert lines[1] == "reading the problem demo:quadratic"
    assert any(line.startswith("10 products · ") for line in lines)
    assert "computing the certificate from fresh products" in lines
    (solved,) = (line for line in lines if line.startswith("lanczos: all 2 pairs converged"))
    assert lines.index("computing the certificate from fresh products") < lines.index(solved)
    assert lines[-1] == "eigen analyze has computed its result"
    assert err == ""
    main([*QUADRATIC])
    bare = capsys.readouterr().out.splitlines()
    assert [line for line in out.splitlines() if " s (" not in line] == [
        line for line in bare if " s (" not in line
    ]
    before = file.read_text()
    assert main([*QUADRATIC, "--log", str(file)]) == 0
    assert file.read_text().startswith(before)
    assert len(logged(file)) == 2 * len(lines)


def test_what_the_library_logs_is_logged_only_meanwhile(tmp_path: Path) -> None:
    logger = logging.getLogger("eigencore")
    before = logger.level, list(logger.handlers)
    assert main([*QUADRATIC, "--log", str(tmp_path / "run.log")]) == 0
    assert (logger.level, logger.handlers) == before


@pytest.mark.parametrize("place", ["no folder/run.log", ".", "file/run.log"])
@pytest.mark.parametrize(
    "command",
    [
        ("analyze", "unlucky.py:make"),
        ("trace", "unlucky.py:make"),
        ("density", "unlucky.py:make"),
        ("layers", "unlucky.py:make"),
        ("attack", "unlucky.py:make", "--eps", "0.1"),
        ("study", "unlucky.py:make"),
    ],
    ids=lambda command: command[0],
)
def test_a_file_that_cannot_be_written_is_an_error_before_any_work(
    command: tuple[str, ...],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("unlucky.py").write_text("from pathlib import Path\n\ndef make():\n    Path('worked').touch()\n")
    assert main([*command, "--log", place]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"eigen: --log {place} can't be written: ")
    assert "Traceback" not in err
    assert not Path("worked").exists()


def test_a_failure_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "unlucky", raising=False)  # and after it, what this test imports
    Path("unlucky.py").write_text("def make():\n    raise ValueError('no data\\nhere')\n")
    assert main(["analyze", "unlucky.py:make", "--log", "run.log"]) == 1
    text = Path("run.log").read_text()
    assert (
        "eigen analyze ends with ProblemError: unlucky.py:make failed: ValueError: no data\n    here" in text
    )


def test_attacks_layers_and_studies_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("joblib")
    monkeypatch.chdir(tmp_path)
    few = ("demo:digits-numpy", "--images", "10", "--eps", "0.05,0.1", "--batch", "6")
    assert main(["attack", *few, "--log", "attack.log"]) == 0
    lines = logged(tmp_path / "attack.log")
    assert [line.partition(" · ")[0] for line in lines if line.startswith("pgd, ")] == [
        f"pgd, eps {eps}: {done} of 10 samples" for eps in ("0.05", "0.1") for done in (0, 6, 10)
    ]
    assert "binding demo:digits-numpy to numpy" in lines
    assert main(["layers", "demo:digits-numpy", "--log", "layers.log"]) == 0
    assert any(
        line.startswith("layers: eigenpairs of 4 blocks: 1 passes")
        for line in logged(tmp_path / "layers.log")
    )
    study = ("study", "demo:quadratic", "--analyses", "none", "--jobs", "1", "--log", "study.log")
    assert main(study) == 0
    assert any(line.startswith("study: 1 of 1 rows · ") for line in logged(tmp_path / "study.log"))


def test_outside_a_command_there_is_no_log() -> None:
    with log_file() as log:
        assert log is None
    assert "log" not in {parameter.name for parameter in layers.params if parameter.expose_value}


def test_a_full_disk_does_not_end_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    assert main([*QUADRATIC, "--log", "/dev/full"]) == 0
    assert capsys.readouterr().err == "the log /dev/full is incomplete: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--log", "a.txt", "--csv", "a.txt"), "name the same file, a.txt"),
        (("--csv", "./a.txt", "--log", "a.txt"), "--csv and --log name the same file"),
    ],
)
def test_two_options_never_write_to_one_file(
    given: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*QUADRATIC, *given]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
