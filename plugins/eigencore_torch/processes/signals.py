"""Signals that are delayed, so that they don't come between two parts of one exchange."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delays what Ctrl-C and SIGTERM do until the end of the context.

    A process that left an exchange halfway would leave the others waiting. Outside the main thread, where
    Python handles no signals, this context does nothing.
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
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived, frame in received:
            handlers[signal.Signals(arrived)](arrived, frame)
