"""Trains the network of `demo:digits` and writes its weights, in half a minute:

    python -m eigencore_demo.train_digits

The same PyTorch on the same kind of processor writes the same file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from eigencore_demo.digits import TRAINING, WEIGHTS, images, network

EPOCHS, BATCH, RATE, DECAY = 60, 64, 3e-3, 1e-2


def train(epochs: int = EPOCHS, seed: int = 0) -> nn.Module:
    """The network after AdamW on the cross-entropy of the training images, its rate falling to zero."""
    torch.manual_seed(seed)
    x, y = (part[:TRAINING] for part in images())
    model = network().to_empty(device="cpu")
    for layer in model.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=DECAY)
    steps = epochs * (TRAINING // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(TRAINING)[: TRAINING // BATCH * BATCH].reshape(-1, BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x[batch]), y[batch]))
            optimizer.step()
            schedule.step()
    return model


def save(model: nn.Module, path: Path = WEIGHTS) -> None:
    np.savez_compressed(path, **{name: weight.numpy() for name, weight in model.state_dict().items()})


def main() -> None:
    torch.set_num_threads(1)  # so that sums are taken in one order
    model = train()
    save(model)
    x, y = images()
    with torch.no_grad():
        for name, part in {"training": slice(TRAINING), "test": slice(TRAINING, None)}.items():
            logits = model(x[part])
            loss, correct = nn.functional.cross_entropy(logits, y[part]), logits.argmax(1) == y[part]
            print(f"{name}: loss {float(loss):.4f}, accuracy {100 * float(correct.float().mean()):.1f} %")


if __name__ == "__main__":
    main()
