"""Weights of other types than real ones: stored numbers, complex numbers, and real weights viewed as complex.

Products are compared with dense Hessians in float64, by PyTorch's own double backward.
"""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import eigencore
from eigencore.errors import ProblemError
from eigencore.objectives import CrossEntropy
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.models.params import select


def dense(model, problem, parameters=None):
    """The Hessian of the mean cross-entropy over all samples, row by row."""
    parameters = parameters or [p for p in model.parameters() if p.requires_grad]
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    loss = functional.cross_entropy(model(x), y)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = [
        torch.autograd.grad(one, parameters, retain_graph=True, materialize_grads=True)
        for slope in slopes
        for one in slope.reshape(-1)
    ]
    return torch.stack([torch.cat([piece.reshape(-1) for piece in row]) for row in rows])


class Scaled(Tensor):
    """Integers with a scale that act as real numbers, as in packages for quantised networks."""

    @staticmethod
    def __new__(cls, numbers, scale):
        return Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=scale.dtype, requires_grad=False)

    def __init__(self, numbers, scale):
        self.numbers, self.scale = numbers, scale

    def __tensor_flatten__(self):
        return ["numbers", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, outer_size, outer_stride):
        return Scaled(inner["numbers"], inner["scale"])

    def __repr__(self):
        return f"Scaled({self.numbers}, {self.scale})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args, kwargs=None):
        aten = torch.ops.aten
        if function in (aten.detach.default, aten.clone.default, aten.alias.default):
            return cls(args[0].numbers.clone(), args[0].scale.clone())
        if function is aten.isfinite.default:
            raise NotImplementedError

        def real(x):
            return x.numbers.to(x.scale.dtype) * x.scale if isinstance(x, cls) else x

        return function(*torch.utils._pytree.tree_map(real, args), **(kwargs or {}))


def integers(w):
    return torch.round(w * 20).to(torch.int8), lambda q, x: functional.linear(x, q.to(x.dtype) / 20)


def booleans(w):
    return w > 0, lambda q, x: functional.linear(x, q.to(x.dtype))


def floats_of_8_bits(w):
    return w.to(torch.float8_e4m3fn), lambda q, x: functional.linear(x, q.to(x.dtype))


def floats_of_8_bits_that_can_be_infinite(w):
    return w.to(torch.float8_e5m2), lambda q, x: functional.linear(x, q.to(x.dtype))


def quantised(w):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these types are deprecated, but not gone
        stored = torch.quantize_per_tensor(w, 0.05, 0, torch.qint8)
    return stored, lambda q, x: functional.linear(x, q.dequantize().to(x.dtype))


def scaled(w):
    stored = Scaled(torch.round(w * 20).to(torch.int8), torch.tensor(0.05))
    return stored, lambda q, x: functional.linear(x, q.numbers.to(x.dtype) * q.scale.to(x.dtype))


def complex_numbers(w):
    def product(q, x):
        z = x.to(q.dtype) @ q.T
        return z.real + z.imag.square()

    return torch.complex(w, w.flip(0)), product


class Stored(nn.Module):
    """A frozen layer of some type with a trainable correction of low rank, and a trainable head."""

    def __init__(self, kind):
        super().__init__()
        stored, self.product = kind(torch.randn(5, 4))
        self.stored = nn.Parameter(stored, requires_grad=False)
        self.down, self.up = nn.Parameter(torch.randn(2, 4) * 0.3), nn.Parameter(torch.randn(5, 2) * 0.3)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        h = self.product(self.stored, x) + x @ self.down.T @ self.up.T
        return self.head(torch.tanh(h))


STORED = [
    integers,
    booleans,
    floats_of_8_bits,
    floats_of_8_bits_that_can_be_infinite,
    quantised,
    scaled,
    complex_numbers,
]


@pytest.fixture
def stored(small, request):
    """A problem whose first layer is frozen, in float32, and the same network in float64."""

    def make(kind, **fields):
        with torch.random.fork_rng([]):
            torch.manual_seed(2)
            model = Stored(kind)
        exact = copy.deepcopy(model)
        for p in exact.parameters():
            if p.is_complex():
                p.data = p.data.to(torch.complex128)
            elif p.requires_grad:
                p.data = p.data.double()
        return small(model=model, dtype=torch.float32, **fields), exact

    return make


