"""The JAX backend: validates a model, its loss and its data, and binds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import Problem
from eigencore.problems.sharing import (
    DTYPES,
    check_bounds,
    check_call,
    check_channels,
    check_finite_weights,
    check_reduction,
)
from eigencore_jax.bound import JaxBound, available_dtype
from eigencore_jax.checkpoint import load
from eigencore_jax.models import Weights, as_model
from eigencore_jax.options import JaxOptions
from eigencore_jax.risk import Placement, float64_is_on


def bind(
    problem: Problem, options: JaxOptions, *, device: str | None = None, dtype: str | None = None
) -> JaxBound:
    """Binds a problem to JAX.

    Args:
        problem: the model is a pair (apply, params) of a function apply(params, x) and a pytree of arrays, a
            pair of a Flax Linen module and its variables, a Flax NNX module, or an Equinox module. The loss
            is a function of the outputs and the targets that returns a number, or one for each sample, of
            which the mean is taken unless reduction="sum"; or an `eigencore.interfaces.Objective`.
        device: a platform of JAX, such as "cpu", "gpu", "cuda" or "tpu", with a number as in "gpu:1"; None:
            JAX's default.
        dtype: "float32", or "float64" if it is turned on in JAX; None: that of the weights, which are refused
            if they have another one.

    Raises:
        ProblemError: the model, its weights, the data or the loss is not valid.
        UsageError: the device, data type or reduction is not available.

    Example:
        import jax.numpy as jnp
        import numpy as np
        import eigencore

        def loss(outputs, y):
            return jnp.mean((outputs - y) ** 2)

        model = (lambda params, x: x @ params["w"], {"w": jnp.ones(4)})
        problem = eigencore.Problem(model=model, data=[(np.eye(4), np.arange(4.0))], loss=loss)
        print(eigencore.bind(problem, backend="jax").loss())
    """
    check_reduction(problem.reduction, problem.weight)
    check_call(problem.call)
    check_bounds(problem.bounds)
    check_channels(problem.channels)
    if not callable(problem.loss) and not hasattr(problem.loss, "value"):
        raise ProblemError(f"the loss is a {type(problem.loss).__name__}; expected a function")
    model, note = as_model(problem.model), ""
    if problem.checkpoint is not None:
        weights, note = load(problem.checkpoint, model)
        model = replace(model, weights=weights)
    own = _own_dtype(model.weights) if dtype is None else available_dtype(dtype)
    _check_finite(model.weights)
    return JaxBound(problem, model, Placement(own, _device(device)), options, note)


def _own_dtype(weights: Weights) -> str:
    """The data type of the weights, in which JAX computes at this moment.

    Raises:
        ProblemError: they have several types, or another one than float32 and float64, or float64 is not
            turned on, where JAX would round them to float32.
    """
    found = {str(w.dtype) for w in weights.values()}
    if len(found) > 1 or not found <= set(DTYPES):
        raise ProblemError(
            f"the weights are {' and '.join(sorted(found))}; expected all in {' or in '.join(DTYPES)}",
            hint="Convert them with dtype='float32'.",
        )
    if found == {"float64"} and not float64_is_on():
        raise ProblemError(
            "the weights are float64, but JAX computes in float32 unless float64 is turned on",
            hint="Set the environment variable JAX_ENABLE_X64=1, or convert them with dtype='float32'.",
        )
    return found.pop()


def _check_finite(weights: Weights) -> None:
    for name, w in weights.items():
        not_finite = np.sum(~np.isfinite(np.asarray(w)))  # on the host, where nothing is compiled
        check_finite_weights(name, int(not_finite), w.size)


def _device(name: str | None) -> Any:
    platform, _, number = (name or "").partition(":")
    try:
        devices = jax.devices(platform or None)
        return devices[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        known = ", ".join(sorted({device.platform for device in jax.devices()} | {"cpu"}))
        raise UsageError(
            f"device is {name!r}, which JAX does not have; available: {known}",
            hint="Leave device out for JAX's default.",
        ) from error
