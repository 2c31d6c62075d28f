"""Batches are begun one ahead of their use, on a GPU copied meanwhile: the same ones, in the same order."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.data import batches as batches_module
from eigencore_torch.data.batches import Batches
from eigencore_torch.data.transfers import Begun, one_ahead

CPU = torch.device("cpu")


class Log(list):
    """What happened, in order."""

    def reading(self, n, fails_at=None, error=ValueError):
        for i in range(n):
            if i == fails_at:
                raise error(i)
            self.append(f"read {i}")
            yield i

    def begin(self, i, may_wait=True):
        self.append(f"begin {i}")
        return Begun(lambda: self.append(f"finish {i}") or i, may_wait)


def used(log, ahead):
    for i in ahead:
        log.append(f"use {i}")
    return log


# -- the order ---------------------------------------------------------------------------------------------


def test_each_item_is_begun_before_the_one_before_it_is_used():
    log = Log()
    assert " ".join(used(log, one_ahead(log.reading(3), log.begin))) == (
        "read 0 begin 0 read 1 begin 1 finish 0 use 0 read 2 begin 2 finish 1 use 1 finish 2 use 2"
    )


def test_what_may_not_wait_is_used_before_the_next_item_is_read():
    log = Log()
    ahead = one_ahead(log.reading(3), lambda i: log.begin(i, may_wait=False))
    assert [one for one in used(log, ahead) if one[0] in "ru"] == [
        f"{what} {i}" for i in range(3) for what in ("read", "use")
    ]
    mixed = Log()
    order = used(mixed, one_ahead(mixed.reading(4), lambda i: mixed.begin(i, may_wait=i != 1)))
    assert [one for one in order if one.startswith("use")] == [f"use {i}" for i in range(4)]
    assert order.index("use 1") < order.index("read 2")


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_no_item_is_lost(n):
    assert list(one_ahead(iter(range(n)), lambda i: Begun(lambda: i))) == list(range(n))


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_error_comes_after_the_items_before_it(at):
    for log, ahead in [
        (log := Log(), one_ahead(log.reading(4, fails_at=at), log.begin)),
        (log := Log(), one_ahead(log.reading(4), lambda i, log=log: 1 / (i != at) and log.begin(i))),
    ]:
        with pytest.raises((ValueError, ZeroDivisionError)):
            used(log, ahead)
        assert [one for one in log if one.startswith("use")] == [f"use {i}" for i in range(at)]


def test_an_interruption_is_raised_at_once():
    log = Log()
    with pytest.raises(KeyboardInterrupt):
        used(log, one_ahead(log.reading(4, fails_at=1, error=KeyboardInterrupt), log.begin))
    assert log == ["read 0", "begin 0"]


def test_whoever_stops_early_reads_one_item_more_and_leaves_nothing_behind():
    class Made:
        pass

    made = []

    def begin(i):
        one = Made()
        made.append(weakref.ref(one))
        return Begun(lambda: one)

    log = Log()
    ahead = one_ahead(log.reading(9), begin)
    next(ahead)
    assert log == ["read 0", "read 1"]
    ahead.close()
    assert [one() for one in made] == [None, None]


# -- batches -----------------------------------------------------------------------------------------------


class Copying:
    """A transfer within the host: it copies at once, and delivers when the batch is used."""

    def __init__(self, device):
        self.copied = 0

    def begin(self, batch, move):
        def copy(x):
            self.copied += 1
            return x.clone()

        there = move(copy)
        return Begun(lambda: there)


@pytest.fixture
def ahead(monkeypatch):
    monkeypatch.setattr(batches_module, "transfer_to", Copying)


def data(n=5):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return [(torch.randn(3 + i, 4, dtype=torch.float64), torch.randint(3, (3 + i,))) for i in range(n)]


def test_batches_that_are_read_ahead_are_the_same(ahead):
    given = data()
    batches = Batches(given, CPU, torch.float32)
    assert batches._transfer is not None
    for _ in range(2):
        for (x, y), (u, v) in zip(given, batches, strict=True):
            assert u.dtype == torch.float32
            torch.testing.assert_close(u.double(), x, rtol=1e-6, atol=1e-6)
            assert torch.equal(v, y)
    fetched = batches.fetch({3, 1})
    assert sorted(fetched) == [1, 3]
    assert torch.equal(fetched[3][1], given[3][1])
    joined = list(Batches(given, CPU, torch.float64, join=10))
    assert torch.equal(torch.cat([x for x, _ in joined]), torch.cat([x for x, _ in given]))


def test_an_error_in_the_data_names_its_batch(ahead):
    def failing():
        yield from data(2)
        raise OSError("the disk is gone")

    class Failing:
        def __iter__(self):
            return failing()

    batches = iter(Batches(Failing(), CPU, None))
    for x, y in data(2):
        torch.testing.assert_close(next(batches), (x, y), rtol=0, atol=0)
    with pytest.raises(ProblemError, match="data failed at batch 2: OSError: the disk is gone"):
        next(batches)


def test_an_operator_whose_batches_are_read_ahead_is_the_same(monkeypatch):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    problem = Problem(model, data(), nn.CrossEntropyLoss())
    products = []
    for transfer in (None, Copying):
        if transfer is not None:
            monkeypatch.setattr(batches_module, "transfer_to", transfer)
        for memory in ("auto", "none"):
            operator = bind(problem, TorchOptions(memory=memory)).operator()
            v = torch.ones(operator.shape[0], dtype=torch.float64)
            products += [operator.matvec(v), operator.minibatch(0, 1, 2)[0].matvec(v)]
    for first, other in zip(products[:4], products[4:], strict=True):
        assert torch.equal(first, other)


# -- on a GPU ----------------------------------------------------------------------------------------------


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@needs_cuda
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("place", ["host", "pinned", "cuda"])
def test_batches_arrive_whole_on_cuda(place, dtype):
    """Large batches, whose copies take longer than the kernel that reads them takes to start."""
    device = torch.device("cuda", 0)
    given = [(torch.full((1 << 20,), float(i)), torch.arange(4) + i) for i in range(6)]
    put = {"host": lambda x: x, "pinned": torch.Tensor.pin_memory, "cuda": torch.Tensor.cuda}[place]
    batches = Batches([(put(x), put(y)) for x, y in given], device, dtype)
    for _ in range(3):
        for i, (x, y) in enumerate(batches):
            assert x.device == y.device == device
            assert x.dtype == (dtype or torch.float32)
            assert float(x.double().sum()) == i * (1 << 20)
            assert y.tolist() == [i, i + 1, i + 2, i + 3]


@needs_cuda
def test_tensors_of_every_layout_arrive_on_cuda():
    images = torch.randn(4, 3, 5, 5)
    given = {
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "part": images[:, 1:, ::2],
        "expanded": torch.arange(4).expand(3, 4),
        "conjugate": torch.randn(6, dtype=torch.complex64).conj(),
        "empty": torch.empty(0, 3),
        "sparse": torch.eye(4).to_sparse(),
        "number": torch.tensor(2.5),
    }
    (there,) = Batches([given], torch.device("cuda", 0), None)
    for name, x in given.items():
        expected = x.cuda()
        assert there[name].stride() == expected.stride() if not x.is_sparse else there[name].is_sparse
        assert torch.equal(there[name].to_dense(), expected.to_dense())


@needs_cuda
@pytest.mark.parametrize("place", ["host", "pinned", "cuda"])
def test_data_may_write_every_batch_into_the_same_memory_on_cuda(place):
    class Reused:
        def __init__(self):
            x = torch.empty(1 << 20)
            self.buffer = {"host": x, "pinned": x.pin_memory(), "cuda": x.cuda()}[place]

        def __iter__(self):
            for i in range(8):
                self.buffer.fill_(float(i))
                yield (self.buffer,)

    batches = Batches(Reused(), torch.device("cuda", 0), None)
    assert [float(x.mean()) for (x,) in batches] == [float(i) for i in range(8)]


@needs_cuda
def test_the_memory_of_a_batch_is_not_used_again_while_it_is_read_on_cuda():
    """Each batch is freed as soon as the kernel that reads it has been started."""
    device, n, sums = torch.device("cuda", 0), 1 << 22, []
    for (x,) in Batches([(torch.full((n,), float(i)),) for i in range(20)], device, None):
        torch.cuda._sleep(2_000_000)
        sums.append(x.sum(dtype=torch.float64))
        del x
    assert [float(one) for one in sums] == [float(i * n) for i in range(20)]


@needs_cuda
def test_an_operator_of_data_on_the_host_is_that_of_data_on_cuda():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double().cuda()
    here = data()
    there = [(x.cuda(), y.cuda()) for x, y in here]
    products = []
    for given in (here, there):
        operator = bind(Problem(model, given, nn.CrossEntropyLoss()), TorchOptions(memory="none")).operator()
        products.append(operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64, device="cuda")))
    torch.testing.assert_close(*products, rtol=0, atol=1e-12)
