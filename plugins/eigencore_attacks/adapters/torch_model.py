"""A classifier as a PyTorch module of images between 0 and 1, for attacks on such modules.

Images have the channels first, as these libraries expect them, wherever the classifier has them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.problems.sharing import ImageAxes
from eigencore_attacks.norm_ball import Norm, projected

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array


@dataclass(frozen=True)
class Weighted:
    """The sum of the logits with given weights (b, c): its gradient over the input is a backward pass."""

    weights: Array

    def value(self, logits: Array, y: Array, /) -> Array:
        return arrays.namespace(logits).sum(self.weights * logits, axis=1)

    def grad(self, logits: Array, y: Array, /) -> Array:
        return self.weights

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return arrays.namespace(v).zeros_like(v)


class UnitImages:
    """The samples of a classifier as images between 0 and 1.

    Args:
        who: the library that needs them, for errors.

    Attributes:
        low, width: the lowest value of an input, and the width of its bounds.

    Raises:
        UsageError: the bounds are not known, or differ between the entries of an input.
    """

    def __init__(self, classifier: Classifier, who: str):
        if classifier.bounds is None:
            raise UsageError(
                f"{who} needs the bounds of the inputs; this problem has none",
                hint="Give Problem(bounds=...) the lowest and the highest value that an input may take.",
            )
        low, high = (arrays.to_host(bound) for bound in classifier.bounds)
        if np.ptp(low) > 0 or np.ptp(high) > 0:
            raise UsageError(
                f"{who} needs the same bounds for all entries of an input; those of this problem differ",
                hint="Put the normalisation into the model, and give it the inputs before it.",
            )
        self.low, self.width = float(low[0]), float(high[0] - low[0])
        self._classifier, self._axes = classifier, ImageAxes.of(classifier)
        self._is_torch = arrays.library(classifier.xp) == "torch"

    def images(self, rows: Array) -> Tensor:
        """Rows (b, d) as images (b, channels, height, width) between 0 and 1."""
        unit = ((self.as_tensor(rows) - self.low) / self.width).clamp(0, 1)
        images: Tensor = self._axes.images(unit)
        return images

    def rows(self, images: Tensor) -> Array:
        """Images (b, channels, height, width) between 0 and 1 as rows (b, d) of the classifier."""
        return self._from_tensor(self.low + self.width * self._axes.rows(images.detach()))

    def as_tensor(self, x: Array) -> Tensor:
        """An array of the classifier as a tensor."""
        if self._is_torch:
            tensor: Tensor = x
            return tensor
        return torch.from_numpy(np.asarray(arrays.to_host(x))).to(self._dtype())

    def _from_tensor(self, x: Tensor) -> Array:
        if self._is_torch:
            return x.to(self._classifier.dtype)
        return arrays.from_host(x.cpu().double().numpy(), self._classifier)

    def _dtype(self) -> torch.dtype:
        return torch.float64 if arrays.itemsize(self._classifier) == 8 else torch.float32

    def logits(self, images: Tensor) -> Tensor:
        return self.as_tensor(self._classifier.logits(self.rows(images)))

    def gradient(self, images: Tensor, weights: Tensor) -> Tensor:
        """The gradient of the weighted logits over the images."""
        rows = self.rows(images)
        labels = self._classifier.xp.zeros(
            rows.shape[0], dtype=self._classifier.xp.int64, device=self._classifier.device
        )
        objective = Weighted(self._from_tensor(weights))
        _, gradient = self._classifier.value_and_grad(objective, rows, labels)
        over_images: Tensor = self._axes.images(self.as_tensor(gradient)) * self.width
        return over_images


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, unit: UnitImages) -> Tensor:
        ctx.unit = unit
        ctx.save_for_backward(images)
        return unit.logits(images).to(images.dtype)

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        return ctx.unit.gradient(images, weights).to(images.dtype), None


class LogitsModule(torch.nn.Module):
    """The logits (b, c) of images between 0 and 1. A backward pass takes another forward pass."""

    def __init__(self, unit: UnitImages):
        super().__init__()
        self._unit = unit

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = _Logits.apply(images, self._unit)  # type: ignore[no-untyped-call]
        return logits


def back_in_the_ball(
    found: Tensor, unit: UnitImages, x: Array, eps: float | None, norm: Norm, bounds: Any
) -> Array:
    """Images as rows (b, d), in the ball and within the bounds: rounding in other units may leave them."""
    return projected(unit.rows(found), x, math.inf if eps is None else eps, norm, bounds)


@contextmanager
def seeded(seed: int, device: Any) -> Iterator[None]:
    """Seeds the global generators, from which these libraries draw, and restores their states."""
    states = random.getstate(), np.random.get_state()
    devices = [device] if getattr(device, "type", "cpu") == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
