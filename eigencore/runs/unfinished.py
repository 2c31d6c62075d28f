"""A folder with a run that is in progress, or that was killed: its lock, its arguments and its journal.

While a run works, its folder has a `journal` and, if the command started it, `run.toml` with its arguments in
the form of `--config`. Both are removed once the run has ended and is saved: a folder with a journal holds an
unfinished run, beside which there may be the finished one that it will replace.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from eigencore.errors import UsageError
from eigencore.runs.folder import CONFIG, JOURNAL, TEMPORARY, make_folder
from eigencore.runs.journal import product_count
from eigencore.runs.journal_file import create_journal, read_records

try:
    import fcntl
except ImportError:  # Windows, where a folder is not locked
    fcntl = None  # type: ignore[assignment]

LOCK = f"{TEMPORARY}lock"
_held: dict[tuple[Path, int], int] = {}  # how often a thread holds the lock of a folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes and threads from running in the folder, which must exist.

    The lock is one of the operating system, which releases it when the process ends, however it ends.

    Raises:
        UsageError: another run holds it.
    """
    key = folder.resolve(), threading.get_ident()
    if fcntl is None or key in _held:
        _held[key] = _held.get(key, 0) + 1
        try:
            yield
        finally:
            _held[key] -= 1
            if not _held[key]:
                del _held[key]
        return
    path = folder / LOCK
    descriptor = _acquire(path)
    _held[key] = 1
    try:
        yield
    finally:
        del _held[key]
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """The descriptor of the locked file, which says who holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise UsageError(
                f"the folder {path.parent} is in use by {holder}",
                hint="Wait until that run has ended, or choose another folder.",
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # it was removed by the run that held it, between the two calls
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # a full disk
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
    return descriptor


def wait_until_free(folder: Path, seconds: float) -> None:
    """Waits until no other process runs in the folder, which need not exist, but no longer than this."""
    until = time.monotonic() + seconds
    while _is_held(folder / LOCK) and time.monotonic() < until:
        time.sleep(0.2)


def _is_held(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file, or there are no locks
        return False
    return False


def is_unfinished(folder: Path) -> bool:
    """Whether the folder holds a run that has not ended."""
    return os.path.isfile(folder / JOURNAL)


def refuse_unfinished(folder: Path) -> None:
    """Raises UsageError if the folder holds an unfinished run with products, which would be lost."""
    if not is_unfinished(folder):
        return
    try:
        with open(folder / JOURNAL, "rb") as file:
            products = product_count(read_records(file))
    except OSError as error:
        raise UsageError(f"{folder / JOURNAL} can't be read: {error.strerror}") from error
    if products:
        raise UsageError(
            f"{folder} holds an unfinished run with {products:,} product{'s' * (products != 1)}",
            hint=f"Continue it with `eigen analyze --resume {folder}`, or with analyze(..., resume=True). "
            f"Otherwise remove {folder / JOURNAL}, or choose another folder.",
        )


def begin(folder: Path, config: str | None = None) -> None:
    """Begins a run in a folder whose lock is held: an empty journal, and the arguments if they are given.

    Raises:
        UsageError: the folder holds an unfinished run, or can't be written to.
    """
    refuse_unfinished(folder)
    make_folder(folder)
    try:
        (folder / CONFIG).unlink(missing_ok=True)  # with the new journal, it would be of another run
        create_journal(folder / JOURNAL)
        if config is not None:
            temporary = folder / f"{TEMPORARY}{os.getpid()}-{CONFIG}"
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(config)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / CONFIG)
    except OSError as error:
        raise UsageError(f"the folder {folder} can't be written to: {error.strerror}") from error


def end(folder: Path) -> None:
    """Removes what is only needed to resume the run, which has ended and is saved."""
    with contextlib.suppress(OSError):
        (folder / JOURNAL).unlink(missing_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)


def abandon(folder: Path) -> None:
    """Removes a run that was found to be invalid, unless it has made products."""
    with contextlib.suppress(UsageError):
        refuse_unfinished(folder)
        end(folder)
