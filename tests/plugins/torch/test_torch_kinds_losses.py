"""Kinds of operator for losses of many kinds, in float64 against dense references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
import eigencore_torch.kinds.fisher as fisher_module
from eigencore import arrays
from eigencore_torch.kinds.likelihoods import Bernoulli, Categorical, Gaussian
from kit.torch_networks import (
    CLASSES,
    SAMPLES,
    SIZES,
    dense,
    difference,
    evenly,
    made,
    made_of,
    matrix,
    mlp,
    samples,
)

TOLERANCE, MEASURED = 1e-9, 1e-6  # if the weights of batches are measured from gradients
WEIGHTS = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)


def seeded(make):
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        return make()


class Tokens(nn.Module):
    """Logits (b, c, T) of sequences (b, T, 4), which depend on earlier steps, too."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 3, batch_first=True), nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head(self.cell(x)[0]).movedim(-1, 1)


def tokens(loss, ignored=None, **fields):
    def make():
        x, y = torch.randn(SAMPLES, 4, 4).double(), torch.randint(CLASSES, (SAMPLES, 4))
        if ignored is not None:
            y[torch.rand(y.shape) < 0.4] = ignored
            y[:, 0] = torch.randint(CLASSES, (SAMPLES,))
        return made(Tokens().double(), x, y, loss, **fields)

    return seeded(make)


# -- cross-entropy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_class_weights_weigh_the_samples(reduction):
    loss = nn.CrossEntropyLoss(WEIGHTS, reduction=reduction)
    one = made_of("mlp", loss)
    w = WEIGHTS[one.dense.y]
    w, tolerance = (w / w.sum(), MEASURED) if reduction == "mean" else (w, TOLERANCE)
    bound = eigencore.bind(one.problem)
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < tolerance
    assert difference(dense(bound.operator("fisher")), one.dense.fisher(w)) < tolerance
    expected = one.dense.empirical_fisher(w, functional.cross_entropy)
    assert difference(dense(bound.operator("empirical_fisher")), expected) < tolerance
    expected = one.dense.input_hessian() if reduction == "mean" else None
    if expected is not None:
        assert difference(dense(bound.operator("input_hessian")), expected) < tolerance


def test_class_weights_with_the_weight_of_each_batch_given():
    one = made_of("mlp", nn.CrossEntropyLoss(WEIGHTS), weight=lambda batch: float(WEIGHTS[batch[1]].sum()))
    w = WEIGHTS[one.dense.y]
    assert difference(matrix(one.problem, "fisher"), one.dense.fisher(w / w.sum())) < TOLERANCE
    assert difference(matrix(one.problem, "ggn"), one.dense.ggn()) < TOLERANCE


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ignored_labels_have_no_weight(smoothing):
    one = made_of("mlp", nn.CrossEntropyLoss(ignore_index=1, label_smoothing=smoothing))
    w = (one.dense.y != 1).double()
    bound = eigencore.bind(one.problem)
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < MEASURED
    assert difference(dense(bound.operator("fisher")), one.dense.fisher(w / w.sum())) < MEASURED
    kept = one.dense.y != 1
    one.dense.x, one.dense.y = one.dense.x[kept], one.dense.y[kept]
    expected = one.dense.empirical_fisher(evenly(int(kept.sum())))
    assert difference(dense(bound.operator("empirical_fisher")), expected) < MEASURED
    n = int(kept.sum()) * 4
    blocks = dense(bound.operator("input_hessian"))
    rows = kept.repeat_interleave(4)
    assert difference(blocks[rows][:, rows], one.dense.input_hessian()) < MEASURED
    assert blocks[rows].shape[0] == n
    assert not blocks[~rows].any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_labels_of_tokens(reduction):
    one = tokens(nn.CrossEntropyLoss(reduction=reduction))
    each = 1 / (SAMPLES * 4) if reduction == "mean" else 1.0
    label_weights = torch.full((SAMPLES, 4), each, dtype=torch.float64)
    bound = eigencore.bind(one.problem)
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < TOLERANCE
    assert difference(dense(bound.operator("fisher")), one.dense.fisher(label_weights)) < TOLERANCE
    weights = evenly() if reduction == "mean" else torch.ones(SAMPLES)
    expected = one.dense.empirical_fisher(weights)
    assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_token_means_with_ignored_labels(weights):
    one = tokens(nn.CrossEntropyLoss(weights, ignore_index=-1), ignored=-1)
    w = (one.dense.y != -1).double()
    if weights is not None:
        w = w * weights[one.dense.y.clamp(min=0)]
    w = w / w.sum()
    bound = eigencore.bind(one.problem)
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < MEASURED
    assert difference(dense(bound.operator("fisher")), one.dense.fisher(w)) < MEASURED
    expected = one.dense.empirical_fisher(w.sum(dim=1))
    assert difference(dense(bound.operator("empirical_fisher")), expected) < MEASURED


