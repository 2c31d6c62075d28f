"""A network as a classifier: its logits, and their derivatives over the input, for a whole batch at once.

In evaluation mode each sample's logits are independent of the other samples. One backward pass from a batch
therefore gives each sample's own gradient, and one more through that gradient's graph gives each sample's own
Hessian product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import array_api_compat.torch as xp
import torch
from torch import Tensor, nn

from eigencore.errors import CapabilityError, UsageError
from eigencore.interfaces import Objective, Problem
from eigencore.problems.sharing import bounds_of_rows, infer_channel_axis
from eigencore_torch.classifiers.classification import Classification, collect_samples
from eigencore_torch.data.batches import Batches, describe
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from eigencore_torch.models.related_modules import related_modules
from eigencore_torch.user_errors import SECOND_DERIVATIVE_HINT, explain_errors


class TorchClassifier:
    """The logits (b, c) of a model for inputs in rows (b, d), at the weights it had when it was bound.

    Every method raises UsageError for inputs that are not such rows, and ProblemError if the weights changed
    or the model failed.

    Args:
        classification: the inputs and outputs of the model.
        batches: the data that the samples come from.
        problem: its bounds and its axis of channels are those of the inputs.
        weights: the fingerprint of the model's weights.
        setting: how the model is evaluated.

    Attributes:
        shape: the shape of one input; d is the number of its values.
        channel_axis: the axis of `shape` that counts the channels, or None.
        classes: the number of classes c.
        bounds: the lowest and the highest value of each entry of a row, two tensors (d,), or None.

    Raises:
        ProblemError: the bounds or the stated channels do not fit the inputs.

    Example:
        import eigencore
        import torch
        from eigencore.objectives import CrossEntropy

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        classifier = eigencore.bind(problem, backend="torch").classifier()
        x, y = classifier.samples()
        value, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    """

    xp = xp

    def __init__(
        self,
        model: nn.Module,
        classification: Classification,
        batches: Batches,
        problem: Problem,
        weights: WeightFingerprint,
        setting: Setting,
    ):
        self._model, self._classification = model, classification
        self._modules = list(related_modules(model).values())
        self._batches, self._weights, self._setting = batches, weights, setting
        self.shape, self.classes = classification.shape, classification.classes
        self.dtype, self.device = batches.dtype, batches.device
        self.channel_axis = infer_channel_axis(self.shape, problem.channels)
        self.bounds = bounds_of_rows(problem.bounds, self.shape, self, self.channel_axis)

    def samples(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """The first `most` samples, as inputs (N, d) and labels (N,); None takes all samples.

        Raises:
            UsageError: `most` is below 1.
            ProblemError: there are no samples, or inputs or labels are invalid. The message names the batch.
        """
        with preserve_state([], self._setting, self._batches.data):
            return collect_samples(self._batches, self._classification, self.bounds, most)

    def logits(self, x: Tensor, /) -> Tensor:
        """The logits (b, c) for inputs x (b, d)."""
        with self._session(), torch.no_grad():
            return self._forward(self._checked_rows(x))

    def value_and_grad(self, objective: Objective, x: Tensor, y: Tensor, /) -> tuple[Tensor, Tensor]:
        """Each sample's objective (b,) and its gradient (b, d) with respect to that sample's input.

        Args:
            x: inputs (b, d).
            y: labels (b,).

        Raises:
            CapabilityError: the logits can't be differentiated with respect to the input.
        """
        self._require(self._classification.gradient, "once")
        with self._session():
            rows = self._checked_rows(x).requires_grad_()
            logits = self._forward(rows)
            at = logits.detach()
            (gradient,) = torch.autograd.grad(logits, rows, objective.grad(at, y))
            return objective.value(at, y), gradient

    def input_products(self, objective: Objective, x: Tensor, y: Tensor, /) -> Callable[[Tensor], Tensor]:
        """The Hessians of the samples' objectives with respect to their inputs, as a map of rows (b, d).

        The map keeps the gradient's graph, which its products share.

        Args:
            x: inputs (b, d).
            y: labels (b,).

        Raises:
            CapabilityError: the logits can't be differentiated twice with respect to the input.
        """
        self._require(self._classification.products, "twice")
        with self._session(SECOND_DERIVATIVE_HINT):
            rows = self._checked_rows(x).requires_grad_()
            logits = self._forward(rows)
            (gradient,) = torch.autograd.grad(logits, rows, objective.grad(logits, y), create_graph=True)

        def product(v: Tensor) -> Tensor:
            with self._session(SECOND_DERIVATIVE_HINT):
                direction = self._checked_rows(v, len(rows))
                # The gradient does not depend on the input if the network is linear or rounds its input.
                if not gradient.requires_grad:
                    return torch.zeros_like(direction)
                (out,) = torch.autograd.grad(
                    gradient, rows, direction, retain_graph=True, materialize_grads=True
                )
                return out

        return product

    @contextmanager
    def _session(self, hint: str | None = None) -> Iterator[None]:
        with (
            preserve_state(
                self._modules,
                self._setting,
                None,
                over_weights=False,
                host_generators=self._classification.uses_host_generators,
                check=self._weights.check_versions,
            ),
            explain_errors("the network failed", hint=hint, memory_hint="Pass fewer samples at once."),
        ):
            yield

    def _require(self, possible: bool, times: str) -> None:
        if not possible:
            raise CapabilityError(
                f"the logits can't be differentiated {times} with respect to the input",
                hint="Look for detach(), .data, no_grad() or an operation without a derivative in the model.",
            )

    def _checked_rows(self, x: Tensor, count: int | None = None) -> Tensor:
        """The rows x (b, d) without their graph; if `count` is given, b must be equal to it."""
        if not self._classification.is_rows(x) or x.dtype != self.dtype or count not in (None, len(x)):
            raise UsageError(
                f"the classifier received {describe(x)}; expected rows of {self.dtype} in the shape "
                f"({'b' if count is None else count}, {self._classification.d})"
            )
        # A tensor made in inference mode can't be part of a graph; its clone can.
        return x.clone() if x.is_inference() else x.detach()

    def _forward(self, rows: Tensor) -> Tensor:
        # Cloned, since a network may modify its input in place.
        outputs = self._model(rows.clone().reshape(-1, *self.shape))
        return self._classification.logits(outputs, len(rows))
