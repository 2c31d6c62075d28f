"""The logits in what a network returns: a tensor, something with `logits`, or one number per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eigencore.problems.sharing import CALLS
from eigencore_torch.batch_loss import BatchLoss

# Two outputs at which the slope of a loss is examined. Both are also valid probabilities: the loss of
# probabilities outside [0, 1] ends the process on a GPU.
LEVELS = (0.25, 0.75)


def logits_in(outputs: Any) -> Any:
    """`outputs.logits` or `outputs["logits"]`, which networks of transformers return, or the outputs."""
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    return outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", outputs)


def is_single(logits: Tensor, samples: int) -> bool:
    """Whether these are one number per sample: of shape (b,) or (b, 1), or () for one sample."""
    return logits.shape in ((samples,), (samples, 1)) or (logits.ndim == 0 and samples == 1)


def two_logits(z: Tensor) -> Tensor:
    """The logits (b, 2) of classes 0 and 1 for the logit z of class 1, (b,) or (b, 1).

    They are (0, z): their cross-entropy is the binary cross-entropy of z.
    """
    column = z.reshape(-1, 1)
    return torch.cat([torch.zeros_like(column), column], dim=1)


def is_logistic(loss: BatchLoss, outputs: Any, y: Tensor) -> bool:
    """Whether a loss treats single outputs as logits of class 1, as a binary cross-entropy with logits does.

    The slope of such a loss is sigmoid(z) - y times a weight of the class. A squared error, or the loss of
    probabilities, has slopes at two outputs whose ratio is outside the accepted range.

    Args:
        outputs: the outputs of the network for samples with the targets y, as the loss takes them.
    """
    if loss.call == CALLS[1] or not isinstance(outputs, Tensor):
        return False
    slopes = []
    for level in LEVELS:
        slope = _slope(loss, torch.full_like(outputs, level, requires_grad=True), y)
        if slope is None:
            return False
        slopes.append(slope)
    positive = y.reshape(-1) > 0.5
    sign = torch.where(positive, -slopes[0], slopes[0])
    # sigmoid(z) - y has the ratio 1.21 for y = 0 and 0.73 for y = 1.
    ratio = torch.where(positive, slopes[0] / slopes[1], slopes[1] / slopes[0])
    return bool(((sign > 0) & (ratio > 1.05) & (ratio < 2)).all())


def _slope(loss: BatchLoss, z: Tensor, y: Tensor) -> Tensor | None:
    """The derivative (b,) of the loss of outputs z, with the targets as they are or in the form of z."""
    for targets in (y, y.reshape(z.shape).to(z.dtype)):
        try:
            return torch.autograd.grad(loss.function(z, targets), z)[0].reshape(-1)
        except Exception:
            continue
    return None