def test_a_batch_whose_labels_are_all_ignored_has_no_part():
    one = made_of("mlp", nn.CrossEntropyLoss(ignore_index=1))
    x, y = one.problem.data[1]
    y.fill_(1)
    data = [one.problem.data[0], (x, y), one.problem.data[2]]
    problem = eigencore.Problem(one.problem.model, data, one.problem.loss)
    without = eigencore.Problem(one.problem.model, [data[0], data[2]], one.problem.loss)
    for kind in ("ggn", "fisher", "empirical_fisher"):
        assert difference(matrix(problem, kind), matrix(without, kind)) < MEASURED


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_that_are_probabilities(smoothing):
    one = made_of("mlp", nn.CrossEntropyLoss(label_smoothing=smoothing))
    y = torch.softmax(
        torch.randn(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(0)).double(), dim=1
    )
    one = made(one.problem.model, one.dense.x, y, one.problem.loss)
    bound = eigencore.bind(one.problem)
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < TOLERANCE
    assert difference(dense(bound.operator("fisher")), one.dense.fisher(evenly())) < TOLERANCE
    expected = one.dense.empirical_fisher(evenly())
    assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE


def test_a_model_that_returns_a_row_for_each_token():
    class Flat(Tokens):
        def forward(self, x):
            return super().forward(x).movedim(1, -1).reshape(-1, CLASSES)

    def loss(z, y):
        return functional.cross_entropy(z, y.reshape(-1))

    one = tokens(nn.CrossEntropyLoss())
    flat = Flat().double()
    flat.load_state_dict(one.problem.model.state_dict())
    problem = eigencore.Problem(flat, one.problem.data, loss)
    assert difference(matrix(problem, "ggn"), one.dense.ggn()) < TOLERANCE
    data = [(x, y.reshape(-1)) for x, y in one.problem.data]
    problem = eigencore.Problem(flat, data, nn.CrossEntropyLoss(), weight=lambda batch: len(batch[1]))
    assert difference(matrix(problem, "fisher"), one.dense.ggn()) < TOLERANCE
    sampled = matrix(problem, "fisher", labels=4000)
    assert difference(sampled, one.dense.ggn()) < 0.05


# -- other losses ------------------------------------------------------------------------------------------


def binary(reduction="mean", weight=None):
    loss = nn.BCEWithLogitsLoss(weight, reduction=reduction)

    def make():
        x, _ = samples((4,))
        return made(mlp().double(), x, torch.randint(2, (SAMPLES, CLASSES)).double(), loss)

    return seeded(make)


