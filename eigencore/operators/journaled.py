"""Operators whose products are written to a journal, and taken from it when a run is resumed.

A solver or an analysis is a function of its products and of keyed random numbers. Run again, it asks for the
same products in the same order; with those of the journal, it therefore arrives where it was, to the last
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eigencore.interfaces import (
    Approximation,
    InexactOperator,
    LinearOperator,
    MeanOperator,
    MinibatchOperator,
    SampleMean,
)
from eigencore.operators.caching import release
from eigencore.operators.conversion import FunctionOperator, approximation_of, notes_of
from eigencore.operators.matrix_like import MatrixLike
from eigencore.operators.wrapped import WrappedOperator
from eigencore.processes import processes_of
from eigencore.space import Array, Space

if TYPE_CHECKING:
    from eigencore.space import Floats


class Recorder(Protocol):
    """Where products are kept: `eigencore.runs.journal.Journal`."""

    def product(
        self, what: str, inputs: Sequence[Array], make: Callable[[], Array], space: Space | None
    ) -> Array:
        """The array that `make` returns, or the one that it returned for the same inputs in an earlier run.

        Args:
            what: the kind of product; with the inputs, it determines the array.
            inputs: arrays of any library.
            space: where the array lives; None: it is a NumPy array.
        """


class JournaledOperator(WrappedOperator):
    """An operator whose products pass through a journal.

    Args:
        A: the operator.
        recorder: the journal.
        name: what distinguishes the products from those of other operators in the same journal.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.operators.journaled import journaled

        class Counter:
            products = 0

            def product(self, what, inputs, make, space):
                self.products += 1
                return make()

        counter = Counter()
        journaled(as_operator(np.eye(3)), counter).matvec(np.ones(3))
        print(counter.products)
    """

    def __init__(self, A: LinearOperator, recorder: Recorder, name: str = ""):
        super().__init__(A)
        self._recorder, self._name = recorder, name
        cheaper = approximation_of(A)
        self.approximation = cheaper and Approximation(
            journaled(cheaper.operator, recorder, "approximate "), cheaper.name, cheaper.remedy
        )

    def matvec(self, v: Array, /) -> Array:
        return self._kept("product", (v,), lambda: self._A.matvec(v))

    def matmat(self, V: Array, /) -> Array:
        return self._kept("products", (V,), lambda: self._A.matmat(V))

    def product_error(self, v: Array, product: Array, /) -> float:
        A = self._A
        if not (isinstance(A, InexactOperator) and A.inexact):
            return 0.0
        measured = self._recorder.product(
            f"{self._name}error", (v, product), lambda: np.array([A.product_error(v, product)]), None
        )
        return float(measured[0])

    def _kept(self, what: str, inputs: Sequence[Array], make: Callable[[], Array]) -> Array:
        return self._recorder.product(f"{self._name}{what}", inputs, make, self)


class JournaledMinibatchOperator(JournaledOperator):
    """A journaled operator with minibatches; a class of its own, as `CountingMinibatchOperator` is."""

    _A: MinibatchOperator

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        sample, share = self._A.minibatch(step, seed, batches)
        drawn = np.array([step, seed, batches])

        def kept(product: Callable[[Array], Array], V: Array) -> Array:
            return self._kept("minibatch", (drawn, V), lambda: product(V))

        operator = FunctionOperator(
            lambda v: kept(sample.matvec, v),
            sample.shape[0],
            xp=sample.xp,
            dtype=sample.dtype,
            device=sample.device,
            matmat=lambda V: kept(sample.matmat, V),
            space=sample,
        )
        return operator, share


class JournaledMeanOperator(JournaledOperator):
    """A journaled operator of which samples can be taken; likewise a class of its own."""

    _A: MeanOperator

    def sample_scores(self) -> Floats:
        scores: Floats = self._recorder.product("scores", (), self._A.sample_scores, None)
        return scores

    def sampled(self, groups: Sequence[Sequence[int]], weights: Floats) -> SampleMean:
        return _JournaledSample(self._recorder, self._A.sampled(groups, weights), groups, weights)


class _JournaledSample(MatrixLike):
    """The mean over a sample, whose products pass through the journal of its operator."""

    def __init__(
        self, recorder: Recorder, mean: SampleMean, groups: Sequence[Sequence[int]], weights: Floats
    ):
        self._recorder, self._mean, self._groups, self.shift = recorder, mean, len(groups), mean.shift
        self.shape, self.xp, self.dtype, self.device = mean.shape, mean.xp, mean.dtype, mean.device
        self.processes = processes_of(mean)
        sizes, samples = [len(group) for group in groups], [index for group in groups for index in group]
        self._drawn = np.array(sizes), np.array(samples), weights

    def matvec(self, v: Array, /) -> Array:
        return self._kept("sample", (v,), lambda: self._mean.matvec(v))

    def matmat(self, V: Array, /) -> Array:
        return self._kept("sample products", (V,), lambda: self._mean.matmat(V))

    def group_products(self, V: Array | Callable[[int], Array], /) -> Iterator[Array]:
        block = V if callable(V) else lambda number: V
        current: dict[int, Array] = {}
        products = self._mean.group_products(
            lambda number: current[number] if number in current else block(number)
        )
        made = 0

        def make() -> Array:
            # Groups before this one that the journal has are multiplied again: the products come in turn.
            nonlocal made
            while True:
                product, made = next(products), made + 1
                if made > number:
                    return product

        for number in range(self._groups):
            current = {number: block(number)}
            yield self._kept("group", (np.array([number]), current[number]), make)

    def curvatures(self, V: Array, /) -> Floats:
        found: Floats = self._recorder.product(
            "curvatures", (*self._drawn, V), lambda: self._mean.curvatures(V), None
        )
        return found

    def release(self, needed: int | None = None) -> None:
        release(self._mean, needed=needed)

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(self._mean)

    def _kept(self, what: str, inputs: Sequence[Array], make: Callable[[], Array]) -> Array:
        return self._recorder.product(what, (*self._drawn, *inputs), make, self)


class _JournaledAll(JournaledMinibatchOperator, JournaledMeanOperator):
    """A journaled operator with minibatches, of which samples can be taken."""

    _A: Any  # which is both


def journaled(A: LinearOperator, recorder: Recorder, name: str = "") -> JournaledOperator:
    """A JournaledOperator of A, with the minibatches, samples and the approximation of A."""
    if isinstance(A, MinibatchOperator):
        return (_JournaledAll if isinstance(A, MeanOperator) else JournaledMinibatchOperator)(
            A, recorder, name
        )
    return (JournaledMeanOperator if isinstance(A, MeanOperator) else JournaledOperator)(A, recorder, name)
