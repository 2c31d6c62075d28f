"""Losses that are negative log-likelihoods of labels: their distributions, and the weight of each label.

A batch loss is sum_i w_i (-log p(y_i | z)), where z are the outputs of the model and w_i the weight of label
i, such as 1/b in a mean over b labels.

    categorical   labels y (b, ...) of outputs (b, c, ...): softmax over axis 1
    Bernoulli     labels y of the shape of the outputs: sigmoid
    Gaussian      targets y of the shape of the outputs: mean z, variance 1/2, so that -log p = (z - y)^2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore.errors import ProblemError


class Likelihood(Protocol):
    """The distribution of labels given the outputs, and the weights of labels in a batch loss.

    Attributes:
        mean: whether a batch loss is a mean over its labels, weighted or not; otherwise a sum.
    """

    @property
    def mean(self) -> bool: ...

    def weights(self, z: Tensor, y: Any) -> Tensor:
        """The weight of each label in the batch loss, in the shape of the labels."""

    def trace(self, z: Tensor) -> Tensor:
        """The trace of the covariance of each label, in the shape of the labels, in float64 on the host."""

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        """E[s s'] u for each label (z.shape): s is the derivative of -log p over z, label from p."""

    def sampled(self, z: Tensor, noise: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        """Multiplies the mean of s s' over drawn labels, for each label, by u (z.shape).

        Args:
            noise: for each draw, uniform numbers in (0, 1) in the shape of the labels.
        """


@dataclass(frozen=True)
class Categorical:
    """Cross-entropy; its class weights count as weights of the samples that have the class as label."""

    class_weights: Tensor | None = None
    ignored: int = -100
    mean: bool = True
    smoothing: float = 0.0

    def weights(self, z: Tensor, y: Tensor) -> Tensor:
        probabilities = y.is_floating_point()
        if self.class_weights is not None and (probabilities or self.smoothing):
            what = "labels that are probabilities" if probabilities else "label smoothing"
            raise ProblemError(
                f"class weights and {what} do not define a likelihood",
                hint="Use the kind ggn, or leave out the class weights.",
            )
        if probabilities:
            weights = torch.ones_like(z[:, 0])
        else:
            counted = y != self.ignored
            weights = counted.to(z.dtype)
            if self.class_weights is not None:
                weights = weights * self.class_weights.to(z)[torch.where(counted, y, 0)]
        return weights / weights.sum() if self.mean else weights

    def trace(self, z: Tensor) -> Tensor:
        # In float32, 1 - sum p^2 would be rounding errors for the samples that a trained network is sure of.
        return 1 - torch.softmax(z.detach().cpu().double(), dim=1).square().sum(dim=1)

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        p = torch.softmax(z, dim=1)
        return p * (u - (p * u).sum(dim=1, keepdim=True))

    def sampled(self, z: Tensor, noise: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        p = torch.softmax(z, dim=1)
        sums = torch.cumsum(p, dim=1)
        share = torch.zeros_like(p)  # of the drawn labels that are of each class
        for one in noise:
            drawn = (sums < one.unsqueeze(1)).sum(dim=1, keepdim=True).clamp(max=z.shape[1] - 1)
            share.scatter_add_(1, drawn, torch.full_like(one, 1 / len(noise)).unsqueeze(1))

        def multiply(u: Tensor) -> Tensor:
            # The mean of (p - e)(p - e)'u over the drawn classes, with the unit vectors e.
            pu, eu = ((q * u).sum(dim=1, keepdim=True) for q in (p, share))
            return p * (pu - eu) + share * (u - pu)

        return multiply


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

    def trace(self, z: Tensor) -> Tensor:
        z = z.detach().cpu().double()
        return torch.sigmoid(z) * torch.sigmoid(-z)

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        p = torch.sigmoid(z)
        return p * (1 - p) * u

    def sampled(self, z: Tensor, noise: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        p = torch.sigmoid(z)
        squares = sum(((p - (one < p).to(z.dtype)) ** 2 for one in noise), torch.zeros_like(p)) / len(noise)
        return lambda u: squares * u


@dataclass(frozen=True)
class Gaussian:
    """Squared error."""

    mean: bool = True

    def weights(self, z: Tensor, y: Any) -> Tensor:
        return torch.full_like(z, 1 / z.numel() if self.mean else 1.0)

    def trace(self, z: Tensor) -> Tensor:
        return torch.full(z.shape, 2.0, dtype=torch.float64)

    def covariance(self, z: Tensor, u: Tensor) -> Tensor:
        return 2 * u

    def sampled(self, z: Tensor, noise: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        # s = 2 (z - y), where z - y is normal with variance 1/2; the inverse of the normal distribution.
        squares = sum(((2 * torch.erfinv(2 * one - 1)) ** 2 for one in noise), torch.zeros_like(z))
        return lambda u: squares / len(noise) * u


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
        return Categorical(function.weight, function.ignore_index, mean, function.label_smoothing)
    if type(function) is nn.BCEWithLogitsLoss and function.pos_weight is None:
        return Bernoulli(function.weight, mean)
    if type(function) is nn.MSELoss:
        return Gaussian(mean)
    return None
