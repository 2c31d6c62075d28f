"""How does the largest eigenvalue change during training, and how many products does a warm start save?

    python examples/training_run.py

Gradient descent with learning rate lr is stable along a direction of curvature lambda only if lambda < 2/lr.
During training, lambda_1 rises to 2/lr and then stays near it (Cohen et al., Gradient descent on neural
networks typically occurs at the edge of stability, ICLR 2021). Each checkpoint is solved twice: with a cold
start from a random vector, shown to be complete, and with a warm start from the eigenvector of the previous
checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import eigencore
from eigencore.results import Figure, Reference

RATE, STEPS, CHECKPOINTS = 0.5, 50, 12


def main() -> eigencore.AnalysisResult:
    """Trains a network, solves at every checkpoint, and prints the eigenvalues and numbers of products."""
    x, y = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    previous = None  # the eigenvector of the previous checkpoint
    products = {"cold": 0.0, "warm": 0.0}
    sharpness: list[float] = []
    print("step    loss   lambda_1   2/lr   products cold, warm")
    for checkpoint in range(CHECKPOINTS):
        # An operator belongs to the weights at its creation, and raises an error once they have changed,
        # so each checkpoint gets its own operator. A solve leaves the model and its gradients unchanged.
        A = eigencore.operator(model, [(x, y)], squared_error)
        cold = eigencore.solve(A, k=1)
        # Without completeness, a warm start saves products; a cold, complete solve shows that it has followed
        # the largest eigenvalue.
        warm = cold if previous is None else eigencore.solve(A, k=1, start=previous, complete=None)
        previous = warm.vectors
        sharpness.append(warm.values[0])
        if checkpoint > 0:  # the first checkpoint has no previous eigenvector
            products["cold"] += cold.matvecs
            products["warm"] += warm.matvecs
        loss = squared_error(model(x), y).item()
        print(
            f"{checkpoint * STEPS:4d}  {loss:.4f}   {warm.values[0]:8.3f}   {2 / RATE:4.1f}"
            f"   {cold.matvecs:4.0f} {warm.matvecs:4.0f}"
        )
        for _ in range(STEPS):
            optimizer.zero_grad()
            squared_error(model(x), y).backward()
            optimizer.step()

    saved = 1 - products["warm"] / products["cold"]
    print(f"{products['cold']:.0f} products cold, {products['warm']:.0f} warm: {saved:.0%} saved")

    # A figure is data, which `plot` draws; `edge` is the threshold of gradient descent.
    edge = Reference("y", 2 / RATE, "2 / learning rate")
    series = {"x": np.arange(CHECKPOINTS) * STEPS, "largest eigenvalue": np.array(sharpness)}
    figure = Figure("line", "Sharpness", "step", "largest eigenvalue", series, references=(edge,))
    return eigencore.AnalysisResult("The largest eigenvalue rises to 2 / learning rate.", figures=(figure,))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """A thousand handwritten digits (1000, 64), centred, and their one-hot labels (1000, 10)."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:1000] / 16, dtype=torch.float32)
    return x - x.mean(0), nn.functional.one_hot(torch.tensor(labels[:1000]), 10).float()


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared error, averaged over the samples."""
    return (outputs - targets).square().sum(dim=1).mean() / 2


if __name__ == "__main__":
    main()
