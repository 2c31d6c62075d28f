"""Faults that similar packages have had, each as a test that it does not occur here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import eigencore

SOLVERS = ("lanczos", "arpack", "deflated_power", "accel_power", "lobpcg")


def spectral(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """A dense symmetric matrix (n, n) with this spectrum."""
    n = len(values)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return (Q * values) @ Q.T


def dense(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The dense Hessian of the mean cross-entropy over the parameters, computed by PyTorch in one call."""
    names = [name for name, _ in model.named_parameters()]
    sizes = [parameter.numel() for parameter in model.parameters()]
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])

    def loss(weights: torch.Tensor) -> torch.Tensor:
        pieces = dict(zip(names, torch.split(weights, sizes), strict=True))
        own = {name: pieces[name].reshape(parameter.shape) for name, parameter in model.named_parameters()}
        return nn.functional.cross_entropy(torch.func.functional_call(model, own, (x,)), y)

    return torch.autograd.functional.hessian(loss, flat).numpy()


def formed(model: nn.Module, data: list[tuple[torch.Tensor, torch.Tensor]]) -> np.ndarray:
    """The matrix of the operator, column by column."""
    A = eigencore.operator(model, data, nn.CrossEntropyLoss())
    return A.matmat(torch.eye(A.shape[0], dtype=torch.float64)).numpy()


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(37, 6, dtype=torch.float64, generator=drawn)
    return x, torch.randint(0, 3, (37,), generator=drawn)


def network(*inner: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), *inner, nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("solver", ["lanczos", "arpack"])
def test_none_of_thirty_eigenvalues_is_spurious(solver):
    """Without full reorthogonalisation Lanczos finds its first eigenvalues again, from k = 25 or so."""
    values = np.concatenate([np.geomspace(100, 1, 40), np.linspace(-0.5, 0.5, 360)])
    found = eigencore.solve(spectral(values), k=30, solver=solver, tol=1e-8)
    assert found.status == "converged"
    assert np.allclose(found.values, values[:30], rtol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_eigenvalues_of_both_signs_are_ordered_by_magnitude(solver):
    values = np.concatenate([[10, -9, 8, -7], np.linspace(-3, 3, 60)])
    found = eigencore.solve(spectral(values), k=4, solver=solver, tol=1e-7)
    assert np.allclose(found.values, [10, -9, 8, -7], rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.5, 4.0])
def test_the_value_under_momentum_is_the_eigenvalue(momentum):
    """Under momentum the norm of an iterate is not an eigenvalue; its Rayleigh quotient is."""
    values = np.concatenate([[10, 5], np.linspace(-3, 3, 60)])
    found = eigencore.solve(spectral(values), k=1, solver="accel_power", momentum=momentum, tol=1e-8)
    assert found.values[0] == pytest.approx(10, rel=1e-10)


def test_a_short_last_batch_is_weighted_by_its_samples(samples):
    """The mean over the means of batches is another Hessian; here the last of three batches has 5 samples."""
    x, y = samples
    model = network()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 37, 16)]
    assert len(batches[-1][0]) == 5
    assert np.allclose(formed(model, batches), dense(model, x, y), rtol=1e-9, atol=1e-12)


class WithSpare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = network(), nn.Linear(2, 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def test_weights_that_the_loss_does_not_use_have_rows_of_zeros(samples):
    x, y = samples
    model = WithSpare()
    H = formed(model, [(x, y)])
    assert np.array_equal(H[-6:], np.zeros((6, len(H))))
    assert np.allclose(H[:-6, :-6], dense(model.used, x, y), rtol=1e-9, atol=1e-12)


def test_batch_norm_keeps_its_statistics_and_its_mode(samples):
    x, y = samples
    model = network(nn.BatchNorm1d(5).double())
    model(x)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    H = formed(model, [(x, y)])
    assert model.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert np.allclose(H, dense(model.eval(), x, y), rtol=1e-9, atol=1e-12)


def test_layer_norm_is_differentiated_twice(samples):
    x, y = samples
    model = network(nn.LayerNorm(5).double())
    assert np.allclose(formed(model, [(x, y)]), dense(model, x, y), rtol=1e-9, atol=1e-12)
