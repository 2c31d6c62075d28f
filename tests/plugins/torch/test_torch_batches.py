"""What a batch may be: objects that hold tensors, nested tensors, arrays; its signature; calls that fail."""

from __future__ import annotations

import itertools
from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence
from torch.utils.data import DataLoader

from eigencore.errors import EigencoreError, ProblemError, UsageError
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.data.batch_tensors import map_tensors, moved, tensors_of
from eigencore_torch.data.batches import sample_count, sample_count_beside_objects, take_samples
from eigencore_torch.data.signatures import signature


def dense(model, losses, weights):
    """The Hessian of the weighted mean of losses, by autograd alone, in float64."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = sum(w * value for w, value in zip(weights, losses, strict=True)) / sum(weights)
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([slope.reshape(-1) for slope in slopes])
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in flat
    ]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


@pytest.fixture
def refused(small):
    """The message and hint of the error raised when a problem's operator is made."""

    def refuse(problem, match, error=ProblemError, **options):
        with pytest.raises(error, match=match) as caught:
            bind(problem, TorchOptions(**options)).operator()
        return caught.value.hint or ""

    return refuse


# -- objects that hold tensors ---------------------------------------------------------------------------


@dataclass
class Plain:
    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    y: torch.Tensor


class Slots:
    __slots__ = ("__y", "unset", "x")

    def __init__(self, x, y):
        self.x, self.__y = x, y

    @property
    def y(self):
        return self.__y


class Store(UserDict):
    """As the stores of a graph library: it refers to its owner."""

    def __init__(self, owner, **items):
        super().__init__(items)
        self.owner = owner


class Stored:
    """Attributes come from a private mapping, and `to` changes the object itself."""

    def __init__(self, x, y):
        self.__dict__["_store"] = Store(self, x=x, y=y)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self._store[name]

    def __setattr__(self, name, value):
        raise TypeError("set items instead")

    def to(self, *args, **kwargs):
        for key, value in self._store.items():
            self._store[key] = value.to(*args, **kwargs)
        return self


class Moving:
    def __init__(self, x, y):
        self.x, self.y, self.itself, self.more = x, y, self, [self]

    def to(self, *args, **kwargs):
        return Moving(self.x.to(*args, **kwargs), self.y)


class Encoding(UserDict):
    """As the encodings of a tokenizer: a mapping with more attributes."""

    def __init__(self, x, y):
        super().__init__(x=x, y=y)
        self.length = len(x)

    def __getattr__(self, name):
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


Named = namedtuple("Named", "x y extra")

OBJECTS = {
    "dataclass": Plain,
    "frozen": Frozen,
    "slots": Slots,
    "stored": Stored,
    "moving": Moving,
    "namespace": lambda x, y: SimpleNamespace(x=x, y=y, model=nn.Linear(2, 2)),
    "encoding": Encoding,
    "named": lambda x, y: Named(x, y, None),
    "inside": lambda x, y: SimpleNamespace(inner=[{"batch": Plain(x, y)}], x=x, y=y),
}


def from_model(model, batch):
    return functional.cross_entropy(model(batch.x), batch.y)


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_objects_are_computed_in_another_type_and_stay_as_they_are(make, small, hessian):
    given = small(dtype=torch.float32)
    data = [make(x, y) for x, y in given.data]
    found = hessian(small(model=given.model, data=data, loss=from_model, reduction="mean"), dtype="float64")
    model = given.model.double()
    losses = [functional.cross_entropy(model(x.double()), y) for x, y in given.data]
    torch.testing.assert_close(found, dense(model, losses, (7, 5, 3)), rtol=0, atol=1e-12)
    for batch, (x, y) in zip(data, given.data, strict=True):
        assert batch.x is x
        assert batch.y is y
        assert x.dtype == torch.float32


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_objects_with_other_noise_in_each_pass_are_refused(make, small, refused):
    class Noisy:
        def __iter__(self):
            for x, y in small().data:
                yield make(x + 0.1 * torch.randn_like(x), y)

    problem = small(data=Noisy(), loss=from_model, reduction="mean")
    assert "augmentation" in refused(problem, "two passes over the data differ, first at batch 0")


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_gradients_that_a_loss_requires_of_an_object_do_not_change_it(make, small, hessian):
    def loss(model, batch):
        x = batch.x.requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.square().sum(1).mean()

    data = [make(x, y) for x, y in small().data]
    hessian(small(data=data, loss=loss, reduction="mean"))
    assert not any(batch.x.requires_grad for batch in data)


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_objects_whose_tensors_share_a_dimension_need_no_declared_reduction(make, small, hessian):
    data = [make(x, y) for x, y in small().data]
    whole = hessian(small(sizes=15))
    torch.testing.assert_close(hessian(small(data=data, loss=from_model)), whole, rtol=0, atol=1e-9)
    split = hessian(small(data=data, loss=from_model), microbatch=2)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-9)


