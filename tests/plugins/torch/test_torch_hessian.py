"""Products compared with dense Hessians, on networks of many kinds, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from eigencore import solve
from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation.double_backward import twice_differentiable

CASES = {}
SAMPLES, SIZES = 15, (7, 5, 3)


def case(make):
    CASES[make.__name__] = make
    return make


def vectors(features=4, classes=3):
    return torch.randn(SAMPLES, features), torch.randint(classes, (SAMPLES,))


def images():
    return torch.randn(SAMPLES, 1, 6, 6), torch.randint(3, (SAMPLES,))


def token_sequences(length=5):
    return torch.randint(6, (SAMPLES, length)), torch.randint(3, (SAMPLES,))


@case
def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), vectors(), nn.CrossEntropyLoss()


@case
def relu_in_place():
    layers = nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)
    return nn.Sequential(*layers), vectors(), nn.CrossEntropyLoss()


@case
def convolutions():
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*layers), images(), nn.CrossEntropyLoss()


@case
def channels_last():
    model, (x, y), loss = convolutions()
    model[0] = nn.Conv2d(2, 3, 3)
    x = torch.cat([x, x**2], dim=1).to(memory_format=torch.channels_last)
    return model.to(memory_format=torch.channels_last), (x, y), loss


@case
def batch_norm():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    layers = nn.Conv2d(1, 3, 3), norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    return nn.Sequential(*layers), images(), nn.CrossEntropyLoss()


@case
def layer_norm():
    layers = nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)
    return nn.Sequential(*layers), vectors(), nn.CrossEntropyLoss()


@case
def group_norm():
    layers = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Softplus(), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers), images(), nn.CrossEntropyLoss()


@case
def dropout():
    layers = nn.Linear(4, 6), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(6, 3)
    return nn.Sequential(*layers), vectors(), nn.CrossEntropyLoss()


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(6, 3), kind(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(self.embed(x))[0][:, -1])


@case
def lstm():
    return Recurrent(nn.LSTM), token_sequences(), nn.CrossEntropyLoss()


@case
def gru():
    return Recurrent(nn.GRU), token_sequences(), nn.CrossEntropyLoss()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(6, 4), nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        query, key, value = self.mix(self.embed(x))[:, None].chunk(3, dim=-1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.head(mixed[:, 0, -1])


@case
def attention():
    return Attention(), token_sequences(), nn.CrossEntropyLoss()


@case
def transformer():
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, batch_first=True)
    layers = nn.Embedding(6, 4), layer, nn.Flatten(), nn.Linear(20, 3)
    return nn.Sequential(*layers), token_sequences(), nn.CrossEntropyLoss()


class MultiHead(nn.Module):
    """With padding masked by both a mask added to the scores and a flag that is merged into it."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(6, 4), nn.MultiheadAttention(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        tokens = self.embed(x).transpose(0, 1)
        causal = torch.full((len(tokens), len(tokens)), -torch.inf, device=x.device).triu(1).to(tokens.dtype)
        padding = torch.zeros_like(x, dtype=torch.bool)
        padding[:, -1] = True
        mixed, _ = self.mix(
            tokens,
            tokens,
            tokens,
            attn_mask=causal,
            key_padding_mask=torch.zeros_like(tokens[..., 0].T).masked_fill(padding, -torch.inf),
            need_weights=False,
        )
        return self.head(mixed[-2])


@case
def multi_head_attention():
    return MultiHead(), token_sequences(), nn.CrossEntropyLoss()


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


