"""Products in bfloat16 and float16, by which solvers find what full products then refine."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import eigencore
from eigencore.errors import CapabilityError, OperatorError, OptionError
from eigencore.interfaces import Problem
from eigencore.operators import release
from eigencore.results import Status
from eigencore_torch.backend import TorchOptions, bind
from kit.dense_kinds import Dense

SOLVERS = ["lanczos", "arpack", "lobpcg", "deflated_power", "accel_power"]
ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def gap(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def low_and_full(problem, products, kind="hessian", **options):
    """An operator's products in low precision and the operator itself."""
    operator = bind(problem, TorchOptions(products=products), dtype="float32").operator(kind, **options)
    return operator.approximation.operator, operator


def block(n, columns=3):
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def trained():
    """A softplus network that was trained a little on digits-like clusters, and its dense Hessian."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        centres, y = torch.randn(4, 10), torch.randint(0, 4, (240,))
        x = centres[y] + 0.7 * torch.randn(240, 10)
        model = nn.Sequential(nn.Linear(10, 16), nn.Softplus(), nn.Linear(16, 4))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        optimizer.zero_grad()
    problem = Problem(model, list(zip(x.split(100), y.split(100), strict=True)), nn.CrossEntropyLoss())
    dense = Dense(model, nn.functional.cross_entropy, x.double(), y).hessian().numpy()
    return problem, (dense + dense.T) / 2


@pytest.mark.parametrize("products", ROUNDING)
def test_products_of_every_network_have_the_error_of_their_type(classifying, products):
    if (classifying().name, products) == ("recurrent", "float16"):
        pytest.skip("PyTorch has no LSTM in float16 on CPUs")
    low, full = low_and_full(classifying(), products)
    V = block(full.shape[0])
    exact = bind(classifying(), TorchOptions(), dtype="float64").operator().matmat(V.double())
    assert gap(full.matmat(V), exact) < 1e-5
    error = gap(low.matmat(V), exact)
    assert ROUNDING[products] / 50 < error < 30 * ROUNDING[products]
    assert low.dtype is torch.float32
    u, v = V[:, 0], V[:, 1]
    defect = abs(float(u @ low.matvec(v) - v @ low.matvec(u)))
    assert defect < 30 * ROUNDING[products] * float(low.matvec(v).norm() * u.norm())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ggn", {}),
        ("fisher", {}),
        ("empirical_fisher", {}),
        ("scaled", {"weight_decay": 0.3, "damping": 0.1}),
        ("scaled", {"of": "ggn"}),
    ],
)
@pytest.mark.parametrize("products", ROUNDING)
def test_products_of_every_kind(small, kind, options, products):
    low, full = low_and_full(small(), products, kind, **options)
    V = block(full.shape[0])
    assert 1e-6 < gap(low.matmat(V), full.matmat(V)) < 30 * ROUNDING[products]


class Types(TorchDispatchMode):
    """Records the types of the operands of convolutions and of their gradients."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution" in str(func):
            self.found |= {x.dtype for x in args if isinstance(x, torch.Tensor)}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("products", ROUNDING)
def test_convolutions_and_their_derivatives_are_in_low_precision(products):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Flatten())
        x, y = torch.randn(6, 1, 4, 4), torch.randint(0, 2, (6,))
    low, full = low_and_full(Problem(model, [(x, y)], nn.CrossEntropyLoss()), products)
    for operator, dtype in ((low, getattr(torch, products)), (full, torch.float32)):
        with Types() as types:
            operator.matmat(block(full.shape[0]))
        assert types.found == {dtype}


def test_the_operator_itself_has_full_products(small):
    problem = small(dtype=torch.float32)
    _, full = low_and_full(problem, "bfloat16")
    plain = bind(problem, TorchOptions()).operator()
    V = block(full.shape[0])
    assert torch.equal(full.matmat(V), plain.matmat(V))
    assert plain.approximation is None


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("products", ROUNDING)
def test_every_solver_finds_the_eigenpairs_of_the_dense_hessian(trained, solver, products):
    problem, dense = trained
    operator = bind(problem, TorchOptions(products=products)).operator()
    found = eigencore.solve(operator, 3, solver=solver, tol=2e-2)
    true = np.sort(np.linalg.eigvalsh(dense))[::-1][:3]
    assert found.status is Status.CONVERGED
    assert found.complete
    # To the square of the residuals, relative to the gaps; products in bfloat16 alone are off by 1e-3.
    assert np.allclose(found.values, true, rtol=2e-3)
    V = found.vectors.double().numpy()
    assert np.allclose(found.residuals, np.linalg.norm(dense @ V - V * found.values, axis=0), rtol=1e-2)
    assert found.certificate.level == "full"
    error = operator.approximation.operator.matvec(found.vectors[:, 0]) - operator.matvec(found.vectors[:, 0])
    note = next(note for note in found.notes if products in note)
    measured = float(note.partition("measured error of ")[2].split()[0])
    assert measured == pytest.approx(float(error.norm()) / true[0], rel=0.5)


def test_a_trained_network_is_refused_at_the_default_tolerance():
    options = {"torch": {"products": "bfloat16"}}
    with pytest.raises(OperatorError) as caught:
        eigencore.analyze("demo:digits", k=5, analyses="none", options=options)
    error = caught.value
    assert "products in bfloat16 have an error of" in error.message
    assert "more than the tolerance 0.001" in error.message
    assert "set torch.products=full" in error.hint
    measured = float(error.message.split("error of ")[1].split()[0])
    assert 1e-3 < measured < 5e-2
    assert error.partial.matvecs <= 8


