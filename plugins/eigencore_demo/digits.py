"""A small trained CNN on real handwritten digits: 1,797 images of 8x8 pixels that scikit-learn brings."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Problem
from eigencore_demo.shipped import shipped_problem

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.npz")
TRAINING = 1437


def make() -> Problem:
    """The problem `demo:digits`; its weights were made by `python -m eigencore_demo.train_digits`.

    Raises:
        PluginError: PyTorch or scikit-learn is missing.
    """
    return shipped_problem("demo:digits", images, network, WEIGHTS, TRAINING)


def images() -> tuple[Tensor, Tensor]:
    """All images (1797, 1, 8, 8), pixels from 0 to 1, and their labels, shuffled; the training ones first."""
    import torch
    from sklearn.datasets import load_digits

    digits = load_digits()
    # This old generator is the one whose numbers NumPy promises never to change.
    order = np.random.RandomState(0).permutation(len(digits.target))
    x = torch.from_numpy((digits.images[order] / 16).astype(np.float32))
    return x[:, None], torch.from_numpy(digits.target[order].astype(np.int64))


def network() -> nn.Module:
    """The network, on the meta device: shapes without numbers, so that no random state is touched."""
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
