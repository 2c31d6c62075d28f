"""Every block of code in the pages runs as it is written, and prints what the page shows.

docs/pages.py parses and runs the pages; docs/outputs.py regenerates the blocks of output with it.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = SimpleNamespace(**runpy.run_path(str(DOCS / "pages.py")))


def own_pages() -> Iterator[Any]:
    for name, text in PAGES.PAGES.items():
        here = [block for block in PAGES.blocks(text) if block.language in ("python", "sh")]
        if name not in PAGES.ELSEWHERE and here:
            slow = any(re.search(r"demo:(digits\b(?!-)|mnist)", block.code) for block in here)
            yield pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ModuleType]:
    with PAGES.isolated(tmp_path) as module:
        yield module


@pytest.mark.parametrize("name", list(own_pages()))
def test_the_blocks_of_a_page_run(name: str, page: ModuleType) -> None:
    for block, printed in PAGES.outputs(name, page):
        PAGES.assert_shows(block.code, printed, f"{name}, line {block.line}")


def test_words_and_numbers_are_compared() -> None:
    shown = "a 12.34 and 20 in 0.1 s\n...\nv1.2.3 end"
    PAGES.assert_shows(shown, "a  12.341 and 21 in 7.9 s\n more\n words\nv4.5.6 end", "here")
    PAGES.assert_shows(
        "[1.251 0.25]", "[ 1.2512  0.25  ]", "here"
    )  # how NumPy pads depends on the last digits
    for right, wrong in (("12.34", "12.44"), ("20", "24"), ("a ", "b "), ("end", "")):
        with pytest.raises(AssertionError):
            PAGES.assert_shows(shown, shown.replace(right, wrong, 1), "here")


@pytest.mark.parametrize("name", PAGES.PAGES)
def test_blocks_are_of_a_language_that_is_run_or_text(name: str) -> None:
    found = PAGES.blocks(PAGES.PAGES[name])
    assert {block.language for block in found} <= {"python", "sh", "text", "toml"}
    # A page that uses a file in TOML names it.
    assert name in PAGES.ELSEWHERE or all(
        re.match(r"# \w+\.toml\n", block.code) for block in found if block.language == "toml"
    )
    prose = PAGES.FENCED.sub("", PAGES.PAGES[name])
    if name == "CONTRIBUTING.md":  # the picture of the package layout is not code
        prose = re.sub(r"## Package layout\n.*?(?=\n\nImports)", "", prose, flags=re.DOTALL)
    indented = re.findall(r"^ {4,}\S.*$", prose, re.MULTILINE)
    assert not indented, f"{name} has code that is not fenced: {indented[0]}"


def test_the_lines_that_are_not_run_are_these() -> None:
    shell = {
        command
        for name, text in PAGES.PAGES.items()
        if name not in PAGES.ELSEWHERE or name == PAGES.NOTEBOOK_PAGE
        for block in PAGES.blocks(text)
        if block.language == "sh"
        for command, _ in PAGES.commands(block.code)
    }
    assert shell >= PAGES.NOT_RUN
    assert all(command.startswith("eigen ") for command in shell - PAGES.NOT_RUN - {PAGES.COMPLETION})


@pytest.mark.parametrize("test", PAGES.ELSEWHERE.values())
def test_the_other_pages_have_their_tests(test: str) -> None:
    assert (ROOT / test).exists()


def test_the_shell_completes() -> None:
    """The line of the page, typed into bash; then what bash asks for at `eigen analyze --max-<tab>`."""
    assert any(PAGES.COMPLETION in text for text in PAGES.PAGES.values())
    ask = 'COMP_LINE="eigen analyze --max-"; COMP_POINT=20; _eigen_completion eigen; echo "${COMPREPLY[@]}"'
    ran = subprocess.run(
        ["bash", "-euc", f"{PAGES.COMPLETION}\ncomplete -p eigen\n{ask}"],
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(ROOT),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    rule, completions = ran.stdout.splitlines()
    assert rule.endswith("_eigen_completion eigen")
    assert completions.split() == ["--max-matvecs", "--max-seconds"]
