"""`torch.memory`: the peak of a solve stays within the limit, with the same result; or there is an error.

The peak is what PyTorch's profiler records of the allocator, kernels' own memory included.
"""

from __future__ import annotations

import gc

import array_api_compat.torch as xp
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import eigencore
from eigencore.errors import OptionError
from eigencore.operators import FunctionOperator
from eigencore_torch.allocations import Allocation, allocation
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.forward_size import ForwardSize, forward_size, sample_kind
from eigencore_torch.gradient_graph import GradientGraph
from eigencore_torch.kinds import graph_memory
from eigencore_torch.kinds.graph_memory import GraphMemory
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.memory_limit import MemoryLimit
from eigencore_torch.models.params import differentiable
from eigencore_torch.risk import Term
from kit import torch_networks


def peak_bytes(compute):
    """The most bytes that `compute` holds at once in memory that it allocates."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the profiler does not order the events of several threads
    gc.collect()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            compute()
    finally:
        torch.set_num_threads(threads)
    events = [one for one in recorded.profiler.kineto_results.events() if one.name() == "[memory]"]
    now = peak = 0
    for one in sorted(events, key=lambda one: one.start_ns()):
        now += one.nbytes()
        peak = max(peak, now)
    return peak


def network(dtype=torch.float64):
    """A classification whose graphs are far larger than its weights: 1,920 weights, 1,024 samples."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(8, 30), nn.Tanh(), nn.Linear(30, 40), nn.Softplus(), nn.Linear(40, 10)
        ).to(dtype)
        x, y = torch.randn(1024, 8).to(dtype), torch.randint(10, (1024,))
    return eigencore.Problem(model, list(zip(x.split(512), y.split(512), strict=True)), nn.CrossEntropyLoss())


def solved(operator):
    return eigencore.solve(operator, 2, max_matvecs=8)


@pytest.fixture(scope="module")
def unlimited():
    """The peak and the result without a limit, in both types."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        operator, results = bind(network(dtype), TorchOptions(memory="8GiB")).operator(), []
        found[dtype] = peak_bytes(lambda: results.append(solved(operator))), results[0]  # noqa: B023
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("part", [0.2, 0.4, 0.8])
def test_the_peak_of_a_solve_stays_within_the_limit(part, dtype, unlimited):
    peak, expected = unlimited[dtype]
    limit = int(part * peak)
    operator, results = bind(network(dtype), TorchOptions(memory=f"{limit}B")).operator(), []
    limited = peak_bytes(lambda: results.append(solved(operator)))
    assert limited <= limit
    assert limited >= limit / 4  # what is allowed is used
    tolerance = 1e-12 if dtype is torch.float64 else 1e-6
    assert results[0].values == pytest.approx(expected.values, rel=tolerance)
    assert any("batches are split" in note for note in results[0].notes) == (part < 0.5)


@pytest.mark.parametrize("kind", ["hessian", "ggn", "fisher", "empirical_fisher"])
@pytest.mark.parametrize("derivative", ["exact", "difference"])
def test_the_products_of_every_kind_stay_within_the_limit(kind, derivative):
    if derivative == "difference" and kind != "hessian":
        pytest.skip("differences are for the Hessian")

    def product(memory):
        operator = bind(network(), TorchOptions(memory=memory, derivative=derivative)).operator(kind)
        v, products = torch.ones(operator.shape[0], dtype=operator.dtype), []
        return peak_bytes(lambda: products.append(operator.matvec(v))), products[0]

    whole, expected = product("none")
    limit = int(0.4 * whole)
    limited, found = product(f"{limit}B")
    assert limited <= limit
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 if derivative == "difference" else 1e-13)


def test_graphs_of_short_sequences_make_room_for_a_long_one():
    """Kept graphs are freed if a later batch, of another shape, needs their room."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3))

        def forward(self, x):
            return self.layers(x).sum(1)

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Sum().double()
        data = [(torch.randn(32, t, 4).double(), torch.randint(3, (32,))) for t in (2, 2, 2, 40)]
    problem = eigencore.Problem(model, data, nn.CrossEntropyLoss())

    def products(memory):
        operator = bind(problem, TorchOptions(memory=memory)).operator()
        v, found, kept = torch.ones(operator.shape[0], dtype=operator.dtype), [], []

        def multiply():
            for _ in range(2):
                found.append(operator.matvec(v))
                kept.append(len(operator._kept))

        return peak_bytes(multiply), found, kept

    whole, expected, _ = products("none")
    limit = int(1.03 * whole)
    peak, found, kept = products(f"{limit}B")
    assert peak <= limit + 3 * found[0].nbytes  # vectors and products are the caller's
    assert kept[0] == 0 < kept[1] < 4
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


