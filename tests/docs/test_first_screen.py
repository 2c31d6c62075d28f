"""The picture and the text of the first screen are one recording, and the command still prints it."""

from __future__ import annotations

import html
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import eigencore
from eigencore.cli.print_run import print_run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SCRIPT = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "first_screen.py")))
NUMBER = r"[\d,]*\d(?:\.\d+)?(?:e[+-]\d+)?"


def shown() -> str:
    """The text in the tutorial."""
    block = re.search(
        f"{SCRIPT.BEGIN}.*?```text\n(.*?)```.*?{SCRIPT.END}", SCRIPT.PAGE.read_text(), re.DOTALL
    )
    assert block
    return block[1]


def shape(text: str) -> str:
    """The words alone: numbers and line breaks depend on the machine."""
    return re.sub(f"<?{NUMBER}", "N", " ".join(re.sub("─+", "", text).split()))


def eigenvalues(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"^ +\d +(\S+) .* yes *$", text, re.MULTILINE)]


def test_the_picture_shows_the_text() -> None:
    lines: dict[float, str] = {}
    pieces = re.findall(
        r'<text class="\S+" x="\S+" y="(\S+)" textLength[^>]*>(.*?)</text>', SCRIPT.PICTURE.read_text()
    )
    for y, piece in pieces:
        lines[float(y)] = f"{lines.get(float(y), '')} {html.unescape(piece)}"
    drawn = [" ".join(lines[y].split()) for y in sorted(lines)]
    assert [line for line in drawn if line] == [
        " ".join(line.split()) for line in shown().splitlines() if line
    ]


def test_the_readme_shows_the_picture() -> None:
    assert f"({SCRIPT.PICTURE.relative_to(ROOT)})" in README


def test_it_begins_with_the_main_command() -> None:
    assert shown().startswith(f"$ {SCRIPT.main_command(README)}\n")


def test_the_page_is_written_between_its_marks() -> None:
    for before in (f"a\n{SCRIPT.BEGIN}\nb", f"a\n{SCRIPT.BEGIN}\nold\n{SCRIPT.END}\nb"):
        once = SCRIPT.with_screen(before, "what it  \nprints")
        assert "```text\nwhat it\nprints\n```" in once
        assert "old" not in once
        assert once.startswith("a\n")
        assert once.endswith(f"{SCRIPT.END}\nb")
        assert SCRIPT.with_screen(once, "what it  \nprints") == once


def test_the_recording_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run = eigencore.analyze("demo:quadratic", k=2)
    print_run(run)
    command, text = SCRIPT.record(run, "eigen analyze").export_text().split("\n", 1)
    assert command.rstrip() == "$ eigen analyze"
    assert shape(text) == shape(capsys.readouterr().out)
    assert eigenvalues(text) == pytest.approx(run.eigen.values, rel=1e-4)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of the checkout, like a clone. It is deleted afterwards, because PyTorch is large."""
    left_out = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    copy = tmp_path / "eigencore"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", *left_out))
    yield copy
    shutil.rmtree(copy)


@pytest.mark.slow
def test_the_readmes_line_prints_it_from_a_fresh_environment(checkout: Path) -> None:
    line = SCRIPT.first_block(README)
    fresh = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    fresh["PIP_COMPILE"] = "0"  # compiling PyTorch would take longer than everything else
    ran = subprocess.run(
        ["bash", "-euc", line], cwd=checkout, env=fresh, capture_output=True, text=True, timeout=1200
    )
    assert ran.returncode == 0, ran.stderr
    printed, expected = ran.stdout[ran.stdout.index("demo:digits") :], shown().split("\n", 1)[1]
    assert shape(printed) == shape(expected)
    assert eigenvalues(printed) == pytest.approx(eigenvalues(expected), rel=1e-4)
    assert len(eigenvalues(printed)) == 5