def binary_fisher(one, weights):
    """The sum over the labels 0 and 1 of each output, with the gradients of PyTorch's loss."""
    z, J = one.dense.logits(), one.dense.jacobian()
    F = torch.zeros(J.shape[-1], J.shape[-1], dtype=z.dtype)
    for index in np.ndindex(*z.shape):
        p = float(torch.sigmoid(z[index]))
        for label, chance in ((1.0, p), (0.0, 1 - p)):
            leaf = z[index].clone().requires_grad_(True)
            functional.binary_cross_entropy_with_logits(leaf, torch.tensor(label).double()).backward()
            g = leaf.grad * J[index]
            F += weights.expand_as(z)[index] * chance * torch.outer(g, g)
    return F


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_binary_cross_entropy(reduction, weight):
    one = binary(reduction, weight)
    w = (torch.ones(CLASSES).double() if weight is None else weight) / (
        SAMPLES * CLASSES if reduction == "mean" else 1
    )
    bound = eigencore.bind(one.problem)
    expected = binary_fisher(one, w)
    assert difference(one.dense.ggn(), expected) < TOLERANCE
    assert difference(dense(bound.operator("fisher")), expected) < TOLERANCE
    assert difference(dense(bound.operator("ggn")), expected) < TOLERANCE
    if weight is None:
        expected = one.dense.empirical_fisher(evenly() if reduction == "mean" else torch.ones(SAMPLES))
        assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.MSELoss(reduction="sum"), functional.mse_loss])
def test_squared_error(loss):
    def make():
        x, _ = samples((4,))
        return made(mlp().double(), x, torch.randn(SAMPLES, CLASSES).double(), loss)

    one = seeded(make)
    summed = getattr(loss, "reduction", "mean") == "sum"
    # E[(d/dz (z - y)^2)^2] over y, normal with mean z and variance 1/2, by Gauss-Hermite quadrature.
    nodes, chances = np.polynomial.hermite.hermgauss(5)
    second = float((chances * (2 * nodes) ** 2).sum() / math.sqrt(math.pi))
    J = one.dense.jacobian().reshape(SAMPLES * CLASSES, -1)
    expected = second * J.T @ J / (1 if summed else SAMPLES * CLASSES)
    bound = eigencore.bind(one.problem)
    for kind in ("fisher", "ggn"):
        assert difference(dense(bound.operator(kind)), expected) < TOLERANCE
    assert difference(one.dense.ggn(), expected) < TOLERANCE
    weights = torch.ones(SAMPLES) if summed else evenly()
    assert (
        difference(dense(bound.operator("empirical_fisher")), one.dense.empirical_fisher(weights)) < TOLERANCE
    )


def pseudo_huber(z, y):
    """Convex, and no likelihood that is known."""
    return (1 + (z - functional.one_hot(y, CLASSES)) ** 2).sqrt().sum(dim=1).mean()


def test_a_convex_loss_of_the_user():
    one = made_of("mlp", pseudo_huber)
    bound = eigencore.bind(one.problem)
    A = dense(bound.operator("ggn"))
    assert difference(A, one.dense.ggn()) < TOLERANCE
    assert torch.linalg.eigvalsh(A)[0] > -1e-14
    expected = one.dense.empirical_fisher(evenly())
    assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE
    assert difference(dense(bound.operator("input_hessian")), one.dense.input_hessian()) < TOLERANCE


def test_a_loss_that_is_linear_in_the_outputs_has_no_gauss_newton_matrix():
    one = made_of("mlp", lambda z, y: z.gather(1, y[:, None]).mean())
    assert not matrix(one.problem, "ggn").any()
    assert matrix(one.problem, "hessian").any()


def of_batch(model, batch):
    return functional.cross_entropy(model(batch["inputs"]), batch["labels"])


def test_a_loss_of_model_and_batch():
    one = made_of("mlp")
    data = [{"inputs": x, "labels": y} for x, y in one.problem.data]
    bound = eigencore.bind(eigencore.Problem(one.problem.model, data, of_batch))
    assert difference(dense(bound.operator("ggn")), one.dense.ggn()) < TOLERANCE
    expected = one.dense.empirical_fisher(evenly())
    assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE


def test_a_loss_that_calls_the_model_twice():
    one = made_of("mlp")

    def both(model, batch):
        return 0.5 * (of_batch(model, batch) + of_batch(model, {**batch, "inputs": -batch["inputs"]}))

    data = [{"inputs": x, "labels": y} for x, y in one.problem.data]
    expected = one.dense.ggn()
    one.dense.x = -one.dense.x
    expected = (expected + one.dense.ggn()) / 2
    found = matrix(eigencore.Problem(one.problem.model, data, both), "ggn")
    assert difference(found, expected) < TOLERANCE


