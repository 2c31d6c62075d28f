"""How batch losses are reduced is inferred where losses and gradients decide it, measured, or asked for."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind

CLASSES = torch.tensor([1.0, 2, 20])
NOTE = "batches weighted as measured from gradients, not by samples"


def network(zero_head=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    if zero_head:
        nn.init.zeros_(model[2].weight)
        nn.init.zeros_(model[2].bias)
    return model


def samples(sizes=(30, 24, 9), seed=0):
    """Batches in which the classes 0, 1 and 2 dominate in turn."""
    torch.manual_seed(seed)
    data = []
    for place, n in enumerate(sizes):
        y = torch.full((n,), place % 3)
        y[:2] = torch.arange(2)
        data.append(((1 + place) * torch.randn(n, 5), y))
    return data


def joined(data):
    """All batches in one."""
    if isinstance(data[0], dict):
        return {key: torch.cat([batch[key] for batch in data]) for key in data[0]}
    return tuple(torch.cat(parts) for parts in zip(*data, strict=True))


def dense(problem, loss=None):
    """The Hessian of the loss of all data at once, in float64, by automatic differentiation twice."""
    model, function = copy.deepcopy((problem.model, loss or problem.loss))
    model.double().eval()
    if isinstance(function, nn.Module):
        function.double()
    batch = joined(problem.data)
    if isinstance(batch, dict):
        batch = {key: x.double() if x.is_floating_point() else x for key, x in batch.items()}
        value = function(model, batch)
    else:
        x, y = (part.double() if part.is_floating_point() else part for part in batch)
        value = function(model(x), y)
    weights = list(model.parameters())
    gradient = torch.autograd.grad(value, weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    columns = torch.autograd.grad(
        flat, weights, torch.eye(len(flat)).double(), is_grads_batched=True, materialize_grads=True
    )
    return torch.cat([column.flatten(1) for column in columns], 1)


def check(problem, close=2e-6, loss=None, **options):
    """Compares products with random vectors with those of the dense Hessian."""
    exact = dense(problem, loss)
    operator = bind(problem, TorchOptions(**options)).operator()
    V = torch.randn(len(exact), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = operator.matmat(V.to(operator.dtype)).double()
    assert float((found - exact @ V).norm()) <= close * float((exact @ V).norm())


def description(problem, **options):
    bound = bind(problem, TorchOptions(**options))
    before = bound.description
    bound.operator()
    assert NOTE not in before
    return bound.description


def refused(problem, match, **options):
    with pytest.raises(ProblemError, match=match) as caught:
        bind(problem, TorchOptions(**options)).operator()
    return caught.value.hint


def ignoring(data):
    """The same data with ignored labels: none in the first batch, most in the second, all in the third."""
    labels = [y.clone() for _, y in data]
    labels[1][3:20] = -100
    labels[2][:] = -100
    return [(x, y) for (x, _), y in zip(data, labels, strict=True)]


PLAIN = {
    "mean": nn.CrossEntropyLoss(),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "function": functional.cross_entropy,
}
WEIGHTED = {
    "class weights": nn.CrossEntropyLoss(CLASSES),
    "smoothed class weights": nn.CrossEntropyLoss(CLASSES, label_smoothing=0.1),
    "class weights in a function": lambda z, y: functional.cross_entropy(z, y, CLASSES.to(z.dtype)),
    # The weights stay in float32, so that this function can't be called in float64.
    "class weights in float32": lambda z, y: functional.cross_entropy(z.float(), y, CLASSES),
}


@pytest.mark.parametrize("microbatch", [None, 7])
@pytest.mark.parametrize("zero_head", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_means_and_sums_are_told_apart(name, zero_head, microbatch):
    """With a zero-initialised head, every loss is exactly log 3, and any weights fit the losses."""
    problem = Problem(network(zero_head), samples(), PLAIN[name])
    check(problem, microbatch=microbatch)
    assert NOTE not in description(problem, microbatch=microbatch)


@pytest.mark.parametrize("microbatch", [None, 7])
@pytest.mark.parametrize("zero_head", [False, True])
@pytest.mark.parametrize("name", WEIGHTED)
def test_class_weights_are_measured(name, zero_head, microbatch):
    problem = Problem(network(zero_head), samples(), WEIGHTED[name])
    check(problem, microbatch=microbatch)
    assert NOTE in description(problem, microbatch=microbatch)


@pytest.mark.parametrize("microbatch", [None, 1, 7])
@pytest.mark.parametrize("zero_head", [False, True])
def test_ignored_labels_are_measured(zero_head, microbatch):
    """The loss of the third batch is 0/0."""
    for data in (ignoring(samples()), ignoring(samples())[::-1]):
        problem = Problem(network(zero_head), data, nn.CrossEntropyLoss())
        check(problem, microbatch=microbatch)
        assert NOTE in description(problem, microbatch=microbatch)


@pytest.mark.parametrize("zero_head", [False, True])
def test_measured_weights_are_exact_in_float64(zero_head):
    data = [(x.double(), y) for x, y in samples()]
    problem = Problem(network(zero_head).double(), data, nn.CrossEntropyLoss(CLASSES.double()))
    check(problem, close=1e-12)
    risk = bind(problem, TorchOptions()).risk
    found = torch.tensor(risk.batch_weights, dtype=torch.float64)
    exact = torch.stack([CLASSES.double()[y].sum() for _, y in data])
    torch.testing.assert_close(found / found[0], exact / exact[0], rtol=1e-12, atol=0)


def test_class_weights_that_only_a_late_batch_shows_are_measured():
    """All batches but the last have labels of one class only, whose weighted mean is the plain one."""
    data = [(x, torch.zeros_like(y)) for x, y in samples((8, 8, 8, 8, 8))]
    data[-1][1][3:] = 2
    problem = Problem(network(zero_head=True), data, WEIGHTED["class weights"])
    check(problem)
    assert NOTE in description(problem)


def test_classes_of_equal_weight_are_a_mean_over_samples():
    data = [(x, torch.full_like(y, place)) for place, (x, y) in enumerate(samples())]
    problem = Problem(network(), data, WEIGHTED["class weights"])
    assert NOTE in description(problem)
    assert NOTE not in description(replace(problem, data=[(x, 0 * y) for x, y in data]))


class Language(nn.Module):
    """A causal language model with one layer of attention and tied embeddings, initialised as GPT-2 is."""

    def __init__(self, vocabulary=7, width=4, length=6):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.first, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.project, self.last = nn.Linear(width, width), nn.LayerNorm(width)
        for module in (self.tokens, self.places, self.attention, self.project):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.tokens(ids) + self.places.weight[:length]
        queries, keys, values = self.attention(self.first(x)).chunk(3, 2)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = (queries @ keys.mT).masked_fill(future, -torch.inf)
        return self.last(x + self.project(scores.softmax(2) @ values)) @ self.tokens.weight.T


def per_token(model, batch):
    """The mean loss per token that is not padding, in float32, as Hugging Face's models compute it."""
    logits = model(batch["ids"])[:, :-1].float()
    return functional.cross_entropy(logits.transpose(1, 2), batch["targets"][:, 1:])