# -- a limit that can't be met -----------------------------------------------------------------------------


def test_a_limit_below_the_solvers_vectors_is_refused_before_any_product():
    operator = bind(network(), TorchOptions(memory="500KiB")).operator()
    with pytest.raises(
        OptionError, match=r"torch.memory is 500 KiB, but the vectors of this solve take"
    ) as e:
        eigencore.solve(operator, 2)
    assert "Raise torch.memory; or lower k" in e.value.hint
    eigencore.solve(
        operator, 1, solver="deflated_power", block=False, max_matvecs=3, certify="none"
    )  # holds fewer


def test_vectors_that_leave_too_little_for_one_sample_are_reported():
    bound = bind(network(), TorchOptions(memory="45KiB"))
    with pytest.raises(OptionError, match=r"45 KiB, but a product with 1 sample of batch 0, takes about 6"):
        bound.operator().matvec(torch.ones(1920, dtype=torch.float64))


def test_a_batch_that_cannot_be_split_is_reported(small):
    def contrast(outputs, y):
        return (outputs @ outputs.T).logsumexp(dim=1).mean()

    bound = bind(small(loss=contrast, reduction="mean"), TorchOptions(memory="3KiB"))
    with pytest.raises(OptionError, match=r"7 samples of batch 0, which can't be split: its loss is not"):
        bound.operator().matvec(torch.ones(59, dtype=torch.float64))


# -- the vectors that solvers declare ----------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("certify", ["sketch", "full"])
@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("lanczos", {}),
        ("lanczos", {"basis": 40}),
        ("lobpcg", {}),
        ("accel_power", {}),
        ("deflated_power", {}),
        ("deflated_power", {"block": False}),
        ("arpack", {}),
    ],
)
def test_a_solve_holds_no_more_vectors_than_the_operator_leaves_room_for(solver, options, certify, k):
    n, reserved = 50_000, []
    diagonal = 1 / torch.arange(1.0, n + 1, dtype=torch.float64)
    operator = FunctionOperator(
        lambda v: diagonal * v,
        n,
        xp=xp,
        dtype=diagonal.dtype,
        device=diagonal.device,
        matmat=lambda V: diagonal[:, None] * V,
        release=reserved.append,
    )
    measured = allocation(
        lambda: eigencore.solve(operator, k, solver=solver, certify=certify, tol=1e-2, **options)
    )
    assert measured.peak <= reserved[0]
    if solver != "arpack":  # whose own vectors are NumPy's
        assert measured.peak >= 0.5 * reserved[0]


def test_the_counted_bytes_are_those_of_the_allocator():
    model, x = nn.Sequential(nn.Linear(8, 30), nn.GELU(), nn.Linear(30, 3)), torch.randn(200, 8)
    layout, pieces = differentiable(model), [torch.ones_like(p) for p in model.parameters()]

    def make():
        return GradientGraph(model(x).square().mean(), layout)

    def product(graph):
        graph.block_product(dict(enumerate(pieces)), keep=True)

    counted = allocation(make, product)
    assert counted.peak == peak_bytes(lambda: product(make()))
    assert counted.kept < counted.peak


