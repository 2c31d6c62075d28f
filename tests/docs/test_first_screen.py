"""The picture and the text of the first screen are one recording, and the command still prints it."""

from __future__ import annotations

import html
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

import eigencore
from eigencore.cli import main

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


@pytest.mark.slow
def test_the_command_prints_it(tmp_path: Path) -> None:
    command = SCRIPT.main_command(README)
    assert main([*shlex.split(command)[1:], "--out", str(tmp_path)]) == 0
    run = eigencore.load(tmp_path)
    text = SCRIPT.record(run, command).export_text()
    assert shape(text) == shape(shown())
    assert eigenvalues(shown()) == pytest.approx(run.eigen.values, rel=1e-4)
    assert len(eigenvalues(shown())) == 5
