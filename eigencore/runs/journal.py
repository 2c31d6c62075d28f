"""The journal of a run: its products as they are made, from which a run that was killed is resumed.

Products are written to the file at once, and it is made durable every `save_every` seconds. When the run is
started again, it asks for the same products in the same order, and gets them from the journal until there are
no more. A product of other inputs than those in the journal ends this: from there on, products are computed.
Results of finished analyses are kept as well, so that these do not run again.

The journal takes no more space than it leaves free on the disk, and a failure to write ends only the journal,
and not the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.news import report
from eigencore.operators.conversion import is_inexact
from eigencore.runs.journal_file import DamagedRecordError, JournalFile, JournalRecord
from eigencore.runs.stored_analysis import analysis_bytes, read_analysis

if TYPE_CHECKING:
    from eigencore.results import AnalysisResult
    from eigencore.solving.clock import RunClock
    from eigencore.space import Array, LinearOperator, Space

# The kinds of record that are no product: what the run was asked for, the vectors of the product after it,
# and the result of an analysis.
REQUEST, VECTORS, ANALYSIS = "request", "vectors", "analysis"
PLAIN = ("product", "products")  # products of the operator itself, with a vector and with a block
log = logging.getLogger(__name__)


def product_count(records: Sequence[JournalRecord]) -> int:
    """How many of the records are products."""
    return sum(record.what not in (REQUEST, VECTORS, ANALYSIS) for record in records)


class Journal:
    """The products of one run: those of its earlier parts, and those that it adds.

    Args:
        file: the file, which holds the earlier parts.
        clock: the clock of the run, which follows the earlier parts as they are repeated.
        save_every: how often the file is made durable, in seconds; 0: after every product.

    Attributes:
        products: the number of products that it has.
        remarks: what a reader of the result should know about the journal, such as that the disk was full.
    """

    def __init__(self, file: JournalFile, clock: RunClock, save_every: float):
        self._file, self._clock, self._save_every = file, clock, save_every
        self._next = 0  # the record that is repeated next
        self._writing, self._saved = True, time.monotonic()
        self.products = self._durable = product_count(file.records)
        self._has_vectors = any(record.what == VECTORS for record in file.records)
        self._checked, self._asked = False, b""
        self.remarks: list[str] = []
        if self.products:
            self._remark(f"continued from {_products(self.products)} that were saved")
        elif file.lost:
            self._remark("the journal of the earlier part was damaged at its beginning, and was not used")

    def request(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the run was asked for in its earlier part; None if it has none, and then this is kept."""
        if self._file.records and self._file.records[0].what == REQUEST:
            self._next = 1
            read: dict[str, Any] = json.loads(self._file.content(self._file.records[0]))
            return read
        self._cut(0)
        self._append(JournalRecord(REQUEST, _digest(REQUEST)), json.dumps(asked).encode())
        self._next = len(self._file.records)
        return None

    def first_product(self, space: Space) -> tuple[Array, Array] | None:
        """The vector (n,) or block (n, b) of the first product, and the product; None if there is none."""
        records = self._file.records
        number = next((i for i, record in enumerate(records) if record.what == VECTORS), None)
        if number is None or number + 1 == len(records):
            return None
        try:
            V, kept = (self._read(record, space) for record in records[number : number + 2])
        except DamagedRecordError:
            return None  # which is found again where the product is needed
        return V, kept

    def compare(self, fresh: Array, kept: Array, operator: LinearOperator) -> None:
        """Compares the first product, computed again, with that of the journal: the data may have changed.

        Raises:
            UsageError: they differ by more than rounding.
        """
        size, eps = arrays.norm(kept), arrays.eps(operator)
        difference = arrays.norm(fresh - kept) / size if size else arrays.norm(fresh)
        tolerance = 0.1 if is_inexact(operator) else min(max(1e-4, 1000 * eps), 0.1)
        if not difference <= tolerance:
            raise UsageError(
                f"{self._file.path.parent} can't be continued: its first product, computed again, differs by "
                f"{difference:.1g} relative to its norm, so the data, the loss or the weights have changed",
                hint="Restore them, or start a new run in another folder.",
            )
        self._checked = True
        if difference:
            self._remark(
                "products differ in the last digits from those of the earlier part, as on another processor "
                "or with another number of threads"
            )

    # -- products ------------------------------------------------------------------------------------------

    def product(
        self, what: str, inputs: Sequence[Array], make: Callable[[], Array], space: Space | None
    ) -> Array:
        """See `eigencore.operators.journaled.Recorder`."""
        kept = self.repeated(what, inputs, space)
        if kept is not None:
            return kept
        made = make()
        self.add(what, inputs, made)
        return made

    def repeated(self, what: str, inputs: Sequence[Array], space: Space | None) -> Array | None:
        """The array of an earlier part that was computed from these inputs; None: it is to be computed."""
        if self._repeating and self._file.records[self._next].what == VECTORS:
            self._next += 1
        self._asked = _digest(what, *inputs) if self._repeating or self._writing else b""
        return self._repeated(what, self._asked, space) if self._repeating else None

    def add(self, what: str, inputs: Sequence[Array], made: Array) -> None:
        """Adds what was computed, because `repeated` had returned None for it."""
        if self._writing:
            if what in PLAIN and not self._has_vectors:
                self._has_vectors = True
                self._append_array(VECTORS, _digest(VECTORS), inputs[0])
            self._append_array(what, self._asked, made)

    @property
    def _repeating(self) -> bool:
        return self._next < len(self._file.records)

    def _repeated(self, what: str, digest: bytes, space: Space | None) -> Array | None:
        """The next array of the journal, if it is of this kind and was computed from the same inputs."""
        record = self._file.records[self._next]
        if (record.what, record.digest) != (what, digest):
            self._leave(
                "the run took another course than before, as on another processor or number of threads"
            )
            return None
        try:
            kept = self._read(record, space)
        except DamagedRecordError:
            self._leave("the journal is damaged there")
            return None
        self._clock.advance_to(record.seconds)
        self._next += 1
        return kept

    def _leave(self, why: str) -> None:
        """Goes on without the rest of the journal."""
        done = product_count(self._file.records[: self._next])
        self._remark(f"computed again from product {done + 1} on: {why}")
        self._cut(self._next)

    def _read(self, record: JournalRecord, space: Space | None) -> Array:
        content = self._file.content(record)
        order = {"column_major": record.column_major}
        return arrays.from_native_bytes(content, record.dtype, record.shape, space, **order)

    # -- analyses ------------------------------------------------------------------------------------------

    def finished(self, name: str) -> AnalysisResult | None:
        """The result of an analysis that had finished, whose products are then skipped; None: it had not.

        A journal with products of which none could be compared with a fresh one is not relied on.
        """
        if self.products and not self._checked:
            return None
        digest = _digest(f"{ANALYSIS} {name}")
        for number in range(self._next, len(self._file.records)):
            record = self._file.records[number]
            if (record.what, record.digest) == (ANALYSIS, digest):
                try:
                    result = read_analysis(name, self._file.content(record))
                except DamagedRecordError:
                    return None
                self._clock.advance_to(record.seconds)
                self._next = number + 1
                return result
        return None

    def keep(self, name: str, result: AnalysisResult) -> None:
        """Keeps the result of an analysis that has finished."""
        if self._repeating:
            self._leave(f"{name} took another course than before")
        self._append(JournalRecord(ANALYSIS, _digest(f"{ANALYSIS} {name}")), analysis_bytes(name, result))

    # -- the file ------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Makes what was written durable, and reports how much that is."""
        if not self._writing:
            return
        try:
            self._file.sync()
        except OSError as error:
            self._stop(_reason(error))
            return
        self._saved = time.monotonic()
        if self.products != self._durable:
            self._durable = self.products
            log.info("saved: %d products", self.products)
            report(f"saved: {_products(self.products)} in {self._file.path.parent}")

    def close(self, *, durable: bool) -> None:
        """Closes the file, which is of no more use unless it is durable."""
        if durable:
            self.save()
        self._file.close()
        # An operator that outlives the run, such as that of an analysis, multiplies without it.
        self._writing, self._next = False, len(self._file.records)

    def _append_array(self, what: str, digest: bytes, x: Array) -> None:
        column_major = arrays.is_column_major(x)
        dtype = str(x.dtype).rpartition(".")[2]
        if x.ndim > 2 or dtype not in ("float64", "float32"):
            self._stop(f"a product of the type {dtype} can't be kept")
            return
        content = arrays.native_bytes(x.T if column_major else x)
        self._append(JournalRecord(what, digest, dtype, tuple(x.shape), column_major), content)

    def _append(self, record: JournalRecord, content: bytes | memoryview) -> None:
        if not self._writing:
            return
        try:
            size = self._file.size + len(content)
            if size > shutil.disk_usage(self._file.path.parent).free:
                self._stop(f"it would take {size / 1e9:.3g} GB, more than is left free on the disk")
                return
            self._file.append(replace(record, seconds=self._clock()), content)
        except OSError as error:
            self._stop(_reason(error))
            return
        self._next = len(self._file.records)
        self.products += product_count((record,))
        if time.monotonic() - self._saved >= self._save_every:
            self.save()

    def _cut(self, number: int) -> None:
        try:
            self._file.cut(number)
        except OSError as error:
            self._stop(_reason(error))
        self.products = product_count(self._file.records)
        self._durable = min(self._durable, self.products)
        self._has_vectors = any(record.what == VECTORS for record in self._file.records)

    def _stop(self, why: str) -> None:
        """Goes on without writing: what the journal has so far remains of use."""
        self._writing = False
        self._remark(
            f"the run goes on, but can't be resumed beyond {_products(self.products)}: the journal in "
            f"{self._file.path.parent} has ended, because {why}"
        )

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        log.info("%s", text)
        report(text)


def _digest(what: str, *inputs: Array) -> bytes:
    """The SHA-256 of the kind of product, and of the shapes, data types and bytes of its inputs."""
    read = hashlib.sha256(what.encode())
    for x in inputs:
        read.update(f"{str(x.dtype).rpartition('.')[2]} {tuple(x.shape)}\n".encode())
        read.update(arrays.native_bytes(x))
    return read.digest()


def _products(count: int) -> str:
    return f"{count:,} product{'s' * (count != 1)}"


def _reason(error: OSError) -> str:
    return f"it can't be written: {error.strerror or error}"
