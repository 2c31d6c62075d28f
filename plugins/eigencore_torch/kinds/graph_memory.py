"""How an operator stays within the limit of memory: which graphs it keeps, and how it splits batches.

The memory of a graph, and that of a product with it, is measured on few samples of a batch, for each shape of
a sample. Both have a part that is proportional to the number of samples, and one that is not, such as the
gradient. The peak of a product is the largest of several such sums. The number of samples is therefore
doubled until the samples take four times as much as the rest, unless there is memory to spare.

Measuring takes up to half a gradient of a small batch. If the memory of a forward pass is known, it is only
done once a multiple of it comes near the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from eigencore.errors import OptionError
from eigencore_torch.allocations import Allocation
from eigencore_torch.data.batches import sample_count, take_samples
from eigencore_torch.forward_size import ForwardSize, SampleKind, sample_kind
from eigencore_torch.memory_limit import MemoryLimit, size_text
from eigencore_torch.risk import Term

# Measures a graph of a term, and a product with it.
Measure: TypeAlias = Callable[[Term], Allocation]

# Graphs and products take at most so many times what a forward pass returns: twice the most that was seen
# on 18 networks of all usual layers.
_GRAPH, _PRODUCT = 4, 10


@dataclass(frozen=True)
class _Line:
    """A number of bytes as a function of the number of samples: fixed + slope * samples."""

    fixed: float
    slope: float

    @classmethod
    def through(cls, first: tuple[int, float], second: tuple[int, float]) -> _Line:
        (a, y), (b, z) = first, second
        slope = max(0.0, (z - y) / (b - a))
        return cls(z - slope * b, slope)

    def at(self, samples: int) -> float:
        return self.fixed + self.slope * samples

    def samples_within(self, most: float) -> int:
        """The largest number of samples that takes at most so many bytes."""
        return 0 if self.at(0) > most else int((most - self.fixed) / self.slope) if self.slope else 1 << 62


@dataclass(frozen=True)
class _Size:
    """The memory of a graph, and the peak of a product with it, by the number of samples."""

    kept: _Line
    peak: _Line
    measured: bool = True

    @classmethod
    def of_forward(cls, forward: ForwardSize, weights: float) -> _Size:
        """An upper limit, from the memory of a forward pass and that of the weights."""
        slope = forward.bytes / forward.samples
        kept, peak = (_Line(factor * weights, factor * slope) for factor in (_GRAPH, _PRODUCT))
        return cls(kept, peak, measured=False)


@dataclass
class _Use:
    """The terms of one kind: how many graphs are kept, of how many samples, and the most in a product."""

    graphs: int = 0
    samples: int = 0
    most: int = 0


class GraphMemory:
    """The memory of an operator's graphs and products, within a limit.

    A batch whose product would take more than the limit is split, so that a product with a part takes at most
    half of it. Graphs are kept from the first term on, as long as a product with any other term fits beside
    them.

    Args:
        limit: the limit.
        products: how many products have to fit beside the kept graphs: one, or two if the memory of one
            stays allocated as long as graphs are kept.
        forward: the memory of a forward pass, if that of graphs and products is known to be proportional.
        weights: the bytes of the selected weights.
    """

    def __init__(
        self,
        limit: MemoryLimit,
        products: int = 1,
        forward: ForwardSize | None = None,
        weights: float = 0.0,
    ):
        self._limit, self._products = limit, products
        self._sizes: dict[SampleKind, _Size] = {}
        if forward is not None and not limit.stated:
            self._sizes[forward.kind] = _Size.of_forward(forward, weights)
        self._uses: dict[SampleKind, _Use] = {}
        self._most: dict[tuple[SampleKind, int | None], int | None] = {}
        self._splittable: bool | None = None
        self._vectors = 0.0  # the bytes that a solver holds
        self._keeping = limit.graphs > 0
        self._parts: set[int] = set()  # the most samples in the parts of a batch

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether batches were split."""
        if not self._parts:
            return ()
        return (f"batches are split into at most {max(self._parts)} samples to save memory (torch.memory)",)

    @property
    def keeping(self) -> bool:
        """Whether all graphs so far could be kept."""
        return self._keeping

    @property
    def _room(self) -> float:
        """The bytes for graphs and products."""
        return self._limit.total - self._vectors

    @property
    def _kept(self) -> float:
        """The bytes of the kept graphs."""
        sizes = ((self._sizes[kind].kept, use) for kind, use in self._uses.items() if use.graphs)
        return sum(kept.fixed * use.graphs + kept.slope * use.samples for kept, use in sizes)

    @property
    def _largest(self) -> float:
        """The bytes of a product with any term so far."""
        return max((self._sizes[kind].peak.at(use.most) for kind, use in self._uses.items()), default=0.0)

    def leave_room(self, vectors: float) -> bool:
        """Leaves room for so many bytes of vectors; whether the graphs kept so far can stay.

        Raises:
            OptionError: the vectors alone exceed the limit that was stated.
        """
        if self._limit.stated and vectors >= self._limit.total:
            raise OptionError(
                f"torch.memory is {size_text(self._limit.total)}, but the vectors of this solve take up to "
                f"{size_text(vectors)}",
                hint="Raise torch.memory; or lower k, choose a solver that holds fewer vectors, or select "
                "fewer parameters with params.",
            )
        if vectors <= self._vectors:
            return True
        self._vectors = vectors
        return self._fits(self._kept)

    def forget(self, graphs: float | None = None) -> None:
        """No graphs are kept any more, and later ones may be.

        Args:
            graphs: a lower limit on the graphs that are kept; 0 for none.
        """
        if graphs is not None:
            self._limit = replace(self._limit, graphs=min(self._limit.graphs, graphs))
        self._drop()
        self._keeping = self._limit.graphs > 0
        self._most.clear()

    def _drop(self) -> None:
        """No graphs count as kept any more."""
        for use in self._uses.values():
            use.graphs = use.samples = 0

    def without_solver(self) -> None:
        """No vectors of a solver are held any more."""
        self._vectors = 0.0

    def most_samples(self, term: Term, measure: Measure, can_split: Callable[[int, int], bool]) -> int | None:
        """The most samples of a term for one graph, so that a product fits; None for all of them.

        Until `forget` is called, it is the same for terms of the same shapes.

        Args:
            term: the term.
            measure: measures a graph of a term, and a product with it.
            can_split: whether the loss of a batch, of which the number is given, is the sum of those of its
                parts, tested on at most so many samples.

        Raises:
            OptionError: the limit that was stated can't be met.
        """
        if self._room == float("inf"):
            return None
        samples = sample_count(term.batch)
        kind = sample_kind(term.batch, samples)
        if kind not in self._sizes or self._is_near(kind, samples or 1):
            self._sizes[kind] = self._measured(term, samples or 1, measure)
            self._most.clear()
        key = kind, samples
        if key not in self._most:
            self._most[key] = self._fitting_samples(term, kind, samples or 1, can_split)
        return self._most[key]

    def _is_near(self, kind: SampleKind, samples: int) -> bool:
        """Whether the limit is closer than a size that was not measured allows for."""
        size = self._sizes[kind]
        if size.measured:
            return False
        kept = self._kept + size.kept.at(samples) if self._keeping else 0.0
        product = max(self._largest, size.peak.at(samples))
        return kept > self._limit.graphs or kept + self._products * product > self._room

    def keep(self, term: Term) -> bool:
        """Whether the graph of a term, or of a part of it, can be kept, which then counts as kept.

        Once one can't, no later one is: the kept graphs are always those of the first terms, so that the
        iteration over the data can continue after them.
        """
        if self._keeping:
            samples = sample_count(term.batch)
            kind = sample_kind(term.batch, samples)
            kept = self._kept + self._sizes[kind].kept.at(samples or 1)
            self._keeping = kept <= self._limit.graphs and self._fits(kept)
            if self._keeping:
                use = self._uses[kind]
                use.graphs, use.samples = use.graphs + 1, use.samples + (samples or 1)
        return self._keeping

    def begin(self) -> None:
        """A pass over all terms begins: the first ones may be kept if none are."""
        if not self._kept:
            self._keeping = self._limit.graphs > 0

    def is_crowded(self) -> bool:
        """Whether the kept graphs leave no room for a product with the latest term; then none count as kept.

        They are those of smaller terms. The next pass keeps fewer.
        """
        crowded = self._kept > 0 and not self._fits(self._kept)
        if crowded:
            self._drop()
            self._keeping = False
        return crowded

    def _fits(self, kept: float) -> bool:
        """Whether the products with any term so far fit beside kept graphs of so many bytes."""
        return kept + self._products * self._largest <= self._room

    def _fitting_samples(
        self, term: Term, kind: SampleKind, samples: int, can_split: Callable[[int, int], bool]
    ) -> int | None:
        peak = self._sizes[kind].peak
        whole, most, obstacle = peak.at(samples), None, ""
        if whole > self._room and (self._limit.stated or self._room > 0):
            most = min(max(1, peak.samples_within(self._room / 2)), samples)
            if self._splittable is None and samples > 1:
                self._splittable = can_split(term.index, max(2, most))
            if not self._splittable:
                most = samples
                if samples > 1:
                    obstacle = ", which can't be split: its loss is not the sum or mean of those of its parts"
            least = peak.at(most)
            if self._limit.stated and least > self._room:
                raise self._exceeded(term, least, most, obstacle)
            most = None if most == samples else most
            if most is not None:
                self._parts.add(most)
        use = self._uses.setdefault(kind, _Use())
        use.most = max(use.most, most or samples)
        return most

    def _exceeded(self, term: Term, needed: float, samples: int, obstacle: str) -> OptionError:
        left = f", of which the solver's vectors leave {size_text(self._room)}" if self._vectors else ""
        return OptionError(
            f"torch.memory is {size_text(self._limit.total)}{left}, but a product with {samples} "
            f"sample{'s' * (samples != 1)} of batch {term.index}{obstacle}, takes about {size_text(needed)}",
            hint="Raise torch.memory; or give smaller batches, select fewer parameters with params, or set "
            "torch.derivative=difference, which takes the memory of a gradient.",
        )

    def _measured(self, term: Term, whole: int, measure: Measure) -> _Size:
        few = 2 if whole >= 8 else 1
        with suppress(Exception):  # the loss may not be defined on few samples
            if whole > 1:
                return self._extrapolated(term, few, whole, measure)
        at = measure(term)
        return _Size(_Line(0.0, at.kept / whole), _Line(0.0, at.peak / whole))

    def _extrapolated(self, term: Term, samples: int, whole: int, measure: Measure) -> _Size:
        def measured(count: int) -> tuple[int, Allocation]:
            return count, measure(replace(term, batch=take_samples(term.batch, slice(count))))

        before = measured(samples)
        while True:
            now = measured(samples := min(2 * samples, whole))
            kept = _Line.through((before[0], before[1].kept), (now[0], now[1].kept))
            peak = _Line.through((before[0], before[1].peak), (now[0], now[1].peak))
            spare = 8 * peak.at(whole) <= self._room
            if (
                samples == whole
                or spare
                or peak.slope * samples >= 4 * peak.fixed
                or peak.at(2 * samples) > self._room
            ):
                return _Size(kept, peak)
            before = now
