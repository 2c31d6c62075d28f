"""The part of the data that is one process's, if all of them have the same data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eigencore.errors import ProblemError
from eigencore.processes import Processes, own_part


@dataclass(frozen=True)
class DataPart:
    """Consecutive samples of the data.

    Attributes:
        first, last: the numbers of its first and its last batch.
        start: its first sample in the first batch.
        stop: the sample of the last batch that it ends before; None: it ends with that batch.
    """

    first: int
    last: int
    start: int = 0
    stop: int | None = None

    def of_batch(self, index: int) -> slice | None:
        """The samples of batch number `index` that belong to the part; None: all of them."""
        start = self.start if index == self.first else 0
        stop = self.stop if index == self.last else None
        return None if start == 0 and stop is None else slice(start, stop)


def part_of_process(counts: Sequence[int | None], processes: Processes, *, cut: bool) -> DataPart:
    """The part of one process, with as equal numbers of samples as possible.

    Args:
        counts: the number of samples of each batch; None: unknown.
        cut: whether a batch may belong to several processes. Batches of unknown size are never cut.

    Raises:
        ProblemError: there are fewer samples, or fewer batches that may not be cut, than processes.
    """
    known = [1 if count is None else count for count in counts]
    cut = cut and None not in counts
    things = sum(known) if cut else len(counts)
    if things < processes.count:
        raise ProblemError(
            f"the data have {things} {'samples' if cut else 'batches'}, fewer than the {processes.count} "
            "processes that they are divided between",
            hint="Use fewer processes."
            if cut
            else "Give more, smaller batches, or use fewer processes. A batch is divided only if the "
            "reduction of the loss is inferred, and with torch.batch_norm=running.",
        )
    if not cut:
        own = own_part(len(counts), processes)
        return DataPart(own.start, own.stop - 1)
    own = own_part(sum(known), processes)
    first, start = _place(known, own.start)
    last, before = _place(known, own.stop - 1)
    whole = before + 1 == known[last]
    return DataPart(first, last, start, None if whole else before + 1)


def _place(counts: Sequence[int], sample: int) -> tuple[int, int]:
    """The batch of a sample, and its place in that batch."""
    index = 0
    while sample >= counts[index]:
        sample -= counts[index]
        index += 1
    return index, sample
