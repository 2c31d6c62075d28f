"""Tiny models of Hugging Face's transformers library with random weights; nothing is downloaded."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from eigencore.interfaces import Problem
from eigencore_torch.backend import TorchOptions, bind

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SIZES = {"vocab_size": 7, "max_position_embeddings": 6, "attn_implementation": "sdpa"}


def bert():
    config = transformers.BertConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=5, num_labels=3, **SIZES
    )
    return transformers.BertForSequenceClassification(config)


def gpt2(**changed):
    config = transformers.GPT2Config(
        n_embd=4, n_layer=2, n_head=2, n_inner=5, bos_token_id=0, eos_token_id=0, **{**SIZES, **changed}
    )
    return transformers.GPT2LMHeadModel(config)


def own_loss(model, batch):
    """The model's own loss; GPT-2 computes it in float32, whatever the type of the weights."""
    return model(**batch).loss


def exact_loss(model, batch):
    logits = model(**batch).logits
    if logits.ndim == 2:
        return cross_entropy(logits, batch["labels"])
    return cross_entropy(logits[:, :-1].transpose(1, 2), batch["labels"][:, 1:])


def batches(kind, sizes=(3, 2)):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        ids = torch.randint(1, 7, (sum(sizes), 5))  # 0 is the padding token, which has no gradient
        labels = torch.randint(3, (sum(sizes),)) if kind is bert else ids
    mask = torch.ones_like(ids)
    return [
        transformers.BatchEncoding(dict(zip(("input_ids", "attention_mask", "labels"), parts, strict=True)))
        for parts in zip(*(x.split(sizes) for x in (ids, mask, labels)), strict=True)
    ]


def made(kind, **changed):
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = kind(**changed).double()
        for parameter in model.parameters():  # far from the region where the model is nearly linear
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def derivative_of_the_gradient(model, batch, v, step=1e-5):
    """A Hessian product by central differences of the gradient of the loss on one batch."""
    model.eval()
    weights = list(model.parameters())

    def gradient(move):
        with torch.no_grad():
            for p, piece in zip(weights, v.split([p.numel() for p in weights]), strict=True):
                p.add_(piece.reshape(p.shape), alpha=move)
        slopes = torch.autograd.grad(
            exact_loss(model, batch), weights, materialize_grads=True, allow_unused=True
        )
        return torch.cat([slope.reshape(-1) for slope in slopes])

    ahead, behind = gradient(step), gradient(-2 * step)
    gradient(step)
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("kind", [bert, gpt2])
@pytest.mark.parametrize("memory", ["none", "auto"])
def test_products_are_derivatives_of_the_gradient(kind, memory):
    model = made(kind)
    problem = Problem(model=model, data=batches(kind), loss=exact_loss)
    operator = bind(problem, TorchOptions(memory=memory)).operator()
    n = operator.shape[0]
    assert n == sum(p.numel() for p in model.parameters())
    v = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    product = operator.matvec(v)
    slope = derivative_of_the_gradient(model, batches(kind, (5,))[0], v)
    assert float((slope - product).norm()) <= 1e-7 * float(product.norm())


