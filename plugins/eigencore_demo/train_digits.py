"""Trains the network of `demo:digits` and writes its weights (half a minute):

    python -m eigencore_demo.train_digits

With the same version of PyTorch on the same type of processor, the file is identical.
"""

from __future__ import annotations

import torch
from torch import nn

from eigencore_demo.digits import TRAINING, WEIGHTS, images, network
from eigencore_demo.training import fit, report, save

EPOCHS, BATCH, RATE = 60, 64, 3e-3


def train(epochs: int = EPOCHS) -> nn.Module:
    """The network after training on the training images."""
    x, y = images()
    return fit(network(), x[:TRAINING], y[:TRAINING], epochs=epochs, batch=BATCH, rate=RATE)


def main() -> None:
    """Trains, saves, and prints the loss and accuracy on the training and test images."""
    torch.set_num_threads(1)  # so that sums are always evaluated in the same order
    model = train()
    save(model, WEIGHTS)
    x, y = images()
    print(f"training: {report(model, x[:TRAINING], y[:TRAINING])}")
    print(f"test: {report(model, x[TRAINING:], y[TRAINING:])}")


if __name__ == "__main__":
    main()