class Language(nn.Module):
    """Takes a batch by keyword and returns its own loss, as models of the transformers library do."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(6, 4), nn.Linear(4, 12), nn.Linear(4, 6)

    def forward(self, input_ids, attention_mask, labels):
        query, key, value = self.mix(self.embed(input_ids))[:, None].chunk(3, dim=-1)
        seen = attention_mask[:, None, None, :].bool()
        logits = self.head(functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)[:, 0])
        return Output(functional.cross_entropy(logits.transpose(1, 2), labels), logits)


@case
def language_model():
    x, _ = token_sequences()
    mask = torch.ones_like(x)
    mask[:, -1] = 0
    batch = {"input_ids": x, "attention_mask": mask, "labels": x.roll(-1, 1)}
    return Language(), batch, lambda model, batch: model(**batch).loss


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(torch.tanh(self.body(self.embed(x)))).transpose(1, 2)


@case
def tied():
    x, _ = token_sequences()
    return Tied(), (x, x.roll(1, 1)), nn.CrossEntropyLoss()


@case
def frozen():
    model, data, loss = mlp()
    model[0].weight.requires_grad_(False)
    return model, data, loss


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.spare, self.body = nn.Linear(2, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.body(x)


@case
def unused():
    return Unused(), vectors(), nn.CrossEntropyLoss()


@case
def weight_norm():
    """PyTorch's own second derivative of the fused kernel is wrong: it treats the norms as constants."""
    layers = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)
    return nn.Sequential(*layers), vectors(), nn.CrossEntropyLoss()


@case
def summed_squares():
    x, _ = vectors()
    return (
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
        (x, x[:, :2]),
        nn.MSELoss(reduction="sum"),
    )


def energy(model, batch):
    """A loss that contains a derivative of the network."""
    x = batch["x"].clone().requires_grad_(True)
    value = model(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    return ((slope - batch["x"]) ** 2).sum(1).mean() + (value**2).mean()


@case
def loss_with_derivatives():
    x, _ = vectors()
    return nn.Sequential(nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 1)), {"x": x}, energy


def physics(model, x):
    """The squared residuals of u'' = u^2 at the points x, and of u = 1 at 0."""
    x = x.clone().requires_grad_(True)
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return (second - u**2).square().mean() + (model(torch.zeros_like(x)) - 1).square().mean()


@case
def physics_informed():
    layers = nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)
    return nn.Sequential(*layers), torch.rand(SAMPLES, 1), physics


def penalised(model, batch):
    """The loss with the squared gradient with respect to the inputs as a penalty."""
    x = batch["x"].clone().requires_grad_(True)
    loss = functional.cross_entropy(model(x), batch["y"], reduction="sum")
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    return (loss + slope.square().sum()) / len(x)


@case
def gradient_penalty():
    model, (x, y), _ = mlp()
    return model, {"x": x, "y": y}, penalised


def build(name):
    """The model in training mode, all data in one batch, and the loss."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return CASES[name]()
        finally:
            torch.set_default_dtype(default)


def split(data, sizes=SIZES):
    if isinstance(data, torch.Tensor):
        return list(data.split(sizes))
    if isinstance(data, dict):
        return [dict(zip(data, x, strict=True)) for x in split(tuple(data.values()), sizes)]
    return list(zip(*(part.split(sizes) for part in data), strict=True))


def loss_of(model, data, loss):
    return loss(model(data[0]), data[1]) if isinstance(data, tuple) else loss(model, data)


def dense(model, data, loss):
    """The Hessian of the loss on all data in one batch, formed column by column."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    chosen = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in chosen.values()]

    def value(flat):
        pieces = zip(chosen.items(), flat.split(sizes), strict=True)
        weights = {name: piece.reshape(p.shape) for (name, p), piece in pieces}

        def at(*inputs, **named):
            return functional_call(model, weights, inputs, named)

        return loss_of(at, data, loss)

    with twice_differentiable(list(model.modules()), torch.device("cpu")):
        flat = torch.cat([p.reshape(-1) for p in chosen.values()])
        matrix = torch.autograd.functional.hessian(value, flat)
    for module, mode in modes.items():
        module.training = mode
    return matrix


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_dense_hessian(name, memory, device, hessian):
    model, data, loss = build(name)
    exact = dense(model, data, loss)
    problem = Problem(model=model, data=split(data), loss=loss)
    found = hessian(problem, device=device, memory=memory)
    assert found.shape == exact.shape
    scale = max(1.0, float(exact.abs().max()))
    assert float((found - exact).abs().max()) <= 1e-9 * scale
    assert float(exact.abs().max()) > 1e-3  # a Hessian of zero would prove nothing