@pytest.mark.parametrize("kind", STORED)
def test_frozen_weights_of_any_type(kind, stored, small, hessian):
    problem, exact = stored(kind)
    problem64 = small(model=exact)
    problem64.data[:] = [(x.double(), y) for x, y in problem.data]
    expected = dense(exact, problem64)
    torch.testing.assert_close(hessian(problem, dtype="float64"), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(hessian(problem).double(), expected, rtol=0, atol=1e-5)
    part = dense(exact, problem64, [exact.down, exact.up])
    torch.testing.assert_close(hessian(problem, ["up", "down"], dtype="float64"), part, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", STORED)
def test_a_whole_run_with_frozen_weights_of_any_type(kind, stored, tmp_path):
    problem, _ = stored(kind)
    run = eigencore.analyze(problem, 2, analyses="none", out=tmp_path / "run")
    assert run.eigen.status == "converged"
    assert run.manifest["digest"]


@pytest.mark.parametrize("kind", STORED)
def test_a_frozen_weight_that_changes_is_noticed(kind, stored):
    problem, _ = stored(kind)
    operator = bind(problem, TorchOptions()).operator()
    v = torch.ones(operator.shape[0])
    operator.matvec(v)
    other, _ = kind(torch.randn(5, 4) + 1)
    numbers = problem.model.stored
    if kind is scaled:
        numbers.numbers.copy_(other.numbers)
    else:
        numbers.data.copy_(other)
    with pytest.raises(ProblemError, match="the weights changed after the problem was bound: stored"):
        operator.matvec(v)


@pytest.mark.parametrize("kind", [floats_of_8_bits, floats_of_8_bits_that_can_be_infinite, complex_numbers])
def test_a_frozen_weight_that_is_not_finite_is_refused(kind, stored):
    problem, _ = stored(kind)
    values = problem.model.stored.data.to(torch.complex64 if kind is complex_numbers else torch.float32)
    values[2, 1] = torch.nan
    problem.model.stored.data = values.to(problem.model.stored.dtype)
    with pytest.raises(ProblemError, match="stored contains NaN or infinite weights: 1 of 20"):
        bind(problem, TorchOptions())


def test_complex_buffers_and_inputs_keep_their_imaginary_parts_in_another_type(small, hessian):
    class Rotated(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0)))
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head((x * self.turn).real)

    model = Rotated()
    z, y = torch.randn(9, 4, dtype=torch.complex64), torch.randint(3, (9,))
    rotated = (z.to(torch.complex128) * model.turn.to(torch.complex128)).real
    expected = hessian(small(model=copy.deepcopy(model.head).double(), data=[(rotated, y)]))
    found = hessian(small(model=model, data=[(z, y)]), dtype="float64")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


# -- trainable weights without second derivatives ----------------------------------------------------------


class Spectral(nn.Module):
    """A trainable complex layer and a real head."""

    def __init__(self, width=5):
        super().__init__()
        self.w, self.head = nn.Parameter(torch.randn(width, 4, dtype=torch.complex128)), nn.Linear(width, 3)
        self.head.double()

    def weight(self):
        return self.w

    def forward(self, x):
        w = self.weight()
        z = x.to(w.dtype) @ w.T
        return self.head(z.real.tanh() + z.imag.square())


class RealSpectral(Spectral):
    """The same as the hint for complex weights describes it."""

    def __init__(self, of):
        super().__init__()
        self.load_state_dict(of.state_dict())
        self.w = nn.Parameter(torch.view_as_real(of.w.detach()).clone())

    def weight(self):
        return torch.view_as_complex(self.w)


def test_complex_weights_outside_the_selection(small, hessian):
    problem = small(model=Spectral())
    found = hessian(problem, "head.*")
    torch.testing.assert_close(found, dense(problem.model, problem, [*problem.model.head.parameters()]))


def test_the_hint_for_complex_weights_works(small, hessian):
    problem = small(model=Spectral())
    with pytest.raises(ProblemError, match="w is complex; expected real weights") as caught:
        bind(problem, TorchOptions()).operator()
    assert "nn.Parameter(torch.view_as_real(w))" in caught.value.hint
    assert "torch.view_as_complex" in caught.value.hint
    model = RealSpectral(problem.model)
    x = problem.data[0][0]
    torch.testing.assert_close(model(x), problem.model(x))
    found = hessian(small(model=model))
    torch.testing.assert_close(found, dense(model, problem), rtol=0, atol=1e-12)
    problem.model.w.requires_grad_(False)
    assert hessian(problem).shape == (18, 18)


def test_trainable_weights_of_8_bits(small):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.float8_e4m3fn))
    for keywords in ({}, {"dtype": "float32"}):
        bound = bind(small(model=model, dtype=torch.float32), TorchOptions(), **keywords)
        with pytest.raises(
            ProblemError, match=r"0\.weight is float8_e4m3fn, a type for storing weights"
        ) as caught:
            bound.operator()
        assert "scales" in caught.value.hint
        assert bound.layout("1.*")