def test_missing_values_inside_objects_are_named(small, refused):
    data = [Moving(x, y) for x, y in small().data]
    data[1].x[0, 0] = torch.nan
    problem = small(data=data, loss=from_model, reduction="mean")
    assert "batch itself" in refused(problem, "loss of batch 1 is nan")


class Graph:
    """Features of nodes (n, 4), edges (2, e), and labels of nodes (n,)."""

    def __init__(self, x, edges, y):
        self.x, self.edges, self.y = x, edges, y

    def to(self, *args, **kwargs):
        return Graph(self.x.to(*args, **kwargs), self.edges, self.y)


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, graph):
        h = self.first(graph.x)
        sums = torch.zeros_like(h).index_add(0, graph.edges[1], h[graph.edges[0]])
        return self.second(torch.tanh(h + sums))


@pytest.fixture
def graphs():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        sizes = (12, 7, 20)
        made = [Graph(torch.randn(n, 4), torch.randint(n, (2, 3 * n)), torch.randint(3, (n,))) for n in sizes]
        return Convolution(), made, sizes


def of_graph(model, graph):
    return functional.cross_entropy(model(graph), graph.y)


def test_graphs_in_another_type(graphs, small, hessian):
    model, data, sizes = graphs
    problem = small(model=model, data=data, loss=of_graph, weight=lambda graph: len(graph.y))
    found = hessian(problem, dtype="float64")
    model.double()
    losses = [of_graph(model, Graph(graph.x.double(), graph.edges, graph.y)) for graph in data]
    torch.testing.assert_close(found, dense(model, losses, sizes), rtol=0, atol=1e-12)
    assert {graph.x.dtype for graph in data} == {torch.float32}


def test_graphs_are_not_divided_into_samples(graphs, small, refused):
    model, data, _ = graphs
    problem = small(model=model, data=data, loss=of_graph)
    assert "weight" in refused(problem, "Graph, do not share a first dimension")
    weighted = small(model=model, data=data, loss=of_graph, weight=lambda graph: len(graph.y))
    refused(weighted, "Graph, do not share a first dimension, so the batch can't be split", microbatch=4)


def test_the_samples_of_a_pair_of_a_graph_and_targets_are_those_of_the_targets(graphs, small, hessian):
    class Pooled(Convolution):
        def forward(self, graph):
            return super().forward(graph).reshape(4, -1, 3).mean(1)

    _, data, _ = graphs
    model, y = Pooled().double(), torch.tensor([0, 2, 1, 1])
    pairs = [(Graph(graph.x.double(), graph.edges, graph.y), y) for graph in (data[0], data[2])]
    found = hessian(small(model=model, data=pairs, reduction="mean"))
    losses = [functional.cross_entropy(model(graph), y) for graph, y in pairs]
    torch.testing.assert_close(found, dense(model, losses, (4, 4)), rtol=0, atol=1e-12)
    assert sample_count_beside_objects(pairs[0]) == 4
    assert sample_count(pairs[0]) is None


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(4, 3), nn.Linear(3, 3)

    def forward(self, packed):
        return self.head(self.cell(packed)[1][0])


