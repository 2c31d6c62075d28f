"""What the README says of the peers' cost stands in docs/benchmarks.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text().partition("## Beside others\n")[2].partition("\n## ")[0]
MEASURED = (ROOT / "docs" / "benchmarks.md").read_text()
PEERS = ("eigencore", "hessian-eigenthings", "PyHessian", "curvlinops")


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)
    ]


def number(cell: str) -> str:
    """The first one of a cell, as it is written."""
    found = re.match(r"[\d.]+", cell)
    return found[0] if found else ""


def product(peer: str, column: int) -> str:
    """A product over all data in the usual batches, of the table of products."""
    table = MEASURED.partition("<!-- product -->")[2].partition("<!-- end of product -->")[0]
    name = "eigencore, graph kept" if peer == "eigencore" else peer
    return next(number(row[column]) for row in rows(table) if row[0] == name)


def ten(peer: str, part: int) -> str:
    """The fewest gradients to ten right eigenvalues, of those that are not told how many steps will do."""
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
        ("a product, digits CNN", [product(peer, 2) for peer in PEERS]),
        ("a product, MLP of 670,000 weights", [product(peer, 1) for peer in PEERS]),
        ("ten right eigenvalues, digits CNN", [ten(peer, 0) for peer in PEERS]),
        ("ten right eigenvalues, MLP", [ten(peer, 1) for peer in PEERS]),
    ],
)
def test_a_row_is_what_was_measured(row: str, measured: list[str]) -> None:
    told = next(cells[1:] for cells in rows(README) if cells[0] == row)
    assert ["" if cell == "not in 60 s" else number(cell) for cell in told] == measured


def test_defaults_are_right_where_they_were() -> None:
    told = next(cells[1:] for cells in rows(README) if cells[0] == "with its defaults these are right")
    right = []
    for peer in PEERS:
        own = [row for row in rows(MEASURED) if row[0].startswith(peer) and "defaults" in row[0]]
        own = own or [row for row in rows(MEASURED) if row[0] == "eigencore lanczos"]
        assert len(own) == 2
        right.append(all(row[-1] == "reached" for row in own))
    assert told == ["yes" if one else "no" for one in right]


def test_the_versions_are_those_measured() -> None:
    for name, version in re.findall(r"(hessian-eigenthings|PyHessian|curvlinops) (\d\S*)", README):
        package = "curvlinops-for-pytorch" if name == "curvlinops" else name
        assert f"{package} {version}" in MEASURED
