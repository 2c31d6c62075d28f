"""Models that compute their own loss, and batches of sequences weighted by their labels that count."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from eigencore.errors import ProblemError
from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind

VOCABULARY = 5


class Tiny(nn.Module):
    """A language model that calls its loss as Hugging Face's models do."""

    def __init__(self, shifted=True, mapping=False):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(VOCABULARY, 3), nn.GRU(3, 3, batch_first=True)
        self.head = nn.Linear(3, VOCABULARY)
        self.shifted, self.mapping = shifted, mapping

    def forward(self, input_ids, labels=None, attention_mask=None):
        logits, loss = self.head(self.hidden(self.embedding(input_ids))[0]), None
        if labels is not None:
            loss = self.mean(logits[:, :-1], labels[:, 1:]) if self.shifted else self.mean(logits, labels)
        return {"loss": loss, "logits": logits} if self.mapping else SimpleNamespace(loss=loss, logits=logits)

    def mean(self, logits, labels):
        return cross_entropy(logits.transpose(1, 2), labels)


class SmoothedTiny(Tiny):
    def mean(self, logits, labels):
        return cross_entropy(logits.transpose(1, 2), labels, label_smoothing=0.1)


class WeightedTiny(Tiny):
    """A mean weighted by classes: not by the number of labels."""

    def mean(self, logits, labels):
        return cross_entropy(logits.transpose(1, 2), labels, weight=torch.arange(1.0, 6.0).to(logits))


class MeansOfSentences(Tiny):
    def mean(self, logits, labels):
        each = cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return (each.sum(1) / (labels != -100).sum(1)).mean()


def made(kind=Tiny, **fields):
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return kind(**fields).double()


def sentences(lengths=((6, 4, 3), (5, 2)), padded=True):
    """Batches that are padded to their longest sentence."""
    generator = torch.Generator().manual_seed(0)
    data = []
    for batch in lengths:
        longest = max(batch)
        ids = torch.randint(VOCABULARY, (len(batch), longest), generator=generator)
        mask = torch.arange(longest) < torch.tensor(batch)[:, None]
        labels = ids.masked_fill(~mask, -100) if padded else ids
        data.append({"input_ids": ids, "labels": labels, "attention_mask": mask.long()})
    return data


def dense(model, data):
    """The Hessian of the mean over all labels that count, by autograd alone."""
    model.eval()
    total, count = 0.0, 0
    for batch in data:
        labels = batch["labels"][:, 1:] if model.shifted else batch["labels"]
        counted = int((labels != -100).sum())
        if counted:
            total, count = total + counted * read(model(**batch)), count + counted
    weights = list(model.parameters())
    slopes = torch.autograd.grad(total / count, weights, create_graph=True)
    flat = torch.cat([slope.reshape(-1) for slope in slopes])
    rows = [torch.autograd.grad(x, weights, retain_graph=True, materialize_grads=True) for x in flat]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


def read(outputs):
    return outputs["loss"] if isinstance(outputs, dict) else outputs.loss


def formed(problem, **options):
    bound = bind(problem, TorchOptions(**options))
    operator = bound.operator()
    return operator.matmat(torch.eye(operator.shape[0], dtype=operator.dtype)), bound


@pytest.mark.parametrize(
    "options", [{}, {"memory": "none"}, {"microbatch": 1}, {"microbatch": 2}, {"check": False}]
)
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Tiny, {}),
        (Tiny, {"mapping": True}),
        (Tiny, {"shifted": False}),
        (SmoothedTiny, {}),
    ],
)
def test_the_loss_of_a_model_is_weighted_by_the_labels_that_count(kind, fields, options):
    model, data = made(kind, **fields), sentences()
    found, bound = formed(Problem(model=model, data=data, loss="model"), **options)
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)
    which = "labels[:, 1:] != -100 (shifted)" if model.shifted else "labels != -100"
    assert f"batches weighted by the number of {which}, as gradients confirm" in bound.description


@pytest.mark.parametrize("shifted", [True, False])
def test_batches_of_several_lengths_without_padding_are_weighted_by_labels(shifted):
    """Only replaced labels show whether the first label of each sequence counts."""
    model, data = made(shifted=shifted), sentences(((4, 4), (7, 7, 7)), padded=False)
    found, _ = formed(Problem(model=model, data=data, loss="model"))
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)


