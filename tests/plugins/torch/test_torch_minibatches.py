"""Minibatches: their mean over all draws is the full operator, and their products cost their share of it."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigencore.entries import Capability
from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import MinibatchOperator
from eigencore.operators.counting import counting
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.sampling import draw, weighed

WEIGHTS = torch.tensor([1.0, 2, 5], dtype=torch.float64)
REDUCTIONS = {
    "mean": {},
    "sum": {"loss": nn.CrossEntropyLoss(reduction="sum")},
    "weight": {"loss": nn.CrossEntropyLoss(WEIGHTS), "weight": lambda batch: WEIGHTS[batch[1]].sum()},
}


def products(operator):
    """The products with three vectors, which are enough to distinguish the matrices."""
    V = torch.randn(operator.shape[0], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return operator.matmat(V)


@pytest.mark.parametrize("microbatch", [None, 2])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_mean_over_all_draws_is_the_full_operator(reduction, batches, microbatch, small):
    operator = bind(small(**REDUCTIONS[reduction]), TorchOptions(microbatch=microbatch)).operator()
    whole = products(operator)
    weights = operator._risk.batch_weights
    probabilities = [weight / sum(weights) for weight in weights]
    mean, largest_difference = torch.zeros_like(whole), 0.0
    for drawn in product(range(3), repeat=batches):
        sample = weighed(Counter(drawn), weights)
        one = products(operator._sampled(sample))
        mean += prod(probabilities[b] for b in drawn) * one
        largest_difference = max(largest_difference, float((one - whole).abs().max()))
        assert sample.share == pytest.approx(sum(probabilities[b] for b in set(drawn)))
    torch.testing.assert_close(mean, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
    assert largest_difference > 0.1 * float(whole.abs().max())  # otherwise the test would accept any weights


def test_batches_are_drawn_by_weight_and_the_mean_is_unbiased(small):
    operator = bind(small(), TorchOptions()).operator()
    seen = [operator.minibatch(step, seed=3) for step in range(300)]
    counts = Counter(round(15 * share) for _, share in seen)
    assert counts.keys() == {7, 5, 3}
    # Three different products, weighted by their counts; 4.5 standard errors of 300 draws.
    found = {round(15 * share): products(one) for one, share in seen}
    mean = sum(counts[size] * found[size] for size in counts) / 300
    spread = sum(counts[size] * (found[size] - mean) ** 2 for size in counts) / 300
    assert ((mean - products(operator)).abs() <= 4.5 * (spread / 300).sqrt() + 1e-12).all()
    for size in counts:
        assert abs(counts[size] - 20 * size) <= 4.5 * np.sqrt(300 * size / 15 * (1 - size / 15))


def test_the_draw_depends_on_step_and_seed():
    weights = tuple(range(1, 50))
    assert draw(weights, 3, 7, 5) == draw(weights, 3, 7, 5)
    drawn = {tuple(draw(weights, step, seed, 5).factors) for step in range(4) for seed in range(4)}
    assert len(drawn) == 16


def test_the_same_minibatch_twice_is_the_same_to_the_bit(small):
    operator = bind(small(), TorchOptions(memory="none")).operator()
    once, again = (operator.minibatch(5, seed=1, batches=2)[0] for _ in range(2))
    torch.testing.assert_close(products(once), products(again), rtol=0, atol=0)


def test_shares_add_up_and_a_batch_drawn_twice_counts_once():
    weights = (7.0, 5.0, 3.0)
    assert sum(weighed({b: 1}, weights).share for b in range(3)) == pytest.approx(1)
    assert weighed({0: 2}, weights) == weighed({0: 1}, weights)
    assert weighed({0: 3, 1: 1, 2: 4}, weights).share == 1
    assert 0 < draw(weights, 0, 0, 100).share <= 1


def test_batches_of_weight_zero_are_never_drawn(small):
    data = small().data
    data[1][1][:] = -100
    problem = small(data=data, weight=lambda batch: int((batch[1] != -100).sum()))
    operator = bind(problem, TorchOptions()).operator()
    assert {share for _, share in (operator.minibatch(step, 0) for step in range(20))} == {0.7, 0.3}
    empty = bind(small(weight=lambda batch: 0), TorchOptions()).operator()
    with pytest.raises(ProblemError, match="weight zero"):
        empty.minibatch(0, 0)


def test_products_are_counted_by_their_share(small):
    operator = counting(bind(small(), TorchOptions()).operator())
    assert isinstance(operator, MinibatchOperator)
    sample, share = operator.minibatch(0, 0)
    assert operator.matvecs == 0
    sample.matvec(torch.ones(59, dtype=torch.float64))
    assert operator.matvecs == share < 1
    sample.matmat(torch.ones(59, 3, dtype=torch.float64))
    operator.matvec(torch.ones(59, dtype=torch.float64))
    assert operator.matvecs == pytest.approx(4 * share + 1)


def test_minibatches_are_among_the_capabilities(small):
    bound = bind(small(), TorchOptions())
    assert Capability.MINIBATCHES in bound.capabilities
    assert isinstance(bound.operator(), MinibatchOperator)
    sample, _ = bound.operator().minibatch(0, 0)
    assert not isinstance(sample, MinibatchOperator)
    assert (sample.shape, sample.dtype, sample.xp) == ((59, 59), torch.float64, bound.operator().xp)


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("microbatch", [None, 2])
def test_kept_graphs_are_used_and_give_the_same(memory, microbatch, small):
    problem, fresh = small(), bind(small(), TorchOptions()).operator()
    operator = bind(problem, TorchOptions(memory=memory, microbatch=microbatch)).operator()
    operator.matvec(torch.ones(59, dtype=torch.float64))
    seen = []
    problem.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    for step in range(4):
        sample, share = operator.minibatch(step, 0)
        torch.testing.assert_close(
            products(sample), products(fresh.minibatch(step, 0)[0]), rtol=1e-12, atol=1e-13
        )
        assert sum(seen) == (0 if memory == "auto" else round(15 * share))
        seen.clear()


def test_a_batch_with_only_some_parts_kept_is_computed_completely(small):
    probe = bind(small(), TorchOptions(microbatch=2)).operator()
    probe.matvec(torch.ones(59, dtype=torch.float64))
    memory = round(10 * probe._bytes_per_sample)  # all of batch 0, and 1 of 3 parts of batch 1
    operator = bind(small(), TorchOptions(microbatch=2, memory=f"{memory}B")).operator()
    operator.matvec(torch.ones(59, dtype=torch.float64))
    assert [one.index for one in operator._kept] == [0] * 4 + [1]
    for batch in range(3):
        sample = weighed({batch: 1}, (7.0, 5.0, 3.0))
        alone = bind(small(data=[small().data[batch]]), TorchOptions()).operator()
        torch.testing.assert_close(
            products(operator._sampled(sample)), products(alone), rtol=1e-12, atol=1e-13
        )


class Counted(list):
    """A list that records which of its batches were read, and how often it was iterated."""

    def __init__(self, data):
        super().__init__(data)
        self.read, self.iterations = [], 0

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)

    def __iter__(self):
        self.iterations += 1
        return super().__iter__()


def test_a_list_is_read_at_the_drawn_index(small):
    data = Counted(small().data)
    operator = bind(small(data=data), TorchOptions()).operator()
    operator.minibatch(0, 0)
    data.iterations, data.read = 0, []
    for step in range(1, 6):
        operator.minibatch(step, 0)
    assert (data.iterations, len(data.read)) == (0, 5)


def test_other_data_are_iterated_only_up_to_the_last_batch_drawn(small):
    class Stream:
        yielded = 0

        def __iter__(self):
            for batch in small().data:
                Stream.yielded += 1
                yield batch

    operator = bind(small(data=Stream()), TorchOptions()).operator()
    listed = bind(small(), TorchOptions()).operator()
    operator.minibatch(0, 0)
    for step in range(5):
        Stream.yielded = 0
        sample, share = operator.minibatch(step, 0)
        last = {7: 1, 5: 2, 3: 3}[round(15 * share)]
        assert Stream.yielded == last
        torch.testing.assert_close(
            products(sample), products(listed.minibatch(step, 0)[0]), rtol=0, atol=1e-15
        )


def test_a_loader_has_minibatches_and_keeps_its_random_state(small):
    x, y = (torch.cat(parts) for parts in zip(*small().data, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=4, generator=torch.Generator().manual_seed(3))
    operator = bind(small(data=loader), TorchOptions()).operator()
    before = loader.generator.get_state(), torch.get_rng_state()
    sample, share = operator.minibatch(0, 0, batches=2)
    sample.matvec(torch.ones(59, dtype=torch.float64))
    assert share in {8 / 15, 7 / 15, 4 / 15, 3 / 15}
    assert torch.equal(loader.generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_changed_weights_and_data_are_detected(small):
    problem = small()
    operator = bind(problem, TorchOptions(memory="none")).operator()
    sample, _ = operator.minibatch(0, 0)
    while len(problem.data):
        problem.data.pop()
    with pytest.raises(ProblemError, match=r"the data changed: batch \d no longer exists"):
        operator.minibatch(1, 0)
    with torch.no_grad():
        problem.model[0].weight.add_(1)
    with pytest.raises(ProblemError, match="weights changed"):
        sample.matvec(torch.ones(59, dtype=torch.float64))
    with pytest.raises(ProblemError, match="weights changed"):
        operator.minibatch(0, 0)


@pytest.mark.parametrize("invalid", [{"batches": 0}, {"step": -1}, {"seed": -1}])
def test_invalid_draws_are_refused(invalid, small):
    operator = bind(small(), TorchOptions()).operator()
    with pytest.raises(UsageError, match="expected batches of at least 1"):
        operator.minibatch(**{"step": 0, "seed": 0, **invalid})
