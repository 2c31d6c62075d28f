"""Losses that are negative log-likelihoods of labels: their distributions, and the weight of each label.

A batch loss is sum_i w_i (-log p(y_i | z)), where z are the outputs of the model and w_i the weight of label
i, such as 1/b in a mean over b labels.

    categorical   labels y (b, ...) of outputs (b, c, ...): softmax over axis 1
    Bernoulli     labels y of the shape of the outputs: sigmoid
    Gaussian      targets y of the shape of the outputs: mean z, variance 1/2, so that -log p = (z - y)^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore.errors import UsageError


class Likelihood(Protocol):
    """The distribution of labels given the outputs, and the weights of labels in a batch loss."""

    def weights(self, z: Tensor, y: Any) -> Tensor:
        """The weight of each label in the batch loss, in the shape of the labels."""

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        """E[s s'] u for each label (z.shape): s is the derivative of -log p over z, label from p."""

    def scores(self, z: Tensor, noise: Tensor) -> Tensor:
        """s for labels drawn with uniform numbers in (0, 1) in the shape of the labels (z.shape)."""

    def along(self, s: Tensor, u: Tensor) -> Tensor:
        """s (s'u) for each label (z.shape)."""


@dataclass(frozen=True)
class Categorical:
    """Cross-entropy; its class weights count as weights of the samples that have the class as label."""

    class_weights: Tensor | None = None
    ignored: int = -100
    mean: bool = True

    def weights(self, z: Tensor, y: Tensor) -> Tensor:
        if y.is_floating_point():  # probabilities of the classes
            if self.class_weights is not None:
                raise UsageError(
                    "class weights and labels that are probabilities do not define a likelihood",
                    hint="Use the kind ggn, or leave out the class weights.",
                )
            weights = torch.ones_like(z[:, 0])
        else:
            counted = y != self.ignored
            weights = counted.to(z.dtype)
            if self.class_weights is not None:
                weights = weights * self.class_weights.to(z)[torch.where(counted, y, 0)]
        return weights / weights.sum() if self.mean else weights

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        p = torch.softmax(z, dim=1)
        return p * (u - (p * u).sum(dim=1, keepdim=True))

    def scores(self, z: Tensor, noise: Tensor) -> Tensor:
        p = torch.softmax(z, dim=1)
        drawn = (torch.cumsum(p, dim=1) < noise.unsqueeze(1)).sum(dim=1).clamp(max=z.shape[1] - 1)
        return p - functional.one_hot(drawn, z.shape[1]).movedim(-1, 1).to(z.dtype)

    def along(self, s: Tensor, u: Tensor) -> Tensor:
        return s * (s * u).sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Bernoulli:
    """Binary cross-entropy of logits."""

    element_weights: Tensor | None = None
    mean: bool = True

    def weights(self, z: Tensor, y: Any) -> Tensor:
        weights = torch.ones_like(z)
        if self.element_weights is not None:
            weights = weights * self.element_weights.to(z)
        return weights / z.numel() if self.mean else weights

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        p = torch.sigmoid(z)
        return p * (1 - p) * u

    def scores(self, z: Tensor, noise: Tensor) -> Tensor:
        p = torch.sigmoid(z)
        return p - (noise < p).to(z.dtype)

    def along(self, s: Tensor, u: Tensor) -> Tensor:
        return s * s * u


@dataclass(frozen=True)
class Gaussian:
    """Squared error."""

    mean: bool = True

    def weights(self, z: Tensor, y: Any) -> Tensor:
        return torch.full_like(z, 1 / z.numel() if self.mean else 1.0)

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        return 2 * u

    def scores(self, z: Tensor, noise: Tensor) -> Tensor:
        # 2 (z - y), where z - y is normal with variance 1/2; the inverse of the normal distribution function.
        return 2 * torch.erfinv(2 * noise - 1)

    def along(self, s: Tensor, u: Tensor) -> Tensor:
        return s * s * u


def likelihood_of(function: Any) -> Likelihood | None:
    """The likelihood of a loss function; None if it is not one of PyTorch's losses that have one."""
    if function is functional.cross_entropy:
        return Categorical()
    if function is functional.binary_cross_entropy_with_logits:
        return Bernoulli()
    if function is functional.mse_loss:
        return Gaussian()
    mean = getattr(function, "reduction", None) == "mean"
    # The exact types: a class that derives from one of them may compute something else.
    if type(function) is nn.CrossEntropyLoss:
        return Categorical(function.weight, function.ignore_index, mean)
    if type(function) is nn.BCEWithLogitsLoss and function.pos_weight is None:
        return Bernoulli(function.weight, mean)
    if type(function) is nn.MSELoss:
        return Gaussian(mean)
    return None
