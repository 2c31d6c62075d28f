"""The command and its shell: closed streams, and pipes whose reader has left."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator

from eigencore.processes import is_first


@contextlib.contextmanager
def only_first_prints() -> Iterator[None]:
    """Discards what this process prints on stdout if it is not the first one of a command."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        yield


def reader_has_left() -> bool:
    """Whether the reader of our output has left, as `head` does. A BrokenPipeError may have other causes."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed stream, or one that is not a file
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def prepare_streams() -> None:
    """Discards output to streams that the shell closed (`>&-`); replaces unencodable characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def flush_streams() -> OSError | None:
    """Flushes stdout and stderr. Output that cannot be written is discarded, and the error is returned."""
    first = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            first = first or error
    return first
