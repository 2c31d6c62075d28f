"""`Problem.weight` on JAX: class weights, and labels that do not count."""

from __future__ import annotations

import unittest
from contextlib import suppress

import numpy as np
import pytest

from eigencore.arrays import to_host
from eigencore.errors import ProblemError, UsageError
from eigencore.problems import bind
from eigencore.testing import backend_checks
from kit.jax_networks import SIZES, C, D, cross_entropy, jax, jnp, ravel_pytree, small_jax

CLASS_WEIGHTS = np.array([0.2, 1.0, 3.0, 0.5])
TOKENS, IGNORED = 3, -1


def by_class(logits, y):
    """The mean cross-entropy with class weights, as PyTorch defines it."""
    w = jnp.asarray(CLASS_WEIGHTS, dtype=logits.dtype)[y]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]
    return jnp.sum(w * losses) / jnp.sum(w)


def class_weight(batch):
    return CLASS_WEIGHTS[batch[1]].sum()


def by_token(logits, y):
    """The mean over the labels that count: 0 / 0 for a sequence without any, and so is its gradient."""
    counted = y != IGNORED
    found = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(counted, y, 0)[..., None], axis=-1)
    return -jnp.sum(counted * found[..., 0]) / jnp.sum(counted)


def tokens_that_count(batch):
    return np.sum(batch[1] != IGNORED)


def sequences():
    """Batches of sequences; no label counts in two sequences of the first batch, and in the second batch."""
    rng = np.random.default_rng(3)
    data = [(rng.standard_normal((size, TOKENS, D)), rng.integers(0, C, (size, TOKENS))) for size in SIZES]
    data[0][1][2:4], data[0][1][0, 1:], data[1][1][:] = IGNORED, IGNORED, IGNORED
    return data


PROBLEMS = {
    "class weights": lambda: small_jax(loss=by_class, weight=class_weight),
    "tokens": lambda: small_jax(loss=by_token, weight=tokens_that_count, data=sequences()),
}


def over_all_data(problem):
    """The loss over all samples at once, as a function of the flat weights, and these."""
    apply, params = problem.model
    x, y = (np.concatenate(parts) for parts in zip(*problem.data, strict=True))
    flat, unflatten = ravel_pytree(params)
    return (lambda w: problem.loss(apply(unflatten(w), jnp.asarray(x, dtype="float32")), y)), flat


@pytest.mark.parametrize("options", [{}, {"microbatch": 4, "linearize": False}], ids=["whole", "in parts"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_operator_is_that_of_the_loss_over_all_data(name, options):
    problem = PROBLEMS[name]()
    loss, flat = over_all_data(problem)
    bound = bind(problem, **options)
    assert bound.loss() == pytest.approx(float(loss(flat)), rel=1e-5)
    np.testing.assert_allclose(bound.gradient(), jax.grad(loss)(flat), atol=1e-6)
    A, expected = bound.operator(), np.asarray(jax.hessian(loss)(flat))
    found = to_host(A.matmat(jnp.eye(len(flat), dtype="float32")))
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("class weights", "hessian"), ("tokens", "ggn")])
def test_the_laws_of_backends_hold(name, kind):
    with jax.enable_x64(True):
        for check in backend_checks(PROBLEMS[name](), dtype="float64", kind=kind):
            with suppress(unittest.SkipTest):  # the loss is none of eigencore.objectives
                check()


def test_batches_are_drawn_by_their_weights():
    A = bind(PROBLEMS["tokens"](), check=False).operator()
    shares = sorted({A.minibatch(step, 0)[1] for step in range(30)})
    weights = [tokens_that_count(batch) for batch in sequences()]
    assert shares == pytest.approx(sorted(w / sum(weights) for w in weights if w))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"weight": None}, ProblemError, "neither"),
        ({"weight": lambda batch: len(batch[1])}, ProblemError, "with the weights that weight returns"),
        ({"weight": class_weight, "reduction": "sum"}, UsageError, "both given"),
        ({"weight": lambda batch: float("nan")}, ProblemError, "weight returned nan for samples 0 to 0"),
        ({"weight": lambda batch: -1}, ProblemError, "expected a finite number of at least 0"),
        ({"weight": lambda batch: 1}, ProblemError, "weight returns 1 for batch 0 but 7 in total"),
        ({"weight": lambda batch: 0}, ProblemError, "every batch has weight zero"),
        ({"weight": lambda batch: batch["y"]}, ProblemError, "weight failed on samples 0 to 0"),
        ({"loss": lambda z, y: jnp.sum(z**2, axis=1)}, ProblemError, "a number for each sample, and weight"),
        ({"loss": lambda z, y: len(y) * cross_entropy(z, y), "weight": len}, ProblemError, "weight returns"),
    ],
)
def test_an_unsound_weight_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        bind(small_jax(**({"loss": by_class, "weight": class_weight} | changes))).loss()


def test_a_wrong_gradient_is_found_although_some_labels_do_not_count():
    @jax.custom_vjp
    def doubled(z):
        return z

    doubled.defvjp(lambda z: (z, None), lambda _, slope: (2 * slope,))
    problem = small_jax(loss=lambda z, y: by_token(doubled(z), y), weight=tokens_that_count, data=sequences())
    with pytest.raises(ProblemError, match="the gradient differs by"):
        bind(problem).loss()


def test_the_hint_for_class_weights_names_weight():
    with pytest.raises(ProblemError) as caught:
        bind(small_jax(loss=by_class)).loss()
    assert "Problem(weight=...)" in caught.value.hint
