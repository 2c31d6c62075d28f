"""The digest of a problem reads tensors of every type as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigencore.interfaces import Problem
from eigencore.runs import digest

TYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.bool, torch.uint8, torch.int64),
]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_read_bit_for_bit(dtype, device):
    x = (torch.arange(24).reshape(4, 6) % 2).to(dtype).to(device)
    other = x.clone()
    other[3, 5] = 0 if x[3, 5] else 1
    known = digest(Problem(data=[x]))
    assert known is not None
    assert known == digest(Problem(data=[x.clone()]))
    assert known == digest(Problem(data=[x.repeat(1, 2)[:, :6]]))  # a view with other strides
    assert known == digest(Problem(data=[x.t().contiguous().t()]))
    assert known != digest(Problem(data=[other]))
    assert known != digest(Problem(data=[x.reshape(6, 4)]))


def test_one_bit_of_a_large_whole_number_counts():
    """As float64 these two are equal."""
    one, other = torch.tensor([2**60]), torch.tensor([2**60 + 1])
    assert digest(Problem(data=[one])) != digest(Problem(data=[other]))


def test_equal_models_have_equal_digests_whatever_they_do_with_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copy = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copy.load_state_dict(model.state_dict())
    known = digest(Problem(model=model))
    assert known == digest(Problem(model=copy.requires_grad_(False)))
    model[1].running_mean += 1
    assert known != digest(Problem(model=model))


def test_lazily_conjugated_tensors_and_tensors_that_are_not_dense():
    x = torch.tensor([1 + 2j, 3.0])
    assert digest(Problem(data=[x.conj()])) == digest(Problem(data=[x.conj().resolve_conj()]))
    assert digest(Problem(data=[x.conj()])) != digest(Problem(data=[x]))
    assert digest(Problem(data=[torch.eye(3).to_sparse(), torch.eye(3).to_sparse_coo()])) is None
