"""Claim: the numbers in the pages of docs/ are those of benchmarks/results/.

    python benchmarks/tables.py

Generates the tables from the results and writes them into their pages, between the marks.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from records import read

DOCS = Path(__file__).parents[1] / "docs"
LARGE_ERROR = 1e-3  # a larger relative error of a product is not due to rounding in float32
OURS = "eigencore"
KNOWN_BEFOREHAND = "known beforehand"
MOST_POINTS, MOST_PERCENT = 1.0, 3.0  # that an attack may be behind its counterpart


def product(record: Any) -> str:
    """The cost of a product in gradients: a row for each contestant, a column for each network."""
    networks = record["networks"]
    names = dict.fromkeys(name for network in networks.values() for name in network["products"])
    rows = [["", *networks], *([name, *_costs(networks.values(), name)] for name in names)]
    return _described(record) + "\n\n" + _table(rows)


def _costs(networks: Iterable[Any], name: str) -> list[str]:
    cells = []
    for network in networks:
        row = network["products"].get(name)
        if row is None:
            cells.append("failed")
            continue
        wrong = f"; **error {100 * row['error']:.1g} %**" if row["error"] > LARGE_ERROR else ""
        cells.append(_range(row["ratio"]) + wrong)
    return cells


def batches(record: Any) -> str:
    """The cost of a product in gradients: a row for each batch size, a column for each network."""
    networks = record["networks"]
    sizes = sorted({int(size) for network in networks.values() for size in network["ratios"]})
    rows = [["samples in a batch", *networks]]
    for size in sizes:
        found = [network["ratios"].get(str(size)) for network in networks.values()]
        rows.append([str(size), *(_range(ratio) if ratio else "" for ratio in found)])
    return _described(record) + "\n\n" + _table(rows)


def routes(record: Any) -> str:
    """The cost of a product in gradients by route, the seconds until the first one, and when it pays."""
    networks = record["networks"]
    names = dict.fromkeys(name for network in networks.values() for name in network["routes"])
    rows = [["", *networks]]
    for name in names:
        found = [network["routes"].get(name) for network in networks.values()]
        rows.append([name, *("" if row is None else _route(row) for row in found)])
    return _described(record) + "\n\n" + _table(rows)


def _route(row: Any) -> str:
    pays = "" if row["pays_after"] is None else f", pays after {row['pays_after']:,}"
    return f"{_range(row['ratio'])}; {row['first_product_seconds']:.2g} s{pays}"


def top10(record: Any) -> str:
    """A table for each network, and the ratio of the costs of the fastest peer and of `lanczos`."""
    parts = []
    for name, network in record["networks"].items():
        clock = "CPU seconds" if record["device"] == "cpu" else "seconds"
        rows = [["", "products", "gradients", clock, "largest relative residual", ""]]
        for contestant, row in network["contestants"].items():
            rows.append(
                [
                    contestant,
                    f"{row['products']:.0f}" if "products" in row else "",
                    _range(row["gradients"], 0),
                    f"{row['seconds']['median']:.{1 if record['device'] == 'cpu' else 2}f}",
                    f"{row['residual']:.1e}" if "residual" in row else "",
                    row["verdict"],
                ]
            )
        parts.append(f"{name}: {network['description']}.\n\n{_table(rows)}\n\n{_fastest(network)}")
    return "\n\n".join(parts)


def robustness(record: Any) -> str:
    """A section for each network: the verdict, and the tables of distances and eigenvalues."""
    parts = []
    for name, study in record["networks"].items():
        above = ", ".join(
            f"{radius} {'-' if share is None else f'{100 * share:.1f} %'}"
            for radius, share in study["above the distance"].items()
        )
        # The summary repeats the others without intervals.
        tables = [
            one
            for one in study["tables"].values()
            if {"Spearman", "error %", "finding"} & {*one["columns"]}
            and not {"Spearman", "finding"} <= {*one["columns"]}
        ]
        rows = [[[*table["columns"]], *table["rows"]] for table in tables]
        drawn = "\n\n".join(
            _table([["" if cell is None else f"{cell}" for cell in row] for row in table]) for table in rows
        )
        parts.append(
            f"### {name}\n\n{study['description']}. {study['title']}.\n\n> {study['verdict']}\n\n{drawn}\n\n"
            f"Percentage of samples whose radius is larger than the distance found by the attack: {above}."
        )
    return "\n\n".join(parts)


def attacks(record: Any) -> str:
    """Two tables for each network, of accuracies and of distances, and a table of costs."""
    parts = []
    for name, network in record["networks"].items():
        head = ["% correct at eps (Linf)", *(f"{eps:g}" for eps in record["eps"]), "ms per image"]
        strong = [
            [attack, *(f"{100 * left:.1f}" for left in row["accuracy"]), f"{row['milliseconds']:.1f}"]
            for attack, row in network["strength"].items()
        ]
        near = [
            [attack, f"{row['median']:.4f}", f"{row['mean']:.4f}", f"{row['milliseconds']:.1f}"]
            for attack, row in network["nearness"].items()
        ]
        right = f"{record['images']} images, {100 * network['clean']:.1f} % of them correct without an attack"
        parts += [
            f"### {name}\n\n{network['description']}; {right}.",
            _table([head, *strong]),
            _table([["smallest L2 perturbation found", "median", "mean", "ms per image"], *near]),
        ]
    costs = [[attack, _range(ratio)] for attack, ratio in record["cost"].items()]
    parts += [
        "### Cost at equal steps",
        _table([["on demo:digits", "CPU time over foolbox's"], *costs]),
    ]
    return "\n\n".join(parts)


def attack_counterparts(record: Any) -> str:
    """For each network, accuracies and distances beside those of the counterparts."""
    parts, behind = [], []
    for name, network in record["networks"].items():
        parts.append(f"**{name}**: {network['description']}; {record['images']} images.")
        strong = [
            ["% correct at eps", "", "ours", "theirs", "ours - theirs (seeds)", "passes", "ms per image"]
        ]
        for norm, part in network["accuracies"].items():
            for label, row in part["attacks"].items():
                for eps, found in row["eps"].items():
                    gap = found["ours"] - found["theirs"]
                    behind.append((gap / MOST_POINTS, f"{label} on {name}, {norm} {eps}: {gap:+.1f} points"))
                    strong.append(
                        [
                            _pair(label, row),
                            f"{norm} {eps}",
                            *(f"{found[who]:.1f}" for who in ("ours", "theirs")),
                            f"{gap:+.1f} ± {found['error']:.1f} ({part['seeds']})",
                            *_costs_of(row),
                        ]
                    )
        near = [["median distance", "", "ours", "theirs", "ratio of each image", "passes", "ms per image"]]
        for norm, attacks in network["distances"].items():
            for label, row in attacks.items():
                far = 100 * (row["ours"] / row["theirs"] - 1)
                behind.append((far / MOST_PERCENT, f"{label} on {name}, {norm}: {far:+.1f} %"))
                near.append(
                    [
                        _pair(label, row),
                        norm,
                        *(f"{row[who]:.4f}" for who in ("ours", "theirs")),
                        f"{row['ratio']:.3f}",
                        *_costs_of(row),
                    ]
                )
        parts += [_table(strong), _table(near)]
    worst = max(behind)[1]
    return "\n\n".join([f"The row in which ours is furthest behind: {worst}.", *parts])


def smallest_perturbations(record: Any) -> str:
    """The excess over the smallest distance known, a row for each set of attacks, and its cost."""
    networks = record["networks"]
    head = ["mean excess, largest excess, %", *networks, "passes", "ms per image"]
    rows = [head]
    for label in next(iter(networks.values()))["rows"]:
        found = [network["rows"][label] for network in networks.values()]
        rows.append(
            [
                label,
                *(f"{row['mean']:.2f}, {row['largest']:.1f}" for row in found),
                _between([row["forward"] for row in found]),
                _between([row["milliseconds"] for row in found]),
            ]
        )
    return _table(rows)


def _between(numbers: list[float]) -> str:
    low, high = f"{min(numbers):.0f}", f"{max(numbers):.0f}"
    return low if low == high else f"{low} to {high}"


def _pair(label: str, row: Any) -> str:
    return label if label == row["counterpart"] else f"{label}; {row['counterpart']}"


def _costs_of(row: Any) -> list[str]:
    if "cost" not in row:
        return ["", ""]
    ours, theirs = row["cost"]["ours"], row["cost"]["theirs"]
    return [
        f"{ours['forward']:.0f}; {theirs['forward']:.0f}",
        f"{ours['milliseconds']:.1f}; {theirs['milliseconds']:.1f}",
    ]


def _fastest(network: Any) -> str:
    """The fastest peer with a correct answer, compared with `lanczos`."""
    costs = {name: row["gradients"]["median"] for name, row in network["contestants"].items()}
    right = {
        name: cost
        for name, cost in costs.items()
        if not name.startswith(OURS)
        and KNOWN_BEFOREHAND not in name
        and network["contestants"][name]["verdict"] == "reached"
    }
    if not right:
        return "No peer gives a correct answer with settings that can be known in advance."
    name = min(right, key=lambda name: right[name])
    times = right[name] / costs["eigencore lanczos"]
    return (
        "The fastest peer with a correct answer and without settings known beforehand: "
        f"{name}, at {times:.2f} times the cost of `lanczos`."
    )


def _described(record: Any) -> str:
    lines = []
    for name, network in record["networks"].items():
        milliseconds = 1e3 * network["gradient_seconds"]["median"]
        lines.append(f"- {name}: {network['description']}; a gradient takes {milliseconds:.3g} ms")
    return "\n".join(lines)


def _range(spread: Any, digits: int = 2) -> str:
    low, middle, high = (f"{spread[part]:.{digits}f}" for part in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "product": ("benchmarks.md", product),
    "batches": ("benchmarks.md", batches),
    "top10": ("benchmarks.md", top10),
    "routes-gpu": ("benchmarks.md", routes),
    "product-gpu": ("benchmarks.md", product),
    "top10-gpu": ("benchmarks.md", top10),
    "robustness": ("robustness.md", robustness),
    "attacks": ("attacks.md", attacks),
    "attack_counterparts": ("attacks.md", attack_counterparts),
    "smallest_perturbations": ("attacks.md", smallest_perturbations),
}
PAGES = {name: (DOCS / name) for name, _ in TABLES.values()}


def filled(page: str, name: str) -> str:
    """The page of that name with every table regenerated."""
    for table, (where, draw) in TABLES.items():
        if where == name:
            record = read(table)
            begin, end = f"<!-- {table} -->", f"<!-- end of {table} -->"
            text = f"{begin}\n{draw(record)}\n\n{_machine(record)}\n{end}"
            page = re.sub(f"{begin}.*?{end}", lambda _, text=text: text, page, flags=re.DOTALL)
    return page


def _machine(record: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    card = "" if record["device"] == "cpu" else f"{record['device']}; "
    return f"{card}{record['processor']}, {record['threads']} thread, {record['dtype']}; {versions}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.parse_args()
    for name, path in PAGES.items():
        path.write_text(filled(path.read_text(), name))


if __name__ == "__main__":
    main()