def test_the_rounding_of_weights_is_none_where_they_have_16_bits(trained):
    problem, _ = trained
    given, errors = problem.model, []
    rounded = nn.Sequential(nn.Linear(10, 16), nn.Softplus(), nn.Linear(16, 4))
    rounded.load_state_dict({name: p.bfloat16().float() for name, p in given.state_dict().items()})
    for model in (given, rounded):
        operator = bind(
            Problem(model, problem.data, problem.loss), TorchOptions(products="bfloat16")
        ).operator()
        v = eigencore.solve(bind(Problem(model, problem.data, problem.loss), TorchOptions()).operator(), 1)
        errors.append(gap(operator.approximation.operator.matmat(v.vectors), operator.matmat(v.vectors)))
    assert errors[1] < errors[0]


def test_minibatches_blocks_and_microbatches(small):
    for options in ({}, {"memory": "none"}, {"microbatch": 2}):
        bound = bind(small(dtype=torch.float32), TorchOptions(products="bfloat16", **options))
        operator = bound.operator()
        low, V = operator.approximation.operator, block(operator.shape[0])
        assert 1e-4 < gap(low.matmat(V), operator.matmat(V)) < 0.1
        (one, share), (other, same) = (A.minibatch(3, 1) for A in (low, operator))
        assert share == same
        assert 1e-4 < gap(one.matmat(V), other.matmat(V)) < 0.1
        slices = [parameter.where for parameter in bound.layout()]
        blocks = [[slices[0], slices[1]], [slices[2]]]
        Vs = [torch.cat([V[s] for s in chosen]) for chosen in blocks]
        pairs = zip(low.block_products(blocks, Vs), operator.block_products(blocks, Vs), strict=True)
        assert all(1e-5 < gap(found, expected) < 0.1 for found, expected in pairs)


def test_what_pytorch_can_not_compute_in_low_precision_says_what_to_do(small):
    def loss(z, y):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not implemented for 'Half'")
        return nn.functional.cross_entropy(z, y)

    problem = small(dtype=torch.float32, loss=loss, reduction="mean")
    operator = bind(problem, TorchOptions(products="float16")).operator()
    before = states()
    with pytest.raises(eigencore.EigencoreError, match="not implemented for 'Half'") as caught:
        eigencore.solve(operator, 2)
    assert "set torch.products=full" in caught.value.hint
    assert states() == before


def states():
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )


@pytest.mark.parametrize("products", ROUNDING)
def test_autocast_is_as_before_also_inside_of_it(small, products):
    problem = small(dtype=torch.float32)
    low, full = low_and_full(problem, products)
    V = block(full.shape[0])
    expected, before = (low.matmat(V), full.matmat(V)), states()
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            inside = states()
            assert torch.equal(low.matmat(V), expected[0])
            assert torch.equal(full.matmat(V), expected[1])
            assert states() == inside
    assert states() == before


@pytest.mark.parametrize(
    ("options", "arguments", "kind", "error", "message"),
    [
        ({"derivative": "difference"}, {}, "hessian", OptionError, "torch.derivative=difference"),
        (
            {},
            {"dtype": "float64"},
            "hessian",
            OptionError,
            "applies to float32, and the data type is float64",
        ),
        ({}, {"dtype": "float32"}, "input_hessian", CapabilityError, "not available for the kind"),
    ],
)
def test_what_has_no_low_precision_is_refused(small, options, arguments, kind, error, message):
    with pytest.raises(error, match=message):
        bind(small(), TorchOptions(products="bfloat16", **options), **arguments).operator(kind)


def test_both_operators_share_the_memory_and_are_freed_together(small):
    sizes = [
        bind(small(dtype=torch.float32), TorchOptions(products=products, memory="1GiB")).memory
        for products in ("full", "bfloat16")
    ]
    assert [(size.graphs, size.total) for size in sizes] == [(2**30, 2**30), (2**29, 2**29)]
    low, full = low_and_full(small(), "bfloat16")
    V = block(full.shape[0])
    low.matmat(V)
    full.matmat(V)
    assert low._kept
    assert full._kept
    release(full)
    assert not low._kept
    assert not full._kept
    references = weakref.ref(low), weakref.ref(full)
    gc.disable()
    try:
        eigencore.solve(full, 1, tol=0.1)
        del low, full
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_the_screen_and_the_manifest_name_the_products(trained):
    problem, _ = trained
    options = {"torch": {"products": "float16"}}
    run = eigencore.analyze(problem, k=2, tol=1e-2, analyses="none", options=options)
    assert run.eigen.status is Status.CONVERGED
    assert "the solver's products in float16" in str(run.manifest)
    assert any(note.startswith("the solver used products in float16") for note in run.eigen.notes)


def test_layers_are_those_of_full_products(trained):
    problem, _ = trained
    low, full = (bind(problem, TorchOptions(products=products)) for products in ("bfloat16", "full"))
    found, expected = (eigencore.layers(bound, k=1, tol=2e-2) for bound in (low, full))
    for one, other in zip(found.blocks, expected.blocks, strict=True):
        assert np.allclose(one.eigen.values, other.eigen.values, rtol=2e-3)
