"""The training of the demo networks: AdamW on the cross-entropy, with a learning rate that decays to zero."""

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

    # (model, x, y, fraction of the training that is complete) -> inputs that replace x
    Perturbation: TypeAlias = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch: int,
    rate: float,
    seed: int = 0,
    perturb: Perturbation | None = None,
) -> nn.Module:
    """The model after training from random initial weights.

    The incomplete batch at the end of an epoch is left out.

    Args:
        model: a network on the meta device.
        x, y: training images and their labels.
        batch: the number of images per step.
        rate: the maximum learning rate.
        seed: the seed of the initial weights and of the order of the images.
        perturb: changes the images of a batch before each step.
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
            if perturb is not None:
                inputs = perturb(model, inputs, labels, step / steps)
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(inputs), labels))
            optimizer.step()
            schedule.step()
            step += 1
    return model


def save(model: nn.Module, path: Path) -> None:
    """Writes the model's state to a compressed .npz file, one array per name."""
    np.savez_compressed(path, **{name: weight.numpy() for name, weight in model.state_dict().items()})


@torch.no_grad()
def report(model: nn.Module, x: Tensor, y: Tensor) -> str:
    """The loss and accuracy on these images, as text."""
    logits = model(x)
    correct = (logits.argmax(1) == y).float().mean()
    return f"loss {float(cross_entropy(logits, y)):.4f}, accuracy {100 * float(correct):.1f} %"
