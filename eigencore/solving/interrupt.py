"""Ctrl-C and SIGTERM: a solve stops between two products, and never in the middle of a restart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Interruption:
    """Whether Ctrl-C was pressed."""

    pressed: bool = False


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Turns the first Ctrl-C into a flag; a second one has its usual effect.

    The previous handler is restored at the end. Outside the main thread Python delivers no signals, and this
    context does nothing.
    """
    flag = Interruption()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield flag
        return

    def note(signum: int, frame: object) -> None:
        flag.pressed = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def sigterm_as_interrupt() -> Iterator[list[int]]:
    """Makes SIGTERM act like Ctrl-C, unless it has a handler; yields a list that collects those received."""
    received: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield received
        return

    def interrupt(signum: int, frame: Any) -> None:
        received.append(signum)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)

    # A shell starts background jobs with SIGINT ignored, so there may be no handler to call.
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)
