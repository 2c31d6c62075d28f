"""Kept graphs: the same products from fewer passes, within the memory that was given, and all of it freed."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from eigencore.errors import OptionError
from eigencore_torch import linearised
from eigencore_torch.backend import TorchOptions, bind


def forwards(problem):
    """A list that grows by the batch size at every forward pass."""
    seen = []
    problem.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def vector(n=59):
    return torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_kept_graph_needs_no_second_forward_pass(small):
    problem = small()
    seen = forwards(problem)
    operator = bind(problem, TorchOptions()).operator()
    first = operator.matvec(vector())
    seen.clear()
    for _ in range(3):
        torch.testing.assert_close(operator.matvec(vector()), first, rtol=0, atol=0)
    assert seen == []


def test_without_memory_every_product_starts_from_scratch(small):
    problem = small()
    operator = bind(problem, TorchOptions(memory="none")).operator()
    seen = forwards(problem)
    operator.matvec(vector())
    operator.matmat(torch.stack([vector(), vector()], dim=1))
    assert seen == [7, 5, 3, 7, 5, 3]


def test_what_does_not_fit_starts_from_scratch_and_gives_the_same(small):
    problem = small()
    layout_bytes = 14 * _bytes_a_sample(problem)
    operator = bind(problem, TorchOptions(memory=f"{layout_bytes}B")).operator()
    seen = forwards(problem)
    products = [operator.matvec(vector()) for _ in range(3)]
    assert seen == [7, 7, 5, 3, 3, 3]  # the first batch once more, to measure its graph; the last never fits
    scratch = bind(problem, TorchOptions(memory="none")).operator().matvec(vector())
    for product in products:
        torch.testing.assert_close(product, scratch, rtol=0, atol=1e-14)


def _bytes_a_sample(problem):
    operator = bind(problem, TorchOptions()).operator()
    operator.matvec(vector())
    return round(operator._bytes_a_sample)


def test_nothing_grows_from_product_to_product_and_all_is_freed(small):
    class Held:
        """What a graph holds of a tensor that it saved."""

        def __init__(self, tensor):
            self.tensor = tensor.detach()
            held.add(self)

    class Marked(nn.Tanh):
        def forward(self, x):
            with torch.autograd.graph.saved_tensors_hooks(Held, lambda one: one.tensor):
                return super().forward(x)

    held = weakref.WeakSet()
    model = nn.Sequential(nn.Linear(4, 7), Marked(), nn.Linear(7, 3), nn.Tanh()).double()
    gc.disable()  # freed by counting references alone: there are no cycles
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


def test_the_estimate_is_what_the_graph_holds():
    """x -> (w x)^2 with 1,000 numbers of 8 bytes keeps a known handful of such vectors."""
    w = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    class Layout:
        parameters = (w,)

    x = torch.ones(1000, dtype=torch.float64)
    kept = linearised.bytes_kept(lambda: linearised.Linearised(((w * x) ** 2).sum(), Layout()), Layout())
    assert 2 * 8000 <= kept <= 6 * 8000


@pytest.mark.parametrize(("text", "size"), [("none", 0), ("2GiB", 2**31), ("1.5 MB", 1_500_000), ("7b", 7)])
def test_sizes_in_words(text, size):
    assert linearised.budget(text, torch.device("cpu")) == size


def test_auto_is_some_but_not_all_of_the_memory():
    assert 0 < linearised.budget("auto", torch.device("cpu")) < 2**50


@pytest.mark.parametrize("text", ["", "lots", "2 apples", "GiB", "1.2.3GB", "-1GB"])
def test_what_is_no_size_is_refused_at_binding(text, small):
    with pytest.raises(OptionError, match="expected auto, none or a size"):
        bind(small(), TorchOptions(memory=text))
