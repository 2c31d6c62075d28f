"""The mean over drawn samples on PyTorch: products, groups and curvatures are those of single samples."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eigencore
from eigencore.errors import CapabilityError, ProblemError
from eigencore.interfaces import MeanOperator, Problem
from eigencore.results import EigenResult
from kit.torch_networks import CLASSES, NETWORKS, SAMPLES, Made, dense, made, made_of, matrix

GROUPS = [[3, 0, 14], [7, 7, 8, 12], [1]]
DRAWN = [s for group in GROUPS for s in group]
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.3, 0.3, 4.0, 1.5, 0.7])


def operator(problem: Problem, kind: str = "hessian", **options: Any) -> MeanOperator:
    bound = eigencore.bind(problem, backend="torch", **options.pop("torch", {}))
    A = bound.operator(kind, **options)
    assert isinstance(A, MeanOperator)
    return A


def of_each_sample(problem: Problem, kind: str, **options: Any) -> list[Tensor]:
    """The matrix of the loss of each sample alone, from a problem that has only this sample."""
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    alone = [replace(problem, data=[(x[s : s + 1], y[s : s + 1])]) for s in range(len(x))]
    return [matrix(one, kind, **options) for one in alone]


def check(problem: Problem, kind: str, *, total: float = 1.0, **options: Any) -> None:
    """Compares the mean over drawn samples with that of the matrices of single samples.

    Args:
        total: the number that the sum over the samples of the data is divided by in their mean.
    """
    each = [total * one for one in of_each_sample(problem, kind)]
    A = operator(problem, kind, **options)
    mean = A.sampled(GROUPS, WEIGHTS)
    shift = options.get("damping", 0.0) + options.get("weight_decay", 0.0)
    eye = torch.eye(A.shape[0], dtype=torch.float64)
    weighted = [w * each[s] for s, w in zip(DRAWN, WEIGHTS.tolist(), strict=True)]
    scale = max(float(one.abs().max()) for one in each)
    expected = sum(weighted) / len(DRAWN) + shift * eye  # type: ignore[operator]
    torch.testing.assert_close(dense(mean), expected, rtol=1e-8, atol=1e-9 * scale)
    assert mean.shift == shift
    starts = np.cumsum([0, *map(len, GROUPS)])
    V = torch.randn(A.shape[0], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for group, start, product in zip(GROUPS, starts, mean.group_products(V), strict=False):
        part = sum(weighted[start : start + len(group)]) / len(group)  # type: ignore[operator]
        torch.testing.assert_close(product, part @ V, rtol=1e-8, atol=1e-8 * scale)
    own = mean.group_products(lambda number: V[:, number : number + 1])
    for number, product in enumerate(mean.group_products(V)):
        torch.testing.assert_close(next(own), product[:, number : number + 1])
    curvatures = np.array([[float(v @ one @ v) for v in V.T] for one in weighted])
    assert mean.curvatures(V) == pytest.approx(curvatures, rel=1e-7, abs=1e-8 * scale * A.shape[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_hessian_of_drawn_samples_is_the_mean_of_those_of_the_samples(name: str) -> None:
    check(made_of(name, reduction="mean").problem, "hessian")


@pytest.mark.parametrize("name", ["mlp", "batch_norm", "attention", "tied", "frozen", "weight_norm"])
def test_the_gauss_newton_matrix_of_drawn_samples_is_the_mean_of_those_of_the_samples(name: str) -> None:
    check(made_of(name, reduction="mean").problem, "ggn")


def regression(loss: Any, outputs: int = CLASSES, **fields: Any) -> Made:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    x, y = torch.randn(SAMPLES, 4).double(), torch.rand(SAMPLES, outputs).double()
    return made(model, x, y, loss, **fields)


def own_loss(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y).pow(4).sum(dim=1) + outputs.sum(dim=1).sin()).mean()


LOSSES = {
    "mse": nn.MSELoss(),
    "bce": nn.BCEWithLogitsLoss(),
    "function": nn.functional.mse_loss,
    "own": own_loss,
    "huber": nn.HuberLoss(),
    "probabilities": lambda z, y: nn.functional.cross_entropy(z, y.softmax(dim=1)),
}


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("name", LOSSES)
def test_other_losses(name: str, kind: str) -> None:
    check(regression(LOSSES[name], reduction="mean").problem, kind)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss(reduction="sum")])
def test_the_loss_over_all_data_may_be_a_sum(loss: Any) -> None:
    if isinstance(loss, nn.MSELoss):
        problem = regression(loss, reduction="sum").problem
    else:
        problem = made_of("mlp", loss, reduction="sum").problem
    check(problem, "hessian", total=SAMPLES)
    everything = operator(problem).sampled([range(SAMPLES)], np.ones(SAMPLES))
    torch.testing.assert_close(dense(everything), matrix(problem, "hessian"))


def test_a_reduction_that_was_inferred_and_a_loss_that_calls_the_model() -> None:
    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])

    pairs = made_of("mlp").problem
    named = replace(pairs, data=[{"x": x, "y": y} for x, y in pairs.data], loss=loss)
    for problem in (pairs, named):
        A = operator(problem)
        A.sample_scores()
        one, other = (dense(B.sampled(GROUPS, np.ones(8))) for B in (A, operator(pairs)))
        torch.testing.assert_close(one, other)


class Tokens(nn.Module):
    """Logits (b, CLASSES, 3) of sequences of three tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(6, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(torch.tanh(self.embed(x)))
        return z.transpose(1, 2)


def sequences(**loss: Any) -> Problem:
    torch.manual_seed(4)
    x, y = torch.randint(6, (SAMPLES, 3)), torch.randint(CLASSES, (SAMPLES, 3))
    if "ignore_index" in loss:
        y[2, 1] = y[9, 0] = y[9, 1] = loss["ignore_index"]
    return made(Tokens().double(), x, y, nn.CrossEntropyLoss(**loss), reduction="mean").problem


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_a_sample_of_sequences_is_a_sequence(kind: str) -> None:
    check(sequences(), kind)


@pytest.mark.parametrize(
    "options", [{"damping": 0.5}, {"weight_decay": 0.25}, {"damping": 1, "weight_decay": 2}]
)
def test_what_is_added_to_the_operator_is_no_part_of_the_samples(options: dict[str, float]) -> None:
    check(made_of("mlp", reduction="mean").problem, "ggn", **options)


@pytest.mark.parametrize("torch_options", [{"microbatch": 2}, {"memory": "none"}, {"join": 9}])
def test_other_ways_to_compute_the_operator(torch_options: dict[str, Any]) -> None:
    check(made_of("mlp", reduction="mean").problem, "hessian", torch=torch_options)


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_all_samples_once_are_the_operator(kind: str) -> None:
    problem = made_of("batch_norm", reduction="mean").problem
    everything = operator(problem, kind).sampled(
        np.array_split(np.arange(SAMPLES)[::-1], 4), np.ones(SAMPLES)
    )
    torch.testing.assert_close(dense(everything), matrix(problem, kind), rtol=1e-12, atol=1e-14)


def test_a_scaled_hessian() -> None:
    problem = made_of("mlp", reduction="mean").problem
    A = operator(problem, "scaled")
    everything = A.sampled([range(SAMPLES)], np.ones(SAMPLES))
    whole = matrix(problem, "scaled")
    torch.testing.assert_close(dense(everything), whole)
    V = torch.randn(A.shape[0], 2, dtype=torch.float64)
    assert everything.curvatures(V).mean(axis=0) == pytest.approx((V * (whole @ V)).sum(dim=0).numpy())
    with pytest.raises(CapabilityError, match="both a scaling and weight decay"):
        operator(problem, "scaled", weight_decay=0.1).sample_scores()


def test_modules_that_the_loss_uses_are_in_evaluation_mode() -> None:
    torch.manual_seed(5)
    teacher = nn.Sequential(nn.Linear(4, CLASSES), nn.Dropout(0.5)).double().train()

    def distilled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        with torch.no_grad():
            targets = teacher(x).softmax(dim=1)
        return nn.functional.cross_entropy(model(x), targets) + 0 * y.sum()

    problem = replace(made_of("mlp", reduction="mean").problem, loss=distilled, call="loss(model, batch)")
    check(problem, "hessian")
    assert teacher.training


# -- scores ------------------------------------------------------------------------------------------------


def trace_in_outputs(problem: Problem) -> list[float]:
    """The trace of the Hessian of each sample's loss over its outputs, by autograd."""
    traces = []
    for x, y in problem.data:
        for s in range(len(x)):
            z = problem.model.eval()(x[s : s + 1]).detach()
            H = torch.autograd.functional.hessian(lambda u, y=y[s : s + 1]: problem.loss(u, y), z)
            traces.append(float(torch.diagonal(H.reshape(z.numel(), -1)).sum()))
    return traces


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(made_of("mlp", reduction="mean").problem, id="cross-entropy"),
        pytest.param(regression(nn.BCEWithLogitsLoss(), reduction="mean").problem, id="bce"),
        pytest.param(sequences(), id="sequences"),
    ],
)
def test_scores_are_proportional_to_the_trace_of_the_hessian_over_the_outputs(problem: Problem) -> None:
    scores, traces = operator(problem).sample_scores(), np.array(trace_in_outputs(problem))
    assert scores / scores.sum() == pytest.approx(traces / traces.sum())


