"""Every kind of operator against a dense reference in float64, on many networks in ragged batches."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.interfaces import MinibatchOperator
from eigencore.registry import registry
from kit.torch_networks import (
    CLASSES,
    NETWORKS,
    SAMPLES,
    SIZES,
    dense,
    difference,
    evenly,
    made,
    made_of,
    matrix,
    samples,
)

TOLERANCE = 1e-9
WEIGHTED = ["hessian", "ggn", "fisher", "empirical_fisher", "scaled"]


@functools.cache
def bound_of(name):
    """A problem with its dense references and one Adam step behind it, bound once for all tests."""
    one = made_of(name)
    optimizer = torch.optim.Adam(one.problem.model.parameters())
    for p in one.problem.model.parameters():
        p.grad = torch.linspace(0.1, 1, p.numel(), dtype=p.dtype).view_as(p)
    with torch.no_grad():
        before = [p.clone() for p in one.problem.model.parameters()]
        optimizer.step()
        for p, old in zip(one.problem.model.parameters(), before, strict=True):
            p.copy_(old)
    bound = eigencore.bind(dataclasses.replace(one.problem, optimizer=optimizer))
    return SimpleNamespace(problem=one.problem, dense=one.dense, bound=bound)


@functools.cache
def hessian_of(name):
    return bound_of(name).dense.hessian()


def reference(one, kind, hessian=None):
    if kind == "fisher":
        return one.dense.fisher(evenly())
    if kind == "empirical_fisher":
        return one.dense.empirical_fisher(evenly())
    if kind == "scaled":
        size = one.dense.weights.abs()
        return size[:, None] * (one.dense.hessian() if hessian is None else hessian) * size
    return hessian if kind == "hessian" and hessian is not None else getattr(one.dense, kind)()


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_kind_is_its_dense_reference(name, kind):
    if name == "weight_norm" and kind in ("hessian", "scaled"):
        pytest.skip("PyTorch's own second derivative of weight_norm is wrong")
    one = bound_of(name)
    A = dense(one.bound.operator(kind))
    hessian = hessian_of(name) if kind in ("hessian", "scaled") else None
    assert difference(A, reference(one, kind, hessian)) < TOLERANCE
    assert difference(A, A.T) < 1e-13
    if registry().find_kind("torch", kind).semidefinite:
        values = torch.linalg.eigvalsh(A)
        assert values[0] > -1e-13 * values[-1]


@pytest.mark.parametrize("name", [name for name, (_, shape) in NETWORKS.items() if shape[0]])
def test_the_hessian_over_the_inputs_is_its_dense_reference(name):
    one = bound_of(name)
    A = dense(one.bound.operator("input_hessian"))
    assert difference(A, one.dense.input_hessian()) < TOLERANCE
    assert difference(A, A.T) < 1e-13


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("weight_norm", "tied")])
def test_preconditioned_is_its_dense_reference(name):
    one = bound_of(name)
    # The average of squared gradients after one step, corrected for its start, is the squared gradient.
    gradients = torch.cat(
        [
            torch.linspace(0.1, 1, p.numel(), dtype=p.dtype)
            for p in one.problem.model.parameters()
            if p.requires_grad
        ]
    )
    scale = ((1 - 0.9) * (gradients + 1e-8)).rsqrt()
    found = dense(one.bound.operator("preconditioned"))
    assert difference(found, scale[:, None] * hessian_of(name) * scale) < TOLERANCE
    found = dense(one.bound.operator("preconditioned", of="ggn"))
    assert difference(found, scale[:, None] * one.dense.ggn() * scale) < TOLERANCE


# -- parameters and options --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("params", [("0.*",), ("*.weight",), ("2.bias", "0.weight")], ids=",".join)
def test_selected_parameters_are_a_block(kind, params):
    one = made_of("mlp", params=params)
    A = matrix(one.problem, kind, list(params))
    assert difference(A, reference(one, kind)) < TOLERANCE


@pytest.mark.parametrize("kind", WEIGHTED)
def test_weight_decay_and_damping(kind):
    one = made_of("mlp")
    A = matrix(one.problem, kind, weight_decay=0.3, damping=-0.7)
    decay = one.dense.weights**2 if kind == "scaled" else torch.ones_like(one.dense.weights)
    expected = reference(one, kind) + 0.3 * torch.diag(decay) - 0.7 * torch.eye(len(A), dtype=A.dtype)
    assert difference(A, expected) < TOLERANCE


def test_weight_decay_is_the_hessian_of_the_penalty():
    one = made_of("mlp")
    model = one.problem.model

    def penalised(z, y):
        return functional.cross_entropy(z, y) + 0.15 * sum(p.pow(2).sum() for p in model.parameters())

    whole = matrix(eigencore.Problem(model, one.problem.data, penalised), "hessian")
    assert difference(matrix(one.problem, "hessian", weight_decay=0.3), whole) < TOLERANCE


@pytest.mark.parametrize("of", ["hessian", "ggn"])
@pytest.mark.parametrize("by", ["weights", "parameters"])
def test_the_options_of_scaled(by, of):
    one = made_of("residual")
    size = one.dense.weights.abs()
    if by == "parameters":
        size = torch.cat([p.norm().expand(p.numel()) for p in one.dense.selected.values()])
    expected = size[:, None] * getattr(one.dense, of)() * size
    assert difference(matrix(one.problem, "scaled", by=by, of=of), expected) < TOLERANCE


def eigenvalues(A):
    return torch.linalg.eigvalsh(A)


@pytest.mark.parametrize("by", ["weights", "parameters"])
def test_scaled_does_not_change_when_layers_are_rescaled(by):
    one = made_of("rectified")
    bound = eigencore.bind(one.problem)
    before = {kind: eigenvalues(dense(bound.operator(kind))) for kind in ("hessian", "ggn")}
    scaled = eigenvalues(dense(bound.operator("scaled", by=by)))
    layers = [one.problem.model[i] for i in (0, 2, 4)]
    with torch.no_grad():  # ReLU is homogeneous; a bias grows with all layers up to its own
        total = 1.0
        for layer, factor in zip(layers, (10.0, 0.2, 0.5), strict=True):
            total *= factor
            layer.weight *= factor
            layer.bias *= total
    after = eigencore.bind(one.problem)
    found = eigenvalues(dense(after.operator("scaled", by=by)))
    torch.testing.assert_close(found, scaled, rtol=1e-9, atol=1e-9 * float(scaled[-1]))
    for kind, values in before.items():
        changes = eigenvalues(dense(after.operator(kind)))[-5:] / values[-5:]
        assert float((changes - 1).abs().max()) > 0.1


# -- relations between the kinds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), functional.cross_entropy, nn.CrossEntropyLoss(reduction="sum")]
)
def test_a_linear_model_has_one_matrix(loss):
    x, y = samples((4,))
    problem = made(nn.Linear(4, CLASSES).double(), x, y, loss).problem
    bound = eigencore.bind(problem)
    hessian, ggn, exact = (dense(bound.operator(kind)) for kind in ("hessian", "ggn", "fisher"))
    assert difference(ggn, hessian) < TOLERANCE
    assert difference(exact, hessian) < TOLERANCE


# -- batches -----------------------------------------------------------------------------------------------


@functools.cache
def bound_with(option, value):
    return eigencore.bind(made_of("mlp").problem, **{option: value})


@pytest.mark.parametrize("kind", [*WEIGHTED, "input_hessian"])
@pytest.mark.parametrize("options", [("memory", "none"), ("microbatch", 2)])
def test_memory_and_microbatches_do_not_change_the_matrix(kind, options):
    bound = bound_with(*options)
    labels = {"labels": 3} if kind == "fisher" else {}
    operator = bound.operator(kind, **labels)
    expected = dense(bound_of("mlp").bound.operator(kind, **labels))
    assert difference(dense(operator), expected) < TOLERANCE
    assert difference(dense(operator), expected) < TOLERANCE  # with graphs that were kept, if any were
    operator.release()
    assert difference(dense(operator), expected) < TOLERANCE


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("kind", [*WEIGHTED, "preconditioned"])
def test_the_mean_over_all_minibatches_is_the_operator(kind, kept):
    operator = bound_of("mlp").bound.operator(
        kind, **({"labels": 2} if kind == "fisher" else {}), damping=0.1
    )
    whole = dense(operator) if kept else None
    drawn = {}
    for step in range(60):  # the share of the weights says which of the three batches was drawn
        sample, share = operator.minibatch(step, 0)
        drawn.setdefault(round(share * SAMPLES), sample)
    assert set(drawn) == set(SIZES)
    mean = sum(size / SAMPLES * dense(sample) for size, sample in drawn.items())
    assert difference(mean, dense(operator) if whole is None else whole) < TOLERANCE


def test_the_hessian_over_the_inputs_has_no_minibatches_and_takes_the_first_samples():
    one = bound_of("mlp")
    for count in (1, 7, 9, 15, 40):
        operator = one.bound.operator("input_hessian", samples=count)
        assert operator.shape[0] == 4 * min(count, SAMPLES)
        assert difference(dense(operator), one.dense.input_hessian(count)) < TOLERANCE
    assert not isinstance(operator, MinibatchOperator)


class Device(nn.Module):
    """A layer on a device on which at most `FITS` samples fit into one forward pass."""

    FITS = 10**9

    def forward(self, x):
        if len(x) > Device.FITS:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return x


@functools.cache
def bound_to_device():
    one = made_of("mlp")
    one.problem.model.append(Device())
    return eigencore.bind(one.problem)


@pytest.mark.parametrize("kind", WEIGHTED)
def test_batches_are_halved_when_memory_runs_out(kind, monkeypatch):
    operator = bound_to_device().operator(kind, **({"labels": 2} if kind == "fisher" else {}))
    expected = dense(operator)
    operator.release()
    monkeypatch.setattr(Device, "FITS", 3)
    assert difference(dense(operator), expected) < TOLERANCE
    assert "ran out of memory" in operator.notes[0]


def test_the_hessian_over_the_inputs_says_that_memory_ran_out(monkeypatch):
    one = made_of("mlp")
    one.problem.model.append(Device())
    operator = eigencore.bind(one.problem, memory="none").operator("input_hessian")
    monkeypatch.setattr(Device, "FITS", 3)
    with pytest.raises(eigencore.EigencoreError, match="out of memory"):
        dense(operator)
    monkeypatch.setattr(Device, "FITS", 10)
    assert difference(dense(operator), one.dense.input_hessian()) < TOLERANCE
