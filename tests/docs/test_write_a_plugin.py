"""A reader who follows docs/write-a-plugin.md block by block gets a plugin that runs and passes its tests."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

PAGES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "docs" / "pages.py")))
PAGE = PAGES.PAGES[PAGES.PLUGIN_PAGE]
BLOCKS = PAGES.blocks(PAGE)


@pytest.mark.slow
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    reader = PAGES.Reader(tmp_path)
    output = []
    for block in BLOCKS:
        printed = reader.follow(block)
        if block.language == "text":  # a command and what it prints
            assert printed == block.code
        elif printed:
            output.append(printed)
    use, python, test, leave_out = output
    assert "all 3 pairs converged" in use
    assert [float(value) for value in re.findall(r"\d\.\d*", python)[:3]] == pytest.approx(
        [1, 0.9, 0.81], rel=1e-3
    )
    assert re.search(r"\d\d passed", test)
    assert "failed" not in test
    assert "subspace" not in leave_out
    assert leave_out.count("  lanczos ") == 2


@pytest.mark.parametrize("page", [PAGES.PLUGIN_PAGE, PAGES.BACKEND_PAGE])
def test_each_block_of_the_pages_for_authors_is_a_file_a_command_or_its_output(page: str) -> None:
    blocks = PAGES.blocks(PAGES.PAGES[page])
    assert {block.language for block in blocks} == {"python", "toml", "sh", "text"}
    assert all(block.code.startswith("$ eigen ") for block in blocks if block.language == "text")
    assert any((block.language, block.code) == ("sh", PAGES.INSTALL) for block in blocks)


@pytest.mark.slow
def test_the_mistake_that_the_page_suggests_is_caught(tmp_path: Path) -> None:
    reader = PAGES.Reader(tmp_path)
    line = "        V, _ = xp.linalg.qr(V)\n"
    assert PAGE.count(line) == 1
    for block in BLOCKS:
        if block.code.startswith("# "):
            reader.follow(replace(block, code=block.code.replace(line, "")))
    reader.install()
    printed = reader.run("bash", "-euc", "python -m pytest -q -x || true")
    assert "BrokenLawError: " in printed
