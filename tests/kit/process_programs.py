"""Programs that several processes run, on shares of one data set or on all of it; see `kit.processes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eigencore
from eigencore.interfaces import Bound, Problem
from eigencore.objectives import CrossEntropy
from kit.processes import split

SAMPLES, INPUTS, CLASSES = 23, 6, 3
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "hessian": ("hessian", {"damping": 0.1, "weight_decay": 0.05}),
    "ggn": ("ggn", {}),
    "fisher": ("fisher", {}),
    "drawn fisher": ("fisher", {"labels": 3}),
    "empirical fisher": ("empirical_fisher", {}),
    "scaled": ("scaled", {"by": "parameters"}),
    "preconditioned": ("preconditioned", {}),
    "input hessian": ("input_hessian", {"samples": 15}),
}


class TiedNetwork(nn.Module):
    """Two layers with one weight, and BatchNorm between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, INPUTS)
        self.second.weight = self.first.weight
        self.norm, self.last = nn.BatchNorm1d(INPUTS), nn.Linear(INPUTS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(x)))
        logits: Tensor = self.last(torch.tanh(self.second(hidden)))
        return logits


def network() -> TiedNetwork:
    torch.manual_seed(0)
    model = TiedNetwork().double()
    with torch.no_grad():
        model.norm.running_mean.copy_(torch.linspace(-0.3, 0.3, INPUTS))  # type: ignore[union-attr]
        model.norm.running_var.copy_(torch.linspace(0.5, 2.0, INPUTS))  # type: ignore[union-attr]
    return model


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (SAMPLES,), generator=generator)


def batches(sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    x, y = samples()
    return list(zip(split(x, sizes), split(y, sizes), strict=True))


def problem_of(data: Any, loss: Any = None, **keywords: Any) -> Problem:
    """The network with its data, and an optimizer that has made a step."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    x, y = samples()
    model.eval()
    torch.autograd.backward(nn.functional.cross_entropy(model(x), y))
    optimizer.step()
    model.zero_grad()
    loss = nn.CrossEntropyLoss() if loss is None else loss
    return Problem(model, data, loss, optimizer=optimizer, bounds=(0, 1), **keywords)


def observed(bound: Bound) -> dict[str, np.ndarray]:
    """What the processes compute together, by name."""
    found: dict[str, np.ndarray] = {}
    n = bound.operator().shape[0]
    rng = np.random.default_rng(0)
    for name, (kind, options) in KINDS.items():
        operator = bound.operator(kind, **options)
        V = torch.from_numpy(rng.standard_normal((operator.shape[0], 3)))
        found[name] = operator.matmat(V).numpy()
        again = operator.matvec(V[:, 1].clone()).numpy()
        np.testing.assert_allclose(again, found[name][:, 1], rtol=1e-10, atol=1e-12)
    hessian: Any = bound.operator()
    v = torch.from_numpy(rng.standard_normal(n))
    for step in range(3):
        sample, share = hessian.minibatch(step, seed=1, batches=2)
        found[f"minibatch {step}"] = np.append(sample.matvec(v).numpy(), share)
        found[f"minibatch gradient {step}"] = bound.gradient(minibatch=(step, 1, 2)).numpy()
    found["loss"] = np.array([bound.loss(), bound.loss(0.1 * v)])
    found["gradient"] = bound.gradient("last.*").numpy()
    layout = bound.layout()
    blocks = [[layout[0].where], [layout[1].where, layout[3].where]]
    Vs = [torch.from_numpy(rng.standard_normal((sum(s.stop - s.start for s in b), 2))) for b in blocks]
    for i, product in enumerate(hessian.block_products(blocks, Vs)):
        found[f"block {i}"] = product.numpy()
    for kind in ("hessian", "ggn"):
        of_kind: Any = bound.operator(kind)
        found[f"scores of {kind}"] = of_kind.sample_scores()
        groups, weights = [[0, 5, 5, 22], [7], [13, 3, 2]], np.linspace(0.5, 2.0, 8)
        mean = of_kind.sampled(groups, weights)
        V = torch.from_numpy(rng.standard_normal((n, 2)))
        found[f"sample of {kind}"] = mean.matmat(V).numpy()
        found[f"groups of {kind}"] = np.stack([one.numpy() for one in mean.group_products(V)])
        found[f"curvatures of {kind}"] = mean.curvatures(V)
    classifier = bound.classifier()
    x, y = classifier.samples()
    found["inputs"], found["labels"] = x.numpy(), y.numpy()
    found["first inputs"] = classifier.samples(9)[0].numpy()
    found["logits"] = classifier.logits(x).numpy()
    found["one logit"] = classifier.logits(x[:1]).numpy()
    value, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    found["values"], found["input gradients"] = value.numpy(), gradient.numpy()
    found["input products"] = classifier.input_products(CrossEntropy(), x, y)(torch.ones_like(x)).numpy()
    found["sample curvature"] = bound.sample_curvature(CrossEntropy(), v, x, y).numpy()
    return found


def on_shares(rank: int, shares: list[Any], loss: Any = None, **keywords: Any) -> dict[str, np.ndarray]:
    return observed(eigencore.bind(problem_of(shares[rank], loss, **keywords)))


def on_all(rank: int, sizes: tuple[int, ...], loss: Any = None) -> dict[str, np.ndarray]:
    return observed(eigencore.bind(problem_of(batches(sizes), loss)))


def differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """The norm of the difference of each, relative to the norm."""
    assert one.keys() == other.keys()
    return {
        name: float(np.linalg.norm(one[name] - other[name]) / (np.linalg.norm(one[name]) or 1.0))
        for name in one
    }


def answer_of(make: Callable[[], Any]) -> str:
    """The type and the text of the error that a call raises; "none" if it raises none."""
    try:
        make()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "none"
