"""Runs the lines of docs/coming-from.md, of eigencore and of installed libraries, and compares their results.

    python docs/coming_from.py

Each row of a table holds lines of another library, those of eigencore for the same, and the relative
difference of the two results: "below 1e-3", a number, or "fails" if the line of the other library raises an
exception. The rows of a section run in their order, after the blocks of Python above them. The lines of a
library that is not installed in the version of the heading are left out. tests/docs/test_coming_from.py calls
this module.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).with_name("coming-from.md")
DISTRIBUTIONS = {"curvlinops": "curvlinops-for-pytorch"}
# eigencore has the functions of this version, and its table is run with them.
STAND_IN = "hessian-eigenthings 0.0.2"
# A difference that is a number may be so much larger or smaller on another machine, relative to itself.
LEEWAY = 0.25


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        theirs, ours: lines of Python.
        difference: as the page has it.
        line: the line of the page.
    """

    theirs: list[str]
    ours: list[str]
    difference: str
    line: int


@dataclass
class Section:
    """A library's part of the page: the blocks of Python to run first, and the rows of its table."""

    heading: str
    blocks: list[str]
    rows: list[Row] = field(default_factory=list)

    @property
    def installed(self) -> bool:
        """Whether the library of the heading is installed in this version."""
        name, _, version = self.heading.partition(" ")
        with contextlib.suppress(metadata.PackageNotFoundError):
            return self.heading == STAND_IN or metadata.version(DISTRIBUTIONS.get(name, name)) == version
        return False


def sections(text: str) -> list[Section]:
    """The sections of a page that have a table; the blocks above the first heading belong to all."""
    found, shared, block = [Section("", [])], [], None
    for number, line in enumerate(text.splitlines(), 1):
        section = found[-1]
        if block is not None:
            if line == "```":
                (section.blocks if section.heading else shared).append("\n".join(block))
                block = None
            else:
                block.append(line)
        elif line == "```python":
            block = []
        elif line.startswith("## "):
            found.append(Section(line.removeprefix("## "), shared[:]))
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            theirs, ours = (re.findall(r"`([^`]+)`", cell) for cell in cells[:2])
            if theirs or ours:
                section.rows.append(Row(theirs, ours, cells[2], number))
    return [section for section in found if section.rows]


def compare(section: Section) -> Iterator[tuple[Row, str]]:
    """Runs the rows of a section; each with what is wrong with it, or an empty text.

    Raises:
        Exception: a line of eigencore failed, or one of the other library that is not to fail.
    """
    installed = section.installed
    ours, theirs = namespace(section.blocks), namespace(section.blocks)
    for row in section.rows:
        mine = run(row.ours, ours)
        yield row, verdict(row, theirs, mine) if installed else ""


def verdict(row: Row, theirs: dict[str, Any], ours: Any) -> str:
    """What is wrong with a row of a library that is installed; an empty text if nothing is."""
    if row.difference == "fails":
        with contextlib.suppress(Exception):
            quietly(row.theirs, theirs)
            return "it does not fail"
        return ""
    value = quietly(row.theirs, theirs)
    if not row.difference:
        return ""
    measured = relative_difference(value, ours)
    bound = re.fullmatch(r"below (\S+)", row.difference)
    if bound is not None:
        right = measured <= float(bound[1])
    else:
        right = abs(measured - float(row.difference)) <= LEEWAY * float(row.difference)
    return "" if right else f"the difference is {measured:.2g}, and the page has {row.difference}"


def namespace(blocks: list[str]) -> dict[str, Any]:
    """The names that the blocks define; each library has its own, because some change the model."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(block, names)
    return names


def run(lines: list[str], names: dict[str, Any]) -> Any:
    """Runs the lines; the value of the last one, None if it is a statement."""
    value = None
    for line in lines:
        try:
            code = compile(line, PAGE, "eval")
        except SyntaxError:
            code = compile(line, PAGE, "exec")
        value = eval(code, names)
    return value


def quietly(lines: list[str], names: dict[str, Any]) -> Any:
    """Like `run`, without the warnings and the output of another library."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return run(lines, names)


def relative_difference(theirs: Any, ours: Any) -> float:
    """||theirs - ours|| / ||ours|| for arrays, tensors, numbers and lists of them."""
    a, b = flat(theirs), flat(ours)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)) if a.shape == b.shape else float("inf")


def flat(value: Any) -> np.ndarray:
    if isinstance(value, list | tuple):
        return np.concatenate([flat(one) for one in value])
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.asarray(value, np.float64).reshape(-1)


def main() -> int:
    wrong = 0
    for section in sections(PAGE.read_text()):
        left_out = "" if section.installed else ": not installed in this version, only the lines of eigencore"
        print(f"{section.heading}{left_out}")
        for row, problem in compare(section):
            if problem:
                print(f"  line {row.line}: {problem}")
                wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
