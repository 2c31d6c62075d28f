"""Problems with a fault, each made by a function that is named after the fault; `sound` has none."""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from eigencore.interfaces import Problem

cross_entropy = nn.CrossEntropyLoss()


def network(dtype: torch.dtype = torch.float64, *more: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = OrderedDict(first=nn.Linear(4, 7), bend=nn.Tanh(), head=nn.Linear(7, 3))
        layers |= {f"more{i}": layer for i, layer in enumerate(more)}
        return nn.Sequential(layers).to(dtype)


def samples(n: int = 15, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(n, 4, generator=draw, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (n,), generator=draw)


def batches(dtype: torch.dtype = torch.float64) -> list[Any]:
    x, y = samples(dtype=dtype)
    return list(zip(x.split((7, 5, 3)), y.split((7, 5, 3)), strict=True))


def sound(**fields: Any) -> Problem:
    return Problem(**({"model": network(), "data": batches(), "loss": cross_entropy} | fields))


# -- weights and models ------------------------------------------------------------------------------------


def _with_weight(value: float) -> Problem:
    model = network()
    with torch.no_grad():
        model.head.bias[1] = value
    return sound(model=model)


def nan_in_weights() -> Problem:
    return _with_weight(torch.nan)


def inf_in_weights() -> Problem:
    return _with_weight(-torch.inf)


def huge_weights() -> Problem:
    return _with_weight(1e308)


def no_weights() -> Problem:
    return sound(model=nn.Identity())


def no_module() -> Problem:
    return sound(model=lambda x: x)


def lazy_layer() -> Problem:
    return sound(model=nn.LazyLinear(3))


def meta_weights() -> Problem:
    return sound(model=nn.Linear(4, 3, device="meta"))


def complex_weights() -> Problem:
    return sound(model=nn.Linear(4, 3, dtype=torch.complex64))


def model_raises() -> Problem:
    return sound(model=nn.Sequential(nn.Linear(5, 3, dtype=torch.float64)))


class Quits(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sys.exit("no more")


def model_exits() -> Problem:
    return sound(model=Quits(4, 3, dtype=torch.float64))


class Noisy(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(super().forward(x))  # training=True in every mode


def dropout_in_every_mode() -> Problem:
    return sound(model=Noisy(4, 3, dtype=torch.float64))


def in_train_mode() -> Problem:
    model = network(torch.float64, nn.BatchNorm1d(3), nn.Dropout(0.5))
    model.more0.running_mean.fill_(0.25)
    return sound(model=model.train())


def in_eval_mode() -> Problem:
    problem = in_train_mode()
    problem.model.eval()
    return problem


def half_weights() -> Problem:
    return sound(model=network(torch.float16), data=batches(torch.float16))


def half_weights_widened() -> Problem:
    data = [(x.float(), y) for x, y in batches(torch.float16)]
    return sound(model=network(torch.float16).float(), data=data)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = network(), nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def weights_that_the_loss_does_not_reach() -> Problem:
    return sound(model=Unused())


# -- data --------------------------------------------------------------------------------------------------


def _data_with(batch: int, value: float) -> list[Any]:
    data = batches()
    data[batch][0][1, 2] = value
    return data


def nan_in_data() -> Problem:
    return sound(data=[(x * torch.nan, y) for x, y in batches()])


def nan_in_one_batch() -> Problem:
    return sound(data=_data_with(1, torch.nan))


def inf_in_the_last_batch() -> Problem:
    return sound(data=_data_with(2, torch.inf), model=nn.Sequential(nn.Linear(4, 3, dtype=torch.float64)))


def no_batches() -> Problem:
    return sound(data=[])


def empty_loader() -> Problem:
    return sound(data=DataLoader(TensorDataset(*samples(0)), batch_size=4))


def batch_of_no_samples() -> Problem:
    x, y = samples()
    return sound(data=[(x, y), (x[:0], y[:0])])


def only_a_batch_of_no_samples() -> Problem:
    x, y = samples()
    return sound(data=[(x[:0], y[:0])])


def one_shot() -> Problem:
    return sound(data=(batch for batch in batches()))


class UsedUp:
    def __init__(self) -> None:
        self.data = batches()

    def __iter__(self) -> Any:
        while self.data:
            yield self.data.pop(0)


def used_up() -> Problem:
    return sound(data=UsedUp())


def shuffled() -> Problem:
    return sound(data=DataLoader(TensorDataset(*samples()), batch_size=4, shuffle=True))


class Augmented(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        x, y = samples()
        return x[index] + 0.1 * torch.randn(4, dtype=torch.float64), y[index]


def augmenting() -> Problem:
    return sound(data=DataLoader(Augmented(), batch_size=4))


class Permuting:
    def __iter__(self) -> Any:
        for x, y in batches():
            yield x, y[torch.randperm(len(y))]


def labels_paired_anew() -> Problem:
    return sound(data=Permuting())


def _of_object(model: nn.Module, batch: Any) -> torch.Tensor:
    return cross_entropy(model(batch.x), batch.y)


class AugmentedObjects:
    def __iter__(self) -> Any:
        for x, y in batches():
            yield SimpleNamespace(x=x + 0.1 * torch.randn_like(x), y=y)


def augmenting_objects() -> Problem:
    return sound(data=AugmentedObjects(), loss=_of_object)


def objects() -> Problem:
    """Valid: the samples of `sound`, as attributes."""
    return sound(data=[SimpleNamespace(x=x, y=y) for x, y in batches()], loss=_of_object)


def inputs_and_targets_without_a_list() -> Problem:
    return sound(data=samples())


def a_tensor_for_data() -> Problem:
    return sound(data=samples()[0])


def a_dictionary_for_data() -> Problem:
    return sound(data=dict(zip("xy", samples(), strict=True)))


def single_samples() -> Problem:
    return sound(data=list(zip(*samples(), strict=True)))


def arrays() -> Problem:
    return sound(data=[(x.numpy(), y.numpy()) for x, y in batches()])


def wider_than_the_weights() -> Problem:
    return sound(model=network(torch.float32))


def three_parts() -> Problem:
    return sound(data=[(x, y, torch.ones(len(y))) for x, y in batches()])


def nested() -> Problem:
    inputs = torch.nested.nested_tensor(list(samples()[0].split((7, 5, 3))), layout=torch.jagged)
    return sound(data=[(inputs, torch.tensor([0, 1, 2]))])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(*samples(), strict=True)


def stream_of_samples() -> Problem:
    """Valid: it yields the same samples in every pass."""
    return sound(data=DataLoader(Stream(), batch_size=5))


def dataset() -> Problem:
    return sound(data=TensorDataset(*samples()))


def not_iterable() -> Problem:
    return sound(data=7)


class Torn:
    def __iter__(self) -> Any:
        yield batches()[0]
        raise OSError("the cable is out")


def loader_raises() -> Problem:
    return sound(data=Torn())


class Leaves:
    def __iter__(self) -> Any:
        yield batches()[0]
        sys.exit(0)


def loader_exits() -> Problem:
    return sound(data=Leaves())


def _labelled(label: int) -> Problem:
    data = batches()
    data[2][1][1] = label
    return sound(data=data)


def label_too_high() -> Problem:
    return _labelled(3)


def label_below_zero() -> Problem:
    return _labelled(-1)


def labels_as_floats() -> Problem:
    return sound(data=[(x, y.double()) for x, y in batches()])


def text_for_data() -> Problem:
    return sound(data="data.csv")


def inputs_of_another_width() -> Problem:
    return sound(data=[(x[:, :3], y) for x, y in batches()])


class Sum(nn.Linear):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return super().forward(a + b)


def two_inputs() -> Problem:
    return sound(model=Sum(4, 3, dtype=torch.float64), data=[((x, x), y) for x, y in batches()])


class Named(nn.Linear):
    def forward(self, x: torch.Tensor) -> Any:
        return {"logits": super().forward(x)}


def model_returns_a_dictionary() -> Problem:
    return sound(model=Named(4, 3, dtype=torch.float64))


# -- losses ------------------------------------------------------------------------------------------------


def loss_is_a_class() -> Problem:
    return sound(loss=nn.CrossEntropyLoss)


def loss_of_the_model() -> Problem:
    return sound(loss=lambda model, batch: cross_entropy(model(batch[0]), batch[1]))


def loss_of_the_model_declared() -> Problem:
    return sound(loss=loss_of_the_model().loss, call="loss(model, batch)")


def unknown_call() -> Problem:
    return sound(call="loss(x, y)")


def targets_without_a_column() -> Problem:
    data = [(x, x.sum(1)) for x, _ in batches()]
    return sound(model=nn.Linear(4, 1, dtype=torch.float64), data=data, loss=nn.MSELoss())


def loss_of_each_sample() -> Problem:
    return sound(loss=nn.CrossEntropyLoss(reduction="none"))


def loss_is_a_float() -> Problem:
    return sound(loss=lambda outputs, y: cross_entropy(outputs, y).item())


def loss_is_none() -> Problem:
    return sound(loss=lambda outputs, y: None)


def loss_is_whole() -> Problem:
    return sound(loss=lambda outputs, y: (outputs.argmax(1) != y).sum())


def loss_is_infinite() -> Problem:
    return sound(loss=lambda outputs, y: cross_entropy(outputs, y) * torch.inf)


def loss_detached() -> Problem:
    return sound(loss=lambda outputs, y: cross_entropy(outputs.detach(), y))


def loss_raises() -> Problem:
    return sound(loss=lambda outputs, y: {}["missing"])


def loss_is_text() -> Problem:
    return sound(loss="cross_entropy")


def loss_over_the_batch() -> Problem:
    return sound(loss=lambda outputs, y: outputs.var())


def loss_without_second_derivative() -> Problem:
    return sound(loss=lambda outputs, y: Once.apply(outputs).mean())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * slope


def unknown_reduction() -> Problem:
    return sound(reduction="average")


def sum_with_a_weight() -> Problem:
    return sound(reduction="sum", weight=len)


def weight_is_nan() -> Problem:
    return sound(weight=lambda batch: float("nan"))


def bounds_in_the_wrong_order() -> Problem:
    return sound(bounds=(1.0, 0.0))


# -- for attacks and the analysis robustness ---------------------------------------------------------------


def _classifier(**fields: Any) -> Problem:
    """A classifier of its own samples, all correct, with inputs between 0 and 1."""
    model = network()
    x, _ = samples(24)
    with torch.no_grad():
        data = [(x, model(x).argmax(1))]
    return sound(**({"model": model, "data": data, "bounds": (0.0, 1.0)} | fields))


def classifier() -> Problem:
    return _classifier()


def inputs_outside_their_bounds() -> Problem:
    return _classifier(bounds=(0.0, 0.5))


def nan_in_validation() -> Problem:
    return _classifier(validation=_data_with(1, torch.nan))


def validation_label_too_high() -> Problem:
    return _classifier(validation=_labelled(3).data)


def empty_validation() -> Problem:
    return _classifier(validation=[])


def one_class_only() -> Problem:
    return _classifier(validation=[(x[y == y[0]], y[y == y[0]]) for x, y in classifier().data])


def a_single_sample() -> Problem:
    return _classifier(validation=[(x[:1], y[:1]) for x, y in classifier().data])


def all_misclassified() -> Problem:
    return _classifier(validation=[(x, (y + 1) % 3) for x, y in classifier().data])


def regression() -> Problem:
    """A regression whose targets are a column of the inputs, as a view."""
    x, _ = samples()
    return sound(model=nn.Linear(4, 1, dtype=torch.float64), data=[(x, x[:, :1])], loss=nn.MSELoss())


def probabilities() -> Problem:
    return _classifier(model=nn.Sequential(*network(), nn.Softmax(1)))


def column() -> Problem:
    """The same regression, with a copy of the column."""
    x, _ = samples()
    return sound(model=nn.Linear(4, 1, dtype=torch.float64), data=[(x, x[:, :1].clone())], loss=nn.MSELoss())