def per_token_exactly(model, batch):
    logits = model(batch["ids"])[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), batch["targets"][:, 1:])


def texts(lengths=((5, 7), (2, 4), (2, 7))):
    """Batches of texts whose number of tokens lies in a range, padded to six tokens."""
    torch.manual_seed(3)
    data = []
    for n, (low, high) in zip((12, 8, 5), lengths, strict=True):
        ids = torch.randint(7, (n, 6))
        ends = torch.randint(low, high, (n, 1))
        data.append({"ids": ids, "targets": ids.masked_fill(torch.arange(6) >= ends, -100)})
    return data


@pytest.mark.parametrize("microbatch", [None, 1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tokens_of_an_untrained_language_model_are_measured(dtype, microbatch):
    """Every loss is close to log 7, and the loss is computed in float32 whatever the type of the weights."""
    torch.manual_seed(0)
    problem = Problem(Language().to(dtype), texts(), per_token)
    check(problem, close=1e-5, loss=per_token_exactly, microbatch=microbatch)
    assert NOTE in description(problem)
    same = Problem(Language().to(dtype), texts(((6, 7),) * 3), per_token)
    assert NOTE not in description(same, microbatch=microbatch)


def test_padding_within_a_batch_is_measured_for_pairs():
    def loss(logits, labels):
        return functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])

    torch.manual_seed(0)
    data = [(batch["ids"], batch["targets"]) for batch in texts()]
    data[0][1][:3] = -100  # the first texts of the first batch have no tokens
    check(Problem(Language(), data, loss), close=1e-5)


def test_a_loss_that_is_zero_without_labels():
    """The loss of the first samples is zero, which fits a sum as well as a part without weight."""

    def loss(outputs, y):
        losses = functional.cross_entropy(outputs, y, reduction="none")
        return losses.sum() / (y != -100).sum().clamp(min=1)

    data = ignoring(samples((30, 24, 24)))
    data[0][1][:10] = -100
    check(Problem(network(), data, loss))
    check(Problem(network(), [data[0], data[2], data[1]], loss))


