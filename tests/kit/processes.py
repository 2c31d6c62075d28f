"""Runs a function in several processes that are a group of torch.distributed (gloo)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# A process of this kind is forked from one that has imported PyTorch and computed nothing: it starts at once,
# and no lock or thread of the tests is copied.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "eigencore_torch.backend", "numpy"])


@dataclass
class Outcome:
    """What became of one process.

    Attributes:
        value: what the function returned.
        error: the exception that it raised, as "Type: text"; None if it raised none.
        trace: the traceback of that exception.
        code: the exit code, negative for a signal.
    """

    value: Any = None
    error: str | None = None
    trace: str = ""
    code: int | None = None


def outcomes(function: Callable[..., Any], count: int, *arguments: Any, seconds: float = 90) -> list[Outcome]:
    """The outcome of function(rank, *arguments) in each of several processes, in the order of their ranks.

    Raises:
        AssertionError: a process is still running after so many seconds. It is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'store'}"
        pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(count)]
        started = [
            _CONTEXT.Process(target=_run, args=(sender, function, rank, count, store, arguments))
            for rank, (_, sender) in enumerate(pipes)
        ]
        for process, (_, sender) in zip(started, pipes, strict=True):
            process.start()
            sender.close()
        until = time.monotonic() + seconds
        found = [_received(receiver, until) for receiver, _ in pipes]
        hung = []
        for rank, process in enumerate(started):
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                hung.append(rank)
                process.kill()
                process.join()
            found[rank].code = process.exitcode
        assert not hung, f"processes {hung} were still running after {seconds} s: {found}"
        return found


def values(function: Callable[..., Any], count: int, *arguments: Any, seconds: float = 90) -> list[Any]:
    """What function(rank, *arguments) returns in each of several processes; none may fail."""
    found = outcomes(function, count, *arguments, seconds=seconds)
    for rank, one in enumerate(found):
        assert (one.error, one.code) == (None, 0), f"process {rank}: {one.error} {one.code}\n{one.trace}"
    return [one.value for one in found]


def split(rows: Sequence[Any] | Any, sizes: Sequence[int]) -> list[Any]:
    """Consecutive parts of so many rows."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def kill_this_process() -> None:
    """Ends this process as the kernel ends one that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def _received(receiver: Connection, until: float) -> Outcome:
    try:
        if receiver.poll(max(0.0, until - time.monotonic())):
            outcome: Outcome = receiver.recv()
            return outcome
    except EOFError:  # the process has ended without an outcome
        pass
    return Outcome()


def _run(
    sender: Connection,
    function: Callable[..., Any],
    rank: int,
    count: int,
    store: str,
    arguments: tuple[Any, ...],
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=count, timeout=timedelta(seconds=60)
    )
    outcome = Outcome()
    try:
        outcome.value = function(rank, *arguments)
    except BaseException as error:
        outcome.error, outcome.trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    sender.send(outcome)
    sender.close()
    dist.destroy_process_group()
