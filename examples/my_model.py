"""What are the top eigenvalues of the Hessian of my own model?

    eigen analyze examples/my_model.py:make
    eigen analyze examples/my_model.py:make -k 10 --params '0.*'      # first layer only
    eigen analyze examples/my_model.py:make --set problem.width=64 --set problem.steps=0
    eigen analyze examples/my_model.py:make --set problem.checkpoint=weights.pt

The command calls a function, here `make`, that returns a model, its data and its loss. Its keywords are set
with --set problem.NAME=VALUE; their annotations and defaults determine the allowed values. Every PyTorch
problem also has the keyword `checkpoint`: a file written by torch.save(model.state_dict(), "weights.pt"),
whose weights replace those of the model.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn

import eigencore


def make(width: int = 32, steps: int = 200) -> eigencore.Problem:
    """A small network that classifies tumours as malignant or benign from 30 measurements of cell nuclei."""
    x, y = tumours()
    with torch.random.fork_rng():  # so that the caller's random state does not change
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(30, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )
    train(model, x, y, steps)

    # The data can be anything that can be iterated many times, such as a DataLoader without shuffling. The
    # operator is that of the loss over all data and does not depend on the batches, which may have unequal
    # sizes: the last one here has 57 samples.
    batches = list(zip(x.split(128), y.split(128), strict=True))
    return eigencore.Problem(
        model=model,
        data=batches,
        loss=nn.CrossEntropyLoss(),
        description=f"MLP, {sum(p.numel() for p in model.parameters()):,} weights · {len(x)} tumours",
    )


def tumours() -> tuple[torch.Tensor, torch.Tensor]:
    """Measurements (569, 30), standardised to mean 0 and variance 1, and labels (569,)."""
    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor(StandardScaler().fit_transform(x), dtype=torch.float32), torch.tensor(y)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """Trains on all data at once with AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