def hinge(outputs, y):
    """The mean squared hinge loss, with a margin of 0.1."""
    own = outputs.gather(1, y[:, None])
    others = functional.one_hot(y, 3) == 0
    return ((0.1 - own + outputs).clamp(min=0).square() * others).sum(1).mean()


def test_samples_without_a_gradient():
    """Most samples are classified with the margin, so that whole batches have the loss zero."""
    model = network()
    data = [(x, model(x).argmax(1)) for x, _ in samples()]
    data[1][1][-5:] = (data[1][1][-5:] + 1) % 3
    data[0][1][-1:] = (data[0][1][-1:] + 1) % 3
    problem = Problem(model, data, hinge)
    assert bind(problem, TorchOptions()).risk.reduction.rule == "mean"
    assert NOTE not in description(problem)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.MSELoss(reduction="sum")])
def test_a_network_that_fits_its_data_perfectly(loss, dtype):
    """Nothing but rounding errors is left of its losses and gradients."""
    model = network().to(dtype)
    data = [(x.to(dtype), model(x.to(dtype)).detach()) for x, _ in samples()]
    check(Problem(model, data, loss), close=1e-5)


@pytest.mark.parametrize("scale", [3, 30])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")])
def test_a_confident_network(loss, scale):
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    data = [(x, model(x).argmax(1)) for x, _ in samples()]
    # In small parts, a network that is confident enough has no losses at all.
    for microbatch in (None, 7) if scale == 3 else (None,):
        found = bind(Problem(model, data, loss), TorchOptions(microbatch=microbatch)).risk.reduction
        assert (found.rule, found.note) == (loss.reduction, "")


def test_one_weight():
    """Gradients of one number are always parallel."""
    torch.manual_seed(0)
    x = torch.randn(30, 1)
    data = list(zip(x.split((20, 10)), (x**2 + 1).split((20, 10)), strict=True))
    for reduction in ("mean", "sum"):
        problem = Problem(nn.Linear(1, 1, bias=False), data, nn.MSELoss(reduction=reduction))
        check(problem)


def test_terms_of_the_weights_alone():
    """A penalty is part of a mean, but would be added to a sum once per batch."""
    model = network()

    def penalised(reduction):
        def loss(model, batch):
            penalty = sum(p.square().sum() for p in model.parameters())
            loss = functional.cross_entropy(model(batch["x"]), batch["y"], reduction=reduction)
            return loss + 5e-3 * penalty

        return loss

    data = [{"x": x, "y": y} for x, y in samples()]
    check(Problem(model, data, penalised("mean")))
    hint = refused(Problem(model, data, penalised("sum")), "neither the sum nor a mean")
    assert "added to a sum once per batch" in hint


def contrastive(outputs, y):
    z = functional.normalize(outputs)
    return functional.cross_entropy(z @ z.roll(1, 0).T / 0.1, torch.arange(len(z)))


def cox(outputs, y):
    """The negative partial log-likelihood, with the first inputs in the order of their times."""
    risk = outputs[:, 0]
    return (risk.flip(0).logcumsumexp(0).flip(0) - risk).mean()


def root_mean_square(outputs, y):
    return (outputs[:, 0] - y).square().mean().sqrt()


@pytest.mark.parametrize("zero_head", [False, True])
@pytest.mark.parametrize("loss", [contrastive, cox, root_mean_square])
def test_a_loss_over_a_whole_batch_is_accepted_for_a_single_batch_only(loss, zero_head):
    if loss is contrastive and zero_head:
        pytest.skip("the direction of a zero vector is not defined")
    problem = Problem(network(zero_head), samples(), loss)
    hint = refused(problem, "neither the sum nor a mean, with any weights")
    assert 'reduction="mean"' in hint
    assert "right if the batches are those that the model is trained with" in hint
    check(replace(problem, data=[joined(problem.data)]), close=1e-5)
    refused(replace(problem, data=[joined(problem.data)]), "neither the sum nor a mean", microbatch=10)
    weights = [len(y) for _, y in problem.data]
    terms = [
        n * dense(replace(problem, data=[batch])) for n, batch in zip(weights, problem.data, strict=True)
    ]
    operator = bind(replace(problem, reduction="mean"), TorchOptions()).operator()
    exact, found = sum(terms) / sum(weights), operator.matmat(torch.eye(operator.shape[0]))
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_batch_norm_in_training_mode_is_not_additive():
    model = network()
    norm = nn.BatchNorm1d(6, track_running_stats=False)  # always uses the statistics of the batch
    problem = Problem(nn.Sequential(*model[:2], norm, model[2]), samples(), nn.CrossEntropyLoss())
    assert "BatchNorm" in refused(problem, "neither the sum nor a mean")


