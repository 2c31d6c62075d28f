"""Kept graphs: the same products from fewer passes, within the memory budget, and freed with the operator."""

from __future__ import annotations

import gc
import math
import pickle
import weakref

import pytest
import torch
from torch import nn

from eigencore import solve
from eigencore.errors import OptionError
from eigencore.operators import release
from eigencore.operators.algebra import add, multiply, shift
from eigencore.operators.counting import counting
from eigencore_torch.allocations import allocation
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.gradient_graph import GradientGraph
from eigencore_torch.kinds import risk_operator
from eigencore_torch.memory_limit import MemoryLimit, memory_limit


def forward_sizes(problem):
    """A list to which every forward pass appends its batch size."""
    seen = []
    problem.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def vector(n=59):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_kept_graph_needs_no_second_forward_pass(small):
    problem = small()
    seen = forward_sizes(problem)
    operator = bind(problem, TorchOptions()).operator()
    first = operator.matvec(vector())
    seen.clear()
    for _ in range(3):
        torch.testing.assert_close(operator.matvec(vector()), first, rtol=0, atol=0)
    assert seen == []


def test_without_memory_every_product_computes_every_graph(small):
    problem = small()
    operator = bind(problem, TorchOptions(memory="none")).operator()
    seen = forward_sizes(problem)
    operator.matvec(vector())
    operator.matmat(torch.stack([vector(), vector()], dim=1))
    assert seen == [7, 5, 3, 7, 5, 3]


def test_graphs_that_do_not_fit_are_recomputed_and_give_the_same(small):
    problem = small()
    seen = forward_sizes(problem)
    operator = bind(problem, TorchOptions(memory=f"{_bytes_for(problem, kept=2)}B")).operator()
    seen.clear()
    products = [operator.matvec(vector()) for _ in range(3)]
    # The memory is measured on few samples of the first batch. The last batch never fits.
    assert seen == [1, 2, 4, 7, 7, 5, 3, 3, 3]
    scratch = bind(problem, TorchOptions(memory="none")).operator().matvec(vector())
    for product in products:
        torch.testing.assert_close(product, scratch, rtol=0, atol=1e-14)


def _bytes_for(problem, kept):
    """The bytes for the graphs of the first batches, and for a product with the first beside them."""
    operator = bind(problem, TorchOptions()).operator()
    with operator._risk.session():
        measured = [operator._allocation(term) for term in operator._risk.terms()]
    return sum(one.kept for one in measured[:kept]) + measured[0].peak


def test_memory_does_not_grow_between_products_and_is_freed(small):
    class Held:
        """A tensor that a graph has saved."""

        def __init__(self, tensor):
            self.tensor = tensor.detach()
            held.add(self)

    class Marked(nn.Tanh):
        def forward(self, x):
            with torch.autograd.graph.saved_tensors_hooks(Held, lambda one: one.tensor):
                return super().forward(x)

    held = weakref.WeakSet()
    model = nn.Sequential(nn.Linear(4, 7), Marked(), nn.Linear(7, 3), nn.Tanh()).double()
    gc.disable()  # graphs must be freed by reference counting alone, so there are no cycles
    try:
        operator = bind(small(model=model), TorchOptions()).operator()
        assert len(held) == 0
        operator.matvec(vector())
        assert len(held) == 3
        operator.matmat(torch.stack([vector()] * 4, dim=1))
        assert len(held) == 3
        del operator
        assert len(held) == 0
    finally:
        gc.enable()


def test_the_measured_size_is_that_of_the_graph():
    """The graph of x -> (w x)^2 for 1,000 numbers of 8 bytes keeps between 1 and 6 such vectors."""
    w = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    class Layout:
        parameters = (w,)

    x = torch.ones(1000, dtype=torch.float64)
    measured = allocation(lambda: GradientGraph(((w * x) ** 2).sum(), Layout()))
    assert 8000 <= measured.kept <= 6 * 8000
    assert measured.kept <= measured.peak <= 10 * 8000


@pytest.mark.parametrize(("text", "size"), [("none", 0), ("2GiB", 2**31), ("1.5 MB", 1_500_000), ("7b", 7)])
def test_sizes_as_text(text, size):
    limit = memory_limit(text, torch.device("cpu"))
    assert limit == (MemoryLimit(0, math.inf) if text == "none" else MemoryLimit(size, size, stated=True))


def test_auto_is_a_part_of_the_free_memory():
    limit = memory_limit("auto", torch.device("cpu"))
    assert 0 < limit.graphs == limit.total / 2 < 2**50


@pytest.mark.parametrize("text", ["", "lots", "2 apples", "GiB", "1.2.3GB", "-1GB"])
def test_an_invalid_size_is_refused_at_binding(text, small):
    with pytest.raises(OptionError, match="expected auto, none or a size"):
        bind(small(), TorchOptions(memory=text))


