"""The tutorial as a Jupyter notebook.

    python docs/notebook.py FILE

writes it to a file. A block of Python becomes a cell; one that is a file, a cell that writes the file; one of
commands, a cell that runs them. What blocks print is left out: the cells print it. docs/site_hooks.py adds
the notebook to the site; tests/docs/test_notebook.py runs it and compares what it prints with the page.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pages import NOT_RUN, NOTEBOOK_PAGE, PAGES, Block, blocks, commands


def notebook(text: str, link: Callable[[str], str] = str) -> dict[str, Any]:
    """The notebook of a page, as nbformat 4.5 defines it.

    Args:
        text: the page.
        link: makes of a text with the links of the page one whose links lead somewhere from the notebook.
    """
    cells: list[dict[str, Any]] = []
    prose, end = "", 0

    def add(kind: str, source: str) -> None:
        if not source:
            return
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        cells.append(
            {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": source, **code}
        )

    for block, fences in zip(blocks(text), fenced(text), strict=True):
        prose += text[end : fences.start]
        end = fences.stop
        source = cell(block)
        if source is None and not block.after:  # not a cell, nor the output of one
            prose += text[fences]
        elif source is not None:
            add("markdown", link(prose).strip("\n"))
            add("code", source)
            prose = ""
    add("markdown", link(prose + text[end:]).strip("\n"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def cell(block: Block) -> str | None:
    """The code of a cell, or None for a block that is not run."""
    code = block.code.rstrip("\n")
    match block.language:
        case "python":
            file = re.match(r"# (\w+\.\w+)\n", code)
            return f"%%writefile {file[1]}\n{code}" if file else code
        case "sh" if not {command for command, _ in commands(code)} & NOT_RUN:
            fails = any(exit_code for _, exit_code in commands(code))
            return f"%%bash{' --no-raise-error' if fails else ''}\n{code}"
    return None


def fenced(text: str) -> list[slice]:
    """Where the blocks of a page are, with their fences."""
    return [
        slice(
            text.rindex("\n", 0, block.where.start - 1) + 1,
            text.index("\n", text.index("```", block.where.stop)) + 1,
        )
        for block in blocks(text)
    ]


def main() -> int:
    (file,) = sys.argv[1:]
    Path(file).write_text(json.dumps(notebook(PAGES[NOTEBOOK_PAGE]), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
