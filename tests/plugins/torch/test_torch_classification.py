"""The capabilities that a bound problem finds from its first batch, and a classifier's samples."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigencore.entries import Capability
from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
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


def dictionaries_of_three_tensors():
    x, y = samples(4)
    data = [{"x": x, "mask": torch.ones_like(x), "y": y}]
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


def _one_output(loss, of_x=None, classes=2):
    x, _ = samples(4)
    y = torch.arange(15) % classes
    model = nn.Sequential(nn.Linear(4, 1), *([] if of_x is None else [of_x])).double()
    return {"model": model, "data": in_batches(x, y[:, None].double()), "loss": loss}


def one_output_with_a_squared_error():
    return _one_output(
        nn.MSELoss()
    ), r"returns shape \(2, 1\) for 2 inputs, .* does not treat it as the logit"


def one_output_with_an_absolute_error():
    return _one_output(nn.L1Loss()), "does not treat it as the logit of class 1"


def one_probability():
    return _one_output(nn.BCELoss(), nn.Sigmoid()), "does not treat it as the logit of class 1"


def one_output_and_a_loss_of_the_whole_batch():
    loss = lambda m, b: nn.functional.binary_cross_entropy_with_logits(m(b[0]), b[1])  # noqa: E731
    return _one_output(loss) | {"call": "loss(model, batch)"}, "does not treat it as the logit of class 1"


def one_output_of_three_classes():
    return _one_output(nn.BCEWithLogitsLoss(), classes=3), "expected a pair of floating-point inputs"


def one_number_and_no_class():
    x, _ = samples(4)
    return {
        "model": nn.Linear(4, 1).double(),
        "data": in_batches(x, x[:, 0]),
        "loss": nn.MSELoss(),
    }, "integer labels"


def several_outputs():
    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    loss = lambda outputs, y: nn.functional.cross_entropy(outputs[0], y)  # noqa: E731
    return {
        "model": Two(4, 3).double(),
        "loss": loss,
    }, r"returns \(float64 \(2, 3\), .*expected floating-point logits"


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
    dictionaries_of_three_tensors,
    token_inputs,
    every_token,
    soft_labels,
    one_output_with_a_squared_error,
    one_output_with_an_absolute_error,
    one_probability,
    one_output_and_a_loss_of_the_whole_batch,
    one_output_of_three_classes,
    one_number_and_no_class,
    several_outputs,
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
        (
            with_value(2, x=10.5),
            (-10, 10),
            r"batch 2 of validation range from -\S+ to 10.5 and exceed their bounds by 0.5",
        ),
        (
            with_value(0, x=-10.25),
            (-10, 10),
            r"batch 0 of validation range from -10.2 to \S+ and exceed their bounds by 0.25",
        ),
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
    assert [bound.tolist() for bound in classifier.bounds] == [
        [torch.tensor(v).item()] * 4 for v in (-0.3, 0.7)
    ]
    assert bind(problem, TorchOptions()).classifier("float64").samples()[0].min() < -0.3


# -- bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds",
    [
        *((1, 0), (0, 0), (0, float("inf")), (float("nan"), 1), 1.0, "ab", (0, 1, 2), torch.zeros(2, 3)),
        (torch.zeros(3), torch.tensor([1.0, 1, -1])),
    ],
)
def test_invalid_bounds_are_refused_at_binding(bounds, small):
    with pytest.raises(ProblemError, match="expected two finite numbers"):
        bind(small(bounds=bounds), TorchOptions())


def on_images(bounds, shape=(3, 4, 5)):
    x, y = samples(*shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3)).double()
    return Problem(model=model, data=[(x.clamp(-1, 1), y)], loss=nn.CrossEntropyLoss(), bounds=bounds)


LOW = torch.tensor([-1.0, -2.0, -3.0])


@pytest.mark.parametrize(
    "low",
    [LOW, LOW.tolist(), LOW[:, None, None], LOW[:, None, None].numpy(), LOW[:, None, None].expand(3, 4, 5)],
)
@pytest.mark.parametrize("high", [1, 4.0, torch.tensor([[1.0, 2, 3, 4, 5]])])
def test_bounds_are_those_of_every_entry_of_a_row(low, high, device):
    classifier = bind(on_images((low, high)), TorchOptions(), device=device, dtype="float32").classifier()
    expected = torch.stack([LOW[:, None, None].expand(3, 4, 5), torch.as_tensor(high).expand(3, 4, 5)])
    found = torch.stack(classifier.bounds)
    assert (found.dtype, found.device.type) == (torch.float32, device)
    assert torch.equal(found.cpu(), expected.reshape(2, 60).float())


def test_bounds_that_fit_the_inputs_in_two_ways_are_refused():
    bound = bind(on_images((LOW, 1.0), shape=(3, 4, 3)), TorchOptions())
    with pytest.raises(ProblemError, match=r"fit, along the first axis and along the last,.*\n.*\(3, 1, 1\)"):
        bound.classifier()
    assert bind(on_images((LOW[:, None, None], 1.0), shape=(3, 4, 3)), TorchOptions()).classifier().bounds
    assert bind(on_images(([-2.0] * 3, 1.0), shape=(3, 4, 3)), TorchOptions()).classifier().bounds


def test_bounds_that_do_not_fit_the_inputs_are_refused():
    with pytest.raises(ProblemError, match=r"bounds of shape \(4,\) do not fit inputs of shape \(3, 4, 5\)"):
        bind(on_images((-torch.ones(4), 1.0)), TorchOptions()).classifier()


def test_inputs_beyond_the_bounds_of_their_channel_are_refused():
    problem = on_images((LOW, [1.0, 0.5, 1.0]))
    with pytest.raises(ProblemError, match=r"exceed their bounds by 0\.5"):
        bind(problem, TorchOptions()).classifier().samples()
    fixed = on_images(([-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]))
    x, y = fixed.data[0]
    fixed.data[0] = (x * torch.tensor([1.0, 0.0, 1.0])[:, None, None], y)
    assert len(bind(fixed, TorchOptions()).classifier().samples()[0]) == 15


# -- one logit for two classes -----------------------------------------------------------------------------


def squeezed(x):
    return x.squeeze()


BINARY = {
    "column": (lambda z: z, lambda y: y[:, None].double(), nn.BCEWithLogitsLoss()),
    "vector": (lambda z: z[:, 0], lambda y: y.double(), nn.BCEWithLogitsLoss(reduction="sum")),
    "squeezed": (squeezed, lambda y: y, lambda z, y: bce(z.reshape(-1), y.double())),
    "bool": (lambda z: z[:, 0], lambda y: y.bool(), lambda z, y: bce(z, y.double())),
    "weighted": (
        lambda z: z,
        lambda y: y[:, None].float(),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0)),
    ),
}


def bce(z, y):
    return nn.functional.binary_cross_entropy_with_logits(z, y)


class Single(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 1)).double()
        self.form = form

    def forward(self, x):
        return self.form(self.layers(x))


@pytest.fixture(params=BINARY)
def binary(request, small):
    form, labels, loss = BINARY[request.param]
    x, y = samples(4, classes=2)
    torch.manual_seed(3)
    return small(model=Single(form), data=in_batches(x, labels(y)), loss=loss), x, y


def test_one_logit_stands_for_two_classes(binary):
    """The problem is the same as that with the two logits 0 and z, in every respect."""
    problem, x, y = binary
    layers = problem.model.layers

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, x):
            z = self.layers(x)
            return torch.cat([0 * z, z], 1)

    data = in_batches(x, y)
    other = bind(Problem(model=Both(), data=data, loss=nn.CrossEntropyLoss()), TorchOptions())
    bound = bind(problem, TorchOptions())
    assert bound.capabilities == set(Capability)
    mine, theirs = bound.classifier(), other.classifier()
    assert (mine.classes, mine.shape) == (2, (4,))
    (rows, labels), v = mine.samples(), torch.ones(43, dtype=torch.float64)
    assert torch.equal(rows, x)
    assert torch.equal(labels, y)
    for n in (1, 15):
        at, label = rows[:n], labels[:n]
        torch.testing.assert_close(mine.logits(at), theirs.logits(at), rtol=0, atol=1e-14)
        for one, two in zip(
            mine.value_and_grad(CrossEntropy(), at, label),
            theirs.value_and_grad(CrossEntropy(), at, label),
            strict=True,
        ):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-14)
        one, two = (c.input_products(CrossEntropy(), at, label)(at) for c in (mine, theirs))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-14)
        one, two = (b.sample_curvature(CrossEntropy(), v, at, label) for b in (bound, other))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-13)


def test_labels_beyond_two_classes_are_refused_for_one_logit(binary):
    problem, x, y = binary
    bad = replace(problem, validation=in_batches(x, y + 1))
    with pytest.raises(CapabilityError, match="label 2; expected 0 to 1"):
        bind(bad, TorchOptions()).classifier()


def test_the_labels_of_the_validation_data_may_have_another_form(binary):
    problem, x, y = binary
    for labels in (y, y[:, None].float(), y.bool()):
        found = (
            bind(replace(problem, validation=in_batches(x, labels)), TorchOptions()).classifier().samples()
        )
        assert torch.equal(found[1], y)


# -- outputs and batches with names ------------------------------------------------------------------------


class Named(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layers, self.wrap = nn.Linear(4, 3).double(), wrap

    def forward(self, x):
        return self.wrap(self.layers(x))


@pytest.mark.parametrize("wrap", [lambda z: {"logits": z, "x": 1}, lambda z: SimpleNamespace(logits=z)])
def test_logits_are_found_in_outputs_with_names(wrap, small):
    def loss(outputs, y):
        return nn.functional.cross_entropy(
            outputs["logits"] if isinstance(outputs, dict) else outputs.logits, y
        )

    torch.manual_seed(0)
    model = Named(wrap)
    bound = bind(small(model=model, loss=loss), TorchOptions())
    assert bound.capabilities == set(Capability)
    x, y = bound.classifier().samples()
    assert torch.equal(bound.classifier().logits(x), model.layers(x).detach())
    v = torch.ones(15, dtype=torch.float64)
    mean = bound.sample_curvature(CrossEntropy(), v, x, y).mean()
    assert float(mean) == pytest.approx(float(v @ bound.operator().matvec(v)), rel=1e-12)


def test_a_batch_may_be_a_mapping_of_inputs_and_labels(small):
    x, y = samples(4)
    data = [{"y": b, "id": "a", "x": a} for a, b in in_batches(x, y)]
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch["x"]), batch["y"])  # noqa: E731
    classifier = bind(small(data=data, loss=loss), TorchOptions()).classifier()
    found = classifier.samples()
    assert torch.equal(found[0], x)
    assert torch.equal(found[1], y)


# -- frozen networks ---------------------------------------------------------------------------------------


def frozen(problem):
    problem.model.requires_grad_(False)
    return problem


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_frozen_network_has_the_operator_and_classifier_of_the_same_network_trainable(classifying, dtype):
    one, other = (
        bind(frozen(classifying()), TorchOptions(), dtype=dtype),
        bind(classifying(), TorchOptions(), dtype=dtype),
    )
    assert one.capabilities == set(Capability)
    assert ", all weights, which the given model has frozen, " in one.description
    v = torch.ones(other.operator().shape[0], dtype=other.operator().dtype)
    assert torch.equal(one.operator().matvec(v), other.operator().matvec(v))
    (x, y) = other.classifier().samples(3)
    for mine, theirs in zip(
        one.classifier().value_and_grad(CrossEntropy(), x, y),
        other.classifier().value_and_grad(CrossEntropy(), x, y),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


def test_the_given_frozen_network_is_not_changed(small):
    problem = frozen(small())
    state = {name: p.clone() for name, p in problem.model.named_parameters()}
    bound = bind(problem, TorchOptions())
    bound.operator().matvec(torch.ones(59, dtype=torch.float64))
    bound.classifier("float32").samples()
    for name, p in problem.model.named_parameters():
        assert not p.requires_grad
        assert p.grad is None
        assert torch.equal(p, state[name])


def test_a_partly_frozen_network_is_used_as_it_is(small):
    problem = small()
    problem.model[0].requires_grad_(False)
    bound = bind(problem, TorchOptions())
    assert bound.operator().shape == (24, 24)
    assert bound.capabilities == set(Capability)
    assert "frozen" not in bound.description


def test_a_loss_that_uses_the_weights_of_the_given_frozen_network_is_refused(small):
    problem = frozen(small())
    given = problem.model

    def decayed(z, y):
        return nn.functional.cross_entropy(z, y) + given[0].weight.square().sum()

    with pytest.raises(ProblemError, match=r"the loss uses the weights of the given model, .* are frozen"):
        bind(replace(problem, loss=decayed), TorchOptions()).operator()
    assert not any(p.requires_grad for p in given.parameters())
