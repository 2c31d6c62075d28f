"""The operator is that of the loss over all data at once, for any division into batches."""

from __future__ import annotations

from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from eigencore.errors import ProblemError, UsageError
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.data.batch_tensors import map_tensors
from eigencore_torch.data.batches import join_batches, sample_count, take_samples
from eigencore_torch.data.signatures import signature


@pytest.fixture
def whole(small, hessian):
    """The Hessian of the mean loss over all data in one batch."""
    return hessian(small(sizes=15))


@pytest.mark.parametrize("sizes", [(15,), (7, 5, 3), (5, 5, 5), (10, 5), (14, 1), (1,) * 15])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batch_size_does_not_matter(sizes, reduction, small, hessian, whole):
    problem = small(sizes=sizes, loss=nn.CrossEntropyLoss(reduction=reduction), reduction=reduction)
    scale = 15 if reduction == "sum" else 1
    torch.testing.assert_close(hessian(problem), scale * whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("memory", ["none", "auto"])
def test_the_order_of_batches_does_not_matter(memory, small, hessian, whole):
    backwards = small(data=small().data[::-1])
    torch.testing.assert_close(hessian(backwards, memory=memory), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mean_and_sum_are_distinguished(reduction, check, small, hessian, whole):
    found = hessian(small(loss=nn.CrossEntropyLoss(reduction=reduction)), check=check)
    torch.testing.assert_close(found, whole * (15 if reduction == "sum" else 1), rtol=0, atol=1e-9)


def test_float32_finds_the_reduction_and_agrees(small, hessian, whole):
    torch.testing.assert_close(hessian(small(dtype=torch.float32)).double(), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_near_zero_keeps_its_reduction(dtype, small):
    """In a well-trained network each sample's loss is a small difference of large logits."""
    problem = small(dtype=dtype)
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.mul_(3)
    confident = [(x, problem.model(x).argmax(1)) for x, _ in problem.data]
    easy = small(dtype=dtype, model=problem.model, data=confident)
    assert bind(easy, TorchOptions()).risk.reduction.rule == "mean"


WEIGHTS = torch.tensor([1.0, 2, 5], dtype=torch.float64)


def test_class_weights_are_measured_or_given(small, hessian):
    loss = nn.CrossEntropyLoss(weight=WEIGHTS)
    at_once = hessian(small(loss=loss, sizes=15))
    weighted = small(loss=loss, weight=lambda batch: WEIGHTS[batch[1]].sum())
    torch.testing.assert_close(hessian(weighted), at_once, rtol=0, atol=1e-9)
    torch.testing.assert_close(hessian(small(loss=loss)), at_once, rtol=0, atol=1e-9)


def by_class(data):
    """The same samples with one class per batch, as from a folder for each class."""
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    return [(x[y == label], y[y == label]) for label in range(3)]


def test_class_weights_are_measured_if_each_batch_has_one_class(small, hessian):
    """Within each batch, the weighted mean equals the plain one."""
    loss = nn.CrossEntropyLoss(weight=WEIGHTS)
    data = by_class(small().data)
    assert [len(y) for _, y in data] == [6, 6, 3]
    at_once = hessian(small(loss=loss, sizes=15))
    torch.testing.assert_close(hessian(small(data=data, loss=loss)), at_once, rtol=0, atol=1e-9)
    torch.testing.assert_close(hessian(small(data=data)), hessian(small(sizes=15)), rtol=0, atol=1e-9)


def test_ignored_labels_in_a_later_batch_are_measured(small, hessian):
    data = small().data
    data[1][1][:3] = -100
    data[2][1][:] = -100  # the loss of this batch is 0/0
    at_once = hessian(small(data=[tuple(torch.cat(parts) for parts in zip(*data, strict=True))]))
    torch.testing.assert_close(hessian(small(data=data)), at_once, rtol=0, atol=1e-9)


def test_a_declared_reduction_is_used_as_it_is(small, hessian, whole):
    loss = nn.CrossEntropyLoss(reduction="sum")
    terms = [hessian(small(data=[batch], loss=loss)) * len(batch[1]) for batch in small().data]
    found = hessian(small(loss=loss, reduction="mean"))
    torch.testing.assert_close(found, sum(terms) / 15, rtol=0, atol=1e-9)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(6, 3), nn.Linear(3, 6)

    def forward(self, x):
        return self.head(torch.tanh(self.embed(x))).transpose(1, 2)


def sentences():
    """Sentences from a vocabulary of six words, padded to five words, in batches of equal length."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        data = []
        for length in (5, 2, 3):
            x = torch.randint(6, (4, 5))
            x[:, length:] = 0
            y = x.roll(-1, 1)
            y[:, length - 1 :] = -100
            data.append((x, y))
        return data, Tokens().double()


def test_a_mean_over_tokens_is_measured_if_batches_are_padded_differently(small, hessian):
    """Within each batch all sentences have the same number of tokens, so the mean is one over samples."""
    data, model = sentences()
    joined = [tuple(torch.cat(parts) for parts in zip(*data, strict=True))]
    at_once = hessian(small(model=model, data=joined))
    torch.testing.assert_close(hessian(small(model=model, data=data)), at_once, rtol=0, atol=1e-9)


def test_a_mean_over_equal_numbers_of_tokens_is_a_mean_over_sentences(small, hessian):
    data, model = sentences()
    data = [(x, x.roll(-1, 1)) for x, _ in data]
    joined = [tuple(torch.cat(parts) for parts in zip(*data, strict=True))]
    found = hessian(small(model=model, data=data))
    torch.testing.assert_close(found, hessian(small(model=model, data=joined)), rtol=0, atol=1e-9)


def test_sentences_of_different_lengths_need_a_declared_reduction(small):
    data = [
        (x, x.roll(1, 1)) for x in (torch.arange(12).reshape(4, 3) % 6, torch.arange(20).reshape(4, 5) % 6)
    ]
    problem = small(model=Tokens().double(), data=data)
    with pytest.raises(ProblemError, match="batches 0 and 1 differ in shape"):
        bind(problem, TorchOptions()).operator()


def test_a_loss_over_the_whole_batch_is_refused(small):
    def spread(outputs, y):
        return outputs.var()

    with pytest.raises(ProblemError, match="the first and its gradient are neither the sum nor a mean"):
        bind(small(loss=spread), TorchOptions()).operator()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batches_of_one_sample_determine_the_reduction_when_joined(reduction, check, small, hessian, whole):
    problem = small(sizes=(1,) * 15, loss=nn.CrossEntropyLoss(reduction=reduction))
    scale = 15 if reduction == "sum" else 1
    torch.testing.assert_close(hessian(problem, check=check), scale * whole, rtol=0, atol=1e-9)


def test_a_sample_that_is_given_twice_does_not_determine_the_reduction(small):
    first = small().data[0]
    batches = [tuple(part[:1] for part in first)] * 2
    with pytest.raises(ProblemError, match="weighs the samples of batch 1 can't be determined") as caught:
        bind(small(data=batches), TorchOptions()).operator()
    assert "reduction='mean'" in caught.value.hint


def test_a_batch_without_a_shared_first_dimension_is_refused(small):
    data = [(x, y, torch.zeros(3)) for x, y in small().data]

    def loss(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(ProblemError, match="do not share a first dimension") as caught:
        bind(small(data=data, loss=loss), TorchOptions()).operator()
    assert "weight" in caught.value.hint
    with pytest.raises(ProblemError, match="the number of samples in batch 0 is ambiguous"):
        bind(small(data=data, loss=loss, reduction="mean"), TorchOptions()).operator()


Named = namedtuple("Named", "x y extra")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x, y: {"x": x, "y": y, "name": "batch"},
        lambda x, y: UserDict(x=x, y=y),
        lambda x, y: (x, y, None),
        lambda x, y: Named(x, y, 3),
    ],
)
def test_batches_that_are_not_pairs_are_passed_to_the_loss_with_the_model(wrap, small, hessian, whole):
    def loss(model, batch):
        x, y = (batch["x"], batch["y"]) if "x" in batch else (batch[0], batch[1])
        return functional.cross_entropy(model(x), y)

    if isinstance(wrap(1, 2), tuple):

        def loss(model, batch):
            return functional.cross_entropy(model(batch[0]), batch[1])

    found = hessian(small(data=[wrap(x, y) for x, y in small().data], loss=loss))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)


def test_a_loader_gives_the_same_operator_as_a_list(small, hessian, whole):
    x, y = (torch.cat(parts) for parts in zip(*small().data, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    torch.testing.assert_close(hessian(small(data=loader)), whole, rtol=0, atol=1e-9)


def test_gradients_that_a_loss_requires_of_its_inputs_do_not_change_the_data(small, hessian):
    points = [x for x, _ in small().data]

    def loss(model, x):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.square().sum(1).mean()

    hessian(small(data=points, loss=loss))
    assert not any(x.requires_grad for x in points)


def test_joining_is_the_inverse_of_taking_samples():
    batch = {"x": torch.arange(6).reshape(3, 2), "more": [torch.ones(3), torch.tensor(5.0)], "name": "a"}
    again = join_batches(take_samples(batch, slice(1)), take_samples(batch, slice(1, None)))
    torch.testing.assert_close(again["x"], batch["x"])
    torch.testing.assert_close(again["more"], batch["more"])
    assert again["name"] == "a"
    assert join_batches(torch.ones(2, 3), torch.ones(2, 4)) is None
    assert join_batches(torch.ones(2), torch.ones(2, dtype=torch.int64)) is None
    assert join_batches((torch.ones(2),), (torch.ones(2), torch.ones(2))) is None


def test_samples_of_nested_batches():
    batch = {"x": torch.arange(6).reshape(3, 2), "more": [torch.ones(3), torch.tensor(5.0)], "name": "a"}
    assert sample_count(batch) == 3
    cut = take_samples(batch, slice(1, None))
    assert cut["x"].shape == (2, 2)
    assert (cut["more"][0].shape, float(cut["more"][1]), cut["name"]) == ((2,), 5.0, "a")
    doubled = map_tensors(batch, lambda x: 2 * x)
    assert int(doubled["x"].sum()) == 30


KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int64, torch.int8, torch.bool]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_one_changed_number_changes_the_signature(kind, n):
    x = torch.zeros(n + 1, dtype=kind)[1:]  # not aligned to eight bytes
    before = int(signature(x))
    assert int(signature(x.clone())) == before
    for i in range(n):
        changed = x.clone()
        changed[i] = 1
        assert int(signature(changed)) != before


def test_the_signature_does_not_depend_on_the_memory_format():
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert int(signature(x.to(memory_format=torch.channels_last))) == int(signature(x))
    assert int(signature(torch.tensor(3.0))) != int(signature(torch.tensor(4.0)))
    assert int(signature(torch.empty(0))) == 0


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_invalid_weights_are_refused(weight, small):
    with pytest.raises(ProblemError, match="expected a finite number of at least 0"):
        bind(small(weight=lambda batch: weight), TorchOptions()).operator()


def test_batch_weights_that_are_all_zero_are_refused(small):
    operator = bind(small(weight=lambda batch: 0), TorchOptions()).operator()
    with pytest.raises(ProblemError, match="weight zero"):
        operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64))


@pytest.mark.parametrize("fields", [{"reduction": "average"}, {"reduction": "sum", "weight": len}])
def test_contradictions_are_refused_at_binding(fields, small):
    with pytest.raises(UsageError, match="reduction"):
        bind(small(**fields), TorchOptions())
