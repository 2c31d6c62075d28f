"""Problems from networks that are shipped with trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eigencore.interfaces import Problem
from eigencore.problems.sharing import requires_extras, split_batches

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
    """The problem of a network that was trained on the first `training` images and is validated on the rest.

    Args:
        images: returns all images (N, 1, h, w), with pixels from 0 to 1, and their labels (N,).
        network: returns the network on the meta device.
        weights: the .npz file of the network's state, one array per name.
        note: an additional remark for the problem's description.

    Raises:
        PluginError: a required package is missing.
    """
    with requires_extras(name, "torch,demo"):
        import torch
        from torch import nn

        x, y = images()
        model = network()
    with np.load(weights, allow_pickle=False) as saved:
        # assign=True, because parameters on the meta device have no storage to copy into.
        model.load_state_dict({key: torch.from_numpy(saved[key]) for key in saved}, assign=True)
    model.eval()
    held_out = x[training:], y[training:]
    with torch.no_grad():
        correct = float((model(held_out[0]).argmax(1) == held_out[1]).float().mean())
    size = sum(parameter.numel() for parameter in model.parameters())
    parts = [
        f"CNN, {size:,} weights",
        f"{training:,} images of {x.shape[2]}x{x.shape[3]}",
        *([note] if note else []),
        f"test accuracy {100 * correct:.1f} %",
    ]
    return Problem(
        model=model,
        data=split_batches(x[:training], y[:training], BATCH),
        loss=nn.CrossEntropyLoss(),
        validation=[held_out],
        bounds=(0.0, 1.0),
        name=name,
        reduction="mean",
        backend="torch",
        description=" · ".join(parts),
    )