@pytest.mark.parametrize("ordered", [True, False])
def test_packed_sequences(ordered, small, hessian):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Sequences()
        lengths = [(5, 3, 2), (4, 4, 1, 1)] if ordered else [(3, 5, 2), (1, 4, 1, 4)]
        lists = [[torch.randn(n, 4) for n in several] for several in lengths]
        labels = [torch.randint(3, (len(several),)) for several in lengths]
    data = [(pack_sequence(x, enforce_sorted=ordered), y) for x, y in zip(lists, labels, strict=True)]
    found = hessian(small(model=model, data=data, reduction="mean"), dtype="float64")
    assert data[0][0].data.dtype == torch.float32
    model.double()
    losses = [
        functional.cross_entropy(torch.cat([model(pack_sequence([one.double()])) for one in x]), y)
        for x, y in zip(lists, labels, strict=True)
    ]
    torch.testing.assert_close(found, dense(model, losses, (3, 4)), rtol=0, atol=1e-12)


def test_arrays_in_a_dictionary_are_converted_and_inspected(small, hessian, refused):
    given = small(dtype=torch.float32)
    data = [{"x": x.numpy(), "y": y.numpy(), "names": np.array(["a", "b"])} for x, y in given.data]

    def loss(model, batch):
        return functional.cross_entropy(model(torch.as_tensor(batch["x"])), torch.as_tensor(batch["y"]))

    problem = small(model=given.model, data=data, loss=loss)
    whole = hessian(small(dtype=torch.float32, sizes=15), dtype="float64")
    torch.testing.assert_close(hessian(problem, dtype="float64"), whole, rtol=0, atol=1e-9)
    assert data[0]["x"].dtype == np.float32

    class Noisy:
        def __iter__(self):
            for batch in data:
                yield batch | {"x": batch["x"] + np.random.default_rng().normal(size=(1, 4)).astype("f")}

    refused(small(model=given.model, data=Noisy(), loss=loss), "two passes over the data differ")


def test_a_read_only_array_is_inspected_and_stays_read_only():
    array = np.arange(4.0)[::-1]
    array.flags.writeable = False
    (tensor,) = tensors_of([array])
    tensor.zero_()
    assert array.tolist() == [3, 2, 1, 0]
    assert map_tensors({"x": array}, lambda x: x.float())["x"].tolist() == [3, 2, 1, 0]


# -- moving objects --------------------------------------------------------------------------------------


META = torch.device("meta")


class Partial:
    """Its lengths stay where they are."""

    def __init__(self, x, lengths):
        self.x, self.lengths = x, lengths

    def to(self, device):
        self.x = self.x.to(device)
        return self


def test_an_object_decides_which_of_its_tensors_move_and_is_not_changed_itself():
    batch = Partial(torch.ones(3), torch.tensor([1, 2]))
    there = moved({"batch": batch, "y": torch.ones(2)}, META, torch.float64)
    assert there["y"].device == there["batch"].x.device == META
    assert there["batch"].lengths.device.type == "cpu"
    assert there["batch"].x.dtype == torch.float64
    assert batch.x.device.type == "cpu"
    stored = Stored(torch.ones(3), torch.ones(3))
    assert moved(stored, META, None).x.device == META
    assert stored.x.device.type == "cpu"
    assert moved(Plain(torch.ones(3), None), META, None).x.device == META


def test_a_copy_refers_to_itself_where_the_object_does():
    batch = Stored(torch.ones(3), torch.ones(3))
    copied = moved(batch, torch.device("cpu"), torch.float64)
    assert copied._store.owner is copied
    assert batch._store.owner is batch
    circular = Moving(torch.ones(3), torch.ones(3))
    copied = moved(circular, torch.device("cpu"), torch.float64)
    assert copied.itself is copied
    assert copied.more[0] is copied
    assert len(tensors_of(circular)) == 2


class Uncopied(Plain):
    def __copy__(self):
        raise TypeError("no copies")

    def to(self, dtype):
        return type(self)(self.x.to(dtype), self.y)


class Unconverted(Uncopied):
    def to(self, dtype):
        return self


def test_an_object_that_cannot_be_copied_converts_itself_or_is_refused(small, hessian, refused):
    given = small(dtype=torch.float32)
    data = [Uncopied(x, y) for x, y in given.data]
    problem = small(model=given.model, data=data, loss=from_model, reduction="mean")
    whole = hessian(small(dtype=torch.float32, sizes=15), dtype="float64")
    torch.testing.assert_close(hessian(problem, dtype="float64"), whole, rtol=0, atol=1e-9)
    data = [Unconverted(x, y) for x, y in given.data]
    problem = small(model=given.model, data=data, loss=from_model, reduction="mean")
    with pytest.raises(
        ProblemError, match="Unconverted, whose tensors can't be converted to float64"
    ) as caught:
        hessian(problem, dtype="float64")
    assert "dictionary" in caught.value.hint
    with pytest.raises(ProblemError, match="Unconverted, which can't be copied"):
        take_samples(data[0], slice(1))


