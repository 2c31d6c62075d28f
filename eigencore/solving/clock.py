"""The clock of a run, which a run that is resumed continues where the earlier part of it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]


class RunClock:
    """The seconds since a run began, in this process and in those that it continues.

    Example:
        from eigencore.solving.clock import RunClock, clock, timed_by

        run = RunClock()
        with timed_by(run):
            run.advance_to(3600.0)
            print(clock()() >= 3600)
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began

    def advance_to(self, seconds: float) -> None:
        """Sets the clock to what it showed in the earlier part, unless it is later already."""
        self._began -= max(seconds - self(), 0.0)


_clock: ContextVar[Clock] = ContextVar("clock", default=lambda: time.monotonic())


def clock() -> Clock:
    """The clock of the run in this thread; outside a run, the monotonic clock of the system."""
    return _clock.get()


@contextmanager
def timed_by(run: Clock) -> Iterator[None]:
    """Inside the block, limits and results use this clock."""
    before = _clock.set(run)
    try:
        yield
    finally:
        _clock.reset(before)
