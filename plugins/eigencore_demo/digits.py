"""A small trained CNN on real handwritten digits: 1,797 images of 8x8 pixels that scikit-learn brings."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eigencore.errors import PluginError
from eigencore.interfaces import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits.npz")
TRAINING, BATCH = 1437, 256


def make() -> Problem:
    """The problem `demo:digits`; its weights were made by `python -m eigencore_demo.train_digits`.

    Raises:
        PluginError: PyTorch or scikit-learn is missing.
    """
    try:
        import torch
        from torch import nn

        x, y = images()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise PluginError(
            f"demo:digits needs {missing}", hint='pip install "eigencore[torch,demo]"'
        ) from error
    model = network()
    with np.load(WEIGHTS, allow_pickle=False) as saved:
        # Assigned, not copied: the network has no storage of its own yet.
        model.load_state_dict({name: torch.from_numpy(saved[name]) for name in saved}, assign=True)
    model.eval()
    validation = (x[TRAINING:], y[TRAINING:])
    with torch.no_grad():
        correct = float((model(validation[0]).argmax(1) == validation[1]).float().mean())
    weights = sum(parameter.numel() for parameter in model.parameters())
    return Problem(
        model=model,
        data=batches(x[:TRAINING], y[:TRAINING]),
        loss=nn.CrossEntropyLoss(),
        validation=[validation],
        bounds=(0.0, 1.0),
        name="demo:digits",
        reduction="mean",
        backend="torch",
        description=f"CNN, {weights:,} weights · {TRAINING:,} images of 8x8 · "
        f"test accuracy {100 * correct:.1f} %",
    )


def images() -> tuple[Tensor, Tensor]:
    """All images (1797, 1, 8, 8), pixels from 0 to 1, and their labels, shuffled; the training ones first."""
    import torch
    from sklearn.datasets import load_digits

    digits = load_digits()
    # This old generator is the one whose numbers NumPy promises never to change.
    order = np.random.RandomState(0).permutation(len(digits.target))
    x = torch.from_numpy((digits.images[order] / 16).astype(np.float32))
    return x[:, None], torch.from_numpy(digits.target[order].astype(np.int64))


def batches(x: Tensor, y: Tensor, size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


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
