"""What a run is resumed by: its journal, and the comparison of what was asked for then and now."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.operators.counting import CountingOperator
from eigencore.operators.journaled import journaled
from eigencore.pipeline.changed_settings import changed_settings
from eigencore.pipeline.shared_journal import SharedJournal, sent
from eigencore.processes import processes_of
from eigencore.runs.folder import JOURNAL, RESULT, load, make_folder
from eigencore.runs.journal import Journal
from eigencore.runs.journal_file import JournalFile
from eigencore.runs.unfinished import abandon, begin, end, is_unfinished, locked
from eigencore.solving.clock import RunClock, timed_by
from eigencore.solving.interrupt import sigterm_as_interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from eigencore.interfaces import LinearOperator
    from eigencore.results import Run

SAVE_EVERY = 300.0  # seconds
# May be other ones when a run is resumed: the products so far are those of any limit.
LIMITS = ("max_matvecs", "max_seconds")
_PARTS = {"operator": "the matrix differs", "model": "the weights differ", "data": "the data differ"}


@dataclass
class KeptRun:
    """What a run keeps in its folder while it works.

    Attributes:
        journal: the journal; None: nothing is kept, or another process keeps it.
        recorder: what products pass through, and results of analyses: the journal, or that of the first
            process; None: nothing is kept.
        earlier: the run that the folder holds, if it was to be resumed but had ended already.
        ended: whether the run has ended and is saved, so that the journal is not needed any more.
    """

    journal: Journal | None = None
    recorder: Journal | SharedJournal | None = None
    earlier: Run | None = None
    ended: bool = False

    def operator(self, operator: LinearOperator, asked: Mapping[str, Any], folder: Path) -> LinearOperator:
        """The operator, whose products pass through the journal.

        Args:
            asked: what determines the run, as plain data.

        Raises:
            UsageError: the run that is resumed was asked for something else, or has other products.
        """
        processes = processes_of(operator)
        # Processes with a shard of each vector would need a journal each.
        if arrays.is_sharded(operator) or not processes.any(self.journal is not None):
            return operator
        first = None
        if self.journal is not None:
            before = self.journal.request(asked)
            if before is not None:
                refuse_changed(before, asked, folder)
                first = self.journal.first_product(operator)
        if processes.any(first is not None):
            V = sent(first and first[0], "the vectors of the first product", processes, operator)
            multiplied = CountingOperator(operator)  # which explains a product that fails
            fresh = multiplied.matvec(V) if V.ndim == 1 else multiplied.matmat(V)
            if self.journal is not None and first is not None:
                self.journal.compare(fresh, first[1], operator)
        recorder: Journal | SharedJournal = SharedJournal(self.journal, processes)
        if self.journal is not None and processes.count == 1:
            recorder = self.journal
        self.recorder = recorder
        return journaled(operator, recorder)

    @property
    def remarks(self) -> list[str]:
        return [] if self.journal is None else self.journal.remarks


@contextmanager
def kept_in(
    folder: Path | None, clock: RunClock, *, resume: bool, save_every: float | None
) -> Iterator[KeptRun]:
    """Locks the folder of a run and opens its journal. SIGTERM acts like Ctrl-C in the meantime.

    Raises:
        UsageError: another run uses the folder, it can't be written to, or it holds an unfinished run that is
            not to be resumed.
    """
    with timed_by(clock):
        if folder is None:
            yield KeptRun()
            return
        make_folder(folder)
        with locked(folder), sigterm_as_interrupt():
            unfinished = is_unfinished(folder)
            if resume and not unfinished and os.path.isfile(folder / RESULT):
                yield KeptRun(earlier=load(folder))
                return
            if not (resume and unfinished):
                begin(folder)
            yield from _journaled(folder, clock, save_every, new=not resume)


def _journaled(folder: Path, clock: RunClock, save_every: float | None, *, new: bool) -> Iterator[KeptRun]:
    kept, invalid = KeptRun(), False
    try:
        if save_every is not None:
            kept.journal = Journal(_opened(folder), clock, save_every)
        yield kept
    except UsageError:
        invalid = new
        raise
    finally:
        if kept.journal is not None:
            kept.journal.close(durable=not kept.ended)
        if kept.ended:
            end(folder)
        elif invalid:
            abandon(folder)


def _opened(folder: Path) -> JournalFile:
    try:
        return JournalFile(folder / JOURNAL)
    except OSError as error:
        raise UsageError(f"{folder / JOURNAL} can't be opened: {error.strerror}") from error


def refuse_changed(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raises UsageError if a run was asked for something else, or with other versions, and names it.

    Args:
        before, now: `arguments`, `versions` and `digests`, as plain data. Versions and digests that only one
            of them has are not compared.
    """
    changed = changed_settings(before["arguments"], now["arguments"], lambda name: name not in LIMITS)
    then, today = before["versions"], now["versions"]
    changed += changed_settings(then, today, lambda name: name in {*then} & {*today} - {"python"})
    then, today = before["digests"], now["digests"]
    changed += [
        _PARTS.get(one, f"the {one} differs") for one in then if today.get(one, then[one]) != then[one]
    ]
    if changed:
        raise UsageError(
            f"the run in {folder} can't be continued: {'; '.join(changed)}",
            hint="Continue it with what it was started with, or start a new run in another folder.",
        )
