"""The Hessian of a risk over the parameters of a layout, by double backward (Pearlmutter 1994)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from itertools import islice

import array_api_compat.torch as xp
import torch
from torch import Tensor

from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import LinearOperator
from eigencore.operators import FunctionOperator
from eigencore_torch.data import size
from eigencore_torch.linearised import Linearised, bytes_kept
from eigencore_torch.params import Layout
from eigencore_torch.risk import WITHOUT_SECOND_DERIVATIVE, Risk, Term, in_words
from eigencore_torch.sampling import Sample, draw


@dataclass(frozen=True)
class _Kept:
    """The graph of a term, without its data."""

    index: int
    last: bool
    weight: float
    linearised: Linearised


class HessianOperator:
    """A symmetric operator on flat vectors (n,), n the number of chosen weights.

    A product is a pass over all batches. The gradient graphs of the first batches are kept from the first
    product on, as many as fit into `memory` bytes; they die with the operator.
    """

    xp = xp

    def __init__(self, risk: Risk, layout: Layout, memory: int):
        self._risk, self._layout = risk, layout
        self.shape = (layout.n, layout.n)
        self.dtype, self.device = layout.dtype, layout.device
        self._kept: list[_Kept] = []  # of the first terms
        self._all_kept = False
        self._room = float(memory)  # 0: no more graphs are kept
        self._bytes_a_sample: float | None = None
        self._total: float | None = None

    def matvec(self, v: Tensor, /) -> Tensor:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor, /) -> Tensor:
        """H V for V (n, b); the gradient of a batch without a kept graph is taken once for all columns.

        Raises:
            ProblemError: weights or data changed since the problem was bound, or double backward failed.
        """
        return self._multiply(V, self._graphs(), self._divisor)

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """The Hessian of some batches, drawn with replacement by weight, and their share of all weight.

        Over the draws its mean is the whole Hessian. Kept graphs are used, none are added, and so a product
        costs its share of a full one or less. What that leaves out: data that are no list are walked over as
        far as the last batch drawn, and once to the end at the first call.
        """
        with self._risk.session():
            sample = draw(self._risk.batch_weights, step, seed, batches)
            return self._sampled(sample), sample.share

    def _sampled(self, sample: Sample) -> LinearOperator:
        kept = self._kept_whole(sample.factors)
        fetched = self._risk.terms_of(sample.factors.keys() - kept.keys())
        total = self._risk.total(sum(self._risk.batch_weights))

        def graphs() -> Iterator[tuple[Linearised, float, bool]]:
            for index, factor in sample.factors.items():
                for one in kept.get(index, ()):
                    yield one.linearised, factor * one.weight, True
                for term in fetched.get(index, ()):
                    yield self._linearise(term), factor * term.weight, False

        def matmat(V: Tensor) -> Tensor:
            return self._multiply(V, graphs(), lambda weights: total)

        return FunctionOperator(
            lambda v: matmat(v[:, None])[:, 0],
            self.shape[0],
            xp=xp,
            dtype=self.dtype,
            device=self.device,
            matmat=matmat,
        )

    def _multiply(
        self,
        V: Tensor,
        graphs: Iterator[tuple[Linearised, float, bool]],
        divisor: Callable[[float], float],
    ) -> Tensor:
        """The weighted sum of the graphs' products, over the divisor that their total weight asks for.

        A graph comes with its weight, and whether it is used again.
        """
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise UsageError(f"a block of shape {tuple(V.shape)}; expected ({self.shape[0]}, b)")
        total = 0.0
        with self._risk.session(), in_words("the Hessian product failed", hint=WITHOUT_SECOND_DERIVATIVE):
            out = torch.zeros((V.shape[1], V.shape[0]), dtype=self.dtype, device=self.device)
            for linearised, weight, kept in graphs:
                total += weight
                for j in range(len(out)):
                    pieces = linearised.product(V[:, j].detach(), keep=kept or j + 1 < len(out))
                    self._layout.add(out[j], pieces, weight)
            out /= divisor(total)
        return out.T

    def _graphs(self) -> Iterator[tuple[Linearised, float, bool]]:
        for one in self._kept[:]:
            yield one.linearised, one.weight, True
        if self._all_kept:
            return
        for term in islice(self._risk.terms(), len(self._kept), None):
            kept = self._fits(term)
            linearised = self._linearise(term)
            if kept:
                self._kept.append(_Kept(term.index, term.last, term.weight, linearised))
            yield linearised, term.weight, kept
        self._all_kept = self._room > 0

    def _kept_whole(self, wanted: Container[int]) -> dict[int, list[_Kept]]:
        """The kept graphs of those batches all of whose parts are kept."""
        whole: dict[int, list[_Kept]] = {
            one.index: [] for one in self._kept if one.last and one.index in wanted
        }
        for one in self._kept:
            if one.index in whole:
                whole[one.index].append(one)
        return whole

    def _linearise(self, term: Term) -> Linearised:
        return Linearised(self._risk.loss(term.batch, term.index), self._layout)

    def _fits(self, term: Term) -> bool:
        """Whether this term's graph is kept. Those kept come first, so that the rest can be walked over."""
        if self._room <= 0:
            return False
        samples = size(term.batch) or 1
        if self._bytes_a_sample is None:
            kept = bytes_kept(lambda: self._linearise(term), self._layout)
            self._bytes_a_sample = kept / samples
        self._room -= samples * self._bytes_a_sample
        return self._room > 0

    def _divisor(self, weights: float) -> float:
        total = self._risk.total(weights)
        if self._total is not None and abs(weights - self._total) > 1e-9 * self._total:
            raise ProblemError(
                f"the data changed between products: they weighed {self._total:g}, and now {weights:g}",
                hint="Give data that are the same at each walk, such as a list of batches.",
            )
        self._total = weights
        return total
