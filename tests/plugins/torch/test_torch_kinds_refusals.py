"""Problems for which a kind of operator is not defined are refused with an error that says what to do."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.errors import OptionError, ProblemError, UnknownNameError, UsageError
from eigencore.problems.sharing import CALLS
from kit.torch_networks import dense, difference, made, made_of, matrix, mlp, samples

OVER_OUTPUTS = ["ggn", "fisher", "empirical_fisher"]
PENALTY = 1e-6  # far below the gradient of the loss


def refused(problem, kind, message, hint, params=None, **options):
    with pytest.raises(ProblemError, match=message) as raised:
        matrix(problem, kind, params, **options)
    assert hint in (raised.value.hint or "")


def with_penalty(factor=PENALTY):
    one = made_of("mlp")
    model = one.problem.model

    def loss(z, y):
        return functional.cross_entropy(z, y) + factor * model[0].weight.pow(2).sum()

    return one, eigencore.Problem(model, one.problem.data, loss)


@pytest.mark.parametrize("kind", ["ggn", "empirical_fisher"])
def test_a_penalty_however_small_is_refused_by_name(kind):
    one, problem = with_penalty()
    refused(problem, kind, r"but this one also uses 0\.weight directly", "weight_decay")
    assert difference(matrix(problem, kind, "2.*"), reference_block(one, kind)) < 1e-9


def reference_block(one, kind):
    whole = one.dense.ggn() if kind == "ggn" else one.dense.empirical_fisher(torch.ones(15).double() / 15)
    return whole[-18:, -18:]


def test_a_penalty_without_a_gradient_at_the_weights_is_refused():
    """As that which keeps weights near those of an earlier task, at the start."""
    one = made_of("mlp")
    model = one.problem.model
    anchor = [p.detach().clone() for p in model.parameters()]

    def loss(z, y):
        apart = sum((p - a).pow(2).sum() for p, a in zip(model.parameters(), anchor, strict=True))
        return functional.cross_entropy(z, y) + apart

    problem = eigencore.Problem(model, one.problem.data, loss)
    refused(problem, "ggn", r"also uses 0\.weight, 0\.bias, 2\.weight and 1 more directly", "penalties")


def test_a_penalty_is_part_of_the_hessian():
    one, problem = with_penalty(0.3)
    expected = one.dense.hessian()
    expected[:20, :20] += 0.6 * torch.eye(20, dtype=expected.dtype)
    assert difference(matrix(problem, "hessian"), expected) < 1e-9


@pytest.mark.parametrize("kind", ["ggn", "empirical_fisher"])
def test_outputs_that_are_computed_from_one_another(kind):
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 3), nn.Linear(3, 3)

        def forward(self, x):
            hidden = torch.tanh(self.first(x))
            return self.head(hidden), hidden

    x, y = samples((4,))
    problem = made(
        Chain().double(), x, y, lambda out, y: functional.cross_entropy(out[0] + out[1], y)
    ).problem
    refused(problem, kind, "one of the 2 tensors that the loss uses is computed from another", "logits")
    assert matrix(problem, "hessian").any()


@pytest.mark.parametrize("kind", OVER_OUTPUTS)
def test_a_loss_that_goes_around_the_forward_pass(kind):
    one = made_of("mlp")

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp().double()

        def forward(self, x):
            return self.inner(x)

    model = Parts()
    data = [{"x": x, "y": y} for x, y in one.problem.data]
    problem = eigencore.Problem(
        model, data, lambda model, batch: functional.cross_entropy(model.inner(batch["x"]), batch["y"])
    )
    if kind == "fisher":
        refused(problem, kind, "needs a loss that defines a distribution of labels", "ggn")
    else:
        refused(problem, kind, r"does not depend on what the model's forward\(\) returns", "(x, y)")


def test_a_model_that_returns_its_loss():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp().double()

        def forward(self, batch):
            return functional.cross_entropy(self.inner(batch["x"]), batch["y"])

    one = made_of("mlp")
    data = [{"x": x, "y": y} for x, y in one.problem.data]
    problem = eigencore.Problem(WithLoss(), data, lambda model, batch: model(batch))
    refused(problem, "ggn", "the model returns the loss of batch 0 itself", "logits")
    assert matrix(problem, "hessian").any()


# -- fisher and empirical_fisher ---------------------------------------------------------------------------


class CrossEntropyOfTwice(nn.CrossEntropyLoss):
    def forward(self, z, y):
        return super().forward(2 * z, y)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (nn.MultiMarginLoss(), "MultiMarginLoss"),
        (lambda z, y: functional.cross_entropy(z, y), "<lambda>"),
        (CrossEntropyOfTwice(), "CrossEntropyOfTwice"),
        (nn.NLLLoss(), "NLLLoss"),
    ],
    ids=["margin", "a function", "a derived class", "probabilities"],
)
def test_the_fisher_matrix_of_an_unknown_loss(loss, name):
    one = made_of("mlp")
    problem = eigencore.Problem(one.problem.model, one.problem.data, loss)
    refused(problem, "fisher", f"{name} is not known to", "or use the kind ggn")


def test_a_binary_loss_with_weights_of_its_labels():
    x, _ = samples((4,))
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0).double())
    one = made(mlp().double(), x, torch.randint(2, (15, 3)).double(), loss)
    refused(
        one.problem, "fisher", "BCEWithLogitsLoss is not known to", "BCEWithLogitsLoss without pos_weight"
    )
    assert difference(matrix(one.problem, "ggn"), one.dense.ggn()) < 1e-9


def test_class_weights_that_define_no_likelihood():
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    one = made_of("mlp", nn.CrossEntropyLoss(weights, label_smoothing=0.1))
    refused(one.problem, "fisher", "class weights and label smoothing do not define a likelihood", "ggn")
    assert difference(matrix(one.problem, "ggn"), one.dense.ggn()) < 1e-6
    y = torch.softmax(torch.randn(15, 3).double(), dim=1)
    one = made(one.problem.model, one.dense.x, y, nn.CrossEntropyLoss(weights))
    refused(one.problem, "fisher", "labels that are probabilities do not define a likelihood", "ggn")


def test_fisher_needs_one_output_of_pairs():
    one = made_of("mlp")

    def loss(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    problem = eigencore.Problem(one.problem.model, one.problem.data, loss, call=CALLS[1])
    refused(problem, "fisher", "needs a loss that defines a distribution", "ggn")


def test_empirical_fisher_needs_rows_of_samples():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp().double()

        def forward(self, x):
            return self.inner(x).T

    x, y = samples((4,))
    problem = made(Transposed(), x, y, lambda z, y: functional.cross_entropy(z.T, y)).problem
    message = r"first axis is that of the samples; the outputs of batch 0, of 7 samples, are \(3, 7\)"
    refused(problem, "empirical_fisher", message, "ggn")


def test_empirical_fisher_needs_the_weights_of_samples():
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    one = made_of("mlp", lambda z, y: functional.cross_entropy(z, y, weights))
    for kind in ("empirical_fisher", "input_hessian"):
        refused(one.problem, kind, "the loss is a mean with weights", "torch.nn.CrossEntropyLoss")


# -- input_hessian -----------------------------------------------------------------------------------------


def test_input_hessian_needs_inputs_that_can_be_differentiated():
    message = "needs batches .* with floating-point inputs x"
    refused(made_of("gru").problem, "input_hessian", message, "hessian")
    one = made_of("mlp")
    data = [{"x": x, "y": y} for x, y in one.problem.data]

    def loss(model, batch):
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    problem = eigencore.Problem(one.problem.model, data, loss)
    refused(problem, "input_hessian", message, "hessian")


def test_input_hessian_takes_no_parameters():
    bound = eigencore.bind(made_of("mlp").problem)
    for params in ("*", "0.weight", ["0.weight"]):
        with pytest.raises(UsageError, match="the kind input_hessian is not over the weights") as raised:
            bound.operator("input_hessian", params)
        assert raised.value.hint == "Leave params out."


def test_input_hessian_needs_samples_that_do_not_interact():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = samples((4,))
    one = made(model, x, y, nn.CrossEntropyLoss())
    problem = one.problem
    assert difference(matrix(problem, "input_hessian"), one.dense.input_hessian()) < 1e-9
    bound = eigencore.bind(dataclasses.replace(problem, reduction="mean"), batch_norm="batch")
    with pytest.raises(ProblemError, match="that of a sample depends on the inputs of others") as raised:
        bound.operator("input_hessian")
    assert "torch.batch_norm=running" in raised.value.hint
    assert dense(bound.operator("ggn")).any()


def test_shapes_of_vectors_are_checked():
    bound = eigencore.bind(made_of("mlp").problem)
    for kind in ("ggn", "input_hessian"):
        with pytest.raises(UsageError, match=r"the block has shape \(3, 1\); expected"):
            bound.operator(kind).matvec(torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["ggn", "fisher", "empirical_fisher", "scaled", "input_hessian"])
def test_weights_that_change_are_noticed(kind):
    one = made_of("mlp")
    operator = eigencore.bind(one.problem).operator(kind)
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    operator.matvec(v)
    with torch.no_grad():
        one.problem.model[0].weight += 1
    with pytest.raises(ProblemError, match="changed"):
        operator.matvec(v)


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("ggn", {"dampng": 1.0}, UnknownNameError, "Did you mean damping"),
        ("hessian", {"labels": 3}, UnknownNameError, "'labels'"),
        ("ggn", {"weight_decay": -1.0}, OptionError, r"ggn\.weight_decay is -1"),
        ("fisher", {"labels": 0}, OptionError, r"fisher\.labels is 0"),
        ("fisher", {"seed": -1}, OptionError, r"fisher\.seed is -1"),
        ("scaled", {"by": "layers"}, OptionError, r"scaled\.by is 'layers'"),
        ("scaled", {"of": "fisher"}, OptionError, r"scaled\.of is 'fisher'"),
        ("input_hessian", {"damping": 1.0}, UnknownNameError, "'damping'"),
        ("input_hessian", {"samples": 0}, OptionError, r"input_hessian\.samples is 0"),
        ("gnn", {}, UnknownNameError, "Did you mean ggn"),
    ],
)
def test_kinds_and_options_that_do_not_exist(kind, options, error, message):
    with pytest.raises(error, match=message):
        eigencore.bind(made_of("mlp").problem).operator(kind, **options)
