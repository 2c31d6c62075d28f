"""A network as a classifier of its inputs, and the objectives over its logits.

Shapes: a batch of inputs is `(b, d)`, one input per row; logits are `(b, c)`; labels are `(b,)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eigencore.space import Array, Space


class Objective(Protocol):
    """A number per sample, as a function of its logits (b, c) and labels (b,).

    `eigencore.objectives` has the usual ones. An objective is written in array-API functions, so that a
    backend can either differentiate through `value` or use the derivatives with respect to the logits that
    the objective provides.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        """The objective of each sample (b,)."""

    def grad(self, logits: Array, y: Array, /) -> Array:
        """Its gradient with respect to the logits (b, c)."""

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """Each sample's Hessian with respect to the logits times its row of v (b, c)."""


class Classifier(Space, Protocol):
    """A network from inputs to logits, in evaluation mode. Inputs are rows, whatever their original shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; d is the number of its elements."""

    @property
    def channel_axis(self) -> int | None:
        """The axis of `shape` that counts the channels, from 0; None if there is no such axis.

        An input with two other axes, or with two axes and no channels, is an image. A classifier without this
        attribute gets it from its shape: attacks read `problems.sharing.channel_axis(classifier)`.
        """

    @property
    def classes(self) -> int: ...
    @property
    def bounds(self) -> tuple[Array, Array] | None:
        """The lowest and the highest value of each entry of a row, arrays (d,), if the problem has bounds."""

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        """The first `most` (None: all) samples of the validation data, or else the data: (N, d) and (N,)."""

    def logits(self, x: Array, /) -> Array:
        """The logits (b, c) of inputs (b, d)."""

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        """A function that multiplies rows (b, d), one per sample, by the Hessian of that sample's objective.

        What the products share is kept for as long as the function exists.
        """
