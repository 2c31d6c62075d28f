"""What the shell around the command does to it: SIGTERM, and readers of its output that leave."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def termination() -> Iterator[list[int]]:
    """Makes SIGTERM act as Ctrl-C does at the time; what is yielded holds the signals that came."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def interrupt(signum: int, frame: Any) -> None:
        came.append(signum)
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)

    # A shell starts background jobs with SIGINT ignored: then there would be no handler to act as.
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, before)


def reader_is_gone() -> bool:
    """Whether who read our output has left, as `head` does. A broken pipe may be another one as well."""
    if not hasattr(select, "poll"):
        return True
    hung_up = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or no file at all
            hung_up.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in hung_up.poll(0))


def open_streams() -> None:
    """What the shell closed (`>&-`) goes nowhere; where an encoding lacks a character it shows another."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def unwritten() -> OSError | None:
    """Writes what is buffered. What can't be written goes nowhere, and why that is comes back."""
    why = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            why = why or error
    return why
