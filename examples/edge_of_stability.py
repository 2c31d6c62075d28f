"""Does training stay at the edge of stability when the learning rate changes?

    python examples/edge_of_stability.py

A monitor follows the largest eigenvalues of the Hessian while gradient descent trains a network. They rise to
2 / learning rate and stay there; when the learning rate is halved, they rise to the new threshold (Cohen et
al., Gradient descent on neural networks typically occurs at the edge of stability, ICLR 2021).
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import eigencore

STEPS, HALVED = 1500, 200


def main() -> eigencore.Monitor:
    """Trains a network on 200 digits, and prints the looks of the monitor."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:200] / 16, dtype=torch.float32)
    x, y = x - x.mean(0), nn.functional.one_hot(torch.tensor(labels[:200]), 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.8)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [HALVED], gamma=0.5)
    monitor = eigencore.Monitor(model, squared_error, [(x, y)], every=25)

    print("step    loss  lambda_1  lambda_2  2 / learning rate  critical sharpness")
    for _ in range(STEPS):
        optimizer.zero_grad()
        squared_error(model(x), y).backward()
        optimizer.step()
        row = monitor.step(optimizer)
        schedule.step()
        if row is not None and row.step % 100 == 0:
            at = row.numbers
            second = f"{at['lambda_2']:8.2f}" if "lambda_2" in at else "        "
            print(
                f"{row.step:4d}  {at['loss']:.4f}  {at['lambda_max']:8.2f}  {second}  {at['threshold']:17.2f}"
                f"  {at['critical_sharpness']:18.2f}"
            )
    return monitor


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared error, averaged over the samples."""
    return (outputs - targets).square().sum(dim=1).mean() / 2


if __name__ == "__main__":
    main()
