"""A small CNN trained on the 1,797 handwritten digits of 8x8 pixels that scikit-learn includes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from eigencore.interfaces import Problem
from eigencore.problems.sharing import handwritten_digits
from eigencore_demo.shipped import shipped_problem

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.npz")
TRAINING = 1437


def make() -> Problem:
    """The problem `demo:digits`, with weights from `python -m eigencore_demo.train_digits`.

    Raises:
        PluginError: PyTorch or scikit-learn is missing.
    """
    return shipped_problem("demo:digits", images, network, WEIGHTS, TRAINING)


def images() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) with pixels from 0 to 1, and labels, shuffled; the first are for training."""
    import torch

    x, y = map(torch.from_numpy, handwritten_digits())
    return x[:, None], y


def network() -> nn.Module:
    """The network on the meta device, where it has shapes but no values and draws no random numbers."""
    import torch
    from torch import nn

    with torch.device("meta"):
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 32, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3, padding=1),
            relu2=nn.ReLU(),
            halve=nn.AvgPool2d(2),
            conv3=nn.Conv2d(64, 64, 3, padding=1),
            relu3=nn.ReLU(),
            average=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(64, 10),
        )
        return nn.Sequential(layers)
