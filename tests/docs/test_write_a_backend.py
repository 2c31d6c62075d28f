"""A reader who follows docs/write-a-backend.md block by block gets a backend that satisfies every law."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from eigencore.testing.backends.checks import IF_OFFERED

PAGES = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "docs" / "pages.py")))
PAGE = PAGES.PAGES[PAGES.BACKEND_PAGE]
BLOCKS = PAGES.blocks(PAGE)


@pytest.mark.slow
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    reader = PAGES.Reader(tmp_path)
    output = []
    for block in BLOCKS:
        printed = reader.follow(block)
        if block.language == "text":  # a command and what it prints
            PAGES.assert_shows(block.code, printed, f"{PAGES.BACKEND_PAGE}, line {block.line}")
        elif printed:
            output.append(printed)
    use, python, tests, digest = output
    assert use.count("all 3 pairs converged") == 1
    assert "ggn of parameters U,b" in use
    assert python.startswith("deeplinear converged [")
    # Every law, in two precisions; `wrong_loss` adds another one.
    laws = sum(len(laws) for _, laws in IF_OFFERED)
    passed = re.search(r"(\d+) passed in", tests)
    assert passed
    assert int(passed[1]) > 2 * laws + 1
    assert not re.search("failed|skipped|warning", tests)
    assert digest == "True False\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "reported"),
    [
        # Those that the page suggests.
        (" * factors.astype(self._net.b.dtype)", "", "FAILED .*minibatches_are_unbiased"),
        (".plus(pull_back_change(net, step, g, x))", "", "the Hessian of the loss would be wrong"),
    ],
    ids=["biased minibatches", "a missing term"],
)
def test_a_mistake_is_caught(right: str, wrong: str, reported: str, tmp_path: Path) -> None:
    reader = PAGES.Reader(tmp_path)
    assert PAGE.count(right) == 1
    for block in BLOCKS:
        if block.code.startswith("# "):
            reader.follow(replace(block, code=block.code.replace(right, wrong)))
    reader.install()
    printed = reader.run("bash", "-euc", "python -m pytest -q -k minibatches || true")
    assert re.search(reported, printed)
