"""The page on JAX runs as it is written."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("jax")
pytest.importorskip("sklearn")

PAGES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[3] / "docs" / "pages.py")))
NAME = "docs/how-to/jax.md"


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path):
    with PAGES.isolated(tmp_path) as page:
        for block, printed in PAGES.outputs(NAME, page):
            PAGES.assert_shows(block.code, printed, f"{NAME}, line {block.line}")
