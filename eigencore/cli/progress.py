"""One line on stderr that is redrawn as the work goes on; nothing where stderr is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from eigencore.results import Step
from eigencore.solving import products_ahead

PER_SECOND = 10


@contextmanager
def progress(k: int) -> Iterator[Callable[[Step | str], None] | None]:
    """What `analyze` takes as `progress`; the line is gone afterwards."""
    if not sys.stderr.isatty():
        yield None
        return
    steps: list[Step] = []
    drawn = 0.0

    def draw(news: Step | str) -> None:
        nonlocal drawn
        now, width = time.monotonic(), shutil.get_terminal_size().columns - 1
        if isinstance(news, str):
            _write(news[:width])
            return
        if steps and news.matvecs < steps[-1].matvecs:  # another solve, of an analysis
            steps.clear()
        steps.append(news)
        if now - drawn > 1 / PER_SECOND:
            drawn = now
            _write(line(steps, k, width))

    try:
        yield draw
    finally:
        _write("")


def line(steps: Sequence[Step], k: int, width: int) -> str:
    """Where a solve for k pairs is, in at most `width` characters: of its Ritz values as many as fit."""
    now = steps[-1]
    parts = [
        f"{now.matvecs:,.0f} product{'s' * (now.matvecs != 1)}",
        f"{now.converged} of {k} converged",
        *([] if now.worst is None or now.worst <= 1 else [f"worst residual {now.worst:.2g} x what passes"]),
        f"{now.seconds:.0f} s",
    ]
    left = seconds_left(steps)
    if left is not None:
        parts[-1] += f", about {_roughly(left)} left"
    text = " · ".join(parts)[:width]
    between = " · "
    for value in now.values:
        longer = f"{text}{between}{value:.4g}"
        if len(longer) > width:
            break
        text, between = longer, " "
    return text


def seconds_left(steps: Sequence[Step]) -> float | None:
    """How long until the worst residual passes; None: nothing shows it."""
    ahead = products_ahead(steps)
    return None if ahead is None else ahead * steps[-1].seconds / steps[-1].matvecs


def _roughly(seconds: float) -> str:
    """One digit: the estimate has no more."""
    size, unit = next(
        ((size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds > 1.5 * size), (1, "s")
    )
    return f"{float(f'{max(1.0, seconds / size):.1g}'):.0f} {unit}"


def _write(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
