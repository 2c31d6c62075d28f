"""The progress line on stderr, redrawn as the work continues, and omitted if stderr is not a terminal."""

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
    """A callback for the argument `progress` of `analyze`; the line is removed at the end."""
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
        if steps and news.matvecs < steps[-1].matvecs:  # a new solve, started by an analysis
            steps.clear()
        steps.append(news)
        if now - drawn > 1 / PER_SECOND:
            drawn = now
            _write(progress_line(steps, k, width))

    # Shown until the first product: on a large network, the checks before it take as long as a few products.
    draw("binding the problem: checks of the data, the loss, its derivatives and the weights")
    try:
        yield draw
    finally:
        _write("")


def progress_line(steps: Sequence[Step], k: int, width: int) -> str:
    """The progress of a solve for k pairs in at most `width` characters, with as many Ritz values as fit."""
    now = steps[-1]
    parts = [
        f"{now.matvecs:,.0f} product{'s' * (now.matvecs != 1)}",
        f"{now.converged} of {k} converged",
        *([f"worst estimated residual {now.worst:.2g} x threshold"] if (now.worst or 0) > 1 else []),
        f"{now.seconds:.0f} s",
    ]
    left = seconds_left(steps)
    if left is not None:
        parts[-1] += f", about {_rounded(left)} left"
    text = " · ".join(parts)[:width]
    between = " · "
    for value in now.values:
        longer = f"{text}{between}{value:.4g}"
        if len(longer) > width:
            break
        text, between = longer, " "
    return text


def seconds_left(steps: Sequence[Step]) -> float | None:
    """The time until the worst estimated residual is below its threshold; None if it is not predictable."""
    ahead = products_ahead(steps)
    return None if ahead is None else ahead * steps[-1].seconds / steps[-1].matvecs


def _rounded(seconds: float) -> str:
    """A time with one significant digit, because the estimate is no better than that."""
    size, unit = next(
        ((size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds > 1.5 * size), (1, "s")
    )
    return f"{float(f'{max(1.0, seconds / size):.1g}'):.0f} {unit}"


def _write(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
