"""Faults in a problem raise errors with their fixes before the first product."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind


def refused(problem, match, **options):
    """The hint of the error raised at binding, or at the latest when the operator is made."""
    with pytest.raises(ProblemError, match=match) as caught:
        bind(problem, TorchOptions(**options)).operator()
    return caught.value.hint


def test_empty_data(small):
    refused(small(data=[], reduction="mean"), "data is empty: it yields no batch")
    refused(small(data=[]), "data is empty")
    refused(small(data=[]), "data is empty", check=False)


def test_data_that_can_be_iterated_only_once(small):
    data = small().data
    assert "list" in refused(small(data=iter(data)), "only once")
    assert "list" in refused(small(data=(batch for batch in data)), "only once")


def test_a_loader_that_is_exhausted_by_the_first_pass(small):
    class Exhausted:
        def __init__(self, data):
            self.data = list(data)

        def __iter__(self):
            while self.data:
                yield self.data.pop(0)

    assert "data=list(loader)" in refused(small(data=Exhausted(small().data)), "3 batches .* and 0")


def test_data_that_do_not_consist_of_batches(small):
    assert "DataLoader" in refused(small(data=TensorDataset(torch.ones(3, 4))), "single samples")
    assert "DataLoader" in refused(small(data=7), "can't be iterated")


def test_a_shuffling_loader(small):
    x, y = (torch.cat(parts) for parts in zip(*small().data, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
    assert "shuffle=False" in refused(small(data=loader), "two passes over the data differ, first at batch 0")


def test_an_augmenting_loader(small):
    class Noisy(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            x = torch.full((4,), float(index), dtype=torch.float64)
            return x + torch.randn(4) if index == 9 else x, index % 3

    assert "augmentation" in refused(small(data=DataLoader(Noisy(), batch_size=4)), "first at batch 2")


def test_data_that_raise_an_error(small):
    class Broken:
        def __iter__(self):
            yield small().data[0]
            raise OSError("disk full")

    refused(small(data=Broken()), "data failed at batch 1: OSError: disk full")


def test_a_loss_that_is_not_a_scalar(small):
    each = nn.CrossEntropyLoss(reduction="none")
    assert "mean" in refused(small(loss=each), r"returned float64 \(7,\) on batch 0")
    assert ".item()" in refused(small(loss=lambda outputs, y: 1.0), "returned a float on batch 0")


def test_a_loss_that_is_not_finite(small):
    data = small().data
    data[1][0][2, 1] = torch.nan
    assert "batch itself" in refused(small(data=data), "loss of batch 1 is nan")
    infinite = small(loss=lambda outputs, y: outputs.mean() * torch.inf)
    assert "model and the loss" in refused(infinite, "loss of batch 0 is -?inf")


def test_a_loss_without_a_gradient(small):
    problem = small(loss=lambda outputs, y: functional.cross_entropy(outputs.detach(), y))
    assert "detach()" in refused(problem, "does not depend on the trainable weights")


class Noisy(nn.Linear):
    def forward(self, x):
        return functional.dropout(super().forward(x))  # training=True in every mode


@pytest.mark.parametrize("ignored", [0, 4])
def test_a_loss_that_is_random(small, ignored):
    """Also if the first samples, which are passed twice, have no loss."""
    problem = small(model=Noisy(4, 3, dtype=torch.float64))
    problem.data[0][1][:ignored] = -100
    assert "dropout" in refused(problem, "loss of batch 0 is not reproducible in evaluation mode")


def test_a_loss_that_is_random_and_not_defined_on_few_samples(small):
    def of_seven(outputs, y):
        if len(y) < 7:
            raise ValueError("needs seven samples")
        return functional.cross_entropy(outputs, y)

    problem = small(model=Noisy(4, 3, dtype=torch.float64), loss=of_seven, reduction="mean")
    refused(problem, "loss of batch 0 is not reproducible in evaluation mode")


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        (x,) = context.saved_tensors
        return 3 * x**2 * slope


def test_an_operation_with_only_a_first_derivative(small):
    """PyTorch would return a Hessian without this term, and raise no error."""
    loss = nn.CrossEntropyLoss()
    hint = refused(
        small(loss=lambda z, y: loss(z, y) + Cube.apply(z).mean()), "operation Cube is marked once_differen"
    )
    assert "remove the decorator" in hint


def test_labels_out_of_range(small):
    data = small().data
    data[2][1][1] = 3
    assert "from 0" in refused(
        small(data=data), "labels of batch 2 range from . to 3; expected 0 to 2, since .* 3 classes"
    )
    refused(small(data=data, loss=functional.cross_entropy), "labels of batch 2")
    data[2][1][1] = -1
    refused(small(data=data), "labels of batch 2 range from -1")


def test_the_ignored_label_is_accepted(small):
    data = small().data
    data[2][1][1] = -1
    loss = nn.CrossEntropyLoss(ignore_index=-1)
    bind(small(data=data, loss=loss, reduction="mean"), TorchOptions()).operator()


def test_weights_that_are_not_finite(small):
    problem = small()
    with torch.no_grad():
        problem.model[2].bias[0] = torch.nan
    refused(problem, "2.bias contains NaN or infinite weights: 1 of 3")


def test_no_weights(small):
    refused(small(model=nn.ReLU()), "no trainable weights")


def test_unsupported_layers_and_weights(small):
    assert "one batch" in refused(small(model=nn.LazyLinear(3)), "weight has no shape yet")
    renormalised = nn.Sequential(nn.Embedding(6, 4, max_norm=1.0))
    assert "max_norm" in refused(small(model=renormalised), "0 changes its own weights")
    sparse = nn.Sequential(nn.Embedding(6, 4, sparse=True))
    assert "sparse to False" in refused(small(model=sparse), "0 has sparse gradients")
    refused(small(model=nn.EmbeddingBag(6, 4, sparse=True)), "the model has sparse gradients")
    refused(small(model=nn.Linear(4, 3, dtype=torch.complex64)), "weight is complex; expected real")
    assert "to_empty" in refused(
        small(model=nn.Linear(4, 3, device="meta")), "weight has a shape but no values"
    )


def test_a_model_or_loss_that_fails(small):
    wrong = nn.Linear(5, 3, dtype=torch.float64)
    refused(small(model=wrong), r"failed on batch 0, \(float64 \(7, 4\), int64 \(7,\)\): RuntimeError: mat1")
    refused(small(model=len), "model is a builtin_function_or_method")
    refused(small(loss=None), "loss is a NoneType")
    refused(small(data=[(1, 2, 3)], loss=lambda model, batch: 1 / 0), r"loss\(model, batch\) failed")


def forward_samples(small, reduction="infer", **options):
    """The number of samples in all forward passes before the first product; the data have 15."""
    seen = []
    problem = small(reduction=reduction)
    problem.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    bind(problem, TorchOptions(**options)).operator()
    return sum(seen)


def test_checks_cost_one_forward_pass_and_a_few_of_the_first_batch(small, monkeypatch):
    """Of the first of three batches, 4 samples are passed twice to see whether its loss is reproducible, and,
    if the reduction is inferred, 4 in whole and in parts. Later ones reuse the outputs of the first pass.

    The probe, whose cost does not grow with the data, is counted in its own tests.
    """
    monkeypatch.setattr("eigencore_torch.inspection.probe", lambda *_: None)
    assert forward_samples(small) == 15 + 2 * 4 + 2 * 4
    assert forward_samples(small, reduction="mean") == 15 + 2 * 4
    # Two batches, and the union of one with a sample of the other: nothing is known from a first pass.
    assert forward_samples(small, check=False) == 3 * 7 + 5 + 1 + 6


def test_the_option_check_turns_the_checks_off(small):
    data = small().data
    data[2][0][:] = torch.nan
    problem = small(data=data)
    bind(problem, TorchOptions(check=False)).operator()
    refused(problem, "batch 2", check=True)


def test_data_that_shrink_between_products_are_detected(small):
    data = small().data
    operator = bind(small(data=data), TorchOptions(memory="none")).operator()
    v = torch.ones(operator.shape[0], dtype=torch.float64)
    operator.matvec(v)
    data.pop()
    with pytest.raises(ProblemError, match="their total weight was 15, now 12"):
        operator.matvec(v)


def test_a_block_of_a_wrong_shape(small):
    operator = bind(small(), TorchOptions()).operator()
    with pytest.raises(UsageError, match=r"expected \(59, b\)"):
        operator.matmat(torch.ones(58, 2, dtype=torch.float64))


def test_a_problem_without_a_model_is_refused():
    refused(Problem(), "model is a NoneType; expected a torch.nn.Module")
