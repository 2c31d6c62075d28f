"""A network shipped with its weights, as a problem: images in batches, the accuracy measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eigencore.errors import PluginError
from eigencore.interfaces import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn

    Images: TypeAlias = tuple[Tensor, Tensor]

BATCH = 256


def shipped_problem(
    name: str,
    images: Callable[[], Images],
    network: Callable[[], nn.Module],
    weights: Path,
    training: int,
    note: str = "",
) -> Problem:
    """The problem of a network that has learned the first `training` images; the others are for validation.

    Args:
        images: makes all images (N, 1, h, w), pixels from 0 to 1, and their labels (N,).
        network: makes the network, on the meta device.
        weights: the .npz file of its state, an array a name.
        note: what else to say of it in its description.

    Raises:
        PluginError: a package that these need is missing.
    """
    try:
        import torch
        from torch import nn

        x, y = images()
        model = network()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise PluginError(f"{name} needs {missing}", hint='pip install "eigencore[torch,demo]"') from error
    with np.load(weights, allow_pickle=False) as saved:
        # Assigned, not copied: the network has no storage of its own yet.
        model.load_state_dict({key: torch.from_numpy(saved[key]) for key in saved}, assign=True)
    model.eval()
    held_out = x[training:], y[training:]
    with torch.no_grad():
        correct = float((model(held_out[0]).argmax(1) == held_out[1]).float().mean())
    size = sum(parameter.numel() for parameter in model.parameters())
    told = [
        f"CNN, {size:,} weights",
        f"{training:,} images of {x.shape[2]}x{x.shape[3]}",
        *([note] if note else []),
        f"test accuracy {100 * correct:.1f} %",
    ]
    return Problem(
        model=model,
        data=batches(x[:training], y[:training]),
        loss=nn.CrossEntropyLoss(),
        validation=[held_out],
        bounds=(0.0, 1.0),
        name=name,
        reduction="mean",
        backend="torch",
        description=" · ".join(told),
    )


def batches(x: Tensor, y: Tensor) -> list[Images]:
    return [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