def test_modules_loaders_and_distant_attributes_are_left_alone():
    model = nn.Linear(2, 2)
    batch = SimpleNamespace(x=torch.ones(2), model=model, loader=DataLoader([torch.ones(2)]), kind=Plain)
    assert len(tensors_of(batch)) == 1
    assert map_tensors(batch, torch.neg).model is model
    nested = torch.ones(2)
    for _ in range(8):
        nested = SimpleNamespace(inside=nested)
    assert tensors_of(nested) == []
    assert map_tensors(nested, torch.neg) is nested


def test_mappings_that_cannot_be_changed_are_made_anew():
    given = MappingProxyType({"x": torch.ones(2)})
    assert map_tensors(given, torch.neg)["x"].tolist() == [-1, -1]

    class Fixed(UserDict):
        def __init__(self, items, key=None):
            self.data = dict(items)

        def __setitem__(self, key, value):
            raise TypeError("fixed")

    changed = map_tensors(Fixed({"x": torch.ones(2)}), torch.neg)
    assert type(changed) is Fixed
    assert changed["x"].tolist() == [-1, -1]
    circle = [torch.ones(2)]
    circle.append(circle)
    copied = map_tensors(circle, torch.neg)
    assert copied[1] is copied
    assert len(tensors_of(circle)) == 1


# -- the signature of a batch ----------------------------------------------------------------------------


KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int64, torch.int8, torch.bool]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3, 7, 64])
def test_two_numbers_that_trade_places_change_the_signature(kind, n):
    for i, j in itertools.combinations(range(n), 2):
        x = torch.zeros(n + 1, dtype=kind)[1:]
        x[i] = 1
        changed = x.clone()
        changed[[i, j]] = x[[j, i]]
        assert int(signature(changed)) != int(signature(x))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize("shape", [(64, 4096), (16, 1, 128, 128), (100, 3, 50, 40), (3000, 200)])
def test_samples_and_pixels_that_trade_places_change_the_signature(kind, shape):
    """In tensors large enough for sums of several words."""
    x = torch.randint(2, shape, generator=torch.Generator().manual_seed(0)).to(kind)
    before = int(signature(x))
    assert int(signature(x.clone())) == before
    for i, j in ((0, 1), (0, 8), (1, shape[0] - 1), (3, 11)):
        changed = x.clone()
        changed[[i, j]] = x[[j, i]]
        assert int(signature(changed)) != before
    changed = x.clone()
    changed[0] = x[0].flip(-1)
    assert int(signature(changed)) != before
    changed = x.reshape(-1).clone()
    changed[-1] += 1
    assert int(signature(changed)) != before


