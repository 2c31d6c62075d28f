"""The numbers in the README's comparison are those of docs/benchmarks.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text().partition("## How it compares\n")[2].partition("\n## ")[0]
MEASURED = (ROOT / "docs" / "benchmarks.md").read_text().partition("\n## On a GPU")[0]
PEERS = ("eigencore", "hessian-eigenthings", "PyHessian", "curvlinops")


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)
    ]


def number(cell: str) -> str:
    """The first number of a cell, as it is written."""
    found = re.match(r"[\d.]+", cell)
    return found[0] if found else ""


def product(peer: str, column: int) -> str:
    """The cost of a product over all data in the usual batches, from the table of products."""
    table = MEASURED.partition("<!-- product -->")[2].partition("<!-- end of product -->")[0]
    name = "eigencore, graph kept" if peer == "eigencore" else peer
    return next(number(row[column]) for row in rows(table) if row[0] == name)


def ten(peer: str, part: int) -> str:
    """The fewest gradients to ten correct eigenvalues, except with a number of steps known beforehand."""
    table = MEASURED.partition("<!-- top10 -->")[2].split("The fastest peer")[part]
    reached = [
        int(number(row[2]))
        for row in rows(table)
        if row[0].startswith(peer) and row[-1] == "reached" and "known beforehand" not in row[0]
    ]
    return str(min(reached)) if reached else ""


@pytest.mark.parametrize(
    ("row", "measured"),
    [
        ("Hessian-vector product, digits CNN", [product(peer, 2) for peer in PEERS]),
        ("Hessian-vector product, MLP of 670,000 weights", [product(peer, 1) for peer in PEERS]),
        ("ten correct eigenvalues, digits CNN", [ten(peer, 0) for peer in PEERS]),
        ("ten correct eigenvalues, MLP", [ten(peer, 1) for peer in PEERS]),
    ],
)
def test_a_row_is_what_was_measured(row: str, measured: list[str]) -> None:
    shown = next(cells[1:] for cells in rows(README) if cells[0] == row)
    assert ["" if cell == "not in 60 s" else number(cell) for cell in shown] == measured


def test_defaults_are_called_correct_where_they_were() -> None:
    shown = next(cells[1:] for cells in rows(README) if cells[0] == "correct with default settings")
    correct = []
    for peer in PEERS:
        own = [row for row in rows(MEASURED) if row[0].startswith(peer) and "defaults" in row[0]]
        own = own or [row for row in rows(MEASURED) if row[0] == "eigencore lanczos"]
        assert len(own) == 2
        correct.append(all(row[-1] == "reached" for row in own))
    assert shown == ["yes" if one else "no" for one in correct]


def test_the_versions_are_those_measured() -> None:
    for name, version in re.findall(r"(hessian-eigenthings|PyHessian|curvlinops) (\d\S*)", README):
        package = "curvlinops-for-pytorch" if name == "curvlinops" else name
        assert f"{package} {version}" in MEASURED
