"""Trains the networks of `demo:mnist` and `demo:mnist-robust` and writes their weights, in two minutes:

    python -m eigencore_demo.train_mnist

The same PyTorch on the same kind of processor writes the same files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eigencore_demo.mnist import ROBUST_WEIGHTS, TRAINING, WEIGHTS, images, network
from eigencore_demo.training import fit, report, save

if TYPE_CHECKING:
    from torch import Tensor

EPOCHS, BATCH, RATE = 12, 100, 3e-3
ROBUST_EPOCHS, ROBUST_BATCH, ROBUST_RATE = 16, 50, 1e-2
EPS, STEPS, WARM_UP = 0.2, 7, 1 / 8  # the radius in Linf; it grows over this share of the training


def train(epochs: int = EPOCHS) -> nn.Module:
    """On the images as they are."""
    x, y = images()
    return fit(network(), x[:TRAINING], y[:TRAINING], epochs=epochs, batch=BATCH, rate=RATE)


def train_robust(epochs: int = ROBUST_EPOCHS) -> nn.Module:
    """On what PGD makes of them at every step (Madry et al., ICLR 2018, equation 2.1)."""
    x, y = images()
    return fit(
        network(),
        x[:TRAINING],
        y[:TRAINING],
        epochs=epochs,
        batch=ROBUST_BATCH,
        rate=ROBUST_RATE,
        disturb=attacked,
    )


def attacked(model: nn.Module, x: Tensor, y: Tensor, over: float) -> Tensor:
    """Of greater loss, within the radius for when this share of the training is over."""
    return pgd(model, x, y, EPS * min(1.0, over / WARM_UP), STEPS)


def pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """Images within eps of x in Linf and from 0 to 1, after steps of 2.5 eps / steps up the loss's sign.

    The start is drawn evenly from the ball. The last iterate is taken, and not the best.
    """
    found = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        found.requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(model(found), y), found)
        found = found.detach() + 2.5 * eps / steps * slope.sign()
        found = found.clamp(x - eps, x + eps).clamp(0, 1)
    return found


def main() -> None:
    torch.set_num_threads(1)  # so that sums are taken in one order
    x, y = images()
    held_out, labels = x[TRAINING:], y[TRAINING:]
    for learn, path in ((train, WEIGHTS), (train_robust, ROBUST_WEIGHTS)):
        model = learn()
        save(model, path)
        print(path.stem)
        print(f"  training: {report(model, x[:TRAINING], y[:TRAINING])}")
        print(f"  test: {report(model, held_out, labels)}")
        for eps in (0.1, 0.2, 0.3):
            found = pgd(model, held_out, labels, eps, steps=40)
            print(f"  test, attacked at {eps}: {report(model, found, labels)}")


if __name__ == "__main__":
    main()
