"""Split batches: the same operator from smaller parts, or an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from eigencore.errors import OptionError, ProblemError
from eigencore.options import resolve
from eigencore_torch.backend import TorchOptions, bind

WEIGHTS = torch.tensor([1.0, 2, 5], dtype=torch.float64)


def class_weight(batch):
    return WEIGHTS[batch[1]].sum()


REDUCTIONS = {
    "inferred": {},
    "mean": {"reduction": "mean"},
    "sum": {"reduction": "sum", "loss": nn.CrossEntropyLoss(reduction="sum")},
    "weight": {"loss": nn.CrossEntropyLoss(WEIGHTS), "weight": class_weight},
}


@pytest.mark.parametrize("microbatch", [1, 4])
@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_operator_is_the_same(reduction, memory, microbatch, small, hessian):
    whole = hessian(small(**REDUCTIONS[reduction]))
    found = hessian(small(**REDUCTIONS[reduction]), microbatch=microbatch, memory=memory)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-13 * float(whole.abs().max()))


def test_float32_agrees_up_to_rounding(small, hessian):
    problem = small(dtype=torch.float32)
    torch.testing.assert_close(hessian(problem, microbatch=2), hessian(problem), rtol=0, atol=1e-6)


def test_dict_batches_are_split(small, hessian):
    def loss(model, batch):
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    data = [{"x": x, "y": y, "name": "one"} for x, y in small().data]
    found = hessian(small(data=data, loss=loss), microbatch=2)
    torch.testing.assert_close(found, hessian(small()), rtol=0, atol=1e-13)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("microbatch", "expected"), [(1, 2), (3, 3), (None, 7)])
def test_forward_passes_have_no_more_samples_than_the_option_allows(microbatch, expected, check, small):
    """The checks take at least two samples, since a mean and a sum can't be distinguished on one."""
    seen = []
    problem = small()
    problem.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    operator = bind(problem, TorchOptions(microbatch=microbatch, check=check)).operator()
    assert max(seen) == expected
    seen.clear()
    operator.matvec(torch.ones(59, dtype=torch.float64))
    assert max(seen) == (microbatch or 7)


def refused(problem, match, **options):
    with pytest.raises(ProblemError, match=match) as caught:
        bind(problem, TorchOptions(microbatch=2, **options)).operator()
    return caught.value.hint


def test_a_declared_loss_that_is_not_a_mean_over_samples_is_refused(small, hessian):
    """Such a loss is accepted in whole batches, but splitting them would change it."""
    problem = small(loss=nn.CrossEntropyLoss(WEIGHTS), reduction="mean", sizes=15)
    hessian(problem)
    assert "torch.microbatch=none" in refused(
        problem, "on batch 0, .*: the first is not the mean of the other two, so the batch can't be split"
    )
    summed = small(loss=nn.CrossEntropyLoss(reduction="sum"), reduction="mean")
    refused(summed, "the first is not the mean of")
    refused(small(reduction="sum"), "the first is not the sum of")


def test_a_weight_that_does_not_match_the_loss_is_refused(small):
    by_samples = small(loss=nn.CrossEntropyLoss(WEIGHTS), weight=lambda batch: len(batch[1]))
    assert "weight" in refused(by_samples, "the first is not the weighted mean of")
    operator = bind(small(weight=lambda batch: 1), TorchOptions(microbatch=2, check=False)).operator()
    with pytest.raises(ProblemError, match="weight returns 1 for batch 0 but 4 in total for its parts"):
        operator.matvec(torch.ones(59, dtype=torch.float64))


def test_parts_of_weight_zero_may_have_any_loss(small, hessian):
    data = small().data
    data[0][1][2:5] = -100  # the loss of the second part, and of the first of the third, is 0/0
    problem = small(data=data, weight=lambda batch: int((batch[1] != -100).sum()))
    found = hessian(problem, microbatch=2)
    torch.testing.assert_close(found, hessian(problem), rtol=0, atol=1e-13)


def test_a_batch_that_cannot_be_split_is_refused(small):
    data = [(x, y, torch.zeros(3)) for x, y in small().data]
    problem = small(
        data=data,
        loss=lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]),
        weight=lambda batch: len(batch[1]),
    )
    bind(problem, TorchOptions()).operator()
    assert "torch.microbatch=none" in refused(
        problem, "the tensors of batch 0, .*, do not share a first dimension, so the batch"
    )


@pytest.mark.parametrize("text", ["0", "-2", "2.5", "many"])
def test_an_invalid_number_of_samples_is_refused(text):
    with pytest.raises(OptionError, match=r"torch\.microbatch is .* at least 1, or none"):
        resolve(TorchOptions, {"microbatch": text}, entry="torch")
    assert resolve(TorchOptions, {"microbatch": "none"}, entry="torch").microbatch is None
