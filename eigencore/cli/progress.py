"""One line on stderr that is redrawn as the work goes on; nothing where stderr is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eigencore.results import Step

PER_SECOND = 10


@contextmanager
def progress() -> Iterator[Callable[[Step | str], None] | None]:
    """What `analyze` takes as `progress`; the line is gone afterwards."""
    if not sys.stderr.isatty():
        yield None
        return
    drawn = 0.0

    def draw(news: Step | str) -> None:
        nonlocal drawn
        now = time.monotonic()
        if isinstance(news, str) or now - drawn > 1 / PER_SECOND:
            drawn = now
            _write(line(news)[: shutil.get_terminal_size().columns - 1])

    try:
        yield draw
    finally:
        _write("")


def line(news: Step | str) -> str:
    if isinstance(news, str):
        return news
    left = "" if news.residual is None else f" · residual {news.residual:.1e}"
    return f"{news.matvecs:,.4g} products · {news.converged} converged{left} · {news.seconds:.0f} s"


def _write(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