@pytest.mark.parametrize("name", CASES)
def test_products_are_derivatives_of_the_gradient(name):
    """Compares with central differences of the gradient, which need no second derivative."""
    model, data, loss = build(name)
    problem = Problem(model=model, data=split(data), loss=loss)
    operator = bind(problem, TorchOptions()).operator()
    v = torch.randn(operator.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    product = operator.matvec(v)
    weights = [p for p in model.parameters() if p.requires_grad]
    model.eval()

    def gradient(step):
        with torch.no_grad():
            for p, piece in zip(weights, v.split([p.numel() for p in weights]), strict=True):
                p.add_(piece.reshape(p.shape), alpha=step)
        value = loss_of(model, data, loss)
        slopes = torch.autograd.grad(value, weights, materialize_grads=True, allow_unused=True)
        return torch.cat([g.reshape(-1) for g in slopes])

    step = 1e-5
    ahead, behind = gradient(step), gradient(-2 * step)
    slope = (ahead - behind) / (2 * step)
    assert float((slope - product).norm()) <= 1e-7 * float(product.norm())


CLASSES = torch.tensor([1.0, 2, 5], dtype=torch.float64)


def class_weighted():
    return *build("mlp")[:2], nn.CrossEntropyLoss(CLASSES), lambda batch: CLASSES[batch[1]].sum()


def ignored():
    model, (x, y), _ = build("convolutions")
    y[[0, 2, 9, 13, 14]] = -1
    return model, (x, y), nn.CrossEntropyLoss(ignore_index=-1), lambda batch: int((batch[1] != -1).sum())


def tokens():
    model, batch, loss = build("language_model")
    batch["labels"][:4, 2:] = -100
    batch["labels"][10, 1:] = -100
    return model, batch, loss, lambda batch: int((batch["labels"] != -100).sum())


@pytest.mark.parametrize("microbatch", [None, 2])
@pytest.mark.parametrize("make", [class_weighted, ignored, tokens])
def test_a_weighted_mean_is_measured_or_given(make, microbatch, hessian):
    model, data, loss, weight = make()
    exact = dense(model, data, loss)
    for given in (weight, None):
        problem = Problem(model=model, data=split(data), loss=loss, weight=given)
        torch.testing.assert_close(hessian(problem, microbatch=microbatch), exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-5), ("float64", 1e-9)])
@pytest.mark.parametrize("name", CASES)
def test_neither_batch_size_nor_order_matters(name, dtype, close):
    model, data, loss = build(name)
    V = torch.randn(sum(p.numel() for p in model.parameters() if p.requires_grad), 2)
    found = []
    for batches in (split(data, SAMPLES), split(data, 4), split(data, 4)[::-1], split(data, (1, 9, 2, 3))):
        bound = bind(Problem(model=model, data=batches, loss=loss), TorchOptions(), dtype=dtype)
        found.append(bound.operator().matmat((V / V.norm()).to(getattr(torch, dtype))))
    for other in found[1:]:
        torch.testing.assert_close(
            other, found[0], rtol=0, atol=close * max(1.0, float(found[0].abs().max()))
        )


# Cases whose power iterations take a few seconds.
LONG = {"dropout", "group_norm", "gru", "language_model", "lstm", "multi_head_attention", "transformer"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CASES]
)
def test_every_solver_finds_the_top_eigenvalues_of_the_dense_hessian(name):
    model, data, loss = build(name)
    spectrum = np.linalg.eigvalsh(dense(model, data, loss).numpy())
    top = spectrum[np.argsort(-np.abs(spectrum))][:5]
    operator = bind(Problem(model=model, data=split(data), loss=loss), TorchOptions()).operator()
    for solver in ("lanczos", "arpack", "accel_power", "deflated_power"):
        result = solve(operator, 5, solver=solver, tol=1e-5, max_matvecs=2000)
        assert result.status == "converged", solver
        np.testing.assert_allclose(result.values, top, rtol=1e-6, err_msg=solver)


