"""Hessian products by central differences of the gradient, compared with exact ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import eigencore
from eigencore.errors import CapabilityError, NotSymmetricError, OptionError, ProblemError
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind


def pair(problem, kind="hessian", params=None, *, dtype=None, options=None, **torch_options):
    """The operators by differences and by double backward."""
    return tuple(
        bind(problem, TorchOptions(derivative=derivative, **torch_options), dtype=dtype).operator(
            kind, params, **(options or {})
        )
        for derivative in ("difference", "exact")
    )


def directions(operator, columns=3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(operator.shape[0], columns, generator=generator, dtype=torch.float64).to(
        operator.dtype
    )


def gap(found, expected):
    return float((found - expected).double().norm() / expected.double().norm())


@pytest.mark.parametrize("options", [{}, {"microbatch": 2}])
def test_products_of_every_network_in_float64(classifying, options):
    differences, exact = pair(classifying(), **options)
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 1e-8
    assert gap(differences.matvec(V[:, 0]), exact.matvec(V[:, 0])) < 1e-8


def test_products_in_float32(classifying):
    if classifying().name == "rectified":
        pytest.skip("a kink of a ReLU is within the step")
    differences, exact = pair(classifying(), dtype="float32")
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 2e-3


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e30])
def test_products_scale_with_the_vector(small, size):
    differences, exact = pair(small())
    v = size * directions(exact)[:, 0]
    assert gap(differences.matvec(v), exact.matvec(v)) < 1e-8
    assert not differences.matvec(0 * v).any()


@pytest.mark.parametrize("zero", ["0.*", "*"])
def test_weights_of_zero_have_a_step(small, zero):
    problem = small()
    with torch.no_grad():
        for name, p in problem.model.named_parameters():
            if zero == "*" or name.startswith("0."):
                p.zero_()
    differences, exact = pair(problem, params=zero)
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 1e-8


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("hessian", {"weight_decay": 0.3, "damping": 0.1}),
        ("scaled", {}),
        ("scaled", {"by": "parameters"}),
        ("preconditioned", {}),
    ],
)
def test_kinds_of_the_hessian(small, kind, options):
    problem = small()
    optimizer = torch.optim.Adam(problem.model.parameters())
    for x, y in problem.data:
        optimizer.zero_grad()
        problem.loss(problem.model(x), y).backward()
        optimizer.step()
    differences, exact = pair(small(model=problem.model, optimizer=optimizer), kind, options=options)
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 1e-8


def test_blocks_parameters_and_minibatches(small):
    for params in (None, "0.*", "*bias"):
        differences, exact = pair(small(), params=params)
        V = directions(exact)
        assert gap(differences.matmat(V), exact.matmat(V)) < 1e-8
    differences, exact = pair(small())
    bound = bind(small(), TorchOptions())
    slices = [parameter.where for parameter in bound.layout()]
    blocks = [[slices[0], slices[1]], [slices[3]], [slices[2]]]
    Vs = [torch.cat([V[s] for s in block]) for block in blocks for V in [directions(exact)]]
    for found, expected in zip(
        differences.block_products(blocks, Vs), exact.block_products(blocks, Vs), strict=True
    ):
        assert gap(found, expected) < 1e-8
    for step in range(4):
        (one, share), (other, same) = (A.minibatch(step, 3) for A in (differences, exact))
        assert share == same
        assert gap(one.matmat(directions(exact)), other.matmat(directions(exact))) < 1e-8


def test_weights_and_their_versions_are_untouched(small):
    problem = small()
    before = [(p.data_ptr(), p._version, p.detach().clone()) for p in problem.model.parameters()]
    operator = pair(problem)[0]
    operator.matvec(directions(operator)[:, 0])
    for p, (pointer, version, values) in zip(problem.model.parameters(), before, strict=True):
        assert (p.data_ptr(), p._version) == (pointer, version)
        assert torch.equal(p, values)
        assert p.grad is None


def test_weights_are_restored_after_a_failure(small):
    calls = []

    def loss(outputs, y):
        calls.append(None)
        if len(calls) <= 2:  # where memory is measured on few samples, and then on the whole batch
            raise ValueError("no")
        return nn.functional.cross_entropy(outputs, y)

    problem = small(loss=loss, reduction="mean")
    before = [p.detach().clone() for p in problem.model.parameters()]
    operator = pair(problem, check=False)[0]
    v = directions(operator)[:, 0]
    with pytest.raises(ProblemError, match="ValueError: no"):
        operator.matvec(v)
    assert all(torch.equal(p, x) for p, x in zip(problem.model.parameters(), before, strict=True))
    assert bool(torch.isfinite(operator.matvec(v)).all())


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise ValueError("no backward")


def test_a_gradient_that_fails_is_not_a_missing_second_derivative(small):
    problem = small(loss=lambda outputs, y: nn.functional.cross_entropy(Failing.apply(outputs), y))
    operator = pair(small(loss=problem.loss, reduction="mean"), check=False)[0]
    with pytest.raises(ProblemError, match="the gradient failed: ValueError: no backward") as caught:
        operator.matvec(directions(operator)[:, 0])
    assert "difference" not in (caught.value.hint or "")


def test_no_batch_is_kept(small):
    operator = pair(small(), memory="1GiB")[0]
    operator.matvec(directions(operator)[:, 0])
    assert not operator._kept


# -- what has no second derivative -------------------------------------------------------------------------


class Fused(torch.autograd.Function):
    """tanh, with a backward pass that is marked as not differentiable."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * (1 - ctx.saved_tensors[0] ** 2)