# -- released on request -----------------------------------------------------------------------------------


def kept_graphs(operator):
    return [weakref.ref(one.graph) for one in operator._kept]


def alive(graphs):
    return sum(graph() is not None for graph in graphs)


def test_released_graphs_are_freed_at_once_and_kept_again_by_the_next_product(small):
    problem = small()
    operator = bind(problem, TorchOptions()).operator()
    first, graphs = operator.matvec(vector()), kept_graphs(operator)
    assert alive(graphs) == 3
    seen = forward_sizes(problem)
    operator.release()
    assert alive(graphs) == 0
    for expected in ([7, 5, 3], [7, 5, 3]):
        torch.testing.assert_close(operator.matvec(vector()), first, rtol=0, atol=0)
        assert seen == expected
    operator.release()
    operator.release()


def test_wrapped_operators_release_their_graphs(small):
    operator = bind(small(), TorchOptions()).operator()
    other = bind(small(), TorchOptions()).operator()
    wrapped = counting(shift(add(multiply(operator, 2), other), 3.0))
    wrapped.matvec(vector())
    graphs = kept_graphs(operator) + kept_graphs(other)
    assert alive(graphs) == 6
    release(wrapped)
    assert alive(graphs) == 0


def test_graphs_are_released_for_a_need_only_if_memory_is_short(small, monkeypatch):
    monkeypatch.setattr(risk_operator, "free_memory", lambda device: 1000)
    problem = small()
    operator = bind(problem, TorchOptions()).operator()
    first = operator.matvec(vector())
    operator.release(needed=1000)
    assert len(operator._kept) == 3
    operator.release(needed=1001)
    assert not operator._kept
    seen = forward_sizes(problem)
    for expected in ([7, 5, 3], [7, 5, 3, 7, 5, 3]):  # and nothing is left for later graphs
        torch.testing.assert_close(operator.matvec(vector()), first, rtol=0, atol=0)
        assert seen == expected
    assert not operator._kept


@pytest.mark.parametrize("sizes", [(), (7, 5), (7, 5, 3)])
def test_after_a_shortage_graphs_take_half_of_what_is_free_besides(small, monkeypatch, sizes):
    operator = bind(small(), TorchOptions(check=False)).operator()  # no forward pass is known: it is measured
    operator.matvec(vector())
    (size,) = operator._memory._sizes.values()
    room = sum(map(size.kept.at, sizes)) + 10
    free = iter([999, 1000 + 2 * room])  # before and after the release
    monkeypatch.setattr(risk_operator, "free_memory", lambda device: next(free))
    operator.release(needed=1000)
    operator.matvec(vector())
    assert len(operator._kept) == len(sizes)


def test_graphs_make_room_for_the_certificate(small, monkeypatch):
    """The certificate of k pairs needs four blocks (n, k). Before, room is made for the solver and for it."""
    asked = []
    operator = bind(small(), TorchOptions()).operator()
    monkeypatch.setattr(operator, "release", lambda needed=None: asked.append(needed), raising=False)
    solve(operator, 2)
    solve(operator, 5, certify="sketch")
    assert asked[1::2] == [4 * 2 * 59 * 8, 4 * 3 * 59 * 8]
    assert asked[::2] == [(59 + 6 + 2 + 8) * 59 * 8, (59 + 6 + 5 + 12) * 59 * 8]
    asked.clear()
    solve(operator, 2, certify="none", complete=None)
    assert asked == [(59 + 6 + 2 + 8) * 59 * 8, 0]


def test_results_keep_neither_graphs_nor_the_operator(small):
    gc.disable()
    try:
        operator = bind(small(), TorchOptions()).operator()
        results = [solve(operator, 2, solver=name) for name in ("lanczos", "accel_power", "arpack")]
        results.append(solve(operator, 2, tol=1e-12, max_matvecs=4))
        graphs, one = kept_graphs(operator), weakref.ref(operator)
        assert alive(graphs) == 3
        del operator
        assert one() is None
        assert alive(graphs) == 0
    finally:
        gc.enable()
    assert {result.n for result in results} == {59}


def test_twenty_results_take_the_memory_of_their_vectors(small):
    model = nn.Sequential(nn.Linear(4, 300), nn.Tanh(), nn.Linear(300, 3)).double()
    operator = bind(small(model=model), TorchOptions()).operator()
    results = [solve(operator, 3, seed=seed) for seed in range(20)]
    vectors = sum(result.vectors.untyped_storage().nbytes() for result in results)
    assert vectors == 20 * operator.shape[0] * 3 * 8
    assert len(pickle.dumps(results)) <= 1.05 * vectors + 20 * 8000  # with the history of each
