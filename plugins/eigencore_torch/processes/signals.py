"""Signals that are delayed between two parts of one exchange, or that end a process that waits for others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delays what Ctrl-C and SIGTERM do until the end of the context.

    A process that left an exchange halfway would leave the others waiting. If the exchange fails, they are
    dropped: its error says more, as when a launcher ends all processes because one of them has died. Outside
    the main thread, where Python handles no signals, this context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: received.append((number, frame)))
    try:
        yield
    except BaseException:
        received.clear()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived, frame in received:
            handlers[signal.Signals(arrived)](arrived, frame)


@contextmanager
def fatal_signals() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM end this process at once until the end of the context.

    PyTorch waits for other processes without handling signals of Python, and nothing has been computed yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
