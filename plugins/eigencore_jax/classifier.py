"""A model as a classifier: its logits and their derivatives over the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as host
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
from eigencore_jax import row_network as compiled
from eigencore_jax.data import JaxSamples
from eigencore_jax.models import Weights
from eigencore_jax.risk import Placement
from eigencore_jax.row_network import RowNetwork

_FEWEST_ROWS = 16


def classification(
    model: Callable[..., Any],
    weights: Weights,
    constants: Any,
    samples: JaxSamples,
    place: Placement,
    usual: str,
) -> RowNetwork:
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
    return RowNetwork(model, x.shape[1:], shape[1], usual)


def _no_classifier(why: str) -> CapabilityError:
    return CapabilityError(f"this problem offers no classifier: {why}")


class JaxClassifier:
    """The logits of a model for inputs in rows, and their derivatives; see `eigencore.interfaces.Classifier`.

    On a processor its arrays are those of NumPy: JAX would compile every operation on them for every number
    of rows, of which attacks have many. The network is compiled for a few
    numbers of rows, up to which others are padded. On an accelerator, arrays stay there, as those of JAX.

    Args:
        network: the model.
        weights, constants: those of the model, as placed.
        samples: the samples that `samples` returns.
        problem: the problem, whose `bounds` and `channels` the classifier has.
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

    def __init__(
        self,
        network: RowNetwork,
        weights: Weights,
        constants: Any,
        samples: JaxSamples,
        problem: Problem,
        place: Placement,
    ):
        self._network, self._model = network, (network, weights, constants)
        self._samples, self._place = samples, place
        self.shape, self.classes = network.shape, network.classes
        on_host = rows_are_on_host(place.device)
        self.xp: Any = host if on_host else jnp
        self.device: Any = "cpu" if on_host else place.device
        self.dtype = np.dtype(place.dtype)
        self.channel_axis = infer_channel_axis(self.shape, problem.channels, network.usual)
        self.bounds = bounds_of_rows(problem.bounds, self.shape, self, self.channel_axis)

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        """The first `most` samples, or all of them: inputs (N, d) and labels (N,)."""
        x, y = (part[:most] for part in self._samples.batch)
        x = x.reshape(len(x), -1)
        if self.xp is host:
            return np.array(x, dtype=self.dtype), np.array(y)
        x, y = self._place((x, y))
        return x, y

    def logits(self, x: Array, /) -> Array:
        """The logits (b, c) for inputs (b, d)."""
        return self._own(compiled.logits(*self._model, self._rows(x)), len(x))

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""
        check_labels(y, x)
        found, pullback = compiled.with_pullback(*self._model, self._rows(x))
        z = self._own(found, len(x))
        g = self._padded(objective.grad(z, y))
        return objective.value(z, y), self._own(compiled.pulled(pullback, g), len(x))

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        """A function from rows v (b, d) to each sample's Hessian over its input, times its row of v.

        With the Jacobian J of the logits z and the objective's gradient g over them, it is J'(H_z J v) plus
        the derivative of J'g along v, with g constant.
        """
        check_labels(y, x)
        rows, count = self._rows(x), len(x)
        found, pullback = compiled.with_pullback(*self._model, rows)
        z = self._own(found, count)
        linear = compiled.linearized(*self._model, rows, self._padded(objective.grad(z, y)))

        def product(v: Array) -> Array:
            check_row_vectors(v, x)
            of_logits, curved = compiled.along(linear, self._rows(v))
            h = objective.hvp(z, y, self._own(of_logits, count))
            return self._own(curved + compiled.pulled(pullback, self._padded(h)), count)

        return product

    def curvature_along(self, objective: Objective, direction: Weights, x: Array, y: Array) -> Array:
        """v'H_s v (b,) of each sample's objective along a direction v, an array for each of some weights.

        With the logits z(t) at the weights w + t v, it is z'' . g + z' . H_z z', with the gradient g of the
        objective over the logits and its Hessian H_z.
        """
        check_labels(y, x)
        network, weights, constants = self._model
        parts = compiled.along_weights(network, weights, direction, constants, self._rows(x))
        z, first, second = (self._own(part, len(x)) for part in parts)
        curved = second * objective.grad(z, y) + first * objective.hvp(z, y, first)
        return self.xp.sum(curved, axis=1)

    def _rows(self, x: Array) -> Array:
        """Inputs as the compiled functions get them."""
        check_rows(x, self._network.d)
        return self._padded(x)

    def _padded(self, x: Array) -> Array:
        """Rows (b, ...) as an array of JAX; on a processor, with rows of zeros up to `compiled_rows`.

        There they are always a copy, because JAX may use the memory of an array of NumPy after a call.
        """
        if self.xp is not host:
            return jnp.asarray(x, dtype=self.dtype)
        padded = np.zeros((compiled_rows(len(x)), *x.shape[1:]), dtype=self.dtype)
        padded[: len(x)] = x
        return jax.device_put(padded, self._place.device)

    def _own(self, x: Array, count: int) -> Array:
        """The first rows of what a compiled function returned, in an array of the classifier's library."""
        return np.array(x)[:count] if self.xp is host else x[:count]


def rows_are_on_host(device: Any) -> bool:
    """Whether the rows of a classifier on this device of JAX are arrays of NumPy."""
    return bool(device.platform == "cpu")


def compiled_rows(count: int) -> int:
    """The smallest number of rows, of 16, 24, 32, 48, 64, 96, ..., that is at least `count`.

    Example:
        from eigencore_jax.classifier import compiled_rows

        print([compiled_rows(b) for b in (1, 20, 300)])  # [16, 24, 384]
    """
    size = _FEWEST_ROWS
    while size < count:
        size *= 2
    return 3 * size // 4 if size > _FEWEST_ROWS and count <= 3 * size // 4 else size