def test_conjugated_and_negated_views_have_the_signature_of_their_values():
    x = torch.randn(5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert int(signature(x.conj())) == int(signature(x.conj().resolve_conj())) != int(signature(x))
    assert int(signature(x.conj().imag)) == int(signature(x.conj().imag.clone()))


@pytest.mark.parametrize("options", [{}, {"memory": "none"}])
def test_labels_paired_anew_in_each_pass_are_refused(options, small, refused):
    class Permuting:
        def __iter__(self):
            for x, y in small(sizes=15).data:
                yield x, y[torch.randperm(15)]

    problem = small(data=Permuting())
    assert "shuffle=False" in refused(problem, "two passes over the data differ", **options)


def test_rows_of_weights_that_trade_places_unseen_by_version_counters_are_noticed(small):
    problem = small()
    operator = bind(problem, TorchOptions()).operator()
    weight = problem.model[0].weight
    weight.data[:] = weight.data.flip(0)
    with pytest.raises(ProblemError, match=r"weights changed after the problem was bound: 0\.weight"):
        operator.matvec(torch.ones(59, dtype=torch.float64))


# -- nested and sparse tensors ---------------------------------------------------------------------------


def nested_batches(layout):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        lists = [[torch.randn(n, 4).double() for n in several] for several in ((3, 5, 2), (4, 1, 6, 2))]
        labels = [torch.randint(3, (len(several),)) for several in lists]
        model = nn.Linear(4, 3).double()
    data = [(torch.nested.nested_tensor(x, layout=layout), y) for x, y in zip(lists, labels, strict=True)]
    return model, data, lists, labels


class Pooling(nn.Module):
    """The mean over the words of each sample, by a function of (the first layer, the nested tensor)."""

    def __init__(self, first, pool):
        super().__init__()
        self.first, self.pool = first, pool

    def forward(self, x):
        return self.pool(self.first, x)


def one_by_one(first, x):
    return torch.stack([torch.tanh(first(one)).mean(0) for one in x.unbind()])


def layered(first, x):
    return torch.stack([one.mean(0) for one in torch.tanh(first(x)).unbind()])


LAYOUTS = [
    torch.jagged,
    pytest.param(
        torch.strided, marks=pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
    ),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_tensors(layout, small, hessian):
    first, data, lists, labels = nested_batches(layout)
    found = hessian(small(model=Pooling(first, one_by_one), data=data))
    losses = [
        functional.cross_entropy(torch.stack([torch.tanh(first(one)).mean(0) for one in x]), y)
        for x, y in zip(lists, labels, strict=True)
    ]
    expected = dense(first, losses, (3, 4))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    split = hessian(small(model=Pooling(first, one_by_one), data=data), microbatch=2)
    torch.testing.assert_close(split, expected, rtol=0, atol=1e-12)
    single = small(model=Pooling(nn.Linear(4, 3), one_by_one), data=data, reduction="mean")
    assert hessian(single, dtype="float64").isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_tensors_that_cannot_be_differentiated_twice(layout, small, refused):
    first, data, _, _ = nested_batches(layout)
    problem = small(model=Pooling(first, layered), data=data)
    assert "x.to_padded_tensor(0.0)" in refused(problem, "nested tensors can't be differentiated twice")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_tensors_that_an_operation_does_not_take(layout, small, refused):
    _, data, _, _ = nested_batches(layout)
    problem = small(
        data=[(x, y) for x, y in data], model=nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    )
    assert "x.to_padded_tensor(0.0)" in refused(problem, r"failed on batch 0, \(nested float64 of 3 samples")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_tensors_of_other_values_in_each_pass_are_refused(layout, small, refused):
    first, data, _, _ = nested_batches(layout)

    class Noisy:
        def __iter__(self):
            for x, y in data:
                parts = [part + torch.randn(()) for part in x.unbind()]
                yield torch.nested.as_nested_tensor(parts, layout=layout), y

    problem = small(model=Pooling(first, one_by_one), data=Noisy())
    refused(problem, "two passes over the data differ, first at batch 0")


@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        torch.Tensor.to_sparse_csc,
        pytest.param(lambda x: x.to_sparse_bsr((1, 1)), id="bsr"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_sparse_tensors_are_inspected(convert, small, hessian, refused):
    def loss(model, batch):
        return functional.cross_entropy(model(batch["x"].to_dense()), batch["y"])

    data = [{"x": convert(x), "y": y} for x, y in small().data]
    found = hessian(small(data=data, loss=loss, reduction="mean"))
    torch.testing.assert_close(found, hessian(small(sizes=15)), rtol=0, atol=1e-9)

    class Noisy:
        def __iter__(self):
            for x, y in small().data:
                yield {"x": convert(x * torch.rand(())), "y": y}

    refused(small(data=Noisy(), loss=loss, reduction="mean"), "two passes over the data differ")


# -- data and losses that are answered with the line to write ----------------------------------------------


def rows(problem):
    return tuple(torch.cat(parts) for parts in zip(*problem.data, strict=True))


def test_data_that_are_not_a_list_of_batches(small, refused):
    x, y = rows(small())
    assert "data=[(x, y)]" in refused(
        small(data=(x, y)), r"loss\(model, batch\) failed on batch 0, float64 \(15, 4\)"
    )
    assert "data=[(x, y)]" in refused(small(data=x), r"data is float64 \(15, 4\), and not a list of batches")
    refused(small(data=x.numpy()), "data is array float64")
    assert "data=[data]" in refused(small(data={"x": x, "y": y}), "data is {x: float64")


class Unreadable:
    def __iter__(self):
        raise OSError("disk full")


def test_data_whose_iteration_fails_at_its_start(small, refused):
    assert "iteration over `data`" in refused(small(data=Unreadable()), "data failed at batch 0: OSError")


def test_a_list_that_fails_when_it_is_read_again(small):
    class Failing(list):
        def __getitem__(self, index):
            raise OSError("disk full")

    operator = bind(small(data=Failing(small().data)), TorchOptions(memory="none")).operator()
    with pytest.raises(ProblemError, match=r"data failed at batch .: OSError"):
        operator.minibatch(0, 0)


@pytest.mark.filterwarnings("ignore:Using a target size:UserWarning")
def test_single_samples_are_refused(small, refused):
    x, y = rows(small())
    samples = list(zip(x, y, strict=True))
    for options in ({}, {"check": False}):
        hint = refused(small(data=samples), "batch 0 is the single sample", **options)
        assert "torch.utils.data.DataLoader(data, batch_size=256)" in hint
    targets = x.sum(1)
    regression = small(
        data=list(zip(x, targets, strict=True)), model=nn.Linear(4, 1).double(), loss=nn.L1Loss()
    )
    assert "DataLoader" in refused(regression, "another batch size|compares every output|neither")
    column = small(
        data=list(zip(x, targets[:, None], strict=True)), model=nn.Linear(4, 1).double(), loss=nn.MSELoss()
    )
    assert "DataLoader" in refused(column, "do not share a first dimension")


def test_data_of_another_type_than_the_weights(small, hessian, refused):
    wide = [(x.double(), y) for x, y in small().data]
    problem = small(dtype=torch.float32, data=wide)
    hint = refused(problem, r"failed on batch 0, \(float64 \(7, 4\), int64 \(7,\)\)")
    assert "data are float64 and the weights float32" in hint
    assert "x.to(torch.float32)" in hint
    assert 'dtype="float64"' in hint
    assert hessian(problem, dtype="float64").dtype == torch.float64
    whole = [(x.long(), y) for x, y in small().data]
    assert "inputs are int64: convert them, as in x.to(torch.float64)" in refused(small(data=whole), "failed")
    narrow = small(data=[(x, y.int()) for x, y in small().data])
    assert "labels are int32: convert them, as in y.long()" in refused(narrow, "failed on batch 0")


def test_targets_of_another_type_than_the_outputs(small, hessian, refused):
    given = small(dtype=torch.float32, model=nn.Linear(4, 1))
    wide = [(x, y[:, None].double()) for x, y in given.data]
    huber = small(model=given.model, data=wide, loss=nn.HuberLoss())
    assert "y.to(torch.float32)" in refused(huber, "outputs of batch 0 are float32 and its targets float64")
    found = hessian(small(model=given.model, data=wide, loss=nn.MSELoss()))
    x = rows(given)[0]
    inputs = torch.cat([x, torch.ones(15, 1)], 1)
    torch.testing.assert_close(found, 2 * inputs.T @ inputs / 15, rtol=0, atol=1e-5)


def test_arrays_where_tensors_are_needed(small, refused):
    data = [(x.numpy(), y.numpy()) for x, y in small().data]
    assert "torch.as_tensor(x, dtype=torch.float64)" in refused(small(data=data), "array float64 .7, 4.")
    labels = [(x, y.numpy()) for x, y in small().data]
    assert "torch.as_tensor" in refused(small(data=labels), "array int64")


class TwoInputs(nn.Linear):
    def forward(self, a, b):
        return super().forward(a + b)


CALL = 'call="loss(model, batch)"'


def test_two_inputs_are_answered_with_the_line_to_write(small, hessian, refused):
    model = TwoInputs(4, 3).double()
    data = [((x, 2 * x), y) for x, y in small().data]
    hint = refused(small(model=model, data=data), "TypeError: .*missing 1 required positional argument: 'b'")
    assert f"lambda model, batch: loss(model(*batch[0]), batch[1]), {CALL}" in hint
    named = [({"a": x, "b": 2 * x}, y) for x, y in small().data]
    assert "loss(model(**batch[0]), batch[1])" in refused(
        small(model=model, data=named), "missing 1 required"
    )
    loss = nn.CrossEntropyLoss()
    found = hessian(
        small(
            model=model,
            data=data,
            loss=lambda model, batch: loss(model(*batch[0]), batch[1]),
            call="loss(model, batch)",
        )
    )
    x, y = rows(small())
    expected = dense(model, [loss(model(x, 2 * x), y)], [1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("outputs", "line"),
    [
        (lambda z: {"hidden": z[:, :1], "logits": z}, "outputs['logits']"),
        (lambda z: {"hidden": z}, "outputs['hidden']"),
        (lambda z: (z, None), "outputs[0]"),
        (lambda z: SimpleNamespace(logits=z), "outputs.logits"),
    ],
)
def test_a_model_that_returns_more_than_a_tensor(outputs, line, small, refused):
    class Returning(nn.Linear):
        def forward(self, x):
            return outputs(super().forward(x))

    problem = small(model=Returning(4, 3).double())
    assert f"lambda outputs, y: loss({line}, y)" in refused(problem, r"loss\(model\(x\), y\) failed")


@pytest.mark.parametrize(
    ("wrap", "line"),
    [
        (lambda x, y: (x, y, torch.ones(len(y))), "lambda model, batch: loss(model(batch[0]), batch[1])"),
        (lambda x, y: {"images": x, "labels": y}, "loss(model(batch['images']), batch['labels'])"),
        (lambda x, y: Plain(x, y), "loss(model(batch), batch.y)"),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(), functional.cross_entropy, lambda z, y: (z - y).mean(), lambda z, y, w: z.mean()],
)
def test_a_loss_of_outputs_on_batches_that_are_not_pairs(loss, wrap, line, small, refused):
    data = [wrap(x, y) for x, y in small().data]
    hint = refused(small(data=data, loss=loss), r"loss\(model, batch\) failed on batch 0")
    assert "not a pair means loss(model, batch)" in hint
    assert line in hint


def test_a_loss_of_the_model_on_pairs(small, hessian, refused):
    def loss(model, batch):
        x, y = batch
        return functional.cross_entropy(model(x), y)

    def of_parts(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(ProblemError, match=r"loss\(model\(x\), y\) failed on batch 0") as caught:
        bind(small(loss=of_parts), TorchOptions()).operator()
    assert f"Problem(..., {CALL})" in caught.value.hint
    whole = hessian(small(sizes=15))
    for function in (loss, of_parts):
        found = hessian(small(loss=function, call="loss(model, batch)"))
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)


def test_a_call_that_does_not_fit_the_batches(small, refused):
    data = [{"x": x, "y": y} for x, y in small().data]
    hint = refused(small(data=data, call="loss(model(x), y)"), r"batch 0 is {x: .*expected a pair \(x, y\)")
    assert CALL in hint
    refused(
        small(call="loss(x)"), r"call is 'loss\(x\)'; expected 'loss\(model\(x\), y\)' or", error=UsageError
    )


def test_a_mean_over_tokens_is_noticed_if_the_loss_takes_pairs_whole(small, refused):
    """The inputs of a pair (inputs, mask) have the dimension that the mean is over."""
    data = [(torch.randn(3, n, 4).double(), torch.ones(3)) for n in (2, 5)]

    def loss(model, batch):
        return model(batch[0]).square().mean()

    problem = small(data=data, loss=loss, call="loss(model, batch)")
    refused(problem, "batches 0 and 1 differ in shape")


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss])
def test_the_class_of_a_loss_is_refused(loss, small, refused):
    hint = refused(small(loss=loss), f"the loss is the class {loss.__name__}; expected an instance")
    assert f"Write {loss.__name__}()" in hint


def test_a_weight_that_fails(small, refused):
    problem = small(weight=lambda batch: batch["y"].sum())
    refused(problem, r"weight failed on batch 0, \(float64 .*: TypeError")


def test_a_batch_that_cannot_be_moved(small, refused):
    class Stubborn(Moving):
        def __copy__(self):
            raise TypeError

        def to(self, dtype):
            raise OSError("no")

    problem = small(dtype=torch.float32, data=[Stubborn(*pair) for pair in small().data])
    with pytest.raises(
        ProblemError, match="batch 0 of data, Stubborn, can't be converted to cpu and float32: OSE"
    ):
        bind(problem, TorchOptions(), dtype="float32").operator()


# -- shapes of targets -------------------------------------------------------------------------------------


def regression(small, targets, loss, **fields):
    return small(
        model=nn.Linear(4, 1).double(),
        data=[(x, targets(x.sum(1))) for x, _ in small().data],
        loss=loss,
        **fields,
    )


ELEMENTWISE = [
    nn.MSELoss(),
    nn.L1Loss(),
    nn.SmoothL1Loss(),
    nn.HuberLoss(),
    functional.mse_loss,
    nn.PoissonNLLLoss(),
    lambda outputs, y: functional.mse_loss(input=outputs, target=y),
    lambda outputs, y: (outputs - y).square().mean(),
    lambda outputs, y: (outputs.exp() - outputs * y).mean(),
]


@pytest.mark.parametrize("reduction", ["infer", "mean"])
@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_targets_without_the_last_dimension_of_the_outputs_are_refused(loss, reduction, small, refused):
    """PyTorch compares every output with every target, and warns at most."""
    problem = regression(small, lambda y: y, loss, reduction=reduction)
    hint = refused(problem, r"every output with every target: the outputs are float64 \(7, 1\), .* \(7,\)")
    assert "y.reshape(-1, 1)" in hint


def test_a_loss_of_the_model_that_compares_every_output_with_every_target_is_refused(small, refused):
    def loss(model, batch):
        return functional.mse_loss(model(batch["x"]), batch["y"])

    data = [{"x": x, "y": x.sum(1)} for x, _ in small().data]
    problem = small(model=nn.Linear(4, 1).double(), data=data, loss=loss, reduction="mean")
    assert "y.reshape(-1, 1)" in refused(problem, "compares every output with every target")


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, y: functional.mse_loss(outputs.squeeze(1), y),
        lambda outputs, y: functional.mse_loss(outputs[:, 0], y),
        lambda outputs, y: functional.mse_loss(outputs, y[:, None]),
        lambda outputs, y: (outputs - y[:, None]).square().mean(),
        lambda outputs, y: (outputs.flatten() - y).square().mean(),
    ],
)
def test_a_loss_that_gives_both_the_same_shape_is_accepted(loss, small, hessian):
    x = rows(small())[0]
    inputs = torch.cat([x, torch.ones(15, 1)], 1)
    found = hessian(regression(small, lambda y: y, loss))
    torch.testing.assert_close(found, 2 * inputs.T @ inputs / 15, rtol=0, atol=1e-9)


