"""Draws the first screen: runs the README's main command and records what it prints.

    python docs/first_screen.py

The recording is written as a picture, docs/first-screen.svg, which the README shows, and as text into
docs/tutorial.md.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from eigencore import Run, load
from eigencore.cli import main as eigen
from eigencore.cli.page import Terminal
from eigencore.cli.print_run import print_run

ROOT = Path(__file__).parents[1]
README, PAGE, PICTURE = ROOT / "README.md", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "first-screen.svg"
WIDTH = 80
BEGIN, END = "<!-- first screen -->", "<!-- end of the first screen -->"


def main() -> int:
    command = main_command(README.read_text())
    with tempfile.TemporaryDirectory() as folder:
        code = eigen([*shlex.split(command)[1:], "--out", folder])
        if code != 0:
            return code
        console = record(load(folder), command)
    PICTURE.write_text(console.export_svg(title="eigencore", clear=False))
    PAGE.write_text(with_screen(PAGE.read_text(), console.export_text()))
    return 0


def main_command(readme: str) -> str:
    """The last command in the README's first shell block, as typed where the environment is active."""
    return first_block(readme).rpartition(" && ")[2].removeprefix(".venv/bin/")


def first_block(readme: str) -> str:
    """The README's first shell block: commands that make an environment, and the main command."""
    block = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert block, "README.md has no block of shell commands"
    return block[1].strip()


def record(run: Run, command: str) -> Console:
    """A terminal that recorded the command and its output."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    page = Terminal(console)
    page.line(f"$ {command}")
    page.line()
    print_run(run, page)
    return console


def with_screen(page: str, text: str) -> str:
    """The page with the text of the screen between its two marks."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    screen = f"{BEGIN}\n```text\n{lines}\n```\n{END}"
    return re.sub(f"{BEGIN}.*?{END}|{BEGIN}", lambda found: screen, page, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
