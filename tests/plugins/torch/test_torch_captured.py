"""Products captured as CUDA graphs are those of the graph; skipped where there is no GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import eigencore
from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.kinds.captured_graph import CapturedGraph
from kit.torch_networks import CLASSES, NETWORKS, dense, difference, made_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def on_cuda(problem, device="cuda", **options):
    return eigencore.bind(problem, device=device, **options).operator()


def captured(problem, **options):
    return on_cuda(problem, route="captured", **options)


def graphs(hessian):
    return [one.graph for one in hessian._kept]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_captured_product_is_that_of_the_graph_on_cuda(name):
    problem = made_of(name, reduction="mean").problem  # three batches of different sizes
    plain, hessian = on_cuda(problem), captured(problem)
    expected = dense(plain)
    for _ in range(2):  # with what was captured, too
        assert difference(dense(hessian), expected) < 1e-10
    assert len(graphs(hessian)) == len(problem.data)
    assert all(isinstance(one, CapturedGraph) for one in graphs(hessian))
    assert "products were captured (torch.route)" in hessian.notes[0]
    for step in range(2):
        (one, _), (other, _) = (x.minibatch(step, seed=0) for x in (hessian, plain))
        assert difference(dense(one), dense(other)) < 1e-10
    hessian.release()
    assert not graphs(hessian)
    assert difference(dense(hessian), expected) < 1e-10


def test_captured_blocks_on_cuda():
    problem = made_of("layer_norm", reduction="mean").problem
    blocks = [[slice(0, 20), slice(20, 25)], [slice(25, 30)]]
    Vs = [torch.eye(25).double().cuda(), torch.randn(5, 2).double().cuda()]
    found, expected = (x.block_products(blocks, Vs) for x in (captured(problem), on_cuda(problem)))
    for one, other in zip(found, expected, strict=True):
        assert difference(one, other) < 1e-10


def test_what_memory_has_no_room_for_is_replayed_on_cuda():
    problem = made_of("mlp", reduction="mean").problem
    expected, counts = dense(on_cuda(problem)), []
    for size in range(6, 20, 2):
        hessian = captured(problem, memory=f"{size}KB")
        for _ in range(2):
            assert difference(dense(hessian), expected) < 1e-10
        counts.append(len(graphs(hessian)))
    assert counts == sorted(counts)
    assert counts[-1] == len(problem.data)
    assert {1, 2}.intersection(counts)  # some captured, some replayed


def test_captured_products_share_a_pool_that_is_freed_on_cuda():
    hessian = captured(made_of("mlp", reduction="mean").problem)
    dense(hessian)
    assert len({id(one.memory) for one in graphs(hessian)}) == 1
    hessian.release()
    before = torch.cuda.memory_allocated()
    dense(hessian)
    assert torch.cuda.memory_allocated() > before
    hessian.release()
    assert torch.cuda.memory_allocated() == before


def test_capturing_leaves_streams_and_random_state_alone_on_cuda():
    hessian = captured(made_of("batch_norm", reduction="mean").problem)
    torch.cuda.manual_seed(1)
    stream, state = torch.cuda.current_stream(), torch.cuda.get_rng_state()
    dense(hessian)
    assert torch.cuda.current_stream() == stream
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_weights_that_move_leave_captured_products_right_on_cuda():
    problem = made_of("mlp", reduction="mean").problem
    problem.model.cuda()
    hessian = captured(problem, device=None)  # of the weights themselves, not of a copy
    expected = dense(hessian)
    sizes = [p.numel() for p in problem.model.parameters()]
    for p in problem.model.parameters():
        p.data = p.data.clone()
    others = [torch.full((size,), 7.0).double().cuda() for size in sizes for _ in range(4)]
    assert difference(dense(hessian), expected) < 1e-10
    assert all(bool((x == 7).all()) for x in others)


def test_captured_products_in_several_streams_on_cuda():
    problem = made_of("attention", reduction="mean").problem
    expected, hessian = dense(on_cuda(problem)), captured(problem)
    streams, found = [torch.cuda.Stream() for _ in range(3)], []
    torch.cuda.synchronize()
    for stream in streams:
        with torch.cuda.stream(stream):
            found.append(dense(hessian))
    torch.cuda.synchronize()
    for one in found:
        assert difference(one, expected) < 1e-10


def test_eigenpairs_by_captured_products_on_cuda():
    problem = made_of("gru", reduction="mean").problem
    found, expected = (eigencore.solve(one(problem), k=3, tol=1e-8) for one in (captured, on_cuda))
    assert found.status == "converged"
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(expected.values), rtol=1e-7, atol=0)


def test_a_hessian_of_zero_is_captured_without_a_warning_on_cuda():
    x, y = torch.randn(5, 4).double(), torch.randn(5, CLASSES).double()
    problem = Problem(nn.Linear(4, CLASSES).double(), [(x, y)], lambda z, y: (z * y).mean(), reduction="mean")
    assert not dense(captured(problem, check=False)).any()


def test_a_mask_is_refused_and_leaves_pytorch_usable_on_cuda():
    def loss(z, y):
        return nn.functional.cross_entropy(z[y >= 1], y[y >= 1], reduction="sum")

    problem = replace(made_of("mlp").problem, loss=loss, reduction="sum")
    expected = dense(on_cuda(problem))
    with pytest.raises(ProblemError, match=r"torch\.route=captured is not available.*aten\.index.* waits"):
        dense(captured(problem))
    assert difference(dense(on_cuda(problem, route="recorded")), expected) < 1e-10
