"""The tutorial as a notebook: it runs from top to bottom, and prints what the page shows."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = SimpleNamespace(**runpy.run_path(str(DOCS / "pages.py")))
PAGE = PAGES.PAGES[PAGES.NOTEBOOK_PAGE]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(DOCS))
    return SimpleNamespace(**runpy.run_path(str(DOCS / "notebook.py")))


@pytest.fixture
def notebook(script: SimpleNamespace) -> Any:
    made = nbformat.from_dict(script.notebook(PAGE))
    nbformat.validate(made)
    return made


def printed(cell: Any) -> str:
    streams = [one for one in cell.outputs if one.output_type == "stream" and one.name == "stdout"]
    return "".join(one.text for one in streams)


@pytest.mark.slow
def test_it_prints_what_the_page_shows(
    script: SimpleNamespace, notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    folder = tmp_path / "notebook"
    folder.mkdir()
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    cells = iter(cell for cell in notebook.cells if cell.cell_type == "code")
    shown, output = 0, ""
    for block in PAGES.blocks(PAGE):
        if script.cell(block) is not None:
            output = printed(next(cells))
        elif block.language == "text" and block.after:
            PAGES.assert_shows(block.code, output, f"line {block.line}")
            shown += 1
    assert next(cells, None) is None
    assert shown > 8


def test_it_has_the_text_of_the_page_and_no_output(script: SimpleNamespace, notebook: Any) -> None:
    headings = [line for line in PAGE.splitlines() if line.startswith("#") and line[1] in "# "]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert all(heading in text for heading in headings if not heading.startswith("# moons"))
    assert "python3 -m venv .venv" in text  # the reader's environment is there already
    assert all(cell.source for cell in notebook.cells)
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


def test_files_and_commands_become_cells(script: SimpleNamespace) -> None:
    page = (
        "# Title\n\n```python\n# mine.py\nx = 1\n```\n\n```sh\neigen solvers none    # exit code 2\n```\n\n"
        "```text\nnothing\n```\n\nThe end,\n\n```text\na picture\n```\nand no more.\n"
    )
    cells = [(cell["cell_type"], cell["source"]) for cell in script.notebook(page)["cells"]]
    assert cells == [
        ("markdown", "# Title"),
        ("code", "%%writefile mine.py\n# mine.py\nx = 1"),
        ("code", "%%bash --no-raise-error\neigen solvers none    # exit code 2"),
        ("markdown", "The end,\n\n```text\na picture\n```\nand no more."),
    ]
