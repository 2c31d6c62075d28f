"""Every line of docs/coming-from.md runs, those of other libraries where they are installed, as it claims."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = SimpleNamespace(**runpy.run_path(str(DOCS / "coming_from.py")))
SECTIONS = SCRIPT.sections((DOCS / "coming-from.md").read_text())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading)
def test_the_lines_run_and_differ_as_the_page_says(section) -> None:
    wrong = [f"line {row.line}: {problem}" for row, problem in SCRIPT.compare(section) if problem]
    assert not wrong


def test_all_rows_of_the_tables_are_read() -> None:
    lines = (DOCS / "coming-from.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == sum(len(section.rows) for section in SECTIONS) > 40
    assert [section.heading.split()[0] for section in SECTIONS] == [
        *2 * ["hessian-eigenthings"],
        "PyHessian",
        "curvlinops",
        "foolbox",
    ]


PAGE = """
```python
a = 2.0
```

## {library}

| theirs | ours | difference | why |
|---|---|---|---|
| `b = 3 * a` | `b = 2 * a` | | |
| {theirs} | `b` | {difference} | |
"""


@pytest.mark.parametrize(
    ("theirs", "difference", "problem"),
    [
        ("`b`", "0.5", ""),
        ("`b`", "0.6", ""),
        ("`b`", "0.9", "the difference is 0.5, and the page has 0.9"),
        ("`b`", "below 0.6", ""),
        ("`b`", "below 1e-3", "the difference is 0.5, and the page has below 1e-3"),
        ("`[b, b]`", "below 1e-3", "the difference is inf, and the page has below 1e-3"),
        ("`a = 4.0` `a`", "below 1e-3", ""),
        ("`float('nan')`", "below 1e-3", "the difference is nan, and the page has below 1e-3"),
        ("`1 / 0`", "fails", ""),
        ("`b`", "fails", "it does not fail"),
    ],
)
def test_a_wrong_difference_is_found(theirs: str, difference: str, problem: str) -> None:
    text = PAGE.format(library=SCRIPT.STAND_IN, theirs=theirs, difference=difference)
    (section,) = SCRIPT.sections(text)
    assert [found for _, found in SCRIPT.compare(section)] == ["", problem]


def test_a_line_that_fails_without_notice_is_an_error() -> None:
    (section,) = SCRIPT.sections(PAGE.format(library=SCRIPT.STAND_IN, theirs="`1 / 0`", difference="0.5"))
    with pytest.raises(ZeroDivisionError):
        list(SCRIPT.compare(section))


@pytest.mark.parametrize("library", ["no-such-library 1.0", "numpy 0.1"])
def test_the_lines_of_a_library_that_is_not_installed_do_not_run(library: str) -> None:
    (section,) = SCRIPT.sections(PAGE.format(library=library, theirs="`1 / 0`", difference="0.5"))
    assert [found for _, found in SCRIPT.compare(section)] == ["", ""]
