"""Ctrl-C as a flag, so that a solve stops between two products and never in the middle of a restart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


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