def test_scores_are_equal_where_nothing_is_known() -> None:
    for loss in (nn.MSELoss(), own_loss):
        scores = operator(regression(loss, reduction="mean").problem).sample_scores()
        assert len(scores) == SAMPLES
        assert np.ptp(scores) == 0


def test_confident_samples_in_float32_still_have_scores() -> None:
    problem = made_of("mlp", reduction="mean").problem
    sharp = copy.deepcopy(problem.model).float()
    with torch.no_grad():
        sharp[2].weight.mul_(40)
    data = [(x.float(), y) for x, y in problem.data]
    precise = replace(problem, model=copy.deepcopy(sharp).double())
    scores = operator(replace(problem, model=sharp, data=data)).sample_scores()
    reference = operator(precise).sample_scores()
    assert reference.min() < 1e-8
    assert scores == pytest.approx(reference, rel=1e-3)


# -- solving -----------------------------------------------------------------------------------------------


def test_solving_changes_nothing_and_repeats_itself() -> None:
    made_ = made_of("batch_norm", reduction="mean")
    before = copy.deepcopy(made_.problem.model.state_dict())
    found: list[EigenResult] = []
    for _ in range(2):
        state = torch.get_rng_state()
        found.append(eigencore.solve(made_.problem, 2, samples=12))
        assert torch.equal(torch.get_rng_state(), state)
    assert found[0].sampling == found[1].sampling
    for name, value in made_.problem.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in made_.problem.model.parameters())


