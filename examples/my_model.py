"""Which eigenvalues has the Hessian of a model of my own?

    eigen analyze examples/my_model.py:make
    eigen analyze examples/my_model.py:make -k 10 --params '0.*'      # of the first layer only
    eigen analyze examples/my_model.py:make --set problem.width=64 --set problem.steps=0
    eigen analyze examples/my_model.py:make --set problem.checkpoint=weights.pt

The command calls a function, here `make`, that returns a model, its data and its loss. Its keywords are set
by --set problem.NAME=VALUE; annotations and defaults say what they may be. `checkpoint` is a keyword of every
problem: what torch.save(model.state_dict(), "weights.pt") wrote takes the place of the weights made here.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn

import eigencore


def make(width: int = 32, steps: int = 200) -> eigencore.Problem:
    """A small network that tells malignant tumours from benign ones by 30 measurements of cell nuclei."""
    x, y = tumours()
    with torch.random.fork_rng():  # a factory should not move anybody's random state
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(30, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )
    train(model, x, y, steps)

    # Whatever can be iterated again and again will do, a DataLoader without shuffling too. The operator is
    # that of the loss over all data at once, however they are cut up: the last batch has 57.
    batches = list(zip(x.split(128), y.split(128), strict=True))
    return eigencore.Problem(
        model=model,
        data=batches,
        loss=nn.CrossEntropyLoss(),
        description=f"MLP, {sum(p.numel() for p in model.parameters()):,} weights · {len(x)} tumours",
    )


def tumours() -> tuple[torch.Tensor, torch.Tensor]:
    """Measurements (569, 30), each of mean 0 and variance 1, and labels (569,)."""
    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor(StandardScaler().fit_transform(x), dtype=torch.float32), torch.tensor(y)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