def test_a_loss_over_pairs_of_samples_is_accepted_if_its_reduction_is_declared(small, hessian):
    def ranking(outputs, y):
        differences = outputs.reshape(-1, 1) - outputs.reshape(1, -1)
        return functional.softplus(-differences * (y.reshape(-1, 1) > y.reshape(1, -1))).mean()

    problem = regression(small, lambda y: y, ranking, reduction="mean")
    losses = [ranking(problem.model(x), y) for x, y in problem.data]
    expected = dense(problem.model, losses, (7, 5, 3))
    torch.testing.assert_close(hessian(problem), expected, rtol=0, atol=1e-9)


def test_targets_that_pytorch_refuses_itself(small, refused):
    problem = regression(small, lambda y: (y > 0).double(), nn.BCEWithLogitsLoss())
    assert "y.reshape(-1, 1)" in refused(problem, "failed on batch 0")


def test_every_error_is_one_of_eigencore(small):
    """Whatever a batch is, the message says more than a traceback."""
    for batch in (
        None,
        1,
        "text",
        b"",
        [],
        (),
        {},
        [1, 2],
        (None, None),
        {"x": None},
        object(),
        np.float64(3),
    ):
        with pytest.raises(EigencoreError):
            bind(small(data=[batch]), TorchOptions()).operator()


def test_packed_sequences_are_not_padded_by_conversion():
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    copied = moved({"x": packed}, torch.device("cpu"), torch.float64)["x"]
    assert copied.batch_sizes.tolist() == [2, 2, 1]
    assert pad_packed_sequence(copied)[1].tolist() == [3, 2]
