"""The processes of a group of torch.distributed that run the same program.

Before a process gives its part to the others, it says in one small message what it computes, from which
input, and whether it has failed. So a failure in one process is an error in all of them, and so is a process
that runs another program, or the same one with other numbers. Messages are exchanged on processors (gloo),
also if the arrays are exchanged between GPUs (NCCL).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, NamedTuple, NoReturn, TypeVar
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor

from eigencore import errors
from eigencore.errors import EigencoreError, OperatorError, ProblemError, UsageError, described
from eigencore.processes import is_shared, mark_shared
from eigencore_torch.data.signatures import signature
from eigencore_torch.processes.signals import delayed_signals

T = TypeVar("T")

_SAME_HINT = "Run the same program with the same arguments in every process."


class _RemoteFailure(NamedTuple):
    """A failure of one process, as the others are told of it."""

    kind: str
    message: str
    hint: str | None


class GroupProcesses:
    """The processes of a group of torch.distributed; see `eigencore.processes.Processes`.

    Args:
        group: the group.
        host_group: the same processes, for tensors on processors; None: `group` exchanges these as well.
    """

    def __init__(self, group: dist.ProcessGroup, host_group: dist.ProcessGroup | None = None):
        self._group, self._host_group = group, host_group or group
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        self._lost: EigencoreError | None = None  # the error once another process has ended

    def sum(self, make: Callable[[], Tensor], /, what: str, *given: Tensor) -> Tensor:
        """The sum over the processes of what `make` returns in each: the same bits in each."""
        own = self._made(make, what).detach().clone(memory_format=torch.contiguous_format)
        with delayed_signals():
            self._meet(what, _digest(given))
            self._exchange(lambda: dist.all_reduce(own, group=self._group_of(own)))
        return own

    def gather(self, make: Callable[[], Tensor], /, what: str, *given: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks."""
        own = self._made(make, what).detach().contiguous()
        with delayed_signals():
            rows = self._meet(what, _digest(given), len(own))
            padded = own.new_zeros((max(rows), *own.shape[1:]))
            padded[: len(own)] = own
            parts = [torch.empty_like(padded) for _ in rows]
            self._exchange(lambda: dist.all_gather(parts, padded, group=self._group_of(own)))
        return torch.cat([part[:several] for part, several in zip(parts, rows, strict=True)])

    def collect(self, make: Callable[[], T], /, what: str) -> list[T]:
        """The values that `make` returns in the processes, which can be pickled."""
        own = self._made(make, what)
        with delayed_signals():
            self._meet(what)
            return self._all_objects(own)

    def from_first(self, value: float, /) -> float:
        """The number of the first process."""
        (bits,) = struct.unpack("q", struct.pack("d", value))
        with delayed_signals():
            first = self._meet("a decision of the first process", 0, bits)[0]
        number: float = struct.unpack("d", struct.pack("q", first))[0]
        return number

    def any(self, flag: bool, /) -> bool:
        """Whether the flag is set in any process."""
        with delayed_signals():
            return any(self._meet("a decision of all processes", 0, int(flag)))

    @contextmanager
    def together(self, what: str, /, **same: object) -> Iterator[None]:
        """A context that all processes enter with the same arguments, and leave together."""
        texts = {name: repr(value) for name, value in same.items()}
        with delayed_signals():
            self._meet(f"the beginning of {what}", crc32(repr(texts).encode()), same=texts)
        try:
            yield
        except BaseException as error:
            self._fail(error)
            raise
        with delayed_signals():
            self._meet(f"the end of {what}")

    def _made(self, make: Callable[[], T], what: str) -> T:
        """What `make` returns; if it fails, the other processes get an error where they next meet."""
        try:
            return make()
        except BaseException as error:
            self._fail(error)
            raise

    def _meet(
        self, what: str, digest: int = 0, number: int = 0, same: dict[str, str] | None = None
    ) -> list[int]:
        """Waits until all processes are at the same place with the same input; returns their numbers.

        Raises:
            EigencoreError: a process failed, has ended, or is at another place or with another input.
        """
        messages = self._messages((0, crc32(what.encode()), digest, number))
        if any(failed for failed, *_ in messages):
            self._raise_failure(self._all_objects(None))
        if len({tuple(message[:3]) for message in messages}) > 1:
            self._raise_difference(self._all_objects((what, same or {})))
        return [message[3] for message in messages]

    def _fail(self, error: BaseException) -> None:
        """Reports an exception of this process to the others, unless they know of it."""
        if self._lost is not None or is_shared(error):
            return
        mark_shared(error)
        kind, own = type(error).__name__, isinstance(error, EigencoreError)
        failure = _RemoteFailure(
            "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else kind,
            error.message if isinstance(error, EigencoreError) else described(error),
            getattr(error, "hint", None) if own else None,
        )
        # The exception of this process is raised in any case, also if the others have ended.
        with suppress(EigencoreError), delayed_signals():
            self._messages((1, 0, 0, 0))
            self._all_objects(failure)

    def _raise_failure(self, failures: Sequence[_RemoteFailure | None]) -> NoReturn:
        rank, first = next((rank, one) for rank, one in enumerate(failures) if one is not None)
        raised: BaseException
        if first.kind == "KeyboardInterrupt":
            raised = KeyboardInterrupt(f"process {rank} was interrupted")
        else:
            raised = _kind(first.kind)(f"process {rank} failed: {first.message}", hint=first.hint)
        mark_shared(raised)
        raise raised

    def _raise_difference(self, places: Sequence[tuple[str, dict[str, str]]]) -> NoReturn:
        here, own = places[0]
        raised: EigencoreError
        for rank, (what, same) in enumerate(places):
            if what != here:
                raised = ProblemError(
                    f"the processes no longer run the same program: process 0 computes {here}, process "
                    f"{rank} {what}",
                    hint=_SAME_HINT,
                )
                break
            name = next((name for name in own | same if own.get(name) != same.get(name)), None)
            if name is not None:
                raised = UsageError(
                    f"{name} differs between the processes: {own.get(name)} in process 0, "
                    f"{same.get(name)} in process {rank}",
                    hint=_SAME_HINT,
                )
                break
        else:
            raised = ProblemError(
                f"the processes compute {here} from different numbers",
                hint="Give the same start vectors, and draw random numbers from the same seeds, in each.",
            )
        mark_shared(raised)
        raise raised

    # -- the exchange itself -------------------------------------------------------------------------------

    def _messages(self, own: tuple[int, ...]) -> list[list[int]]:
        """The messages of all processes, a few whole numbers each."""
        message = torch.tensor(own, dtype=torch.int64)
        found = [torch.empty_like(message) for _ in range(self.count)]
        self._exchange(lambda: dist.all_gather(found, message, group=self._host_group))
        return [one.tolist() for one in found]

    def _all_objects(self, own: Any) -> list[Any]:
        found: list[Any] = [None] * self.count
        self._exchange(lambda: dist.all_gather_object(found, own, group=self._host_group))
        return found

    def _group_of(self, x: Tensor) -> dist.ProcessGroup:
        return self._host_group if x.device.type == "cpu" else self._group

    def _exchange(self, exchange: Callable[[], object]) -> None:
        """Runs an exchange. Raises OperatorError if another process has ended."""
        if self._lost is not None:
            raise self._lost
        try:
            exchange()
        except RuntimeError as error:
            self._lost = OperatorError(
                "another process has ended, and this one can't go on without it",
                hint="What that process printed says why, or the log of the system that ended it.",
            )
            raise self._lost from error


@cache
def group_processes(group: dist.ProcessGroup) -> GroupProcesses:
    """The processes of a group. All of them call this together, at the first time."""
    on_host = "cpu:gloo" in str(dist.get_backend_config(group))
    ranks = dist.get_process_group_ranks(group)
    return GroupProcesses(group, None if on_host else dist.new_group(ranks, backend="gloo"))


def _digest(given: Sequence[Tensor]) -> int:
    """A number that depends on every bit of some tensors."""
    digest = 0
    for x in given:
        form = crc32(repr((tuple(x.shape), x.dtype)).encode())
        digest = (31 * digest + form + int(signature(x))) % 2**63
    return digest


def _kind(name: str) -> type[EigencoreError]:
    """The type of an error that was raised elsewhere; one with another constructor becomes a UsageError."""
    kind = getattr(errors, name, OperatorError)
    if kind is errors.UnknownNameError:
        return UsageError
    return kind if isinstance(kind, type) and issubclass(kind, EigencoreError) else OperatorError
