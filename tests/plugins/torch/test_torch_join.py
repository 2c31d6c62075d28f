"""Small batches that are joined (torch.join): the same operator, in fewer forward passes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigencore import Problem
from eigencore.errors import OptionError, ProblemError
from eigencore_torch.backend import TorchOptions, bind

CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)


def weight_of(batch):
    return float(CLASS_WEIGHTS[batch[1]].sum())


def in_batch_negatives(outputs, y):
    """A contrastive loss: each sample is compared with the others of its batch."""
    return nn.functional.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)))


def sizes_of(problem, **options):
    """The number of samples in each forward pass of one product."""
    found = []
    operator = bind(problem, TorchOptions(memory="none", check=False, **options)).operator()
    hook = problem.model.register_forward_hook(lambda module, inputs, outputs: found.append(len(inputs[0])))
    operator.matvec(torch.ones(operator.shape[0], dtype=operator.dtype))
    hook.remove()
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"reduction": "mean"},
        {"reduction": "infer"},
        {"reduction": "sum", "loss": nn.CrossEntropyLoss(reduction="sum")},
        {"loss": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS)},
        {
            "weight": lambda batch: float(CLASS_WEIGHTS[batch[1]].sum()),
            "loss": nn.CrossEntropyLoss(CLASS_WEIGHTS),
        },
    ],
    ids=["mean", "inferred", "sum", "measured weights", "given weights"],
)
@pytest.mark.parametrize("join", [4, 9, 100])
def test_the_operator_is_the_same(small, hessian, fields, join):
    problem = small(sizes=(3, 2, 4, 1, 5), **fields)
    torch.testing.assert_close(hessian(problem, join=join), hessian(problem), rtol=1e-6, atol=1e-9)


def test_consecutive_batches_are_joined(small):
    problem = small(sizes=(3, 2, 4, 1, 5), reduction="mean")
    assert sizes_of(problem) == [3, 2, 4, 1, 5]
    assert sizes_of(problem, join=1) == [3, 2, 4, 1, 5]
    assert sizes_of(problem, join=5) == [5, 5, 5]
    assert sizes_of(problem, join=8) == [9, 6]
    assert sizes_of(problem, join=100) == [15]


def test_a_loader_is_joined_as_well(small, hessian):
    data = small().data
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    problem = small(data=DataLoader(TensorDataset(x, y), batch_size=2), reduction="mean")
    assert sizes_of(problem, join=6) == [6, 6, 3]
    torch.testing.assert_close(hessian(problem, join=6), hessian(small(reduction="mean")))


def test_batches_of_other_shapes_are_not_joined():
    """Sequences of two lengths: each is joined with its equals."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x).mean(dim=1)

    torch.manual_seed(0)
    lengths = (4, 4, 7, 7, 4)
    data = [(torch.randn(2, length, 3).double(), torch.randint(2, (2,))) for length in lengths]

    problem = Problem(model=Mean().double(), data=data, loss=nn.CrossEntropyLoss(), reduction="mean")
    assert sizes_of(problem, join=10) == [4, 4, 2]


def test_minibatches_are_the_joined_batches(small, hessian):
    problem = small(sizes=(3, 2, 4, 1, 5), reduction="mean")
    operator = bind(problem, TorchOptions(join=5)).operator()
    eye = torch.eye(operator.shape[0], dtype=torch.float64)
    found = {}
    for step in range(40):
        sample, share = operator.minibatch(step, 0)
        assert share == pytest.approx(1 / 3)
        found.setdefault(round(float(sample.matvec(eye[0])[0]), 12), sample)
    assert len(found) == 3
    mean = sum(sample.matmat(eye) for sample in found.values()) / 3
    torch.testing.assert_close(mean, hessian(problem))


def test_a_loss_that_depends_on_the_rest_of_its_batch_is_refused(small):
    """Declared as a mean, it is accepted in the given batches, whose operator joining would change."""
    problem = small(sizes=(3, 2, 4, 1, 5), loss=in_batch_negatives, reduction="mean")
    bind(problem, TorchOptions()).operator()
    with pytest.raises(ProblemError, match=r"torch\.join=none"):
        bind(problem, TorchOptions(join=8)).operator()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"join": 8, "microbatch": 4}, "torch.join is 8, more than torch.microbatch, 4"),
        ({"join": 8, "batch_norm": "batch"}, "torch.join changes the operator"),
    ],
)
def test_options_that_exclude_each_other_are_refused(small, options, words):
    with pytest.raises(OptionError, match=words):
        bind(small(), TorchOptions(**options))
