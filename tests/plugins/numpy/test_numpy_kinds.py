"""The Gauss-Newton matrix on NumPy against explicit Jacobians, and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from eigencore.errors import OptionError, UnknownNameError
from eigencore.objectives import DLR, CrossEntropy, Margin
from eigencore_numpy.backend import bind

STEP = 1e-5
SAMPLES = 15


def dense(operator):
    return operator.matmat(np.eye(operator.shape[0]))


def logits_at(problem, x):
    """The logits (N, c) as a function of the flat weights."""
    from eigencore_numpy.layout import select

    layout = select(problem.model)
    return lambda w: layout.unflatten(w).logits(x), layout.flatten(problem.model)


def reference(problem, all_samples, summed=False):
    """The sum over the samples of J'HJ, with J by central differences and H from columns of hvp."""
    x, y = all_samples(problem)
    logits, w = logits_at(problem, x)
    J = np.stack(
        [(logits(w + STEP * e) - logits(w - STEP * e)) / (2 * STEP) for e in np.eye(len(w))], axis=-1
    )
    z = logits(w)
    columns = [problem.loss.hvp(z, y, np.tile(e, (len(y), 1))) for e in np.eye(z.shape[1])]
    return np.einsum("sai,sba,sbj->ij", J, np.stack(columns, axis=1), J) / (1 if summed else len(y))


@pytest.mark.parametrize("activation", ["softplus", "relu"])
@pytest.mark.parametrize("loss", [CrossEntropy(), Margin(), DLR()], ids=lambda one: type(one).__name__)
def test_the_gauss_newton_matrix_is_that_of_explicit_jacobians(small, all_samples, activation, loss):
    problem = small(activation, loss=loss)
    A = dense(bind(problem).operator("ggn"))
    expected = reference(problem, all_samples)
    np.testing.assert_allclose(A, expected, rtol=0, atol=1e-8 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(A, A.T, rtol=0, atol=1e-14)
    if isinstance(loss, CrossEntropy):
        values = np.linalg.eigvalsh(A)
        assert values[0] > -1e-14 * values[-1]
        assert np.linalg.norm(A - dense(bind(problem).operator())) > 0.01 * np.linalg.norm(A)


def test_a_sum_over_the_samples(small, all_samples):
    problem = small(reduction="sum")
    expected = reference(problem, all_samples, summed=True)
    np.testing.assert_allclose(dense(bind(problem).operator("ggn")), expected, rtol=0, atol=1e-7)


def test_a_network_that_is_linear_in_the_selected_weights_has_one_matrix(small):
    bound = bind(small())
    for params in ("W2", "b2", "W2,b2"):
        ggn, hessian = (dense(bound.operator(kind, params)) for kind in ("ggn", "hessian"))
        np.testing.assert_allclose(ggn, hessian, rtol=0, atol=1e-15)
    whole = dense(bound.operator("ggn"))
    where = {part.name: part.where for part in bound.layout()}
    np.testing.assert_allclose(
        dense(bound.operator("ggn", "W1")), whole[where["W1"], where["W1"]], atol=1e-15
    )


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_weight_decay_and_damping_shift_the_matrix(small, kind):
    bound = bind(small())
    shifted = dense(bound.operator(kind, weight_decay=0.25, damping=-1.5))
    plain = dense(bound.operator(kind))
    np.testing.assert_allclose(shifted, plain - 1.25 * np.eye(len(plain)), rtol=0, atol=1e-14)
    with pytest.raises(OptionError, match=rf"{kind}\.weight_decay"):
        bound.operator(kind, weight_decay=-0.1)
    with pytest.raises(UnknownNameError, match="labels"):
        bound.operator(kind, labels=3)


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_the_mean_over_all_minibatches_is_the_operator(small, kind):
    operator = bind(small()).operator(kind, damping=0.5)
    drawn = {}
    for step in range(60):
        sample, share = operator.minibatch(step, 0)
        drawn.setdefault(round(share * SAMPLES), sample)
    assert set(drawn) == {7, 5, 3}
    mean = sum(size / SAMPLES * dense(sample) for size, sample in drawn.items())
    np.testing.assert_allclose(mean, dense(operator), rtol=0, atol=1e-14)


def test_kinds_of_pytorch_are_not_kinds_of_numpy(small):
    with pytest.raises(UnknownNameError, match="kind of operator on the backend numpy: 'fisher'"):
        bind(small()).operator("fisher")


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_it_agrees_with_pytorch(small, activation):
    torch = pytest.importorskip("torch")
    import eigencore

    problem = small(activation)
    net = problem.model
    between = {"softplus": torch.nn.Softplus, "relu": torch.nn.ReLU}[activation]()
    h, d = net.W1.shape
    model = torch.nn.Sequential(torch.nn.Linear(d, h), between, torch.nn.Linear(h, len(net.b2))).double()
    for layer, W, b in ((model[0], net.W1, net.b1), (model[2], net.W2, net.b2)):
        layer.weight.data, layer.bias.data = torch.from_numpy(W), torch.from_numpy(b)
    data = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in problem.data]
    operator = eigencore.operator(model, data, torch.nn.CrossEntropyLoss(), kind="ggn")
    found = operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(dense(bind(problem).operator("ggn")), found, rtol=0, atol=1e-14)