class Activation(nn.Module):
    def forward(self, x):
        return Fused.apply(x)


def test_a_function_without_a_second_derivative(small):
    problem = small()
    fused = nn.Sequential(problem.model[0], Activation(), problem.model[2])
    with pytest.raises(ProblemError, match="once_differentiable") as caught:
        bind(small(model=fused), TorchOptions()).operator()
    assert "torch.derivative=difference" in caught.value.hint
    differences = bind(small(model=fused), TorchOptions(derivative="difference")).operator()
    exact = bind(problem, TorchOptions()).operator()
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 1e-8


class Attention(nn.Module):
    """Attention by the fused kernel, whatever is selected around it."""

    def __init__(self, backend):
        super().__init__()
        self.backend, self.inputs, self.head = backend, nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.inputs(x.reshape(len(x), -1, 4)).chunk(3, 2)
        with sdpa_kernel(self.backend):
            mixed = scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], is_causal=True)
        return self.head(mixed[:, 0].mean(1))


def attending(backend):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, x, y = Attention(backend).double(), torch.randn(9, 20).double(), torch.randint(3, (9,))
    return Problem(model, [(x, y)], nn.CrossEntropyLoss())


def test_fused_attention():
    exact = bind(attending(SDPBackend.MATH), TorchOptions()).operator()
    with pytest.raises(ProblemError, match="flash_attention") as caught:
        bind(attending(SDPBackend.FLASH_ATTENTION), TorchOptions()).operator().matvec(directions(exact)[:, 0])
    assert "torch.derivative=difference" in caught.value.hint
    fused = bind(attending(SDPBackend.FLASH_ATTENTION), TorchOptions(derivative="difference")).operator()
    V = directions(exact)
    assert gap(fused.matmat(V), exact.matmat(V)) < 1e-8


def test_fused_kernels_run_only_by_differences():
    """Without a choice of the model's own, exact products select the kernel that has a second derivative."""
    found = {}

    class Watched(Attention):
        def forward(self, x):
            found[derivative] = torch.backends.cuda.flash_sdp_enabled()
            return super().forward(x)

    for derivative in ("exact", "difference"):
        problem = attending(SDPBackend.MATH)
        model = Watched(SDPBackend.MATH).double()
        bind(Problem(model, problem.data, problem.loss), TorchOptions(derivative=derivative)).operator()
    assert found == {"exact": False, "difference": True}


def test_a_wrong_gradient_is_refused_all_the_same(small):
    class Straight(nn.Module):
        def forward(self, x):
            return x + (x.round() - x).detach()

    problem = small()
    model = nn.Sequential(problem.model[0], Straight(), problem.model[2])
    with pytest.raises(ProblemError, match="the gradient differs"):
        bind(small(model=model), TorchOptions(derivative="difference")).operator()


@pytest.mark.parametrize("kind", ["ggn", "fisher", "empirical_fisher", "input_hessian"])
def test_kinds_that_need_more_than_the_gradient_refuse(small, kind):
    bound = bind(small(), TorchOptions(derivative="difference"))
    with pytest.raises(CapabilityError, match=f"Hessian only, not by the matrix of {kind}") as caught:
        bound.operator(kind)
    assert "hessian, preconditioned, scaled" in caught.value.hint


def test_scaled_gauss_newton_refuses(small):
    bound = bind(small(), TorchOptions(derivative="difference"))
    with pytest.raises(CapabilityError, match="not by the matrix of ggn"):
        bound.operator("scaled", of="ggn")


