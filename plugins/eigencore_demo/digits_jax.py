"""The network of `demo:digits` with its weights, as a function for JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore.interfaces import Problem
from eigencore.problems.sharing import handwritten_digits, requires_extras, split_batches
from eigencore_demo.digits import TRAINING, WEIGHTS
from eigencore_demo.shipped import BATCH

if TYPE_CHECKING:
    from jax import Array


def make() -> Problem:
    """The problem `demo:digits-jax`.

    Raises:
        PluginError: JAX or scikit-learn is missing.
    """
    with requires_extras("demo:digits-jax", "jax,demo"):
        import jax

        images, y = handwritten_digits()
    x = images[:, None]
    with np.load(WEIGHTS, allow_pickle=False) as saved:
        params = dict(saved)
    held_out = x[TRAINING:], y[TRAINING:]
    logits = np.asarray(jax.jit(network)(params, held_out[0]))
    correct = float(np.mean(np.argmax(logits, axis=1) == held_out[1]))
    size = sum(w.size for w in params.values())
    return Problem(
        model=(network, params),
        data=split_batches(x[:TRAINING], y[:TRAINING], BATCH),
        loss=cross_entropy,
        validation=[held_out],
        bounds=(0.0, 1.0),
        name="demo:digits-jax",
        reduction="mean",
        backend="jax",
        description=f"CNN, {size:,} weights · {TRAINING:,} images of 8x8 · "
        f"test accuracy {100 * correct:.1f} %",
    )


def network(params: dict[str, Array], x: Array) -> Array:
    """The logits (b, 10) of images x (b, 1, 8, 8)."""
    import jax
    from jax import lax

    def convolution(name: str, z: Array) -> Array:
        z = lax.conv_general_dilated(z, params[f"{name}.weight"], (1, 1), [(1, 1), (1, 1)])
        return jax.nn.relu(z + params[f"{name}.bias"][:, None, None])

    z = convolution("conv2", convolution("conv1", x))
    b, c, h, w = z.shape
    halved = z.reshape(b, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
    features = convolution("conv3", halved).mean(axis=(2, 3))
    return features @ params["head.weight"].T + params["head.bias"]


def cross_entropy(logits: Array, y: Array) -> Array:
    """The cross-entropy of each sample (b,)."""
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]
