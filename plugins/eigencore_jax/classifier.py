"""A model as a classifier: its logits and their derivatives over the inputs, compiled for each batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eigencore.errors import CapabilityError
from eigencore.interfaces import Array, Objective, Problem
from eigencore.problems.sharing import (
    bounds_of_rows,
    check_labels,
    check_row_vectors,
    check_rows,
    infer_channel_axis,
)
from eigencore_jax.data import JaxSamples
from eigencore_jax.models import ByIdentity, Weights
from eigencore_jax.risk import Placement


@dataclass(frozen=True)
class ImageNetwork:
    """A model of inputs in rows; hashable.

    Attributes:
        model: (weights, constants, x) -> logits (b, c), for inputs x (b, *shape).
        shape: the shape of one input.
        classes: the number of classes c.
        usual: "first" or "last", where the channels of images usually are in such models.
    """

    model: Callable[..., Any]
    shape: tuple[int, ...]
    classes: int
    usual: str

    @property
    def d(self) -> int:
        """The number of values in one input."""
        return prod(self.shape)

    def __call__(self, weights: Weights, constants: Any, x: Array) -> Array:
        """The logits (b, c) of rows (b, d)."""
        return self.model(weights, constants, jnp.reshape(x, (-1, *self.shape)))


def classification(
    model: Callable[..., Any],
    weights: Weights,
    constants: Any,
    samples: JaxSamples,
    place: Placement,
    usual: str,
) -> ImageNetwork:
    """The model as a classifier of samples (x, y).

    Args:
        usual: `JaxModel.channels`.

    Raises:
        CapabilityError: the problem is not a classification with floating-point inputs; the message says why.
    """
    x, y = samples.batch
    if not isinstance(x, np.ndarray) or x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise _no_classifier("the inputs are not one array of floating-point numbers")
    if not isinstance(y, np.ndarray) or y.ndim != 1 or y.dtype.kind not in "iu":
        raise _no_classifier("the targets are not one integer for each sample")
    try:
        outputs = jax.eval_shape(model, weights, constants, place(x[:2]))
    except Exception as error:
        raise _no_classifier(f"the model fails: {type(error).__name__}: {error}") from error
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    if len(shape) != 2 or shape[0] != len(x[:2]) or shape[1] < 2:
        raise _no_classifier(f"the outputs for two samples are {outputs}; expected logits (2, classes)")
    if y.min() < 0 or y.max() >= shape[1]:
        raise _no_classifier(f"labels from {y.min()} to {y.max()} for {shape[1]} outputs")
    return ImageNetwork(model, x.shape[1:], shape[1], usual)


def _no_classifier(why: str) -> CapabilityError:
    return CapabilityError(f"this problem offers no classifier: {why}")


class JaxClassifier:
    """The logits of a model for inputs in rows, and their derivatives; see `eigencore.interfaces.Classifier`.

    Args:
        network: the model.
        weights, constants: those of the model, as placed.
        samples: the samples that `samples` returns.
        problem: its bounds and its axis of channels are those of the inputs.
        place: the data type and the device.

    Raises:
        ProblemError: the bounds or the stated channels do not fit the inputs.

    Example:
        import eigencore
        from eigencore.objectives import CrossEntropy

        classifier = eigencore.bind("demo:digits-jax").classifier()
        x, y = classifier.samples(4)
        value, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    """

    xp = jnp

    def __init__(
        self,
        network: ImageNetwork,
        weights: Weights,
        constants: Any,
        samples: JaxSamples,
        problem: Problem,
        place: Placement,
    ):
        self._network, self._weights, self._constants = network, weights, constants
        self._samples, self._place = samples, place
        self.shape, self.classes = network.shape, network.classes
        self.dtype, self.device = jnp.dtype(place.dtype), place.device
        self.channel_axis = infer_channel_axis(self.shape, problem.channels, network.usual)
        self.bounds = bounds_of_rows(problem.bounds, self.shape, self, self.channel_axis)

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        """The first `most` samples, or all of them: inputs (N, d) and labels (N,)."""
        x, y = self._samples.batch
        x, y = self._place((x[:most].reshape(len(x[:most]), -1), y[:most]))
        return x, y

    def logits(self, x: Array, /) -> Array:
        """The logits (b, c) for inputs (b, d)."""
        return _logits(self._network, self._weights, self._constants, self._rows(x))

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""
        x, y = self._labelled(x, y)
        fixed, moving = split_objective(objective)
        value, gradient = _value_and_grad(self._network, fixed, moving, self._weights, self._constants, x, y)
        return value, gradient

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        """A function from rows v (b, d) to each sample's Hessian over its input, times its row of v."""
        x, y = self._labelled(x, y)
        fixed, moving = split_objective(objective)
        linear = _input_hessians(self._network, fixed, moving, self._weights, self._constants, x, y)

        def product(v: Array) -> Array:
            check_row_vectors(v, x)
            return _apply(linear, self._rows(v))

        return product

    def _labelled(self, x: Array, y: Array) -> tuple[Array, Array]:
        check_labels(y, x)
        return self._rows(x), y

    def _rows(self, x: Array) -> Array:
        check_rows(x, self._network.d)
        return x if x.dtype == self.dtype else jnp.asarray(x, dtype=self.dtype)