def test_a_classifier_has_exact_derivatives_all_the_same(small):
    bounds = [bind(small(), TorchOptions(derivative=name)) for name in ("difference", "exact")]
    found = []
    for bound in bounds:
        classifier = bound.classifier()
        x, y = classifier.samples()
        products = classifier.input_products(CrossEntropy(), x, y)
        found.append(products(torch.ones_like(x)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert "Hessian products by differences" in bounds[0].description
    assert "differences" not in bounds[1].description


# -- the certificate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("certify", ["sketch", "full"])
def test_the_measured_error_is_the_precision_floor(small, dtype, certify):
    differences, exact = pair(small(), dtype=dtype)
    k = 3 if certify == "full" else 5
    result = eigencore.solve(differences, k=k, tol=1e-12, certify=certify)
    reference = eigencore.solve(exact, k=k, tol=1e-5)
    certificate = result.certificate
    assert certificate.floor_measured
    v = result.vectors[:, 0]
    error = float((differences.matvec(v) - exact.matvec(v)).norm())
    assert error < certificate.floor < 20 * max(error, 1e-12)
    assert (abs(result.values - reference.values) <= certificate.floor + 1e-5 * abs(reference.values)).all()
    assert result.residuals.min() >= certificate.floor
    if result.converged.all():
        assert certificate.floor_decided
        assert any("precision floor" in note for note in result.notes)
    assert any("central differences of the gradient" in note for note in result.notes)
    assert f"at the first eigenvector is {certificate.floor / 2:.1e}" in " ".join(result.notes)


def test_a_tolerance_above_the_floor_is_met_without_it(small):
    result = eigencore.solve(pair(small())[0], k=3, tol=1e-4)
    assert result.converged.all()
    assert not result.certificate.floor_decided


def test_without_a_certificate_the_error_is_not_measured(small):
    result = eigencore.solve(pair(small())[0], k=3, certify="none")
    assert any("their error was not measured" in note for note in result.notes)
    assert not result.certificate.floor_measured


def test_products_with_a_large_error_are_refused():
    """With many kinks, the change of the gradient over a step is not its derivative."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x, y = torch.randn(50, 2), torch.randint(2, (50,))
        model = nn.Sequential(nn.Linear(2, 300), nn.Hardtanh(-0.05, 0.05), nn.Linear(300, 2))
    operator = pair(Problem(model, [(x, y)], nn.CrossEntropyLoss()))[0]
    with pytest.raises(NotSymmetricError) as caught:
        eigencore.solve(operator, k=2)
    assert "products with a large error" in caught.value.hint


def test_the_step_is_that_of_the_shortest_type(small):
    """A loss in float32 has rounding errors that the step of float64 would magnify."""
    coarse = small(loss=lambda outputs, y: nn.functional.cross_entropy(outputs.float(), y), reduction="mean")
    differences, exact = pair(coarse)[0], pair(small())[1]
    V = directions(exact)
    assert gap(differences.matmat(V), exact.matmat(V)) < 1e-3


# -- activation checkpointing ------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.first, self.second = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x, *, early_stop=True):  # `checkpoint` has a keyword of this name
        return x + self.second(nn.functional.gelu(self.first(x)))


class Blocks(nn.Module):
    def __init__(self, d=32, depth=6):
        super().__init__()
        self.blocks, self.head = nn.ModuleList(Block(d) for _ in range(depth)), nn.Linear(d, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, early_stop=False)
        return self.head(x)


def deep(samples=1000):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model, x, y = Blocks().double(), torch.randn(samples, 32).double(), torch.randint(3, (samples,))
    return Problem(model, [(x, y)], nn.CrossEntropyLoss())


def peak(operator, v):
    """The largest number of bytes that a product allocates at a time."""
    with torch.profiler.profile(profile_memory=True) as profiled:
        operator.matvec(v)
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(sizes.cumsum(0).max())


def test_checkpointing_reduces_memory_and_changes_nothing():
    plain, sparing = (
        bind(deep(), TorchOptions(derivative="difference", checkpoint=checkpoint)).operator()
        for checkpoint in (False, True)
    )
    v = directions(plain)[:, 0]
    torch.testing.assert_close(sparing.matvec(v), plain.matvec(v), rtol=0, atol=0)
    assert peak(sparing, v) < 0.5 * peak(plain, v)


def test_checkpointing_works_with_every_network(classifying):
    problem = classifying()
    forwards = [vars(module).get("forward") for module in problem.model.modules()]
    found = bind(problem, TorchOptions(derivative="difference", checkpoint=True)).operator()
    expected = bind(problem, TorchOptions()).operator()
    V = directions(expected)
    assert gap(found.matmat(V), expected.matmat(V)) < 1e-8
    assert [vars(module).get("forward") for module in problem.model.modules()] == forwards


def test_checkpointing_is_refused_where_it_saves_nothing(small):
    with pytest.raises(OptionError, match="saves no memory with exact products") as caught:
        bind(small(), TorchOptions(checkpoint=True))
    assert "torch.derivative=difference" in caught.value.hint