def test_labels_may_be_the_inputs_themselves():
    data = sentences(padded=False)
    for batch in data:
        batch["labels"] = batch["input_ids"]
    model = made()
    found, bound = formed(Problem(model=model, data=data, loss="model"))
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)
    assert "(shifted)" in bound.description


def test_the_prompt_may_be_ignored_in_all_samples():
    data = sentences(((6, 6), (6, 6, 5)))
    for batch in data:
        batch["labels"][:, :3] = -100
    model = made()
    found, bound = formed(Problem(model=model, data=data, loss="model"))
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)
    assert "(shifted)" in bound.description


def test_a_batch_without_labels_that_count_has_no_weight():
    data = sentences(((6, 4), (5, 5), (4, 4)))
    data[1]["labels"][:] = -100
    model = made()
    found, _ = formed(Problem(model=model, data=data, loss="model"))
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)


def test_a_function_of_the_model_and_the_batch_is_weighted_in_the_same_way():
    model, data = made(), sentences()
    found, bound = formed(Problem(model=model, data=data, loss=lambda model, batch: model(**batch).loss))
    torch.testing.assert_close(found, dense(model, data), rtol=0, atol=1e-12)
    assert "(shifted)" in bound.description


def test_the_labels_agree_with_weights_measured_from_gradients():
    """Under another name, the labels are not looked at."""
    model, data = made(), sentences(((6, 4, 3), (6, 2)))
    renamed = [{"ids": batch["input_ids"], "targets": batch["labels"]} for batch in data]
    counted, _ = formed(Problem(model=model, data=data, loss="model"))
    measured, bound = formed(
        Problem(model=model, data=renamed, loss=lambda model, b: model(b["ids"], b["targets"]).loss)
    )
    assert "measured from gradients" in bound.description
    torch.testing.assert_close(counted, measured, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [WeightedTiny, MeansOfSentences])
def test_means_with_other_weights_are_not_taken_for_means_over_labels(kind):
    data = sentences(((6, 4, 3), (6, 2, 5, 5)))
    model = made(kind)
    _, bound = formed(Problem(model=model, data=data, loss="model"))
    assert "labels" not in bound.description


def test_the_empirical_fisher_of_sequences_weighs_samples_by_their_labels():
    model, data = made(), sentences()
    bound = bind(Problem(model=model, data=data, loss="model"), TorchOptions())
    operator = bound.operator("empirical_fisher")
    found = operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64))
    expected, total = torch.zeros_like(found), 0
    weights = list(model.parameters())
    for batch in data:
        for s in range(len(batch["labels"])):
            one = {key: x[s : s + 1] for key, x in batch.items()}
            slopes = torch.autograd.grad(model(**one).loss, weights)
            g, count = torch.cat([x.reshape(-1) for x in slopes]), int((one["labels"][:, 1:] != -100).sum())
            expected, total = expected + count * torch.outer(g, g), total + count
    torch.testing.assert_close(found, expected / total, rtol=0, atol=1e-12)


class WithoutLoss(nn.Linear):
    def forward(self, x, labels=None):
        return super().forward(x)


@pytest.mark.parametrize(
    ("model", "data", "fields", "message", "hint"),
    [
        (
            Tiny(),
            [(torch.ones(2, 4).long(), torch.ones(2, 4).long())],
            {},
            "the batch is",
            "'input_ids': ids",
        ),
        (Tiny(), [{"input_ids": torch.ones(2, 4).long()}], {}, "without a loss", "copy of `input_ids`"),
        (WithoutLoss(4, 3), [{"x": torch.ones(2, 4), "labels": torch.ones(2)}], {}, "Tensor", "with `loss`"),
        (Tiny(), sentences(), {"call": "loss(model(x), y)"}, "but call is", "Leave call out"),
        (Tiny(), [{**sentences()[0], "length": 3}], {}, "unexpected keyword", "forward"),
    ],
)
def test_what_the_loss_of_a_model_needs(model, data, fields, message, hint):
    with pytest.raises(ProblemError, match=message) as caught:
        bind(Problem(model=model, data=data, loss="model", **fields), TorchOptions()).operator()
    assert hint in caught.value.hint


def test_another_word_is_no_loss():
    with pytest.raises(ProblemError, match="the loss is a str") as caught:
        bind(Problem(model=Tiny(), data=sentences(), loss="own"), TorchOptions())
    assert '"model" stands for model(**batch).loss' in caught.value.hint