@pytest.mark.parametrize("batch", [2, 3])
def test_two_means_over_different_items_are_refused(batch):
    """A mean over tokens and a mean over samples have no common weights; later losses show it."""

    def loss(model, batch):
        return per_token(model, batch) + model(batch["ids"])[:, 0].square().mean()

    full = texts(((6, 7),) * 3)
    problem = Problem(Language(), [*full[: batch - 1], texts()[2]], loss)
    refused(problem, "neither the sum nor a mean")


def test_a_dead_network_is_refused_with_what_to_give():
    model = network()
    dead = nn.Sequential(model[0], nn.ReLU(), nn.Linear(6, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        dead[0].bias.fill_(-1e3)
    problem = Problem(dead, samples(), nn.MSELoss())
    problem = replace(problem, data=[(x, torch.zeros(len(y), 3)) for x, y in problem.data])
    hint = refused(problem, "gradients are zero or do not differ")
    for word in ("Problem(weight=...)", "reduction='mean'", "reduction='sum'"):
        assert word in hint
    bind(replace(problem, reduction="mean"), TorchOptions()).operator()


def test_a_single_batch_is_accepted_as_it_is():
    """There is nothing to weigh, whatever the loss and the shapes of its tensors are."""
    x, y = samples((9,))[0]
    check(Problem(network(), [(x[:1], y[:1])], nn.CrossEntropyLoss()))

    def whole(outputs, y):
        if len(outputs) != 30:
            raise ValueError("the batch was split")
        return contrastive(outputs, y)

    bind(Problem(network(), samples((30,)), whole), TorchOptions()).operator()

    def loss(model, batch):
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    data = [{"x": x, "y": y, "edges": torch.zeros(5, 2)}]
    check(Problem(network(), data, loss))


def test_a_single_batch_with_a_loss_that_is_not_finite_is_refused():
    x, y = samples((9,))[0]
    refused(
        Problem(network(), [(x, torch.full_like(y, -100))], nn.CrossEntropyLoss()), "loss of batch 0 is nan"
    )


def test_losses_that_are_not_finite_are_refused_unless_they_have_no_weight():
    data = samples()
    data[1][0][4, 2] = torch.nan
    assert "batch itself" in refused(
        Problem(network(), data, nn.CrossEntropyLoss()), "loss of batch 1 is nan"
    )
    data = samples()
    data[0][0][4, 2] = torch.nan
    refused(Problem(network(), data, nn.CrossEntropyLoss()), "loss of batch 0 is nan")
    data = [(x, torch.full_like(y, -100)) for x, y in samples()]
    refused(Problem(network(), data, nn.CrossEntropyLoss()), "loss of batch 0 is nan")


def test_weights_are_not_measured_without_checks():
    problem = Problem(network(), samples(), WEIGHTED["class weights"])
    assert "torch.check" in refused(problem, "mean with weights", check=False)
    for reduction in ("mean", "sum"):
        plain = replace(problem, loss=nn.CrossEntropyLoss(reduction=reduction))
        assert bind(plain, TorchOptions(check=False)).risk.reduction.rule == reduction


def test_batches_that_can_not_be_joined_need_a_weight():
    """The ratio of their weights can't be measured, though each of them has weights."""
    data = texts()
    data[1] = {key: x[:, :4] for key, x in data[1].items()}
    hint = refused(Problem(Language(), data, per_token), "batches 0 and 1 differ in shape")
    assert "Problem(weight=...)" in hint


def test_measured_weights_are_printed_and_saved(tmp_path):
    problem = Problem(network(True), samples(), WEIGHTED["class weights"])
    run = eigencore.analyze(problem, k=1, analyses="none", out=tmp_path / "run")
    assert NOTE in run.manifest["backend_description"]
    assert NOTE in eigencore.load(tmp_path / "run").manifest["backend_description"]


def test_data_that_grow_after_their_weights_were_measured():
    data = samples()
    operator = bind(
        Problem(network(), data, WEIGHTED["class weights"]), TorchOptions(memory="none")
    ).operator()
    v = torch.ones(operator.shape[0])
    operator.matvec(v)
    data.append(data[0])
    with pytest.raises(ProblemError, match="batch 3 is not the one whose weight was measured"):
        operator.matvec(v)
