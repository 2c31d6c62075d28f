"""Programs that several processes run, on shares of one data set or on all of it; see `kit.processes`."""

from __future__ import annotations

import runpy
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eigencore
from eigencore.interfaces import Bound, Problem
from eigencore.objectives import CrossEntropy
from eigencore.results import Step
from kit.processes import kill_this_process, split

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


def with_mean_of_means(rank: int, shares: list[Any]) -> dict[str, np.ndarray]:
    """A broken specimen: every process weighs as much, however many samples it has."""
    from eigencore_torch.risk import Risk

    class Forgetful(Risk):
        def total(self, weight: float) -> float:
            return weight * self.processes.count

    bound = eigencore.bind(problem_of(shares[rank]))
    bound.risk.__class__ = Forgetful  # type: ignore[attr-defined]
    V = torch.from_numpy(np.random.default_rng(0).standard_normal((bound.operator().shape[0], 3)))
    return {"hessian": bound.operator(damping=0.1, weight_decay=0.05).matmat(V).numpy()}


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


def solved(rank: int, count: int, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Eigenvalues, a density, a trace, layers, attacks and the analysis of robustness."""
    problem = problem_of(batches(sizes))
    bound = eigencore.bind(problem)
    run = eigencore.analyze(
        problem,
        4,
        analyses=["density", "trace", "robustness"],
        options={"density": {"probes": 2}, "trace": {"rtol": 0.2}},
        which="LA",
    )
    assert not run.failed, run.failed
    found = {
        "eigenvalues": run.eigen.values,
        "products": np.array([run.eigen.matvecs, *(run.analyses[name].matvecs for name in run.analyses)]),
    }
    for name, result in run.analyses.items():
        numbers = [value for value in result.numbers.values() if isinstance(value, int | float)]
        found[name] = np.array([value for value in numbers if np.isfinite(value)])
        for column, rows in result.columns.items():
            if rows.dtype.kind == "f":
                found[f"{name} {column}"] = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
    for name, options in (("pgd", {"eps": 0.2}), ("ddn", {})):
        attacked = eigencore.attack(bound, name, **options)
        found[name] = attacked.inputs.numpy()
        found[f"success of {name}"] = attacked.success.astype(np.float64)
    layers = eigencore.layers(bound, 2)
    found["layers"] = np.concatenate([block.eigen.values for block in layers.blocks])
    sampled = eigencore.solve(bound, 2, samples=12)
    found["sampled"] = sampled.values
    stochastic = eigencore.solve(bound, 1, solver="accel_power", max_matvecs=30, complete=None)
    found["stochastic"] = stochastic.values
    return found


class Failing(nn.CrossEntropyLoss):
    """A loss that fails from now on, once it is told to."""

    broken = False

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        if self.broken:
            raise RuntimeError("a broken pipe in the cellar")
        return super().forward(z, y)


# What the first process reports for each fault; and whether the second one, which has it, reports the same.
FAULTS: dict[str, tuple[str, bool]] = {
    "no data": ("data is empty in process 1", True),
    "other weights": ("the weights differ between the processes 0 and 1: last.bias", True),
    "other models": ("only that of process 1 has more.", True),
    "other options": ("microbatch differs between the processes: None in process 0, 4 in process 1", True),
    "other seeds": ("seed differs between the processes: 0 in process 0, 1 in process 1", True),
    "failing loss": ("process 1 failed", False),
    "bad label": ("process 1 failed", False),
    "no optimizer": ("process 1 failed: the kind preconditioned needs the optimizer", False),
    "other vector": ("the processes compute a product from different numbers", True),
    "another product": ("the processes no longer run the same program", True),
    "interrupted": ("KeyboardInterrupt: process 1 was interrupted", False),
    "repeated samples": ("repeats samples: 23 samples don't divide by 2 processes", True),
    "too few samples": ("the data have 1 samples, fewer than the 2 processes", True),
    "not the same data": ("torch.processes is whole, but data differs between the processes 0 and 1", True),
}
OWN = {
    "failing loss": "a broken pipe in the cellar",
    "bad label": "label",
    "no optimizer": "the kind preconditioned needs the optimizer",
    "interrupted": "KeyboardInterrupt",
}


def faults(rank: int) -> dict[str, Any]:
    """What each process reports if something is wrong in the second one."""
    wrong = rank == 1
    data = batches((10, 8, 5))
    own = data[:2] if rank == 0 else data[2:]
    bound = eigencore.bind(problem_of(own))
    hessian = bound.operator()
    v = torch.ones(hessian.shape[0], dtype=torch.float64)
    found: dict[str, Any] = {}
    found["no data"] = answer_of(lambda: eigencore.bind(problem_of([] if wrong else own)).operator())

    def other_weights() -> None:
        problem = problem_of(own)
        with torch.no_grad():
            problem.model.last.bias += wrong * 1e-12
        eigencore.bind(problem)

    found["other weights"] = answer_of(other_weights)

    def other_models() -> None:
        problem = problem_of(own)
        if wrong:
            problem.model.more = nn.Linear(2, 2)
        eigencore.bind(problem)

    found["other models"] = answer_of(other_models)
    microbatch = 4 if wrong else None
    found["other options"] = answer_of(lambda: eigencore.bind(problem_of(own), microbatch=microbatch))
    found["other seeds"] = answer_of(lambda: eigencore.solve(hessian, 2, seed=rank))
    loss = Failing()
    fails = eigencore.bind(problem_of(own, loss))
    fails.operator().matvec(v)

    def failing() -> None:
        operator = fails.operator()
        loss.broken = wrong
        eigencore.solve(operator, 2)

    found["failing loss"] = answer_of(failing)
    x, y = own[0]
    labels = torch.full_like(y, 7) if wrong else y
    found["bad label"] = answer_of(lambda: eigencore.bind(problem_of([(x, labels)])).operator())
    problem = problem_of(own)
    if wrong:
        problem = replace(problem, optimizer=None)
    found["no optimizer"] = answer_of(lambda: eigencore.bind(problem).operator("preconditioned"))
    found["other vector"] = answer_of(lambda: hessian.matvec(v + wrong))
    found["another product"] = answer_of(lambda: bound.gradient() if wrong else hessian.matvec(v))

    def interrupted(step: Step) -> None:
        if wrong and step.matvecs > 3:
            raise KeyboardInterrupt

    found["interrupted"] = answer_of(lambda: eigencore.solve(hessian, 2, progress=interrupted))
    dataset = torch.utils.data.TensorDataset(*samples())
    sampler: Any = torch.utils.data.DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=False)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, sampler=sampler)
    found["repeated samples"] = answer_of(lambda: eigencore.bind(problem_of(loader)).operator())
    single = [(x[:1], y[:1])] if rank == 0 else [(batches((1, 22))[0])]
    found["too few samples"] = answer_of(lambda: eigencore.bind(problem_of(single)).operator())
    found["not the same data"] = answer_of(
        lambda: eigencore.bind(problem_of(own), processes="whole").operator()
    )
    found["afterwards"] = hessian.matvec(v).numpy()
    return found


def killed(rank: int) -> None:
    """The second process is killed in the middle of a solve."""
    hessian = eigencore.bind(problem_of(batches((10, 8, 5)))).operator()

    def kill(step: Step) -> None:
        if rank == 1 and step.matvecs > 3:
            kill_this_process()

    eigencore.solve(hessian, 2, progress=kill)


def stopped(rank: int) -> tuple[Any, ...]:
    """A limit on time, on processes of different speed, and Ctrl-C in one of them."""
    hessian = eigencore.bind(problem_of(batches((10, 8, 5)))).operator()

    def slow(step: Step) -> None:
        time.sleep(0.05 * rank)

    result = eigencore.solve(hessian, 20, tol=1e-14, max_seconds=0.5, progress=slow)

    def press(step: Step) -> None:
        if rank == 1 and step.matvecs > 5:
            signal.raise_signal(signal.SIGINT)

    try:
        eigencore.solve(hessian, 20, tol=1e-14, progress=press)
    except KeyboardInterrupt as error:
        ended, spent = type(error).__name__, error.result.matvecs  # type: ignore[attr-defined]
    return str(result.status.value), (result.matvecs, spent), ended


def language_model(rank: int, cuts: list[int]) -> dict[str, np.ndarray]:
    """A tiny GPT-2 with padded batches, whose losses are means over tokens, wrapped as for training."""
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "gpt2_tiny.py"), run_name="example")
    model, data = example["model"]().double(), example["sequences"]()
    if torch.distributed.is_initialized():
        model = nn.parallel.DistributedDataParallel(model)
        data = data[cuts[rank] : cuts[rank + 1]]
    bound = eigencore.bind(Problem(model, data, "model"))
    hessian = bound.operator()
    v = torch.from_numpy(np.random.default_rng(0).standard_normal(hessian.shape[0]))
    return {"hessian": hessian.matvec(v).numpy(), "loss": np.array([bound.loss()])}


def class_weights(rank: int, shares: list[Any]) -> dict[str, np.ndarray]:
    """A mean with class weights, which are measured, and a sum; a process may have a single batch."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64))
    found = {}
    for name, one in (("weighted", loss), ("sum", nn.CrossEntropyLoss(reduction="sum"))):
        bound = eigencore.bind(problem_of(shares[rank], one))
        hessian = bound.operator()
        v = torch.from_numpy(np.random.default_rng(0).standard_normal(hessian.shape[0]))
        found[name] = hessian.matvec(v).numpy()
        found[f"{name} loss"] = np.array([bound.loss()])
    for name, validation in (("whole", batches((4, 19))), ("shared", shares[rank])):
        problem = problem_of(shares[rank], validation=validation)
        x, y = eigencore.bind(problem).classifier().samples()
        found[f"{name} validation"] = np.column_stack([x.numpy(), y.numpy()])
    return found