def test_weights_that_changed_are_refused() -> None:
    problem = made_of("mlp", reduction="mean").problem
    A = operator(problem)
    mean = A.sampled(GROUPS, WEIGHTS)
    with torch.no_grad():
        problem.model[0].weight.add_(1)
    for use in (A.sample_scores, lambda: mean.curvatures(torch.ones(A.shape[0], 1).double())):
        with pytest.raises(ProblemError, match="weights"):
            use()


# -- what is refused ---------------------------------------------------------------------------------------


def weighted_classes() -> Problem:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0]).double())
    return made_of("mlp", loss, reduction="mean").problem


REFUSED: dict[str, tuple[Problem, dict[str, Any]]] = {
    "is not the mean or the sum": (weighted_classes(), {"check": False}),
    "is not the mean or the sum of": (sequences(ignore_index=-100), {"check": False}),
    "weighted mean of batches": (made_of("mlp", weight=lambda batch: len(batch[0])).problem, {}),
    "batch_norm=batch": (
        made_of("batch_norm", reduction="mean").problem,
        {"batch_norm": "batch", "check": False},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_loss_that_is_no_mean_over_samples_is_refused(message: str) -> None:
    problem, options = REFUSED[message]
    bound = eigencore.bind(problem, backend="torch", **options)
    with pytest.raises(CapabilityError, match=message):
        eigencore.solve(bound, 1, samples=10)


def test_samples_of_different_lengths_are_refused() -> None:
    problem = sequences()
    x = [torch.randint(6, (4, length)) for length in (3, 5)]
    ragged = replace(problem, data=[(one, one % CLASSES) for one in x])
    with pytest.raises(CapabilityError, match="differ in shape"):
        operator(ragged).sampled([[0, 7], [1, 2]], np.ones(4))


@pytest.mark.parametrize("kind", ["fisher", "empirical_fisher"])
def test_other_kinds_are_refused(kind: str) -> None:
    A = eigencore.bind(made_of("mlp", reduction="mean").problem, backend="torch").operator(kind)
    with pytest.raises(CapabilityError, match="hessian or ggn"):
        eigencore.solve(A, 1, samples=10)


def test_products_by_differences_are_refused() -> None:
    bound = eigencore.bind(made_of("mlp", reduction="mean").problem, backend="torch", derivative="difference")
    with pytest.raises(CapabilityError, match="hessian or ggn"):
        eigencore.solve(bound, 1, samples=10)
