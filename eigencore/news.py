"""News of a run: what it is about to do, how much of it is done, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from eigencore.errors import Culprit, attach
from eigencore.results import Step


@dataclass(frozen=True)
class WorkDone:
    """How much of a piece of work is done, such as the samples that were attacked.

    Attributes:
        what: the work, such as "robustness: pgd, eps 0.1".
        done: how many units are done.
        total: how many there are; None if that is not known.
        unit: what is counted, in the plural, such as "samples".
        seconds: the time since the work began.
        detail: what was done last, such as the name of a network; empty if there is nothing to add.

    Example:
        from eigencore import WorkDone

        print(WorkDone("pgd, eps 0.1", 256, 1024, "samples", 5.0))
    """

    what: str
    done: int
    total: int | None
    unit: str
    seconds: float
    detail: str = ""

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at the mean rate so far; None if that is not known."""
        if self.total is None or not 0 < self.done < self.total:
            return None
        return self.seconds * (self.total - self.done) / self.done

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        text = f"{self.what}: {self.done:,}{of} {self.unit}"
        if self.done:
            text += f" · {self.seconds:.0f} s"
        if self.seconds_left is not None:
            text += f", about {rounded_time(self.seconds_left)} left"
        return f"{text} · {self.detail}" if self.detail else text


News: TypeAlias = Step | WorkDone | str
Progress: TypeAlias = Callable[[News], None]

_listener: ContextVar[Progress | None] = ContextVar("listener", default=None)


def report(news: News) -> None:
    """Passes news to the progress function of the run in this thread, if there is one.

    Parts without a `progress` argument use it, such as a backend before a check that takes long. It raises
    nothing: an exception of the progress function ends the run later.

    Example:
        from eigencore.news import report, reported_to

        with reported_to(print):
            report("comparing the derivatives with differences of the loss")
    """
    listener = _listener.get()
    if listener is not None:
        listener(news)


@contextmanager
def reported_to(progress: Progress | None) -> Iterator[None]:
    """What is reported inside the block goes to a progress function; None: to nobody.

    Raises:
        BaseException: the first exception of the function, as it is, at the end of the block: what reports
            may catch exceptions of the code that it calls. The function is then called no more.
    """
    raised: list[BaseException] = []

    def listen(news: News) -> None:
        if progress is None or raised:
            return
        try:
            progress(news)
        except KeyboardInterrupt:  # which nobody catches
            raise
        except BaseException as error:
            attach(error, culprit=Culprit.CALLBACK)
            raised.append(error)

    before = _listener.set(listen)
    try:
        yield
    finally:
        _listener.reset(before)
    if raised:
        raise raised[0]


def counter(progress: Progress | None, what: str, total: int | None, unit: str) -> Callable[..., None]:
    """A function that reports how much is done, called with the number of units; 0 is reported at once.

    Args:
        progress: the function that is told; None: nobody.
        what, total, unit: as for WorkDone.

    Returns:
        done(count, detail="").

    Example:
        from eigencore.news import counter

        done = counter(print, "trace", 8, "random vectors")
        done(4)
    """
    began = time.monotonic()

    def done(count: int, detail: str = "") -> None:
        if progress is not None:
            progress(WorkDone(what, count, total, unit, time.monotonic() - began, detail))

    done(0)
    return done


def rounded_time(seconds: float) -> str:
    """A time with one significant digit, because an estimate is no better than that."""
    size, unit = next(
        ((size, unit) for size, unit in ((3600, "h"), (60, "min")) if seconds > 1.5 * size), (1, "s")
    )
    return f"{float(f'{max(1.0, seconds / size):.1g}'):.0f} {unit}"
