"""Whether the loss of a batch is the mean or the sum of the losses of its samples: measured, or refused.

The mean is a weighted one if the problem has a `weight`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from eigencore.errors import ProblemError
from eigencore.problems.sharing import LossGaps, decide_reduction
from eigencore_jax.checks import explain_errors
from eigencore_jax.data import JaxSamples
from eigencore_jax.layout import select
from eigencore_jax.models import Weights
from eigencore_jax.program import Program
from eigencore_jax.risk import Placement

if TYPE_CHECKING:
    from eigencore.interfaces import Array

_PLAIN = "Give a loss that is a plain mean or sum over samples, or that returns the loss of each sample."


def is_mean(
    program: Program,
    weights: Weights,
    constants: Any,
    samples: JaxSamples,
    place: Placement,
    size: int,
    reduction: str,
    *,
    every: bool,
) -> bool:
    """Whether the loss of a batch is the mean of the losses of its samples; otherwise it is their sum.

    The loss of `size` samples at once and its gradient are compared with those of the samples, each computed
    as a batch of its own. If losses are equal or zero, gradients still decide.

    Args:
        reduction: "mean" or "sum" as declared, or "infer". A loss with a number for each sample has none of
            its own: the mean is taken, unless "sum" is declared. "weighted mean": by `samples.weights`.
        every: compare all samples, and not the first ones only.

    Raises:
        ProblemError: it is neither, is not what was declared, can't be determined, or is not finite.
    """
    weighted, eps = reduction == "weighted mean", float(np.finfo(place.dtype).eps)
    rules = {"mean"} if weighted else {"mean", "sum"}
    for start in range(0, len(samples), size) if every else (0,):
        first = min(start, len(samples) - size)
        rows = np.arange(first, first + size)
        weights_of_rows = samples.weights[rows]
        if not weights_of_rows.any():
            continue  # the loss of the batch may be 0 / 0
        # So may that of a sample without weight, in whose place one with weight is computed.
        counted = np.where(weights_of_rows != 0, rows, rows[np.argmax(weights_of_rows)])
        batch, alone, factors = place((samples.rows(rows), samples.rows(counted), weights_of_rows))
        with explain_errors("computing the loss"):
            shape = jax.eval_shape(program.batch_loss, weights, constants, batch).shape
        if shape not in ((), (size,)):
            raise ProblemError(
                f"the loss of {size} samples has the shape {shape}; expected a number or one for each sample",
                hint=_PLAIN,
            )
        if shape and weighted:
            raise ProblemError(
                "the loss returns a number for each sample, and weight was given",
                hint="Return their weighted mean, or leave weight out.",
            )
        gaps = LossGaps(*map(float, _compare(program, weights, constants, batch, alone, factors)))
        where = f"samples {first} to {first + size - 1}"
        if not np.isfinite(gaps.value):
            raise ProblemError(
                f"the loss of {where} is {gaps.value}", hint="Look for an overflow or a logarithm of zero."
            )
        found = gaps.fitting(float(weights_of_rows.sum()), eps)
        if shape and "mean" in found:
            found = {"sum" if reduction == "sum" else "mean"}
        rules &= found
        if not rules and weighted:
            raise ProblemError(
                f"the loss of {where} is {gaps.value:.6g}; the mean of their losses, with the weights that "
                f"weight returns, is {gaps.mean:.6g}",
                hint="Make weight count the items that the loss is a mean over, such as labels that count, "
                "or add up their class weights.",
            )
        if not rules:
            raise ProblemError(
                f"the loss of {where} is {gaps.value:.6g}; the mean of their losses is {gaps.mean:.6g}, and "
                f"the sum {gaps.total:.6g}: it is neither, or not the same as on other samples",
                hint=f"{_PLAIN} If it is a mean over other things, as with class weights or ignored labels, "
                "give Problem(weight=...), a function that returns the weight of a batch.",
            )
    return weighted or decide_reduction(rules, reduction, size) == "mean"


@partial(jax.jit, static_argnames="program")
def _compare(
    program: Program, weights: Weights, constants: Any, batch: Any, alone: Any, factors: Array
) -> tuple[Array, ...]:
    """The numbers of `LossGaps`, for a batch and its samples, each alone and with a weight (c,)."""

    def together(at: Weights) -> Array:
        return jnp.mean(program.batch_loss(at, constants, batch))

    def apart(at: Weights) -> tuple[Array, Array]:
        losses = factors * program.sample_losses(at, constants, alone)
        return jnp.sum(losses), losses

    layout, norm = select(weights), jnp.linalg.norm
    value, pieces = jax.value_and_grad(together)(weights)
    (total, losses), summed = jax.value_and_grad(apart, has_aux=True)(weights)
    g, s, count = layout.flatten(pieces), layout.flatten(summed), jnp.sum(factors)
    size = jnp.sum(jnp.abs(losses)) / count
    larger = jnp.maximum(norm(g) / count, norm(s) / count)
    return value, size, total / count, total, larger, norm(g - s / count), norm(g - s)