@pytest.mark.parametrize("kind", [bert, gpt2])
def test_the_matrix_is_symmetric_and_independent_of_the_batches(kind):
    model = made(kind)
    found = []
    for sizes in ((5,), (3, 2)):
        problem = Problem(model=model, data=batches(kind, sizes), loss=exact_loss)
        operator = bind(problem, TorchOptions()).operator()
        found.append(operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64)))
    torch.testing.assert_close(found[0], found[0].T, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def test_the_models_own_loss_agrees_up_to_its_rounding():
    operators = [
        bind(Problem(model=made(gpt2), data=batches(gpt2), loss=loss), TorchOptions()).operator()
        for loss in (own_loss, exact_loss)
    ]
    v = torch.ones(operators[0].shape[0], dtype=torch.float64)
    torch.testing.assert_close(operators[0].matvec(v), operators[1].matvec(v), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_by_chunks_of_tokens_the_own_loss_is_the_exact_one(chunk, tied):
    model = made(gpt2, tie_word_embeddings=tied)
    exact = bind(Problem(model=model, data=batches(gpt2), loss=exact_loss), TorchOptions()).operator()
    options = TorchOptions(vocabulary_chunk=chunk)
    chunked = bind(Problem(model=model, data=batches(gpt2), loss="model"), options).operator()
    v = torch.randn(exact.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(chunked.matvec(v), exact.matvec(v), rtol=1e-12, atol=1e-12)


def test_tied_weights_are_counted_once():
    model = made(gpt2)
    assert model.lm_head.weight is model.transformer.wte.weight
    bound = bind(Problem(model=model, data=batches(gpt2), loss=own_loss), TorchOptions())
    assert bound.operator(params="lm_head.*").shape == (28, 28)


def test_outputs_of_a_pair_batch_are_passed_to_the_loss():
    model = made(bert)
    pairs = [(batch["input_ids"], batch["labels"]) for batch in batches(bert)]

    def loss(outputs, y):
        return cross_entropy(outputs.logits, y)

    by_pair = bind(Problem(model=model, data=pairs, loss=loss), TorchOptions()).operator()
    by_batch = bind(Problem(model=model, data=batches(bert), loss=own_loss), TorchOptions()).operator()
    v = torch.ones(by_pair.shape[0], dtype=torch.float64)
    torch.testing.assert_close(by_pair.matvec(v), by_batch.matvec(v), rtol=0, atol=1e-12)


@pytest.mark.parametrize("initialised", [False, True])
def test_the_tokens_of_padded_sentences_are_counted_or_given(initialised):
    """In a model as the library initialises it, all losses are close to log 7, the size of the vocabulary."""
    data = batches(gpt2)
    for batch, length in zip(data, (5, 3), strict=True):
        batch["attention_mask"][:, length:] = 0
        batch["labels"] = batch["labels"].masked_fill(batch["attention_mask"] == 0, -100)
    model = made(gpt2)
    if initialised:
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            model = gpt2().double()
    joined = transformers.BatchEncoding({key: torch.cat([batch[key] for batch in data]) for key in data[0]})
    at_once = bind(Problem(model=model, data=[joined], loss=exact_loss), TorchOptions()).operator()
    v = torch.ones(at_once.shape[0], dtype=torch.float64)
    exact = at_once.matvec(v)

    def tokens(batch):
        return int((batch["labels"][:, 1:] != -100).sum())

    for loss, weight, close in (
        (exact_loss, tokens, 1e-12),
        (exact_loss, None, 1e-12),
        (own_loss, None, 1e-6),
        ("model", None, 1e-6),
    ):
        problem = Problem(model=model, data=data, loss=loss, weight=weight)
        bound = bind(problem, TorchOptions())
        found = bound.operator().matvec(v)
        assert float((found - exact).norm()) <= close * float(exact.norm())
        assert ("labels[:, 1:] != -100 (shifted)" in bound.description) == (weight is None)


def padded(lengths=((5, 3), (4, 2, 2))):
    """Batches that are padded to their longest sentence."""
    generator, data = torch.Generator().manual_seed(3), []
    for batch in lengths:
        ids = torch.randint(1, 7, (len(batch), max(batch)), generator=generator)
        kept = torch.arange(max(batch)) < torch.tensor(batch)[:, None]
        labels = ids.masked_fill(~kept, -100)
        data.append({"input_ids": ids * kept, "attention_mask": kept.long(), "labels": labels})
    return [transformers.BatchEncoding(batch) for batch in data]


def dense(model, data):
    """The Hessian of the mean over all tokens over the trainable weights, by autograd alone."""
    model.eval()
    counts = [int((batch["labels"][:, 1:] != -100).sum()) for batch in data]
    loss = sum(n * exact_loss(model, batch) for n, batch in zip(counts, data, strict=True)) / sum(counts)
    weights = [p for p in model.parameters() if p.requires_grad]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
    flat = torch.cat([slope.reshape(-1) for slope in slopes])
    rows = [torch.autograd.grad(x, weights, retain_graph=True, materialize_grads=True) for x in flat]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_activation_checkpointing_leaves_the_cache_out(attention):
    model, data = made(gpt2, attn_implementation=attention), padded()
    found = []
    for checkpoint in (False, True):
        options = TorchOptions(derivative="difference", checkpoint=checkpoint)
        operator = bind(Problem(model=model, data=data, loss=exact_loss), options).operator()
        found.append(operator.matvec(torch.ones(operator.shape[0], dtype=torch.float64)))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)
    assert model.config.use_cache


def lora():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = peft.get_peft_model(made(gpt2, attn_implementation="eager"), config).double()
    generator = torch.Generator().manual_seed(2)
    for p in model.parameters():
        if p.requires_grad:
            p.data = 0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("derivative", ["exact", "difference"])
@pytest.mark.parametrize(
    "make", [lambda: made(gpt2, attn_implementation="eager"), lora], ids=["gpt2", "lora"]
)
def test_models_and_batches_as_they_come(make, derivative):
    """The model computes its own loss in float32: products agree up to that rounding."""
    model, data = make(), padded()
    expected = dense(model, data)
    exact = derivative == "exact"
    for loss, close in (("model", 1e-5 if exact else 1e-3), (exact_loss, 1e-12 if exact else 1e-8)):
        bound = bind(Problem(model=model, data=data, loss=loss), TorchOptions(derivative=derivative))
        operator = bound.operator()
        assert operator.shape[0] == sum(p.numel() for p in model.parameters() if p.requires_grad)
        found = operator.matmat(torch.eye(operator.shape[0], dtype=torch.float64))
        assert float((found - expected).norm()) <= close * float(expected.norm())
        assert "(shifted)" in bound.description


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bfloat16_models_are_copied(attention):
    model = made(gpt2, attn_implementation=attention)
    half = made(gpt2, attn_implementation=attention).to(torch.bfloat16)
    model.float().load_state_dict(half.state_dict())
    products = []
    for one in (half, model):
        operator = bind(Problem(model=one, data=batches(gpt2), loss=own_loss), TorchOptions()).operator()
        products.append(operator.matvec(torch.ones(operator.shape[0])))
    torch.testing.assert_close(products[0], products[1], rtol=0, atol=0)
    assert next(half.parameters()).dtype == torch.bfloat16