@dataclass(frozen=True)
class Hole:
    """The place of an array in an objective.

    Attributes:
        index: the number of the array.
    """

    index: int


def split_objective(objective: Objective) -> tuple[Any, list[Array]]:
    """An objective with holes in place of its arrays, which can be hashed, and the arrays.

    So it is compiled once for all targets that it may have. Arrays are found in dataclasses, also in those
    that a dataclass consists of; any other objective is compiled for each object.

    Example:
        import jax.numpy as jnp
        from eigencore.objectives import Margin
        from eigencore_jax.classifier import split_objective

        print(split_objective(Margin(against=jnp.zeros(2, dtype=int))))
    """
    found: list[Array] = []

    def without_arrays(value: Any) -> Any:
        if isinstance(value, jax.Array | np.ndarray):
            found.append(value)
            return Hole(len(found) - 1)
        return _mapped(value, without_arrays)

    fixed = without_arrays(objective)
    try:
        hash(fixed)
    except TypeError:
        return ByIdentity(objective), []
    return fixed, found


def _whole(fixed: Any, found: list[Array]) -> Objective:
    """The objective, with the arrays in their places."""

    def with_arrays(value: Any) -> Any:
        return found[value.index] if isinstance(value, Hole) else _mapped(value, with_arrays)

    whole: Objective = fixed.wrapped if isinstance(fixed, ByIdentity) else with_arrays(fixed)
    return whole


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A dataclass with its fields changed; anything else as it is."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    parts = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    changed = {name: change(part) for name, part in parts.items()}
    same = all(changed[name] is part for name, part in parts.items())
    return value if same else replace(value, **changed)


def gradient_over_logits(objective: Objective, y: Array) -> Callable[[Array], Array]:
    """The objective's gradient as a function of the logits, whose derivative is the objective's `hvp`.

    The derivatives are those that the objective states, and not those that JAX finds for its code.
    """

    @jax.custom_jvp
    def gradient(logits: Array) -> Array:
        return objective.grad(logits, y)

    @gradient.defjvp
    def along(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (logits,), (v,) = primals, tangents
        return objective.grad(logits, y), objective.hvp(logits, y, v)

    function: Callable[[Array], Array] = gradient
    return function


@partial(jax.jit, static_argnames="network")
def _logits(network: ImageNetwork, weights: Weights, constants: Any, x: Array) -> Array:
    return network(weights, constants, x)


@partial(jax.jit, static_argnames=("network", "fixed"))
def _value_and_grad(
    network: ImageNetwork,
    fixed: Any,
    moving: list[Array],
    weights: Weights,
    constants: Any,
    x: Array,
    y: Array,
) -> tuple[Array, Array]:
    objective = _whole(fixed, moving)
    logits, pull = jax.vjp(partial(network, weights, constants), x)
    (gradient,) = pull(objective.grad(logits, y))
    return objective.value(logits, y), gradient


@partial(jax.jit, static_argnames=("network", "fixed"))
def _input_hessians(
    network: ImageNetwork,
    fixed: Any,
    moving: list[Array],
    weights: Weights,
    constants: Any,
    x: Array,
    y: Array,
) -> Callable[[Array], Array]:
    over_logits = gradient_over_logits(_whole(fixed, moving), y)

    def gradient(rows: Array) -> Array:
        logits, pull = jax.vjp(partial(network, weights, constants), rows)
        (pulled,) = pull(over_logits(logits))
        return pulled

    _, linear = jax.linearize(gradient, x)
    return linear


@jax.jit
def _apply(linear: Callable[[Array], Array], v: Array) -> Array:
    return linear(v)


@partial(jax.jit, static_argnames=("network", "fixed"))
def sample_curvatures(
    network: ImageNetwork,
    fixed: Any,
    moving: list[Array],
    weights: Weights,
    direction: Weights,
    constants: Any,
    x: Array,
    y: Array,
) -> Array:
    """v'H_s v (b,) of each sample's objective along a direction over some of the weights.

    With the logits z(t) at the weights w + t v, it is z'' . g + z' . H z', with the gradient g of the
    objective over the logits, and its Hessian H: by forward over forward mode.
    """
    objective = _whole(fixed, moving)

    def logits(t: Array) -> Array:
        there = {name: weights[name] + t * step for name, step in direction.items()}
        return network(weights | there, constants, x)

    def slope(t: Array) -> tuple[Array, Array]:
        return jax.jvp(logits, (t,), (jnp.ones_like(t),))

    zero = jnp.zeros((), x.dtype)
    (z, first), (_, second) = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))
    curved = first * objective.hvp(z, y, first)
    return jnp.sum(second * objective.grad(z, y) + curved, axis=1)
