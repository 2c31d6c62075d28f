"""Regenerates the blocks of output in the documentation: runs each page and writes what its blocks print now.

    python docs/outputs.py [PAGE ...]

A block that still shows what is printed, as tests/docs/test_code_blocks.py compares it, stays as it is, so
that times and versions do not change needlessly. A line "..." in a block stands for omitted lines: those
printed lines are kept that resemble the other lines of the block. Review the result with `git diff`.

docs/first_screen.py writes the first screen, and docs/reference.py writes docs/reference/.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import takewhile
from pathlib import Path

from pages import (
    BACKEND_PAGE,
    NUMBER,
    PAGES,
    PLUGIN_PAGE,
    ROOT,
    Block,
    Reader,
    assert_shows,
    blocks,
    isolated,
)
from pages import outputs as outputs_of

OMITTED = "..."
RULE = re.compile(r" *─+")  # below the header of a table, on a terminal only


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = [name for name in PAGES if name != "README.md"]
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="as in docs/tutorial.md; default: all")
    names = parser.parse_args().pages or known
    if unknown := set(names) - set(known):
        parser.error(f"not a page with output: {', '.join(sorted(unknown))}; pages are {', '.join(known)}")
    for name in names:
        text = regenerated(PAGES[name], printed_by(name))
        if text != PAGES[name]:
            (ROOT / name).write_text(text)
            print(f"{name}: changed")
    return 0


def printed_by(name: str) -> list[tuple[Block, str]]:
    """Runs a page in a folder of its own; every block of output with what is printed for it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        if name in (PLUGIN_PAGE, BACKEND_PAGE):
            reader = Reader(folder)
            followed = [(block, reader.follow(block)) for block in blocks(PAGES[name])]
            return [(block, printed) for block, printed in followed if block.language == "text"]
        with isolated(folder) as page:
            return list(outputs_of(name, page))


def regenerated(text: str, printed: Iterable[tuple[Block, str]]) -> str:
    """The page `text` in which every given block of output shows what was printed for it."""
    for block, output in sorted(printed, key=lambda one: one[0].line, reverse=True):
        try:
            assert_shows(block.code, output, f"line {block.line}")
        except AssertionError:
            lines = shortened(block.code.splitlines(), output.strip("\n").splitlines())
            code = "".join(f"{block.indent}{line}".rstrip() + "\n" for line in lines)
            text = text[: block.where.start] + code + text[block.where.stop :]
    return text


def shortened(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """The printed lines, without those that the shown lines omit with "...", and with their rules."""
    lines = [line for line in shown if not RULE.fullmatch(line)]
    places = alignment(lines, printed)
    headers = [places[i] for i in range(len(lines)) if followed_by_a_rule(i, shown)]
    marks = [i for i, line in enumerate(lines) if line.strip() == OMITTED]
    kept: list[str] = []
    end = 0
    for begin, stop in zip([-1, *marks], [*marks, len(lines)], strict=True):
        if begin >= 0:
            kept.append(lines[begin])
        first, last = span(places[begin + 1 : stop], end, len(printed))
        if begin < 0 < stop:  # the block does not begin with "..."
            first = 0
        if stop == len(lines) > begin + 1:  # nor end with it
            last = len(printed)
        for place in range(first, last):
            kept.append(printed[place])
            if place in headers:
                table = list(takewhile(str.strip, printed[place:]))
                kept.append("  " + "─" * (max(map(len, table)) - 2))
        end = last
    return kept


def followed_by_a_rule(index: int, shown: Sequence[str]) -> bool:
    """Whether a rule follows the shown line that has this index when rules are not counted."""
    places = [place for place, line in enumerate(shown) if not RULE.fullmatch(line)]
    after = places[index] + 1
    return after < len(shown) and bool(RULE.fullmatch(shown[after]))


def span(places: Sequence[int | None], begin: int, end: int) -> tuple[int, int]:
    """The printed lines, from `begin` to `end` at most, of shown lines that correspond to `places`."""
    if not places:
        return begin, begin
    known = [i for i, place in enumerate(places) if place is not None]
    if not known:
        raise SystemExit("a line of a block has no counterpart in what is printed; edit the block by hand")
    first, last = known[0], known[-1]
    start, stop = places[first], places[last]
    assert start is not None
    assert stop is not None
    return max(start - first, begin), min(stop + len(places) - last, end)


def alignment(shown: Sequence[str], printed: Sequence[str]) -> list[int | None]:
    """For each shown line the printed line that it corresponds to: in order, and as similar as possible."""
    table = [[0.0] * (len(printed) + 1) for _ in range(len(shown) + 1)]
    for i, line in enumerate(shown):
        for j, other in enumerate(printed):
            both = table[i][j] + weight(line, other)
            table[i + 1][j + 1] = max(table[i][j + 1], table[i + 1][j], both)
    places: list[int | None] = [None] * len(shown)
    i, j = len(shown), len(printed)
    while i and j:
        if table[i][j] == table[i - 1][j]:
            i -= 1
        elif table[i][j] == table[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            places[i] = j
    return places


def weight(shown: str, printed: str) -> float:
    """How much two corresponding lines count: similar ones most, blank ones little, "..." nothing."""
    if shown.strip() == OMITTED:
        return 0.0
    return similarity(shown, printed) ** 2 if shown.strip() else 0.1 * (not printed.strip())


@cache
def similarity(shown: str, printed: str) -> float:
    """How alike two lines are, from 0 to 1, whatever their numbers."""
    a, b = (re.sub(NUMBER, "0", " ".join(line.split())) for line in (shown, printed))
    return 1.0 if a == b else SequenceMatcher(None, a, b).ratio()


if __name__ == "__main__":
    sys.exit(main())
