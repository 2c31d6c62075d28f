"""Minibatches: their mean over all draws is the full operator, and they cost their share of it."""

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
from eigencore.problems.sharing import weight_minibatch
from eigencore_torch.backend import TorchOptions, bind

WEIGHTS = torch.tensor([1.0, 2, 5], dtype=torch.float64)
REDUCTIONS = {
    "mean": {},
    "sum": {"loss": nn.CrossEntropyLoss(reduction="sum")},
    "weight": {"loss": nn.CrossEntropyLoss(WEIGHTS), "weight": lambda batch: WEIGHTS[batch[1]].sum()},
}


def products(operator):
    """The products with three vectors, which are enough to distinguish the matrices here."""
    V = torch.randn(operator.shape[0], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return operator.matmat(V)


@pytest.mark.parametrize("microbatch", [None, 2])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_mean_over_all_draws_is_the_full_operator(reduction, batches, microbatch, small):
    operator = bind(small(**REDUCTIONS[reduction]), TorchOptions(microbatch=microbatch)).operator()
    full = products(operator)
    weights = operator._risk.batch_weights
    probabilities = [weight / sum(weights) for weight in weights]
    mean, largest_difference = torch.zeros_like(full), 0.0
    for drawn in product(range(3), repeat=batches):
        minibatch = weight_minibatch(Counter(drawn), weights)
        one = products(operator._sampled(minibatch))
        mean += prod(probabilities[b] for b in drawn) * one
        largest_difference = max(largest_difference, float((one - full).abs().max()))
        assert minibatch.share == pytest.approx(sum(probabilities[b] for b in set(drawn)))
    torch.testing.assert_close(mean, full, rtol=0, atol=1e-12 * float(full.abs().max()))
    # Without large differences, any weights would pass this test.
    assert largest_difference > 0.1 * float(full.abs().max())


def test_draws_are_proportional_to_weight_and_unbiased(small):
    operator = bind(small(), TorchOptions()).operator()
    drawn = [operator.minibatch(step, seed=3) for step in range(300)]
    counts = Counter(round(15 * share) for _, share in drawn)
    assert counts.keys() == {7, 5, 3}
    # Three different products, weighted by their counts; 4.5 standard errors of 300 draws.
    found = {round(15 * share): products(one) for one, share in drawn}
    mean = sum(counts[size] * found[size] for size in counts) / 300
    spread = sum(counts[size] * (found[size] - mean) ** 2 for size in counts) / 300
    assert ((mean - products(operator)).abs() <= 4.5 * (spread / 300).sqrt() + 1e-12).all()
    for size in counts:
        assert abs(counts[size] - 20 * size) <= 4.5 * np.sqrt(300 * size / 15 * (1 - size / 15))


def test_the_same_step_and_seed_give_the_same_product_bitwise(small):
    operator = bind(small(), TorchOptions(memory="none")).operator()
    once, again = (operator.minibatch(5, seed=1, batches=2)[0] for _ in range(2))
    torch.testing.assert_close(products(once), products(again), rtol=0, atol=0)


def test_batches_of_weight_zero_are_never_drawn(small):
    data = small().data
    data[1][1][:] = -100
    problem = small(data=data, weight=lambda batch: int((batch[1] != -100).sum()))
    operator = bind(problem, TorchOptions()).operator()
    assert {share for _, share in (operator.minibatch(step, 0) for step in range(20))} == {0.7, 0.3}
    empty = bind(small(weight=lambda batch: 0), TorchOptions()).operator()
    with pytest.raises(ProblemError, match="weight zero"):
        empty.minibatch(0, 0)


def test_products_are_counted_by_the_share_of_the_minibatch(small):
    operator = counting(bind(small(), TorchOptions()).operator())
    assert isinstance(operator, MinibatchOperator)
    sample, share = operator.minibatch(0, 0)
    assert operator.matvecs == 0
    sample.matvec(torch.ones(59, dtype=torch.float64))
    assert operator.matvecs == share < 1
    sample.matmat(torch.ones(59, 3, dtype=torch.float64))
    operator.matvec(torch.ones(59, dtype=torch.float64))
    assert operator.matvecs == pytest.approx(4 * share + 1)


def test_the_operator_and_the_bound_problem_offer_minibatches(small):
    bound = bind(small(), TorchOptions())
    assert Capability.MINIBATCHES in bound.capabilities
    assert isinstance(bound.operator(), MinibatchOperator)
    sample, _ = bound.operator().minibatch(0, 0)
    assert not isinstance(sample, MinibatchOperator)
    assert (sample.shape, sample.dtype, sample.xp) == ((59, 59), torch.float64, bound.operator().xp)


@pytest.mark.parametrize("memory", ["none", "auto"])
@pytest.mark.parametrize("microbatch", [None, 2])
def test_kept_graphs_are_used_and_give_the_same_products(memory, microbatch, small):
    problem, fresh = small(), bind(small(), TorchOptions()).operator()
    operator = bind(problem, TorchOptions(memory=memory, microbatch=microbatch)).operator()
    operator.matvec(torch.ones(59, dtype=torch.float64))
    computed = []
    problem.model.register_forward_pre_hook(lambda module, args: computed.append(len(args[0])))
    for step in range(4):
        sample, share = operator.minibatch(step, 0)
        torch.testing.assert_close(
            products(sample), products(fresh.minibatch(step, 0)[0]), rtol=1e-12, atol=1e-13
        )
        assert sum(computed) == (0 if memory == "auto" else round(15 * share))
        computed.clear()


def test_a_batch_that_is_only_partly_kept_is_computed_completely(small):
    probe = bind(small(), TorchOptions(microbatch=2)).operator()
    with probe._risk.session():
        first, *_, last = [probe._allocation(term) for term in probe._risk.terms()][:4]
    # All of batch 0, whose parts have 2, 2, 2 and 1 samples, and 1 of 3 parts of batch 1; and a product.
    memory = 4 * first.kept + last.kept + first.peak
    operator = bind(small(), TorchOptions(microbatch=2, memory=f"{memory}B")).operator()
    operator.matvec(torch.ones(59, dtype=torch.float64))
    assert [one.index for one in operator._kept] == [0] * 4 + [1]
    for batch in range(3):
        minibatch = weight_minibatch({batch: 1}, (7.0, 5.0, 3.0))
        alone = bind(small(data=[small().data[batch]]), TorchOptions()).operator()
        torch.testing.assert_close(
            products(operator._sampled(minibatch)), products(alone), rtol=1e-12, atol=1e-13
        )


class Counted(list):
    """A list that records which of its batches were read by index, and how often it was iterated."""

    def __init__(self, data):
        super().__init__(data)
        self.read, self.iterations = [], 0

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)

    def __iter__(self):
        self.iterations += 1
        return super().__iter__()


