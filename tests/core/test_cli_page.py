"""Numbers are aligned in columns, and long lines are broken on a terminal."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eigencore.cli.page import Page, Plain, Terminal
from eigencore.number_text import aligned

COLUMNS = {
    "points are aligned": ([37.63656, 8.8157, -4.0], 6, ["37.6366", "8.8157", "-4.0000"]),
    "shared trailing zeros are removed": ([40.0, 30.5, 4.25], 6, ["40.00", "30.50", "4.25"]),
    "whole numbers need no point": ([40.0, 20.0], 6, ["40", "20"]),
    "the smallest keeps half the digits": ([1000.0, 0.1234], 6, ["1000.000", "0.123"]),
    "two digits of a residual": ([0.00141, 0.0087, 0.0049], 2, ["0.0014", "0.0087", "0.0049"]),
    "a wide range is in scientific notation": ([4.5e-10, 3e-5, 0.0024], 2, ["4.5e-10", "3.0e-05", "2.4e-03"]),
    "so are large numbers": ([1.5e30, 1e30], 6, ["1.50000e+30", "1.00000e+30"]),
    "zero among others": ([2.5, 0.0], 6, ["2.5", "0.0"]),
    "only zeros": ([0.0, 0.0], 6, ["0", "0"]),
    "not a number": ([math.nan, 1.5], 6, ["nan", "1.50000"]),
    "nothing": ([], 6, []),
}


@pytest.mark.parametrize(("values", "digits", "texts"), COLUMNS.values(), ids=COLUMNS)
def test_columns_of_numbers(values, digits, texts):
    assert aligned(values, digits) == texts


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8),
    st.sampled_from([2, 6]),
)
def test_a_column_keeps_its_digits_and_alignment(values, digits):
    texts = aligned(values, digits)
    largest = max(map(abs, values))
    for value, text in zip(values, texts, strict=True):
        assert abs(float(text) - value) <= 0.51 * 10 ** (1 - digits) * largest
    assert len({len(text.partition(".")[2].partition("e")[0]) for text in texts}) == 1


def terminal(width: int) -> tuple[Terminal, io.StringIO]:
    shown = io.StringIO()
    return Terminal(Console(file=shown, width=width)), shown


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_line_is_broken_between_words_and_continued_with_an_indent(width):
    page, shown = terminal(width)
    text = "  note: momentum saves memory when it is scarce, and needs a few more products than lanczos does"
    page.line(text)
    page.line("a\n\nb")
    first, *rest = shown.getvalue().splitlines()
    assert first.startswith("  note: ")
    assert all(line.startswith("    ") for line in rest[:-3])
    assert max(map(len, [first, *rest])) <= width
    assert " ".join(" ".join([first, *rest[:-3]]).split()) == text.strip()
    assert rest[-3:] == ["a", "", "b"]


def test_a_path_is_never_broken():
    page, shown = terminal(20)
    page.line("it is in /a/rather/long/path/to/some-place.py")
    assert "/a/rather/long/path/to/some-place.py" in shown.getvalue()


def test_markup_and_numbers_stay_as_they_are():
    page, shown = terminal(60)
    page.line("[bold]x[/bold] 1.5 :smile: 'text'")
    page.table(("[a]",), [("[b]",)])
    assert shown.getvalue().splitlines()[0] == "[bold]x[/bold] 1.5 :smile: 'text'"
    assert "[b]" in shown.getvalue()


@pytest.mark.parametrize("page", ["plain", "terminal"])
def test_numbers_are_aligned_right_and_text_left(page, capsys):
    rows = [("a", 1.0, None, "x"), ("bb", 10.25, 3, "yy")]
    on: Page = Plain()
    shown = io.StringIO()
    if page == "terminal":
        on, shown = terminal(60)
    on.table(("name", "value", "more", "word"), rows)
    text = shown.getvalue() or capsys.readouterr().out
    lines = [line.rstrip() for line in text.splitlines() if "─" not in line]
    ends = [
        [line.index(number) + len(number) for number in numbers]
        for line, numbers in zip(lines[1:], (["1.00", "-"], ["10.25", "3"]), strict=True)
    ]
    assert ends[0] == ends[1]
    assert lines[1].index("x") == lines[2].index("yy")
    assert all(line.startswith("  ") for line in lines)


def test_a_table_without_rows(capsys):
    Plain().table(("a", "b"), [])
    assert capsys.readouterr().out == "  a   b\n"
