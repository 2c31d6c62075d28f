"""The capabilities that a bound problem finds from its first batch, and a classifier's samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore_torch.backend import TorchOptions, bind

WEIGHTS = {Capability.PRODUCTS, Capability.MINIBATCHES, Capability.WEIGHT_LOSS}


def samples(*shape, classes=3, count=15):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return torch.randn(count, *shape, dtype=torch.float64), torch.randint(classes, (count,))


def in_batches(x, y, sizes=(7, 5, 3)):
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


# -- capabilities ------------------------------------------------------------------------------------------


def regression():
    x, _ = samples(4)
    return {"data": in_batches(x, x[:, :3]), "loss": nn.MSELoss()}, "expected a pair of floating-point inputs"


def dictionaries():
    x, y = samples(4)
    data = [{"x": x, "y": y}]
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch["x"]), batch["y"])  # noqa: E731
    return {"data": data, "loss": loss}, r"batch 0 of data is \{x: float64 \(15, 4\)"


def token_inputs():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Flatten(), nn.Linear(20, 3)).double()
    x, y = torch.randint(6, (15, 5)), torch.randint(3, (15,))
    return {"model": model, "data": in_batches(x, y)}, r"batch 0 of data is \(int64 \(7, 5\)"


def every_token():
    class Tagger(nn.Linear):
        def forward(self, x):
            return super().forward(x).transpose(1, 2)

    x, y = torch.randn(15, 5, 4, dtype=torch.float64), torch.randint(3, (15, 5))
    return {"model": Tagger(4, 3).double(), "data": in_batches(x, y)}, "integer labels"


def soft_labels():
    x, _ = samples(4)
    return {"data": in_batches(x, torch.softmax(x[:, :3], 1))}, "integer labels"


def one_output():
    x, y = samples(4)
    loss = lambda z, y: (z[:, 0] - y).square().mean()  # noqa: E731
    return {
        "model": nn.Linear(4, 1).double(),
        "data": in_batches(x, y),
        "loss": loss,
    }, r"returns shape \(2, 1\) for 2"


def too_few_classes():
    x, y = samples(4)
    loss = lambda z, y: z.square().mean()  # noqa: E731
    return {
        "data": in_batches(x, y + 1),
        "loss": loss,
    }, "batch 0 of data has label 3; expected 0 to 2, since the network has 3 classes"


def one_shot():
    x, y = samples(4)
    return {
        "validation": iter(in_batches(x, y))
    }, "validation is a list_iterator, which can be iterated only once"


def empty():
    return {"validation": []}, "validation is empty"


def broken():
    def batches():
        raise OSError("disk full")
        yield

    class Broken:
        def __iter__(self):
            return batches()

    return {"validation": Broken()}, "validation failed at batch 0: OSError: disk full"


def of_another_shape():
    x, y = samples(5)
    return {"validation": in_batches(x, y)}, "the network failed on batch 0 of validation"


def statistics_of_the_batch():
    layers = nn.Linear(4, 10), nn.Unflatten(1, (5, 2)), nn.BatchNorm1d(5, track_running_stats=False)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(10, 3)).double()
    return {"model": model}, "change when it is evaluated alone"


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.rand(len(x), 1, dtype=x.dtype)


def always_random():
    return {"model": Noisy(4, 3).double()}, "change when it is evaluated alone"


NOT_CLASSIFICATIONS = [
    regression,
    dictionaries,
    token_inputs,
    every_token,
    soft_labels,
    one_output,
    too_few_classes,
    one_shot,
    empty,
    broken,
    of_another_shape,
    statistics_of_the_batch,
    always_random,
]


@pytest.mark.parametrize("make", NOT_CLASSIFICATIONS)
def test_a_problem_that_is_not_a_classification_has_no_classifier(make, small):
    fields, why = make()
    bound = bind(small(**fields), TorchOptions())
    state = torch.get_rng_state()
    assert bound.capabilities == WEIGHTS
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(CapabilityError, match=why):
        bound.classifier()
    with pytest.raises(CapabilityError, match="this problem offers no classifier: "):
        bound.sample_curvature(None, torch.zeros(59), torch.zeros(1, 4), torch.zeros(1))


def test_a_one_shot_iterator_is_not_consumed(small):
    x, y = samples(4)
    once = iter(in_batches(x, y))
    assert bind(small(validation=once), TorchOptions()).capabilities == WEIGHTS
    assert len(list(once)) == 3


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_classification_has_every_capability(dtype, classifying):
    bound = bind(classifying(), TorchOptions(), dtype=dtype)
    assert bound.capabilities == set(Capability)
    classifier = bound.classifier()
    assert classifier.shape == classifying().data[0][0].shape[1:]
    assert classifier.classes == 3


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x.detach())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        return 2 * slope


class OnceDifferentiable(nn.Linear):
    def forward(self, x):
        return super().forward(torch.tanh(Once.apply(x)))


@pytest.mark.parametrize(
    ("network", "missing"),
    [
        (Detached, {Capability.INPUT_GRADIENT, Capability.INPUT_PRODUCTS}),
        (OnceDifferentiable, {Capability.INPUT_PRODUCTS}),
    ],
)
def test_missing_derivatives_are_not_among_the_capabilities(network, missing, small):
    bound = bind(small(model=network(4, 3).double()), TorchOptions())
    assert bound.capabilities == set(Capability) - missing
    x, _ = bound.classifier().samples()
    assert bound.classifier().logits(x).shape == (15, 3)


def test_capabilities_take_one_batch_and_two_samples_through_the_network(small):
    class Counting(nn.Linear):
        seen = 0

        def forward(self, x):
            Counting.seen += len(x)  # an attribute of the model would be restored
            return super().forward(x)

    class CountingReads(list):
        read = 0

        def __iter__(self):
            for batch in super().__iter__():
                self.read += 1
                yield batch

    model, data = Counting(4, 3).double(), CountingReads(small().data)
    bound = bind(small(model=model, validation=data), TorchOptions())
    assert (data.read, Counting.seen) == (0, 0)
    for _ in range(3):
        assert bound.capabilities == set(Capability)
        assert (data.read, Counting.seen) == (1, 3)


# -- samples -----------------------------------------------------------------------------------------------


def test_samples_are_the_first_ones_from_as_few_batches_as_contain_them(small, device):
    class CountingReads(list):
        read = 0

        def __iter__(self):
            for batch in super().__iter__():
                self.read += 1
                yield batch

    data = CountingReads(small().data)
    classifier = bind(small(validation=data), TorchOptions(), device=device).classifier()
    x, y = (torch.cat(parts).to(device) for parts in zip(*small().data, strict=True))
    for most, batches in ((1, 1), (7, 1), (8, 2), (12, 2), (15, 3), (99, 3), (None, 3)):
        data.read = 0
        inputs, labels = classifier.samples(most)
        assert torch.equal(inputs, x[:most])
        assert torch.equal(labels, y[:most])
        assert labels.dtype == torch.int64
        assert data.read == batches
    with pytest.raises(UsageError, match="0 samples were requested"):
        classifier.samples(0)


def test_samples_are_validation_data_if_there_are_any(small):
    x, y = samples(4)
    own = bind(small(validation=in_batches(x, y.to(torch.uint8))), TorchOptions()).classifier().samples()
    assert torch.equal(own[0], x)
    assert torch.equal(own[1], y)
    given = bind(small(), TorchOptions()).classifier().samples()
    assert torch.equal(given[0], torch.cat([x for x, _ in small().data]))


def test_samples_of_a_shuffling_loader_leave_random_states_unchanged(small):
    x, y = (torch.cat(parts) for parts in zip(*small().data, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
    classifier = bind(small(validation=loader), TorchOptions()).classifier()
    state = torch.get_rng_state()
    first, second = classifier.samples(9), classifier.samples(9)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], second[0])


def test_rows_are_whole_inputs(classifying):
    x, _ = bind(classifying(), TorchOptions()).classifier().samples()
    assert torch.equal(
        x.reshape(15, *classifying().data[0][0].shape[1:]), torch.cat([x for x, _ in classifying().data])
    )


def with_value(index, x=None, y=None):
    """The 15 samples of `small`, with one input value or label of batch `index` replaced."""

    def make(problem):
        data = [(a.clone(), b.clone()) for a, b in problem.data]
        if x is not None:
            data[index][0][1, 2] = x
        if y is not None:
            data[index][1][1] = y
        return data

    return make


def misshapen(problem):
    return [*problem.data, (torch.zeros(2, 5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))]


@pytest.mark.parametrize(
    ("make", "bounds", "why"),
    [
        (
            with_value(1, y=12),
            None,
            "batch 1 of validation has label 12; expected 0 to 2, since the network has 3 classes",
        ),
        (with_value(2, y=-1), None, "batch 2 of validation has label -1"),
        (
            with_value(1, x=float("nan")),
            None,
            "batch 1 of validation contain NaN or infinite values: 1 of 20",
        ),
        (with_value(2, x=10.5), (-10, 10), "batch 2 of validation exceed the bounds -10 to 10 by 0.5"),
        (with_value(0, x=-10.25), (-10, 10), "batch 0 of validation exceed the bounds -10 to 10 by 0.25"),
        (misshapen, None, r"batch 3 of validation have shape \(5,\); expected \(4,\) as in batch 0"),
    ],
)
def test_invalid_samples_are_refused_and_their_batch_is_named(make, bounds, why, small):
    classifier = bind(small(validation=make(small()), bounds=bounds), TorchOptions()).classifier()
    with pytest.raises(ProblemError, match=why):
        classifier.samples()


def test_samples_beyond_the_requested_ones_are_not_checked(small):
    classifier = bind(small(validation=with_value(2, y=12)(small())), TorchOptions()).classifier()
    assert len(classifier.samples(12)[0]) == 12


def test_rounding_errors_at_the_bounds_are_accepted(small):
    x, y = samples(4)
    x = x.clamp(-0.3, 0.7)
    problem = small(dtype=torch.float32, validation=[(x.float(), y)], bounds=(-0.3, 0.7))
    classifier = bind(problem, TorchOptions()).classifier()
    assert classifier.bounds == (-0.3, 0.7)
    assert bind(problem, TorchOptions()).classifier("float64").samples()[0].min() < -0.3


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1), 1.0, "ab", (0, 1, 2), torch.zeros(2, 3)]
)
def test_invalid_bounds_are_refused_at_binding(bounds, small):
    with pytest.raises(ProblemError, match="expected two finite numbers"):
        bind(small(bounds=bounds), TorchOptions())
