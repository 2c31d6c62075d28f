"""The journal of a run on several processes: the first one keeps it, and all take the products from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.processes import Processes
    from eigencore.results import AnalysisResult
    from eigencore.runs.journal import Journal
    from eigencore.space import Array, Space


class SharedJournal:
    """The journal of the first process, for all processes of a run; see `eigencore.runs.journal.Journal`.

    Args:
        journal: the journal in the first process, None in the others.
    """

    def __init__(self, journal: Journal | None, processes: Processes):
        self._journal, self._processes = journal, processes

    def product(
        self, what: str, inputs: Sequence[Array], make: Callable[[], Array], space: Space | None
    ) -> Array:
        """See `eigencore.operators.journaled.Recorder`."""
        journal = self._journal
        kept = None if journal is None else journal.repeated(what, inputs, space)
        if self._processes.any(kept is not None):
            return sent(kept, what, self._processes, space)
        made = make()
        if journal is not None:
            journal.add(what, inputs, made)
        return made

    def finished(self, name: str) -> AnalysisResult | None:
        """The result of an analysis that had finished; None: it had not."""
        journal = self._journal
        found = self._processes.collect(
            lambda: None if journal is None else journal.finished(name), f"the earlier result of {name}"
        )
        return found[0]

    def keep(self, name: str, result: AnalysisResult) -> None:
        """Keeps the result of an analysis that has finished."""
        if self._journal is not None:
            self._journal.keep(name, result)


def sent(x: Array | None, what: str, processes: Processes, space: Space | None) -> Array:
    """The array x of the first process, in all of them.

    Args:
        x: the array in the first process, None in the others.
        space: where the array lives; None: it is a NumPy array.
    """
    host: Any = processes.collect(lambda: None if x is None else arrays.to_host(x), what)[0]
    if x is not None:
        return x
    return host if space is None else arrays.from_host(host, space)