# -- networks with several outputs -------------------------------------------------------------------------


class Several(nn.Module):
    """Returns what `form` makes of the logits and the hidden layer."""

    def __init__(self, form):
        super().__init__()
        self.first, self.head, self.form = nn.Linear(4, 5), nn.Linear(5, CLASSES), form

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.form(self.head(hidden), hidden)


def plain(model):
    return nn.Sequential(model.first, nn.Tanh(), model.head)


@pytest.mark.parametrize(
    ("form", "logits"),
    [
        (lambda z, hidden: {"logits": z, "hidden": hidden}, lambda out: out["logits"]),
        (lambda z, hidden: (z, hidden), lambda out: out[0]),
        (lambda z, hidden: [hidden, {"a": z}], lambda out: out[1]["a"]),
    ],
    ids=["mapping", "tuple", "nested"],
)
def test_outputs_beside_those_of_the_loss_do_not_count(form, logits):
    x, y = samples((4,))
    model = seeded(lambda: Several(form).double())
    one = made(plain(model), x, y, nn.CrossEntropyLoss())
    problem = eigencore.Problem(
        model, one.problem.data, lambda out, y: functional.cross_entropy(logits(out), y)
    )
    bound = eigencore.bind(problem)
    order = torch.cat([dense_slices(one, name) for name in ("0.weight", "0.bias", "2.weight", "2.bias")])
    expected = one.dense.ggn()[order][:, order]
    assert difference(dense(bound.operator("ggn")), expected) < TOLERANCE
    expected = one.dense.empirical_fisher(evenly())[order][:, order]
    assert difference(dense(bound.operator("empirical_fisher")), expected) < TOLERANCE


def dense_slices(one, name):
    sizes = {key: p.numel() for key, p in one.dense.selected.items()}
    names = list(sizes)
    start = sum(sizes[key] for key in names[: names.index(name)])
    return torch.arange(start, start + sizes[name])


def test_two_outputs_that_the_loss_uses_together():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 5), nn.Linear(5, CLASSES), nn.Linear(5, 1)

        def forward(self, x):
            hidden = torch.tanh(self.first(x))
            return self.a(hidden), self.b(hidden)

    def loss(out, y):  # the outputs interact
        return (
            functional.cross_entropy(out[0], y, reduction="none") * out[1][:, 0].exp() + out[1][:, 0] ** 2
        ).mean()

    class Joined(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return torch.cat(self.inner(x), dim=1)

    x, y = samples((4,))
    model = seeded(lambda: Heads().double())
    one = made(Joined(model), x, y, lambda z, y: loss(z.split((CLASSES, 1), dim=1), y))
    problem = eigencore.Problem(model, one.problem.data, loss)
    assert difference(matrix(problem, "ggn"), one.dense.ggn()) < TOLERANCE
    assert difference(matrix(one.problem, "ggn"), one.dense.ggn()) < TOLERANCE


def test_outputs_that_are_pieces_of_one_tensor():
    """The pieces are outputs of one operation, and only some of them are used by the loss."""
    x, y = samples((4,))
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 2 * CLASSES)).double())

    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x).chunk(2, dim=1)

    one = made(model, x, y, lambda z, y: functional.cross_entropy(z[:, CLASSES:], y))
    problem = eigencore.Problem(
        Pieces(), one.problem.data, lambda out, y: functional.cross_entropy(out[1], y)
    )
    assert difference(matrix(problem, "ggn"), one.dense.ggn()) < TOLERANCE


# -- Monte Carlo -------------------------------------------------------------------------------------------


def uniform(labels, seed, shape=()):
    """The uniform numbers (samples, labels, ...) of all batches, as documented: one stream for each batch."""
    return torch.from_numpy(
        np.concatenate(
            [
                arrays.generator(seed, "fisher labels", index).random((size, labels, *shape))
                for index, size in enumerate(SIZES)
            ]
        )
    )


