"""Draws the first screen: runs the README's main command, and writes what it prints into the README.

    python docs/first_screen.py

As a picture, docs/first-screen.svg, and as text. Both are one recording of the command's own printing.
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
from eigencore.cli.screen import print_run
from eigencore.cli.tables import Terminal

ROOT = Path(__file__).parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "first-screen.svg"
WIDTH = 88
BEGIN, END = "<!-- first screen -->", "<!-- end of the first screen -->"


def main() -> int:
    command = main_command(README.read_text())
    with tempfile.TemporaryDirectory() as folder:
        code = eigen([*shlex.split(command)[1:], "--out", folder])
        if code != 0:
            return code
        console = record(load(folder), command)
    PICTURE.write_text(console.export_svg(title="eigencore", clear=False))
    README.write_text(with_screen(README.read_text(), console.export_text()))
    return 0


def main_command(readme: str) -> str:
    """What the first block of shell lines ends with, as it is typed where the environment is active."""
    block = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)
    assert block, "README.md has no block of shell lines"
    return block[1].strip().splitlines()[-1].removeprefix(".venv/bin/")


def record(run: Run, command: str) -> Console:
    """The screen after the command, on a terminal that remembers it."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    page = Terminal(console)
    page.line(f"$ {command}")
    page.line()
    print_run(run, page)
    return console


def with_screen(readme: str, text: str) -> str:
    """The README with picture and text between its two marks."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    screen = f"""{BEGIN}
![The eigenvalues of a network's Hessian with their certificate, and its robustness](docs/first-screen.svg)

<details><summary>The same as text</summary>

```text
{lines}
```

</details>
{END}"""
    return re.sub(f"{BEGIN}.*?{END}|{BEGIN}", lambda found: screen, readme, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
