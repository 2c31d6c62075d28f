"""Images on JAX: Flax has the channels last, Equinox first; attacks on them are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eigencore import attack
from eigencore.errors import UsageError
from eigencore.interfaces import Problem
from eigencore.problems import bind
from kit.jax_networks import cross_entropy, jax, jnp

SHAPE, FILTERS, C, SAMPLES = (2, 7, 6), 5, 3, 24  # so that the shape does not show which axis is the channels
RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((FILTERS, SHAPE[0], 3, 3)).astype("float32")
HEAD = RNG.standard_normal((FILTERS, C)).astype("float32")
IMAGES = RNG.uniform(size=(SAMPLES, *SHAPE)).astype("float32")


def pooled(features: Any, axes: tuple[int, ...]) -> Any:
    return jnp.mean(jax.nn.softplus(features), axis=axes)


def plain() -> Any:
    """Channels first, as is the default of JAX's convolutions."""
    params = {"kernel": jnp.asarray(KERNEL), "head": jnp.asarray(HEAD)}
    return (lambda p, x: pooled(jax.lax.conv(x, p["kernel"], (1, 1), "VALID"), (2, 3)) @ p["head"], params)


def linen() -> Any:
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            features = nn.Conv(FILTERS, (3, 3), padding="VALID", use_bias=False, name="conv")(x)
            return nn.Dense(C, use_bias=False, name="head")(pooled(features, (1, 2)))

    weights = {"conv": {"kernel": KERNEL.transpose(2, 3, 1, 0)}, "head": {"kernel": HEAD}}
    return Net(), {"params": jax.tree.map(jnp.asarray, weights)}


def equinox() -> Any:
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        head: jax.Array

        def __call__(self, x: Any) -> Any:
            return pooled(self.conv(x), (1, 2)) @ self.head

    conv = eqx.nn.Conv2d(SHAPE[0], FILTERS, 3, use_bias=False, key=jax.random.key(0))
    return Net(eqx.tree_at(lambda one: one.weight, conv, jnp.asarray(KERNEL)), jnp.asarray(HEAD))


def problem(model: Any, last: bool, **changes: Any) -> Problem:
    images = np.moveaxis(IMAGES, 1, -1) if last else IMAGES
    apply, params = plain()
    labels = np.asarray(jnp.argmax(apply(params, IMAGES), axis=1))
    return Problem(model, [(images, labels)], cross_entropy, backend="jax", bounds=(0, 1), **changes)


@pytest.mark.parametrize(("make", "axis"), [(plain, 0), (equinox, 0), (linen, 2)])
def test_the_usual_axis_is_that_of_the_convolutions_of_the_library(make: Any, axis: int) -> None:
    last = axis == 2
    assert bind(problem(make(), last)).classifier().channel_axis == axis
    stated = bind(problem(make(), last, channels="first")).classifier()
    assert stated.channel_axis == 0
    with pytest.raises(UsageError, match="channels is 'middle'"):
        bind(problem(make(), last, channels="middle"))


def test_square_is_the_same_with_the_channels_last() -> None:
    first, last = (
        attack(problem(make(), one), "square", eps=0.1, queries=40)
        for make, one in ((equinox, False), (linen, True))
    )
    assert 0.1 < first.success.mean() < 1
    np.testing.assert_array_equal(first.success, last.success)
    np.testing.assert_allclose(last.distance, first.distance, rtol=1e-5)
