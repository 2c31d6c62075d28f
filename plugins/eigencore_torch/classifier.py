"""A network as a classifier: its logits, and their derivatives over the input, a whole batch at once.

In evaluation mode no sample knows the others, so that one backward pass from a batch gives each sample's own
gradient, and one more through that gradient's graph each sample's own Hessian product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import array_api_compat.torch as xp
import torch
from torch import Tensor, nn

from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore.interfaces import Objective
from eigencore_torch.classification import Classification, collect
from eigencore_torch.data import Batches, shapes
from eigencore_torch.risk import WITHOUT_SECOND_DERIVATIVE, in_words
from eigencore_torch.state import Weights, untouched


class TorchClassifier:
    """The logits of a model (b, c) for inputs in rows (b, d), at the weights it had when it was bound.

    Every call raises UsageError for inputs that are no such rows, and ProblemError where the weights changed
    or the model failed.

    Args:
        batches: where its samples come from.
        weights: those of the model, to be told from what they are later.
    """

    xp = xp

    def __init__(
        self,
        model: nn.Module,
        found: Classification,
        batches: Batches,
        bounds: tuple[float, float] | None,
        weights: Weights,
    ):
        self._model, self._found, self._batches, self._weights = model, found, batches, weights
        self.shape, self.classes, self.bounds = found.shape, found.classes, bounds
        self.dtype, self.device = batches.dtype, batches.device

    def samples(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        with untouched([], self.device, self._batches.data):
            return collect(self._batches, self._found, self.bounds, most)

    def logits(self, x: Tensor, /) -> Tensor:
        with self._session(), torch.no_grad():
            return self._forward(self._rows(x))

    def value_and_grad(self, objective: Objective, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        self._refuse_unless(self._found.gradient, "once")
        with self._session():
            rows = self._rows(x).requires_grad_()
            logits = self._forward(rows)
            at = logits.detach()
            (gradient,) = torch.autograd.grad(logits, rows, objective.grad(at, y))
            return objective.value(at, y), gradient

    def input_products(self, objective: Objective, x: Tensor, y: Tensor, /) -> Callable[[Tensor], Tensor]:
        self._refuse_unless(self._found.products, "twice")
        with self._session(WITHOUT_SECOND_DERIVATIVE):
            rows = self._rows(x).requires_grad_()
            logits = self._forward(rows)
            (gradient,) = torch.autograd.grad(logits, rows, objective.grad(logits, y), create_graph=True)

        def product(v: Tensor) -> Tensor:
            with self._session(WITHOUT_SECOND_DERIVATIVE):
                direction = self._rows(v, len(rows))
                # A gradient that does not depend on the input, as behind a rounding or of a linear network.
                if not gradient.requires_grad:
                    return torch.zeros_like(direction)
                (out,) = torch.autograd.grad(
                    gradient, rows, direction, retain_graph=True, materialize_grads=True
                )
                return out

        return product

    @contextmanager
    def _session(self, hint: str | None = None) -> Iterator[None]:
        self._weights.refuse_moved()
        with (
            untouched([self._model], self.device, None, foreign=self._found.draws),
            in_words("the network failed", hint=hint, memory="Give fewer samples at once."),
        ):
            yield

    def _refuse_unless(self, possible: bool, times: str) -> None:
        if not possible:
            raise CapabilityError(
                f"the logits can't be differentiated {times} over the input",
                hint="Look for detach(), .data, no_grad() or an operation without derivative in the model.",
            )

    def _rows(self, x: Tensor, count: int | None = None) -> Tensor:
        """x without what it carries of graphs; `count` of them, where that is given."""
        if not self._found.fits(x) or x.dtype != self.dtype or count not in (None, len(x)):
            raise UsageError(
                f"a classifier was given {shapes(x)}; expected rows {self.dtype} "
                f"({'b' if count is None else count}, {self._found.d})"
            )
        # What was made in inference mode can have no graph.
        return x.clone() if x.is_inference() else x.detach()

    def _forward(self, rows: Tensor) -> Tensor:
        # Cloned: a network may work on its input in place.
        logits: Tensor = self._model(rows.clone().reshape(-1, *self.shape))
        if logits.shape != (len(rows), self.classes):
            raise ProblemError(
                f"the network gave {tuple(logits.shape)} for {len(rows)} inputs; expected "
                f"({len(rows)}, {self.classes})",
                hint="A squeeze() without a dimension drops that of the samples where there is one.",
            )
        return logits