@pytest.mark.parametrize("microbatch", [None, 2])
def test_sampled_cross_entropy(microbatch):
    one = made_of("mlp")
    labels, seed = 3, 11
    z, J, noise = one.dense.logits(), one.dense.jacobian(), uniform(labels, seed)
    F = torch.zeros(J.shape[-1], J.shape[-1], dtype=z.dtype)
    for s in range(SAMPLES):
        p = torch.softmax(z[s], dim=0).numpy()
        for one_noise in noise[s]:
            label = int(np.searchsorted(np.cumsum(p), float(one_noise)))
            leaf = z[s].clone().requires_grad_(True)
            functional.cross_entropy(leaf[None], torch.tensor([label])).backward()
            g = J[s].T @ leaf.grad
            F += torch.outer(g, g) / (labels * SAMPLES)
    bound = eigencore.bind(one.problem, microbatch=microbatch)
    assert difference(dense(bound.operator("fisher", labels=labels, seed=seed)), F) < MEASURED
    assert difference(dense(bound.operator("fisher", labels=labels, seed=12)), F) > 0.1


def test_sampled_binary_cross_entropy_and_squared_error():
    for one, score in (
        (binary(), lambda z, noise: torch.sigmoid(z) - (noise < torch.sigmoid(z)).double()),
        # The quantile of a normal variable with variance 1/2, twice.
        (
            seeded(squared),
            lambda z, noise: -2 * torch.distributions.Normal(0, math.sqrt(0.5)).icdf(1 - noise),
        ),
    ):
        z, J = one.dense.logits(), one.dense.jacobian()
        noise = uniform(2, 0, (CLASSES,))
        F = torch.zeros(J.shape[-1], J.shape[-1], dtype=z.dtype)
        for k in range(2):
            scaled = score(z, noise[:, k].double())[..., None] * J
            flat = scaled.reshape(SAMPLES * CLASSES, -1)
            F += flat.T @ flat / (2 * SAMPLES * CLASSES)
        assert difference(matrix(one.problem, "fisher", labels=2), F) < MEASURED


def squared():
    x, _ = samples((4,))
    return made(mlp().double(), x, torch.randn(SAMPLES, CLASSES).double(), nn.MSELoss())


@pytest.mark.parametrize("make", [lambda: made_of("mlp"), binary, lambda: seeded(squared)])
def test_samples_converge_to_the_exact_matrix(make):
    one = make()
    bound = eigencore.bind(one.problem)
    exact = dense(bound.operator("fisher"))
    few, many = (difference(dense(bound.operator("fisher", labels=labels)), exact) for labels in (40, 4000))
    assert many < 0.05
    assert many < few / 3


def test_samples_of_tokens_do_not_depend_on_microbatches():
    one = tokens(nn.CrossEntropyLoss())
    whole = matrix(one.problem, "fisher", labels=2)
    split = dense(eigencore.bind(one.problem, microbatch=2).operator("fisher", labels=2))
    assert difference(split, whole) < TOLERANCE


@pytest.mark.parametrize(
    "likelihood", [Categorical(), Bernoulli(), Gaussian()], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_extreme_random_numbers_have_finite_scores(likelihood, number, monkeypatch):
    class Extreme:
        def random(self, shape):
            return np.full(shape, number)

    monkeypatch.setattr(fisher_module.arrays, "generator", lambda *key: Extreme())
    loss = {Categorical: nn.CrossEntropyLoss(), Bernoulli: nn.BCEWithLogitsLoss(), Gaussian: nn.MSELoss()}
    one = made_of("mlp")
    y = one.dense.y if isinstance(likelihood, Categorical) else functional.one_hot(one.dense.y).float()
    data = [(one.dense.x.float(), y)]
    problem = eigencore.Problem(one.problem.model.float(), data, loss[type(likelihood)])
    assert torch.isfinite(matrix(problem, "fisher", labels=1)).all()
