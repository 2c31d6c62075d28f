"""Trains the networks of `demo:mnist` and `demo:mnist-robust` and writes their weights (two minutes):

    python -m eigencore_demo.train_mnist

With the same version of PyTorch on the same type of processor, the files are identical.
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
# The attack's Linf radius and number of steps, and the fraction of training over which the radius grows.
EPS, STEPS, WARM_UP = 0.2, 7, 1 / 8


def train(epochs: int = EPOCHS) -> nn.Module:
    """The network after training on the original images."""
    x, y = images()
    return fit(network(), x[:TRAINING], y[:TRAINING], epochs=epochs, batch=BATCH, rate=RATE)


def train_robust(epochs: int = ROBUST_EPOCHS) -> nn.Module:
    """The network after training on images that PGD perturbs at every step.

    Source: Madry et al., ICLR 2018, equation 2.1.
    """
    x, y = images()
    return fit(
        network(),
        x[:TRAINING],
        y[:TRAINING],
        epochs=epochs,
        batch=ROBUST_BATCH,
        rate=ROBUST_RATE,
        perturb=attacked,
    )


def attacked(model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
    """Images of greater loss, within the radius for this stage of the training.

    Args:
        progress: the fraction of the training that is complete.
    """
    return pgd(model, x, y, EPS * min(1.0, progress / WARM_UP), STEPS)


def pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """Images within Linf distance eps of x, with pixels from 0 to 1, after sign-gradient ascent on the loss.

    The step size is 2.5 eps / steps. The start is uniformly random in the ball. The result is the last
    iterate, not the best one.
    """
    found = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        found.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(found), y), found)
        found = found.detach() + 2.5 * eps / steps * gradient.sign()
        found = found.clamp(x - eps, x + eps).clamp(0, 1)
    return found


def main() -> None:
    """Trains, saves, and prints the loss and accuracy on training, test and attacked test images."""
    torch.set_num_threads(1)  # so that sums are always evaluated in the same order
    x, y = images()
    held_out, labels = x[TRAINING:], y[TRAINING:]
    for train_network, path in ((train, WEIGHTS), (train_robust, ROBUST_WEIGHTS)):
        model = train_network()
        save(model, path)
        print(path.stem)
        print(f"  training: {report(model, x[:TRAINING], y[:TRAINING])}")
        print(f"  test: {report(model, held_out, labels)}")
        for eps in (0.1, 0.2, 0.3):
            found = pgd(model, held_out, labels, eps, steps=40)
            print(f"  test, attacked at {eps}: {report(model, found, labels)}")


if __name__ == "__main__":
    main()