def test_a_list_is_read_by_index(small):
    data = Counted(small().data)
    operator = bind(small(data=data), TorchOptions()).operator()
    operator.minibatch(0, 0)
    data.iterations, data.read = 0, []
    for step in range(1, 6):
        operator.minibatch(step, 0)
    assert (data.iterations, len(data.read)) == (0, 5)


def test_other_data_are_iterated_only_as_far_as_needed(small):
    class Stream:
        given = 0

        def __iter__(self):
            for batch in small().data:
                Stream.given += 1
                yield batch

    operator = bind(small(data=Stream()), TorchOptions()).operator()
    listed = bind(small(), TorchOptions()).operator()
    operator.minibatch(0, 0)
    for step in range(5):
        Stream.given = 0
        sample, share = operator.minibatch(step, 0)
        last = {7: 1, 5: 2, 3: 3}[round(15 * share)]
        assert Stream.given == last
        torch.testing.assert_close(
            products(sample), products(listed.minibatch(step, 0)[0]), rtol=0, atol=1e-15
        )


def test_a_loader_offers_minibatches_and_keeps_its_random_state(small):
    x, y = (torch.cat(parts) for parts in zip(*small().data, strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=4, generator=torch.Generator().manual_seed(3))
    operator = bind(small(data=loader), TorchOptions()).operator()
    before = loader.generator.get_state(), torch.get_rng_state()
    sample, share = operator.minibatch(0, 0, batches=2)
    sample.matvec(torch.ones(59, dtype=torch.float64))
    assert share in {8 / 15, 7 / 15, 4 / 15, 3 / 15}
    assert torch.equal(loader.generator.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_changes_of_weights_and_data_are_detected(small):
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


@pytest.mark.parametrize("arguments", [{"batches": 0}, {"step": -1}, {"seed": -1}])
def test_invalid_arguments_are_refused(arguments, small):
    operator = bind(small(), TorchOptions()).operator()
    with pytest.raises(UsageError, match="expected batches >= 1"):
        operator.minibatch(**{"step": 0, "seed": 0, **arguments})
