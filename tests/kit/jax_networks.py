"""A small classifier for JAX on random samples, in ragged batches; without JAX, its tests are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore.interfaces import Problem

jax = pytest.importorskip("jax")
jnp = jax.numpy
ravel_pytree = pytest.importorskip("jax.flatten_util").ravel_pytree

D, H, C, SIZES = 6, 5, 4, (7, 5, 3)


def two_layers(params: Any, x: Any) -> Any:
    """The logits (b, 4) of inputs (b, 6)."""
    hidden = jax.nn.softplus(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return hidden @ params["head"]["w"] + params["head"]["b"]


def cross_entropy(logits: Any, y: Any) -> Any:
    """The mean cross-entropy ()."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))


def small_jax(seed: int = 0, **replacements: Any) -> Problem:
    """A problem in float32; keywords replace its attributes."""
    rng = np.random.default_rng(seed)
    shapes = {"hidden": {"w": (D, H), "b": (H,)}, "head": {"w": (H, C), "b": (C,)}}
    params = jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape) / 2, dtype="float32"),
        shapes,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
    data = [(rng.standard_normal((size, D)), rng.integers(0, C, size)) for size in SIZES]
    defaults: dict[str, Any] = {
        "model": (two_layers, params),
        "data": data,
        "loss": cross_entropy,
        "backend": "jax",
    }
    return Problem(**(defaults | replacements))