def test_sparse_gradients_matter_only_where_they_are_selected(small, hessian):
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.EmbeddingBag(6, 4, mode="sum", sparse=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.embed(x).tanh())

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        data = [(torch.randint(6, (9, 4)), torch.randint(3, (9,)))]
    model = Bag().double()
    problem = small(model=model, data=data)
    with pytest.raises(ProblemError, match="embed has sparse gradients"):
        hessian(problem)
    expected = dense(model, problem, [*model.head.parameters()])
    torch.testing.assert_close(hessian(problem, "head.*"), expected)
    model.embed.requires_grad_(False)
    torch.testing.assert_close(hessian(problem), expected)


# -- real weights viewed as complex ------------------------------------------------------------------------


class Viewed(nn.Module):
    """A real weight of shape (3, 4, 2), viewed as complex (3, 4), after `before` other numbers."""

    def __init__(self, before):
        super().__init__()
        self.before = nn.Parameter(torch.randn(before))
        self.w, self.after = nn.Parameter(torch.randn(3, 4, 2) * 0.3), nn.Parameter(torch.randn(3, 2))

    def forward(self, x):
        w, after = torch.view_as_complex(self.w), torch.view_as_complex(self.after)
        z = x.to(w.dtype) @ w.T * after
        return z.real.tanh() + z.imag.square() + self.before.sin().sum() * z.abs().square()


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_viewed_as_complex_at_any_offset(before, dtype, small):
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = Viewed(before).to(dtype)
    problem = small(model=model, dtype=dtype)
    exact = small(data=[(x.double(), y) for x, y in problem.data])
    expected = dense(copy.deepcopy(model).double(), exact)
    tolerance = 1e-12 if dtype is torch.float64 else 1e-4
    # bfloat16 is copied to float32; for the other types nothing is copied.
    bound = bind(problem, TorchOptions(), dtype=None if dtype is torch.bfloat16 else str(dtype)[6:])
    operator = bound.operator()
    n = operator.shape[0]
    eye = torch.eye(n, dtype=operator.dtype)
    strided = torch.zeros(n, 2 * n, dtype=operator.dtype)[:, ::2].copy_(eye)
    products = {
        "one by one": torch.stack([operator.matvec(v) for v in eye]),
        "rows": operator.matmat(eye),
        "columns": operator.matmat(eye.T.contiguous().T),
        "strided": operator.matmat(strided),
        "from an odd position": operator.matmat(torch.cat([eye.new_zeros(1, n), eye])[1:]),
    }
    for how, product in products.items():
        torch.testing.assert_close(
            product.double(), expected, rtol=0, atol=tolerance, msg=lambda text, how=how: f"{how}: {text}"
        )
    part, _ = operator.minibatch(0, 0, 2)
    columns = torch.stack([part.matvec(v) for v in eye])
    torch.testing.assert_close(columns, columns.T, rtol=0, atol=tolerance)
    v = torch.linspace(-1, 1, n, dtype=operator.dtype)
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    along = bound.sample_curvature(CrossEntropy(), v, x, y)
    curvature = float(v.double() @ expected @ v.double())
    assert float(along.mean()) == pytest.approx(curvature, rel=1e-3 if tolerance > 1e-5 else 1e-10)
    if dtype is torch.float64:
        second = bound.loss(1e-3 * v) + bound.loss(-1e-3 * v) - 2 * bound.loss()
        assert second / 1e-6 == pytest.approx(curvature, rel=1e-3)


def test_pieces_share_the_vectors_memory_where_nothing_demands_otherwise():
    layout = select(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    v = torch.zeros(layout.n)
    addresses = [piece.untyped_storage().data_ptr() for piece in layout.split(v)]
    starts = [where.start % 2 for where in layout.slices]
    assert starts == [0, 0, 1, 1]
    assert [address == v.untyped_storage().data_ptr() for address in addresses] == [True, True, False, False]


# -- frozen networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_classifier_of_a_frozen_network(dtype, small):
    problem = small()
    problem.model.requires_grad_(False)
    classifier = bind(problem, TorchOptions(), dtype=dtype).classifier()
    x, _ = classifier.samples()
    free = bind(small(), TorchOptions(), dtype=dtype).classifier()
    torch.testing.assert_close(classifier.logits(x), free.logits(x), rtol=0, atol=0)


def test_a_network_without_any_weights(small):
    classifier = bind(
        small(model=nn.Sequential(nn.Flatten()), dtype=torch.float32), TorchOptions()
    ).classifier()
    assert classifier.classes == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_whose_weights_are_buffers_computes_in_the_requested_type(dtype, small):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(4, 3))

        def forward(self, x):
            return x @ self.weight

    problem = small(model=Fixed(), dtype=torch.float32)
    for classifier in (
        bind(problem, TorchOptions(), dtype=dtype).classifier(),
        bind(problem, TorchOptions()).classifier(dtype),
    ):
        x, _ = classifier.samples()
        assert classifier.dtype == x.dtype == classifier.logits(x).dtype == getattr(torch, dtype)
    assert problem.model.weight.dtype is torch.float32
