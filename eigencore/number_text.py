"""Numbers as text: single values, columns with aligned decimal points, and the cells of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def as_text(value: Any) -> str:
    """A value as short text: yes or no, a number with six digits, - for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def aligned(values: Sequence[float], digits: int) -> list[str]:
    """A column of numbers as text, with their decimal points aligned.

    The largest number gets at least `digits` significant digits and the smallest at least half as many. If
    that makes the numbers too long, all are in scientific notation. Trailing zeros that all numbers share
    are removed.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return [f"{value:g}" for value in values]
    large, small = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    decimals = max(0, digits - 1 - large, digits // 2 - 1 - small)
    if max(decimals, large) > digits + 3 or large - small > digits:
        return [f"{value:.{digits - 1}e}" for value in values]
    texts = [f"{value:.{decimals}f}" for value in values]
    spare = min(len(text) - len(text.rstrip("0")) for text in texts) if decimals else 0
    return [text[: len(text) - spare].rstrip(".") if spare else text for text in texts]


def cells_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> tuple[list[list[str]], list[bool]]:
    """The cells of a table as text, and for each column whether it consists of numbers."""
    texts = [_texts(column) for column in zip(*rows, strict=True)]
    if not texts:
        return [], [False] * len(columns)
    cells = [list(row) for row in zip(*texts, strict=True)]
    return cells, [all(map(_is_number, column)) for column in texts]


def _texts(column: Sequence[Any]) -> list[str]:
    """A column as text. All floats get the same number of decimals, which aligns their decimal points."""
    texts = [as_text(value) for value in column]
    fixed = [isinstance(value, float) and "e" not in text for value, text in zip(column, texts, strict=True)]
    fractions = [text.partition(".")[2] for text, is_fixed in zip(texts, fixed, strict=True) if is_fixed]
    decimals = max(map(len, fractions), default=0)
    return [
        f"{value:.{decimals}f}" if is_fixed else text
        for value, text, is_fixed in zip(column, texts, fixed, strict=True)
    ]


def _is_number(text: str) -> bool:
    try:
        float(text.removeprefix("<"))
    except ValueError:
        return text == "-"
    return True
