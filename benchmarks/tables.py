"""Claim: the numbers of docs/benchmarks.md are those of benchmarks/results.

    python benchmarks/tables.py

Draws the tables from the results and puts them into the page, between its marks.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from records import read

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
OFF = 1e-3  # a product further than this from the one in float64 is not float32's rounding
OURS = "eigencore"
TOLD_BEFOREHAND = "known beforehand"


def product(record: Any) -> str:
    """A row a contestant, a column a network: how many gradients a product costs."""
    networks = record["networks"]
    names = next(iter(networks.values()))["products"]
    rows = [["", *networks], *([name, *_costs(networks.values(), name)] for name in names)]
    return _described(record) + "\n\n" + _table(rows)


def _costs(networks: Iterable[Any], name: str) -> list[str]:
    told = []
    for network in networks:
        row = network["products"][name]
        wrong = f"; **{100 * row['error']:.1g} % off**" if row["error"] > OFF else ""
        told.append(_range(row["ratio"]) + wrong)
    return told


def batches(record: Any) -> str:
    """A row a batch size, a column a network."""
    networks = record["networks"]
    sizes = sorted({int(size) for network in networks.values() for size in network["ratios"]})
    rows = [["samples in a batch", *networks]]
    for size in sizes:
        found = [network["ratios"].get(str(size)) for network in networks.values()]
        rows.append([str(size), *(_range(ratio) if ratio else "" for ratio in found)])
    return _described(record) + "\n\n" + _table(rows)


def top10(record: Any) -> str:
    """A table a network, and by how much `lanczos` is the faster."""
    parts = []
    for name, network in record["networks"].items():
        rows = [["", "products", "gradients", "CPU seconds", "largest relative residual", ""]]
        for contestant, row in network["contestants"].items():
            rows.append(
                [
                    contestant,
                    f"{row['products']:.0f}" if "products" in row else "",
                    _range(row["gradients"], 0),
                    f"{row['seconds']['median']:.1f}",
                    f"{row['residual']:.1e}" if "residual" in row else "",
                    row["verdict"],
                ]
            )
        parts.append(f"{name}: {network['description']}.\n\n{_table(rows)}\n\n{_fastest(network)}")
    return "\n\n".join(parts)


def _fastest(network: Any) -> str:
    """The peer that is right soonest without being told how, held against `lanczos`."""
    costs = {name: row["gradients"]["median"] for name, row in network["contestants"].items()}
    right = {
        name: cost
        for name, cost in costs.items()
        if not name.startswith(OURS)
        and TOLD_BEFOREHAND not in name
        and network["contestants"][name]["verdict"] == "reached"
    }
    if not right:
        return "No peer is right at settings that can be known without the answer."
    name = min(right, key=lambda name: right[name])
    times = right[name] / costs["eigencore lanczos"]
    return f"The fastest peer that is right without being told how: {name}, at {times:.2f} times `lanczos`."


def _described(record: Any) -> str:
    lines = []
    for name, network in record["networks"].items():
        milliseconds = 1e3 * network["gradient_seconds"]["median"]
        lines.append(f"- {name}: {network['description']}; a gradient takes {milliseconds:.0f} ms")
    return "\n".join(lines)


def _range(spread: Any, digits: int = 2) -> str:
    low, middle, high = (f"{spread[part]:.{digits}f}" for part in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


TABLES: dict[str, Callable[[Any], str]] = {"product": product, "batches": batches, "top10": top10}


def filled(page: str) -> str:
    """The page with every table drawn anew."""
    for name, draw in TABLES.items():
        record = read(name)
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = f"{begin}\n{draw(record)}\n\n{_machine(record)}\n{end}"
        page = re.sub(f"{begin}.*?{end}", lambda _, text=text: text, page, flags=re.DOTALL)
    return page


def _machine(record: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{record['processor']}, {record['threads']} thread, {record['dtype']}; {versions}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    PAGE.write_text(filled(PAGE.read_text()))


if __name__ == "__main__":
    main()
