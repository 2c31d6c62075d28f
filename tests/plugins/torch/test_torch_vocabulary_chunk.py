"""`torch.vocabulary_chunk`: the same operator, without memory that grows with vocabulary times tokens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.errors import CapabilityError, OptionError, ProblemError
from eigencore.options import resolve
from eigencore_torch.allocations import allocation
from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation import chunked_logits
from eigencore_torch.evaluation.chunked_logits import ChunkedCrossEntropy, output_layer


class Language(nn.Module):
    """A language model that computes its own loss, with the labels shifted, as Hugging Face's do."""

    def __init__(self, vocabulary=7, width=3, bias=True, tied=False, loss=None):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=bias)
        if tied:
            self.head.weight = self.embedding.weight
        self.compute = loss or flattened

    def forward(self, input_ids, labels=None):
        logits = self.head(torch.tanh(self.hidden(self.embedding(input_ids))))
        return SimpleNamespace(loss=self.compute(logits, labels), logits=logits)


def flattened(z, labels):
    shifted = functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
    return functional.cross_entropy(z.view(-1, z.size(-1)), shifted.view(-1), ignore_index=-100)


def sliced(z, labels):
    z = z[..., :-1, :].contiguous()
    return functional.cross_entropy(z.reshape(-1, z.shape[-1]), labels[..., 1:].reshape(-1))


def transposed(z, labels):
    return nn.CrossEntropyLoss()(z[:, :-1].transpose(1, 2), labels[:, 1:])


def summed(z, labels):
    n = (labels[:, 1:] != -100).sum()
    return functional.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / n


def masked(z, labels):
    kept = labels[:, 1:] != -100
    return functional.cross_entropy(z[:, :-1][kept], labels[:, 1:][kept])


LOSSES = [flattened, sliced, transposed, summed, masked]


def problem(dtype=torch.float64, lengths=(6, 5), vocabulary=7, sequences=4, **fields):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Language(vocabulary, **fields).to(dtype)
        for p in model.parameters():
            nn.init.normal_(p, std=0.5)
        data = []
        for length in lengths:
            ids = torch.randint(vocabulary, (sequences, length))
            kept = torch.arange(length) < torch.randint(4, length + 1, (sequences, 1))
            data.append({"input_ids": ids, "labels": ids.masked_fill(~kept, -100)})
    return eigencore.Problem(model, data, "model")


def dense(given):
    """The Hessian of the loss over all labels, from the logits, by double backward row by row."""
    model = given.model
    weights = list(model.parameters())
    total = count = 0
    for batch in given.data:
        n = int((batch["labels"][:, 1:] != -100).sum())
        total, count = total + n * model(**batch).loss, count + n
    gradients = torch.autograd.grad(total / count, weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    rows = [
        torch.autograd.grad(one, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
        for one in flat
    ]
    return torch.stack([torch.cat([x.reshape(-1) for x in row]) for row in rows])


@pytest.mark.parametrize("chunk", [1, 4, 10_000])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("bias", "tied"), [(True, True), (False, True), (True, False)])
def test_the_operator_is_that_of_the_same_loss(bias, tied, loss, chunk, hessian):
    given = problem(bias=bias, tied=tied, loss=loss)
    found = hessian(given, vocabulary_chunk=chunk)
    torch.testing.assert_close(found, dense(given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"memory": "none"}, {"microbatch": 2}, {"check": False}])
def test_with_other_options(options, hessian):
    given = problem(tied=True)
    torch.testing.assert_close(
        hessian(given, vocabulary_chunk=3, **options), dense(given), rtol=0, atol=1e-12
    )


