"""The loss over all data, as a weighted sum over chunks of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from eigencore.interfaces import Array
from eigencore.problems.sharing import Minibatch
from eigencore_jax import program as compiled
from eigencore_jax.data import Indices, JaxSamples, chunks_of
from eigencore_jax.layout import JaxLayout
from eigencore_jax.models import Weights
from eigencore_jax.program import Chunk, Program

if TYPE_CHECKING:
    from eigencore.space import Floats


@dataclass(frozen=True)
class Placement:
    """The data type and the device of a computation.

    Attributes:
        dtype: "float32" or "float64".
        device: a device of JAX.
    """

    dtype: str
    device: Any

    def __call__(self, tree: Any) -> Any:
        """A pytree of arrays on the device; floating-point numbers in the data type."""

        def place(leaf: Any) -> Array:
            floating = jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
            if isinstance(leaf, np.ndarray | np.generic) or (floating and leaf.dtype != self.dtype):
                # Copied: JAX may share the memory of an array of NumPy, which its owner may change. And
                # converted on the host: JAX would compile that for every shape.
                leaf = np.array(leaf, dtype=self.dtype if floating else None)
            return jax.device_put(leaf, self.device)

        return jax.tree.map(place, tree)


def float64_is_on() -> bool:
    """Whether JAX computes in float64, in this thread and at this moment."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


class JaxRisk:
    """The loss sum_s w_s l_s over the samples, at given weights.

    Args:
        program: the functions of the problem.
        weights, constants: those of the model, in the data type and on the device of the placement.
        samples: all samples.
        mean: whether the loss is the mean over the samples, with their weights; otherwise it is their sum.
        place: the data type and device.
        size: the number of samples in a chunk.
    """

    def __init__(
        self,
        program: Program,
        weights: Weights,
        constants: Any,
        samples: JaxSamples,
        mean: bool,
        place: Placement,
        size: int,
    ):
        self.program, self.weights, self.constants = program, weights, constants
        self.samples, self.mean, self.place, self.size = samples, mean, place, size
        self.sample_weights = samples.weights / samples.weights.sum() if mean else samples.weights
        self.chunks = self.chunks_of(np.arange(len(samples)), np.ones(len(samples)))

    def chunks_of(self, rows: Indices, factors: Floats) -> list[Chunk]:
        """Some samples, whose weights in the loss are multiplied by the factors."""
        return chunks_of(self.samples, rows, factors * self.sample_weights[rows], self.size, self.place)

    def minibatch(self, drawn: Minibatch) -> list[Chunk]:
        """The samples of a minibatch."""
        return self.chunks_of(*self.samples.drawn(drawn))

    def value(self, layout: JaxLayout, direction: Array | None) -> float:
        """The loss at the weights, or at the weights plus a direction (n,)."""
        weights = self.weights if direction is None else compiled.moved(layout, self.weights, direction)
        parts = [compiled.risk(self.program, weights, self.constants, chunk) for chunk in self.chunks]
        return float(np.sum(np.asarray(parts, dtype=np.float64)))

    def gradient(self, layout: JaxLayout, chunks: Sequence[Chunk]) -> Array:
        """The gradient (n,) of the loss over some chunks."""
        parts = (
            compiled.gradient(self.program, layout, self.weights, self.constants, chunk)[1]
            for chunk in chunks
        )
        total = next(parts)
        for part in parts:
            total = total + part
        return total
