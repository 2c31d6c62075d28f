"""Several processes that run the same program, each with a share of the data, and what they agree on.

Vectors are whole in every process, and the same to the last bit: solvers and analyses run in each of them and
take the same decisions, because every product is a sum over the processes, of which each gets the same bits.
What could differ is agreed: limits on time, Ctrl-C, and failures. (In a `ShardedSpace`, vectors are cut.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from eigencore.space import Array

T = TypeVar("T")


class Processes(Protocol):
    """The processes that compute the products of an operator together, in its attribute `processes`.

    Every method is called by all processes in the same order. One that calls another method, or that comes
    with another input, raises an error in all of them, and so does one that fails: no process waits for
    another one that will not come.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0. The first process writes files and prints."""

    @property
    def count(self) -> int: ...

    def sum(self, make: Callable[[], Array], /, what: str, *given: Array) -> Array:
        """The sum over the processes of the array that `make` returns in each: the same bits in each.

        Args:
            make: computes the part of this process, an array of the same shape in each.
            what: what is computed, for messages, such as "a product".
            given: the arrays that it is computed from, which must be the same in each.
        """

    def gather(self, make: Callable[[], Array], /, what: str, *given: Array) -> Array:
        """The rows of all processes, in the order of their ranks: (b_0 + b_1 + ..., ...), in each process.

        Args:
            make: computes the rows of this process, (b, ...); b may be 0, and differ between processes.
            what, given: as for `sum`.
        """

    def collect(self, make: Callable[[], T], /, what: str) -> list[T]:
        """The values that `make` returns in the processes, in the order of their ranks: Python objects."""

    def from_first(self, value: float, /) -> float:
        """The number of the first process, for a decision that depends on its clock."""

    def any(self, flag: bool, /) -> bool:
        """Whether the flag is set in any process."""

    def together(self, what: str, /, **same: object) -> AbstractContextManager[None]:
        """A context that all processes enter with the same arguments, and leave together.

        An exception inside that is raised in one process is raised in the others, too.

        Raises:
            UsageError: an argument differs between processes; its name and both values are in the message.
        """


class OneProcess:
    """A process that computes alone; see `Processes`.

    Example:
        from eigencore.processes import ALONE

        with ALONE.together("a test", seed=0):
            print(ALONE.sum(lambda: 3.0, "a number"), ALONE.rank, ALONE.count)
    """

    rank, count = 0, 1

    def sum(self, make: Callable[[], Array], /, what: str, *given: Array) -> Array:
        """What `make` returns."""
        return make()

    def gather(self, make: Callable[[], Array], /, what: str, *given: Array) -> Array:
        """What `make` returns."""
        return make()

    def collect(self, make: Callable[[], T], /, what: str) -> list[T]:
        """What `make` returns, alone in a list."""
        return [make()]

    def from_first(self, value: float, /) -> float:
        """The number."""
        return value

    def any(self, flag: bool, /) -> bool:
        """The flag."""
        return flag

    def together(self, what: str, /, **same: object) -> AbstractContextManager[None]:
        """A context that does nothing."""
        return nullcontext()


ALONE = OneProcess()


def processes_of(part: object) -> Processes:
    """The processes that compute with an operator or a bound problem; ALONE if it has no `processes`.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.processes import processes_of

        print(processes_of(as_operator(np.eye(3))).count)
    """
    found: Processes = getattr(part, "processes", ALONE)
    return found


def own_part(total: int, processes: Processes) -> slice:
    """The part of `total` things, in their order, that is this process's: as equal parts as possible.

    Example:
        from eigencore.processes import ALONE, own_part

        print(own_part(10, ALONE))
    """
    rank, count = processes.rank, processes.count
    return slice(total * rank // count, total * (rank + 1) // count)


# -- failures that all processes know of -------------------------------------------------------------------

_SHARED = "_raised_in_all_processes"  # an attribute of exceptions


def mark_shared(error: BaseException) -> None:
    """Records that an exception, or one in its place, is raised in all processes."""
    with suppress(Exception):  # a type may refuse new attributes
        setattr(error, _SHARED, True)


def is_shared(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, is raised in all processes."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or any(one is known for known in seen):
            continue
        if getattr(one, _SHARED, False):
            return True
        seen.append(one)
        pending += [one.__cause__, one.__context__]
    return False


# -- a command that a launcher started several times -------------------------------------------------------


@dataclass
class LaunchedProcess:
    """One of the processes that a launcher, such as torchrun, started for one command.

    Attributes:
        rank: its number among all.
        count: how many there are.
        local_rank: its number among those on its machine.
        closing: closed at the end of the command: a backend that connects the processes adds to it what
            disconnects them.
    """

    rank: int
    count: int
    local_rank: int
    closing: ExitStack = field(default_factory=ExitStack)


_launched: ContextVar[LaunchedProcess | None] = ContextVar("launched", default=None)


@contextmanager
def launched_command() -> Iterator[LaunchedProcess | None]:
    """The context of a command; yields this process if a launcher started several for it.

    They are found by the variables RANK, WORLD_SIZE and LOCAL_RANK, which torchrun sets.
    """
    texts = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    rank, count, local = (int(text) if text.isdecimal() else 0 for text in texts)
    if count < 2:
        yield None
        return
    process = LaunchedProcess(rank, count, local)
    token = _launched.set(process)
    try:
        with process.closing:
            yield process
    finally:
        _launched.reset(token)


def launched_process() -> LaunchedProcess | None:
    """This process, if a launcher started several for the command that is running."""
    return _launched.get()


def is_first(part: object = None) -> bool:
    """Whether this process is the one that writes files and prints.

    Args:
        part: an operator or a bound problem, whose processes count, too.
    """
    process = _launched.get()
    return processes_of(part).rank == 0 and (process is None or process.rank == 0)