@pytest.mark.parametrize(("products", "kept"), [(1, 7), (2, 4)])
def test_room_is_left_for_the_products_that_stay_allocated(products, kept):
    memory = GraphMemory(MemoryLimit(400, 400, stated=True), products)  # 40 for a graph, 120 for a product
    terms = [Term(i, (torch.ones(4, 2), torch.ones(4)), 1.0, last=True) for i in range(9)]
    found = []

    def measure(term):
        samples = len(term.batch[0])
        return Allocation(10 * samples, 30 * samples)

    for term in terms:
        assert memory.most_samples(term, measure, can_split=None) is None
        found.append(memory.keep(term))
    assert found == [True] * kept + [False] * (9 - kept)
    assert memory.leave_room(0)
    assert not memory.leave_room(1)  # the graphs and products take all of it


# -- without measuring -------------------------------------------------------------------------------------


def first_term(bound):
    with bound.risk.session():
        return next(bound.risk.terms())


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("name", torch_networks.NETWORKS)
def test_a_graph_and_a_product_take_no_more_than_a_multiple_of_a_forward_pass(name, kind):
    bound = bind(torch_networks.made_of(name).problem, TorchOptions())
    operator, forward = bound.operator(kind), bound.risk.forward
    weights = operator.shape[0] * operator.dtype.itemsize
    with bound.risk.session():
        measured = operator._allocation(first_term(bound))
    assert measured.kept <= graph_memory._GRAPH * (forward.bytes + weights)
    assert measured.peak <= graph_memory._PRODUCT * (forward.bytes + weights)


@pytest.mark.parametrize("limit", [100, 300, 500, 1000, 2000, 20000])
@pytest.mark.parametrize("graphs", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(4,) * 9, (4, 2, 1, 4, 3), (1, 2, 8, 4)])
def test_what_is_not_measured_changes_no_decision(limit, graphs, sizes):
    """40 bytes for a graph of 4 samples, and 120 for a product; a forward pass of 4 returns 30."""
    terms = [Term(i, (torch.ones(n, 2), torch.ones(n)), 1.0, last=True) for i, n in enumerate(sizes)]
    forward = ForwardSize(sample_kind(terms[0].batch, 4), 4, 30)
    measured = []

    def decisions(memory):
        def measure(term):
            samples = len(term.batch[0])
            measured.append(samples)
            return Allocation(10 * samples, 30 * samples)

        return [
            (memory.most_samples(term, measure, lambda *_: True), memory.keep(term), memory.is_crowded())
            for term in terms
        ] + [memory.leave_room(limit / 4)]

    given = MemoryLimit(graphs * limit, limit)
    expected = decisions(GraphMemory(given))
    measured.clear()
    found = decisions(GraphMemory(given, forward=forward, weights=0.0))
    assert found[:-1] == expected[:-1]
    assert found[-1] <= expected[-1]  # if in doubt, graphs are freed
    assert limit > 300 or graphs == 0 or measured
    assert limit < 20000 or not measured


def test_memory_that_is_far_from_its_limit_is_not_measured(monkeypatch):
    problem, measured = network(), []
    measure = RiskOperator._allocation
    monkeypatch.setattr(
        RiskOperator, "_allocation", lambda self, term: measured.append(term) or measure(self, term)
    )
    v = torch.ones(1920, dtype=torch.float64)
    for kind in ("hessian", "ggn"):
        expected = bind(problem, TorchOptions(check=False)).operator(kind).matvec(v)  # nothing is known
        assert measured
        measured.clear()
        operator = bind(problem, TorchOptions()).operator(kind)
        assert torch.equal(operator.matvec(v), expected)
        assert len(operator._kept) == 2
        assert not measured
    bind(problem, TorchOptions(memory="1GiB")).operator().matvec(v)
    assert measured  # a limit that is stated is kept exactly


def test_operations_that_a_graph_does_not_show_leave_its_memory_unknown():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, slope):
            return 2 * ctx.saved_tensors[0] * slope

    x = torch.ones(5, 3, requires_grad=True)
    assert forward_size((2 * x).sum(), x).bytes == 4 * (15 + 1)
    assert forward_size((2 * x).sum(), (x, torch.ones(4))) is None
    assert forward_size(Square.apply(x).sum(), x) is None
    assert forward_size(checkpoint(torch.tanh, x, use_reentrant=True).sum(), x) is None
