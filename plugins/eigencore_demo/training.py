"""How the networks of the demos were trained: AdamW on the cross-entropy, its rate falling to zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

    # (model, x, y, share of the training that is over) -> x to learn from in place of x
    Disturbance: TypeAlias = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch: int,
    rate: float,
    seed: int = 0,
    disturb: Disturbance | None = None,
) -> nn.Module:
    """The model, which is on the meta device, after training from weights that the seed draws.

    What is left of an epoch after its last whole batch is not used in it.
    """
    torch.manual_seed(seed)
    model = model.to_empty(device="cpu")
    for layer in model.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    per_epoch = len(x) // batch
    steps = epochs * per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    step = 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(x))[: per_epoch * batch].reshape(-1, batch):
            inputs, labels = x[chosen], y[chosen]
            if disturb is not None:
                inputs = disturb(model, inputs, labels, step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(inputs), labels))
            optimizer.step()
            schedule.step()
            step += 1
    return model


def save(model: nn.Module, path: Path) -> None:
    np.savez_compressed(path, **{name: weight.numpy() for name, weight in model.state_dict().items()})


@torch.no_grad()
def report(model: nn.Module, x: Tensor, y: Tensor) -> str:
    """The loss and accuracy on these images, in words."""
    logits = model(x)
    correct = (logits.argmax(1) == y).float().mean()
    return f"loss {float(cross_entropy(logits, y)):.4f}, accuracy {100 * float(correct):.1f} %"