def test_some_of_the_weights_and_another_type(hessian):
    given = problem(torch.float32)
    found = hessian(given, "embedding.weight,head.bias", vocabulary_chunk=3, dtype="float64")
    expected = hessian(given, "embedding.weight,head.bias", dtype="float64")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_function_of_pairs_and_differences():
    """The layer is found by its size; a loss(model(x), y) and products by differences work, too."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 30)).double()
        x, y = torch.randn(20, 4).double(), torch.randint(30, (20,))
    given = eigencore.Problem(model, [(x, y)], nn.CrossEntropyLoss())
    v = torch.randn(205, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = bind(given, TorchOptions()).operator().matvec(v)
    for derivative, error in (("exact", 1e-13), ("difference", 1e-7)):
        bound = bind(given, TorchOptions(vocabulary_chunk=3, derivative=derivative))
        torch.testing.assert_close(bound.operator().matvec(v), expected, rtol=0, atol=error)


def test_the_derivatives_pass_gradcheck():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        h, w, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((5, 3), (7, 3), (7,)))
        y = torch.randint(7, (5,))

    def loss(h, w, b):
        return ChunkedCrossEntropy.apply(h, w, b, y, 2)

    assert torch.autograd.gradcheck(loss, (h, w, b))
    assert torch.autograd.gradgradcheck(loss, (h, w, b))


@pytest.mark.parametrize("derivative", ["exact", "difference"])
def test_the_memory_of_a_product_does_not_grow_with_vocabulary_times_tokens(derivative):
    """64 more sequences of 16 tokens have 960 x 2,000 logits; by chunks, they take less than one copy."""

    def peak(sequences, chunk):
        given = problem(lengths=(16,), vocabulary=2000, sequences=sequences, width=4)
        options = TorchOptions(memory="none", vocabulary_chunk=chunk, derivative=derivative, check=False)
        operator = bind(given, options).operator()
        v = torch.ones(operator.shape[0], dtype=torch.float64)
        return allocation(lambda: operator.matvec(v)).peak

    logits = 64 * 15 * 2000 * 8
    assert peak(72, 32) - peak(8, 32) < 0.1 * logits
    assert peak(72, None) - peak(8, None) > 2 * logits


def test_the_model_and_its_output_layer_are_left_as_they_were():
    given = problem()
    forward = given.model.head.forward.__func__
    bind(given, TorchOptions(vocabulary_chunk=4)).operator().matvec(
        torch.ones(sum(p.numel() for p in given.model.parameters()), dtype=torch.float64)
    )
    assert "forward" not in vars(given.model.head)
    assert given.model.head.forward.__func__ is forward
    assert type(given.model(**given.data[0]).logits) is torch.Tensor


# -- what is not a plain cross-entropy of the logits -------------------------------------------------------


def capped(z, labels):
    return transposed(5 * torch.tanh(z / 5), labels)


def smoothed(z, labels):
    return functional.cross_entropy(z[:, :-1].transpose(1, 2), labels[:, 1:], label_smoothing=0.1)


def weighted(z, labels):
    weight = torch.linspace(1, 2, z.shape[-1], dtype=z.dtype)
    return functional.cross_entropy(z[:, :-1].transpose(1, 2), labels[:, 1:], weight=weight)


def in_place(z, labels):
    z.mul_(0.5)
    return transposed(z, labels)


@pytest.mark.parametrize("loss", [capped, smoothed, weighted, in_place])
def test_another_loss_is_refused(loss):
    bound = bind(problem(loss=loss), TorchOptions(vocabulary_chunk=4))
    with pytest.raises(ProblemError, match=r"no effect: the loss is not a plain cross-entropy .* of head"):
        bound.operator()


def penalised(z, labels):
    kept = labels[:, 1:] != -100
    return transposed(z, labels) + 1e-2 * z[:, :-1].logsumexp(-1)[kept].square().mean()


def test_what_needs_the_logits_beside_the_cross_entropy_gets_them(hessian):
    """As a z-loss does: the operator is right, although the logits are computed."""
    given = problem(loss=penalised)
    expected = hessian(given)
    torch.testing.assert_close(hessian(given, vocabulary_chunk=4), expected, rtol=0, atol=1e-12)


def test_a_loss_that_the_chunks_would_change_is_refused(monkeypatch):
    original = chunked_logits.Logits.cross_entropy
    monkeypatch.setattr(chunked_logits.Logits, "cross_entropy", lambda *given: 1.01 * original(*given))
    with pytest.raises(ProblemError, match="changes the loss of the first sample from"):
        bind(problem(), TorchOptions(vocabulary_chunk=4)).operator()


def test_inputs_that_change_in_place_are_refused():
    class Changing(Language):
        def forward(self, input_ids, labels=None):
            h = torch.tanh(self.hidden(self.embedding(input_ids)))
            logits = self.head(h)
            h.mul_(2)
            return SimpleNamespace(loss=self.compute(logits, labels))

    given = problem()
    model = Changing().double()
    with pytest.raises(ProblemError, match="inputs of the output layer are changed in place"):
        bind(eigencore.Problem(model, given.data, "model"), TorchOptions(vocabulary_chunk=4)).operator()


def test_a_model_without_a_linear_layer_is_refused():
    model = nn.Sequential(nn.Conv1d(3, 5, 1), nn.Flatten()).double()
    x, y = torch.randn(8, 3, 1).double(), torch.randint(5, (8,))
    bound = bind(eigencore.Problem(model, [(x, y)], nn.CrossEntropyLoss()), TorchOptions(vocabulary_chunk=4))
    with pytest.raises(ProblemError, match="needs a linear output layer, and Sequential has none"):
        bound.operator()


@pytest.mark.parametrize("kind", ["ggn", "fisher", "empirical_fisher"])
def test_kinds_that_need_the_logits_are_refused(kind):
    with pytest.raises(CapabilityError, match=r"vocabulary_chunk=4 multiplies by the Hessian only"):
        bind(problem(), TorchOptions(vocabulary_chunk=4)).operator(kind)


def test_the_output_embeddings_are_preferred():
    model = Language()
    assert output_layer(model) is model.head
    model.get_output_embeddings = lambda: model.other
    model.other = nn.Linear(3, 2)
    assert output_layer(model) is model.other


@pytest.mark.parametrize("text", ["0", "many"])
def test_an_invalid_number_is_refused(text):
    with pytest.raises(OptionError, match=r"torch\.vocabulary_chunk is"):
        resolve(TorchOptions, {"vocabulary_chunk": text}, entry="torch")