def test_an_operation_without_a_second_derivative_is_named(small):
    problem = small(model=nn.Sequential(nn.Linear(4, 3), nn.Hardsigmoid()).double())
    operator = bind(problem, TorchOptions()).operator()
    with pytest.raises(ProblemError, match="hardsigmoid_backward") as caught:
        operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64))
    assert "simpler operations" in caught.value.hint


def test_the_older_weight_norm_is_right_too(hessian):
    layers = nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)
    model, data, loss = build("mlp")
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.Sequential(nn.utils.weight_norm(layers[0].double(), dim=None), *layers[1:]).double()
    exact = dense(model, data, loss)
    found = hessian(Problem(model=model, data=split(data), loss=loss))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [None, 0, 1, 2, -2, -3])
def test_weight_norm_over_any_dimensions_keeps_the_loss(dim, small):
    """The loss is computed by eigencore's replacement of PyTorch's kernel, and by that kernel."""
    layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 2), dim=dim)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(1.5)
    problem = small(model=nn.Sequential(nn.Unflatten(1, (2, 2)), layer, nn.Flatten()).double())
    expected = sum(len(y) * problem.loss(problem.model(x), y) for x, y in problem.data) / 15
    torch.testing.assert_close(bind(problem, TorchOptions()).loss(), expected.item(), rtol=1e-12, atol=0)


def test_unused_weights_have_rows_of_zeros(hessian):
    model, data, loss = build("unused")
    found = hessian(Problem(model=model, data=split(data), loss=loss))
    spare = model.spare.weight.numel() + model.spare.bias.numel()
    assert not found[:spare].any()
    assert not found[:, :spare].any()


def test_a_loss_linear_in_the_weights_has_a_hessian_of_zero(small, hessian):
    problem = small(model=nn.Linear(4, 3).double(), loss=lambda outputs, y: outputs.mean())
    assert not hessian(problem).any()


def test_matmat_agrees_with_matvec(small):
    operator = bind(small(), TorchOptions()).operator()
    V = torch.randn(operator.shape[0], 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    columns = torch.stack([operator.matvec(V[:, i]) for i in range(4)], dim=1)
    torch.testing.assert_close(operator.matmat(V), columns, rtol=0, atol=1e-14)


def test_it_multiplies_by_at_and_in_scipy(small, device):
    problem = small(dtype=torch.float32)
    operator = bind(problem, TorchOptions(), device=device).operator()
    V = torch.randn(operator.shape[0], 3, generator=torch.Generator().manual_seed(0)).to(device)
    torch.testing.assert_close(operator @ V, operator.matmat(V), rtol=0, atol=0)
    converted = operator.to_scipy()
    assert (converted @ V.cpu().numpy()).dtype == np.float32
    np.testing.assert_allclose(converted @ V.cpu().numpy(), (operator @ V).cpu(), atol=1e-7)
    (top,) = eigsh(converted, k=1, which="LM", return_eigenvectors=False)
    assert top == pytest.approx(solve(operator, k=1).values[0], rel=1e-3)
    sample, _ = operator.minibatch(0, 0)
    torch.testing.assert_close(sample @ V, sample.matmat(V), rtol=0, atol=0)


def test_products_have_no_graph_and_accept_vectors_that_have_one(small):
    operator = bind(small(), TorchOptions()).operator()
    v = torch.ones(operator.shape[0], dtype=torch.float64, requires_grad=True)
    assert not operator.matvec(v).requires_grad
    with torch.inference_mode():
        inside = operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64))
    torch.testing.assert_close(inside.clone(), operator.matvec(v), rtol=0, atol=0)


def test_products_have_the_operators_type_and_device(small):
    operator = bind(small(dtype=torch.float32), TorchOptions()).operator()
    product = operator.matvec(
        operator.xp.ones(operator.shape[0], dtype=operator.dtype, device=operator.device)
    )
    assert (product.dtype, product.device) == (operator.dtype, operator.device)
    assert operator.xp.__name__ == "array_api_compat.torch"
