"""What a command shows on stderr while it works: a line that is redrawn; without a terminal, one a minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eigencore.cli.log_file import log_file
from eigencore.news import rounded_time
from eigencore.processes import is_first
from eigencore.results import Step
from eigencore.solving import products_ahead

if TYPE_CHECKING:
    from eigencore.news import News, Progress

PER_SECOND = 10  # how often the line is redrawn at most
EVERY = 60.0  # seconds between plain lines
BETWEEN = " · "


@contextmanager
def progress(k: int, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """A function for the argument `progress` of the library. It also writes the news to the file of --log.

    On a terminal, the line is removed at the end. Without one, nothing is printed in the first minute.

    Args:
        k: the number of pairs of the solve whose Steps are shown.
        clock: the time in seconds.

    Raises:
        UsageError: the file of --log can't be written.
    """
    shown = RedrawnLine(k, clock) if sys.stderr.isatty() else MinuteLines(k, clock)
    with log_file() as log:
        first = is_first()

        def tell(news: News) -> None:
            if log is not None:
                log(news)
            if first:
                shown.tell(news)

        try:
            yield tell
        finally:
            if first:
                shown.end()


class NewsLine:
    """News as one line of text; Steps are put together with those before them."""

    def __init__(self, k: int):
        self._k = k
        self._steps: list[Step] = []

    def add(self, news: News) -> None:
        if not isinstance(news, Step):
            return
        if self._steps and news.matvecs < self._steps[-1].matvecs:  # another solve
            self._steps.clear()
        self._steps.append(news)

    def text(self, news: News, width: int) -> str:
        """The news that was added last, in at most `width` characters."""
        if isinstance(news, Step):
            return progress_line(self._steps, self._k, width)
        return _fitting(str(news).split(BETWEEN), width)


class RedrawnLine:
    """The last line of a terminal."""

    def __init__(self, k: int, clock: Callable[[], float]):
        self._line, self._clock, self._drawn = NewsLine(k), clock, -1.0

    def tell(self, news: News) -> None:
        self._line.add(news)
        now = self._clock()
        if isinstance(news, str) or now - self._drawn > 1 / PER_SECOND:
            self._drawn = now
            self._write(self._line.text(news, shutil.get_terminal_size().columns - 1))

    def end(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


class MinuteLines:
    """Plain lines for a file or a pipe: the news of the moment, once a minute."""

    def __init__(self, k: int, clock: Callable[[], float]):
        self._line, self._clock, self._began = NewsLine(k), clock, clock()
        self._due = self._began + EVERY

    def tell(self, news: News) -> None:
        self._line.add(news)
        now = self._clock()
        if now >= self._due:
            self._due = now + EVERY
            minutes = int((now - self._began) // 60)
            print(f"after {minutes} min: {self._line.text(news, sys.maxsize)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        pass


def progress_line(steps: Sequence[Step], k: int, width: int) -> str:
    """The progress of a solve for k pairs in at most `width` characters, with as many Ritz values as fit."""
    now, left = steps[-1], seconds_left(steps)
    searching = now.converged == k and len(steps) > 1 and steps[-2].converged == k
    taken = f"{now.seconds:.0f} s"
    parts = [
        f"{now.matvecs:,.0f} product{'s' * (now.matvecs != 1)}",
        f"{now.converged} of {k} converged{', searching for missed eigenvalues' * searching}",
        taken if left is None else f"{taken}, about {rounded_time(left)} left",
        *([f"residual {now.worst:.2g} x threshold"] if (now.worst or 0) > 1 else []),
    ]
    text = _fitting(parts, width)
    between = BETWEEN
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


def _fitting(parts: Sequence[str], width: int) -> str:
    """As many of the parts as fit into the width, and the beginning of the first one if none does."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + len(BETWEEN) + len(part) > width:
            break
        text = f"{text}{BETWEEN}{part}"
    return text[:width]
