"""The mode that a loss is evaluated in: BatchNorm on batch statistics, what is printed, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore_torch.backend import TorchOptions, bind


def normalised(**norm):
    """A network with BatchNorm, whose running statistics are not those of any batch, and with dropout."""
    layers = nn.Linear(4, 5), nn.BatchNorm1d(5, **norm), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)
    model = nn.Sequential(*layers).double()
    if model[1].running_mean is not None:
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model


def on_batch_statistics(model):
    """A copy whose BatchNorm uses batch statistics, by PyTorch's own means, with everything else in eval."""
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return copied


def dense(model, batches, reduction="mean", loss=functional.cross_entropy):
    """The loss over all data and its Hessian, by plain double autograd in float64."""
    weights = list(model.parameters())
    total = sum(len(x) for x, _ in batches)
    value = 0.0
    for x, y in batches:
        share = len(x) / total if reduction == "mean" else 1.0
        value = value + share * loss(model(x), y, reduction=reduction)
    flat = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, weights, create_graph=True)])
    rows = [torch.autograd.grad(g, weights, retain_graph=True, materialize_grads=True) for g in flat]
    return value.detach(), torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in rows])


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("norm", [{}, {"momentum": None}, {"affine": False}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_hessian_on_batch_statistics_is_right_and_buffers_stay(small, hessian, norm, reduction, memory):
    model = normalised(**norm)
    problem = small(model=model, reduction=reduction, loss=nn.CrossEntropyLoss(reduction=reduction))
    before = copy.deepcopy(model.state_dict())
    value, expected = dense(on_batch_statistics(model), problem.data, reduction)
    options = {"batch_norm": "batch", "memory": memory}
    torch.testing.assert_close(hessian(problem, **options), expected)
    assert bind(problem, TorchOptions(**options)).loss() == pytest.approx(float(value), rel=1e-12)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    # That the statistics of the batches matter here at all:
    assert float((hessian(problem) - expected).abs().max()) > 1e-3


def test_minibatches_and_directions_use_batch_statistics_too(small):
    model = normalised()
    problem = small(model=model, reduction="mean")
    bound = bind(problem, TorchOptions(batch_norm="batch"))
    operator = bound.operator()
    eye = torch.eye(operator.shape[0], dtype=torch.float64)
    for step in range(4):
        sampled, share = operator.minibatch(step, 0)
        hessians = [dense(on_batch_statistics(model), [batch])[1] for batch in problem.data]
        distances = [float((sampled.matmat(eye) - h).abs().max()) for h in hessians]
        assert min(distances) < 1e-12
        assert share * 15 == pytest.approx(len(problem.data[distances.index(min(distances))][0]))
    direction = 0.1 * eye[0]
    shifted = on_batch_statistics(model)
    shifted[0].weight.data[0, 0] += 0.1
    assert bound.loss(direction) == pytest.approx(float(dense(shifted, problem.data)[0]), rel=1e-12)


def test_synchronised_layers_use_batch_statistics_and_those_of_a_teacher_do_not(small, hessian):
    plain = normalised()
    model = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    teacher = normalised()

    def loss(outputs, y):
        weights = teacher(torch.stack(4 * [y.double()], dim=1)).softmax(1).detach()
        return (outputs.log_softmax(1) * weights).sum(1).mean()

    problem = small(model=model, loss=loss, reduction="mean")
    teacher_of_reference = copy.deepcopy(teacher).eval()

    def reference(outputs, y, reduction):
        weights = teacher_of_reference(torch.stack(4 * [y.double()], dim=1)).softmax(1).detach()
        return (outputs.log_softmax(1) * weights).sum(1).mean()

    expected = dense(on_batch_statistics(plain), problem.data, loss=reference)[1]
    torch.testing.assert_close(hessian(problem, batch_norm="batch"), expected)


def test_batch_statistics_are_refused_where_they_make_no_sense(small):
    def refused(error, match, hint, problem=None, **options):
        problem = problem or small(model=normalised(), reduction="mean")
        with pytest.raises(error, match=match) as caught:
            bind(problem, TorchOptions(batch_norm="batch", **options)).operator()
        assert hint in caught.value.hint

    refused(ProblemError, "no BatchNorm layer", "Leave the option out", small(reduction="mean"))
    refused(UsageError, "microbatch", "Leave torch.microbatch out", microbatch=4)
    refused(ProblemError, "can't be inferred", "reduction='mean'", small(model=normalised()))
    single = bind(
        small(model=normalised(), reduction="mean", sizes=(14, 1)), TorchOptions(batch_norm="batch")
    )
    with pytest.raises(ProblemError, match="more than 1 value per channel"):
        single.operator()
    bound = bind(small(model=normalised(), reduction="mean"), TorchOptions(batch_norm="batch"))
    assert not bound.capabilities & {Capability.LOGITS, Capability.INPUT_GRADIENT}
    with pytest.raises(CapabilityError, match="rest of its batch"):
        bound.classifier()


class InTrainingMode(nn.Module):
    """Sets training mode in every pass, as code that is copied from a training step does."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.train()(x)


def training_step(model, batch):
    model.train()
    return functional.cross_entropy(model(batch["x"]), batch["y"])


def without_dropout():
    model = normalised()
    model[3] = nn.Identity()
    return model


@pytest.mark.parametrize("memory", ["none", "auto"])
def test_a_loss_that_calls_train_is_right_and_described(small, hessian, memory):
    model = without_dropout()
    before = copy.deepcopy(model.state_dict())
    batches = small().data
    problems = [
        small(model=InTrainingMode(model), reduction="mean"),
        small(model=model, data=[{"x": x, "y": y} for x, y in batches], loss=training_step, reduction="mean"),
    ]
    expected = dense(on_batch_statistics(model), batches)[1]
    for problem in problems:
        torch.testing.assert_close(hessian(problem, memory=memory), expected)
        bound = bind(problem, TorchOptions())
        bound.operator()
        assert bound.description.endswith("evaluation mode, except where the loss calls train()")
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("fields", [{"reduction": "mean"}, {}], ids=["dropout", "inferred reduction"])
def test_a_loss_that_calls_train_and_is_refused_names_the_option(small, fields):
    model = normalised() if fields else without_dropout()
    with pytest.raises(ProblemError) as caught:
        bind(small(model=InTrainingMode(model), **fields), TorchOptions()).operator()
    assert "calls train()" in caught.value.hint
    assert "torch.batch_norm=batch" in caught.value.hint


class Posterior(nn.Module):
    """Returns something else in evaluation mode, as a Gaussian process does: the posterior, not the prior."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x):
        return self.net(x) if self.training else 3 * self.net(x)


class FunctionalDropout(nn.Linear):
    def forward(self, x):
        return functional.dropout(super().forward(x), 0.5, self.training)


def test_the_mode_is_described_and_a_loss_that_differs_in_kind_is_reported(small):
    def mode(model, **options):
        bound = bind(small(model=model.double(), reduction="mean"), TorchOptions(**options))
        bound.operator()
        return bound.description.split("float64, ")[1]

    assert mode(nn.Linear(4, 3)) == "evaluation mode"
    assert mode(normalised()) == "evaluation mode"
    assert mode(FunctionalDropout(4, 3)) == "evaluation mode"
    assert mode(normalised(), batch_norm="batch") == "evaluation mode, BatchNorm on batch statistics"
    model = Posterior().double()
    x, y = small().data[0]
    prior, posterior = (functional.cross_entropy(f * model.net(x), y).item() for f in (1, 3))
    assert mode(model) == (
        f"evaluation mode (loss of batch 0: {posterior:.3g}; in training mode {prior:.3g})"
    )


def test_a_loss_that_works_in_training_mode_only_is_refused_with_the_reason(small):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, batch):
            outputs = self.net(batch["x"])
            return {"loss": functional.cross_entropy(outputs, batch["y"])} if self.training else [outputs]

    batches = [{"x": x, "y": y} for x, y in small().data]
    for loss in (lambda model, batch: model(batch)["loss"], lambda model, batch: sum(model(batch).values())):
        model = Detector().double()
        with pytest.raises(ProblemError, match="failed on batch 0") as caught:
            bind(small(model=model, data=batches, loss=loss, reduction="mean"), TorchOptions()).operator()
        assert "works in training mode" in caught.value.hint
        assert model.training
