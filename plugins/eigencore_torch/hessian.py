"""The Hessian of a risk over the parameters of a layout, by double backward (Pearlmutter 1994)."""

from __future__ import annotations

from collections.abc import Iterator

import array_api_compat.torch as xp
import torch
from torch import Tensor

from eigencore.errors import ProblemError, UsageError
from eigencore_torch.data import Batch, size
from eigencore_torch.linearised import Linearised, bytes_kept
from eigencore_torch.params import Layout
from eigencore_torch.risk import Risk, in_words

_WITHOUT_SECOND_DERIVATIVE = (
    "PyTorch may have no second derivative of an operation in the model or the loss, whose name it tells; "
    "write it with simpler operations."
)


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
        self._kept: list[tuple[Linearised, float]] = []
        self._room = float(memory)  # 0: no more graphs are kept
        self._next: int | None = 0  # the first batch without a kept graph; None: all have one
        self._bytes_a_sample: float | None = None
        self._total: float | None = None

    def matvec(self, v: Tensor, /) -> Tensor:
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor, /) -> Tensor:
        """H V for V (n, b); the gradient of a batch without a kept graph is taken once for all columns.

        Raises:
            ProblemError: weights or data changed since the problem was bound, or double backward failed.
        """
        if V.ndim != 2 or V.shape[0] != self.shape[0]:
            raise UsageError(f"a block of shape {tuple(V.shape)}; expected ({self.shape[0]}, b)")
        weights = 0.0
        with self._risk.session(), in_words("the Hessian product failed", hint=_WITHOUT_SECOND_DERIVATIVE):
            out = torch.zeros((V.shape[1], V.shape[0]), dtype=self.dtype, device=self.device)
            for linearised, weight, kept in self._linearised():
                weights += weight
                for j in range(len(out)):
                    again = kept or j + 1 < len(out)
                    pieces = linearised.product(V[:, j].detach(), keep=again)
                    self._layout.add(out[j], pieces, weight)
            out /= self._divisor(weights)
        return out.T

    def _linearised(self) -> Iterator[tuple[Linearised, float, bool]]:
        """Each batch's gradient, its weight, and whether it is kept."""
        for linearised, weight in self._kept[:]:
            yield linearised, weight, True
        if self._next is None:
            return
        for index, batch, weight in self._risk.batches(self._next):
            kept = self._fits(batch, index)
            linearised = self._linearise(batch, index)
            if kept:
                self._kept.append((linearised, weight))
                self._next = index + 1
            yield linearised, weight, kept
        self._next = None if self._room > 0 else self._next

    def _linearise(self, batch: Batch, index: int) -> Linearised:
        return Linearised(self._risk.loss(batch, index), self._layout)

    def _fits(self, batch: Batch, index: int) -> bool:
        """Whether this batch's graph is kept. Those kept come first, so that the rest can be walked over."""
        if self._room <= 0:
            return False
        samples = size(batch) or 1
        if self._bytes_a_sample is None:
            kept = bytes_kept(lambda: self._linearise(batch, index), self._layout)
            self._bytes_a_sample = kept / samples
        self._room -= samples * self._bytes_a_sample
        return self._room > 0

    def _divisor(self, weights: float) -> float:
        total = self._risk.total(weights)
        if weights == 0:
            raise ProblemError("data is empty, or every batch has weight zero")
        if self._total is not None and abs(weights - self._total) > 1e-9 * self._total:
            raise ProblemError(
                f"the data changed between products: they weighed {self._total:g}, and now {weights:g}",
                hint="Give data that are the same at each walk, such as a list of batches.",
            )
        self._total = weights
        return total
