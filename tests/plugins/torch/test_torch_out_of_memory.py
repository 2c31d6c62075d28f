"""When memory runs out in a product, graphs are dropped and batches halved; the product stays the same."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import eigencore
from eigencore.errors import OperatorError, ProblemError
from eigencore.interfaces import LinearOperator, MinibatchOperator
from eigencore.operators.algebra import shift
from eigencore.results import Step
from eigencore_torch import gradient_graph
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.user_errors import is_out_of_memory

GPU = "CUDA out of memory. Tried to allocate 20.00 MiB"
ON_HOST = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"


class Device:
    """A loss on a device on which at most `fits` samples fit into one forward pass; at first, all do."""

    def __init__(self, loss=None, error=torch.cuda.OutOfMemoryError, text=GPU):
        self.loss, self.fits, self.sizes = loss or nn.CrossEntropyLoss(), 10**9, []
        self.error, self.text = error, text

    def __call__(self, outputs, y):
        self.sizes.append(len(y))
        if len(y) > self.fits:
            raise self.error(self.text)
        return self.loss(outputs, y)

    def shrink(self, fits):
        self.fits, self.sizes = fits, []


def vectors(columns=1):
    return torch.randn(59, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def with_notes(operator: LinearOperator) -> str:
    return " ".join(operator.notes)


@pytest.mark.parametrize(
    ("error", "text"),
    [(torch.cuda.OutOfMemoryError, GPU), (MemoryError, ""), (RuntimeError, ON_HOST)],
    ids=["GPU", "host", "PyTorch on the host"],
)
@pytest.mark.parametrize("fits", [4, 2, 1])
def test_batches_are_halved_until_they_fit(small, fits, error, text):
    device = Device(error=error, text=text)
    operator = bind(small(loss=device), TorchOptions()).operator()
    before = bind(small(), TorchOptions()).operator().matmat(vectors(2))
    device.shrink(fits)
    if fits == 1:  # that a batch is the mean of its parts cannot be tested on one sample
        with pytest.raises(ProblemError, match="out of memory"):
            operator.matmat(vectors(2))
        return
    torch.testing.assert_close(operator.matmat(vectors(2)), before, rtol=0, atol=1e-14)
    largest = {4: 3, 2: 1}[fits]
    assert f"split into at most {largest} samples" in with_notes(operator)
    device.sizes.clear()
    torch.testing.assert_close(operator.matvec(vectors(2)[:, 0]), before[:, 0], rtol=0, atol=1e-14)
    assert max(device.sizes) == largest  # later products do not try again what did not fit


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": nn.CrossEntropyLoss(reduction="sum")},
        {"loss": nn.CrossEntropyLoss(), "reduction": "mean"},
        {
            "loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)),
            "weight": lambda batch: float(torch.tensor([1.0, 2.0, 4.0])[batch[1]].sum()),
        },
    ],
    ids=["a sum", "a declared mean", "weights"],
)
def test_every_reduction_stays_the_same(small, hessian, fields):
    device = Device(fields["loss"])
    operator = bind(small(**fields | {"loss": device}), TorchOptions()).operator()
    first = operator.matmat(torch.eye(59, dtype=torch.float64))
    assert operator.notes == ()
    device.shrink(2)
    operator._free_graphs(0)
    torch.testing.assert_close(operator.matmat(torch.eye(59, dtype=torch.float64)), first, rtol=0, atol=1e-13)
    torch.testing.assert_close(first, hessian(small(**fields)), rtol=0, atol=1e-13)


def test_the_loss_that_is_no_mean_of_its_parts_is_not_split(small):
    def contrast(outputs, y):
        """A loss of the whole batch, which depends on pairs of samples."""
        return (outputs @ outputs.T).logsumexp(dim=1).mean()

    device = Device(contrast)
    operator = bind(small(loss=device, reduction="mean"), TorchOptions()).operator()
    device.shrink(4)
    with pytest.raises(ProblemError, match=r"batch 0 can't be split") as caught:
        operator.matvec(vectors()[:, 0])
    assert "20.00 MiB" in caught.value.message  # PyTorch's own text
    assert caught.value.hint == "Give smaller batches, or a device with more memory."


def test_a_single_sample_that_does_not_fit_is_reported(small):
    device = Device()
    operator = bind(small(loss=device), TorchOptions()).operator()
    device.shrink(3)
    operator.matvec(vectors()[:, 0])
    device.shrink(0)
    with pytest.raises(ProblemError, match=r"\(with 1 sample at a time and no kept graphs\)"):
        operator.matvec(vectors()[:, 0])


@contextmanager
def memory_for(graphs, monkeypatch):
    """As long as more than so many graphs exist, a product runs out of memory."""
    alive = []
    product = gradient_graph.GradientGraph.block_product

    def limited(self, pieces, *, keep):
        if keep and self not in alive:
            alive.append(self)
        if len(alive) > graphs and keep:
            raise torch.cuda.OutOfMemoryError(GPU)
        return product(self, pieces, keep=keep)

    with monkeypatch.context() as patched:
        patched.setattr(gradient_graph.GradientGraph, "block_product", limited)
        yield


def test_kept_graphs_are_dropped_first(small, monkeypatch):
    device = Device()
    operator = bind(small(loss=device), TorchOptions()).operator()
    first = operator.matvec(vectors()[:, 0])
    assert operator._kept
    device.sizes.clear()
    with memory_for(0, monkeypatch):
        again = operator.matvec(vectors()[:, 0])
    torch.testing.assert_close(again, first, rtol=0, atol=1e-14)
    assert device.sizes == [7, 5, 3]
    assert not operator._kept
    assert "no gradient graphs are kept; the operator is the same" in with_notes(operator)


def test_a_minibatch_that_was_drawn_before_memory_ran_out(small):
    device = Device()
    operator = bind(small(loss=device), TorchOptions()).operator()
    assert isinstance(operator, MinibatchOperator)
    operator.matvec(vectors()[:, 0])  # keeps all graphs
    sample, _ = operator.minibatch(0, 0, batches=2)
    before = sample.matvec(vectors()[:, 0])
    operator._free_graphs(0)
    device.shrink(2)
    torch.testing.assert_close(sample.matvec(vectors()[:, 0]), before, rtol=0, atol=1e-14)
    assert max(device.sizes[-3:]) <= 2


def test_the_result_says_that_memory_ran_out(small):
    device = Device()
    problem = small(loss=device)
    exact = eigencore.solve(bind(small(), TorchOptions()).operator(), 3, tol=1e-8)
    assert not any("memory" in note for note in exact.notes)

    def shrink_at_the_fifth(step):
        if step.matvecs == 5:
            operator._free_graphs(0)
            device.shrink(4)

    operator = bind(problem, TorchOptions()).operator()
    found = eigencore.solve(operator, 3, tol=1e-8, progress=shrink_at_the_fifth)
    assert found.values == pytest.approx(exact.values, rel=1e-8)
    assert sum("the device ran out of memory" in note for note in found.notes) == 1
    shifted = eigencore.solve(shift(operator, 1.0), 3)
    assert any("the device ran out of memory" in note for note in shifted.notes)


def test_a_run_that_ends_out_of_memory_keeps_its_pairs(small, tmp_path):
    device = Device()

    def shrink_at_the_fifth(step):
        if isinstance(step, Step) and step.matvecs == 5:
            device.shrink(0)

    with pytest.raises(ProblemError, match="out of memory") as caught:
        eigencore.analyze(
            small(loss=device),
            3,
            tol=1e-10,
            analyses="none",
            progress=shrink_at_the_fifth,
            out=tmp_path / "run",
            options={"torch": {"memory": "none"}},
        )
    assert caught.value.culprit == "operator"
    assert len(caught.value.partial.values) == 3
    assert len(eigencore.load(tmp_path / "run").eigen.values) == 3


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(torch.cuda.OutOfMemoryError(GPU))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError(ON_HOST))
    assert not is_out_of_memory(RuntimeError("sizes do not match"))
    caused = OperatorError("a product failed")
    caused.__cause__ = MemoryError()
    assert is_out_of_memory(caused)
