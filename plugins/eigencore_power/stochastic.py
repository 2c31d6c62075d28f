"""Power iteration with momentum on minibatches: cheap steps between full products that tell the truth.

De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670). Mini-batch Power+M puts
a minibatch's A_S in the place of A, and comes down to a floor of noise. VR Power+M has no floor: around
the last vector w~ whose full product is known it multiplies by A_S (w - alpha w~) + alpha A w~, alpha = w'w~,
one minibatch product a step. This differs from the paper in:

1. A block is iterated. alpha w~ becomes the projection P of each vector on the span of the block whose full
   products are known: a step is one of Power+M with the operator A_S (I - P) + A P.
2. The full product that ends an epoch tells the true Ritz pairs, and no others are told; it is also the
   next epoch's first step.
3. Where the noise is too large, momentum makes the error grow that it should shrink. One minibatch product
   an epoch, of vectors whose full products are known, measures the noise, and momentum is lowered to what
   `noise.bearable` says.

    b, s, T    vectors of a block, k + 1 where n allows; a minibatch's share of the data; steps of an epoch
    cost       of an epoch: b (1 + T s) full products

Memory: nine blocks, or eight without variance reduction.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore.errors import UsageError
from eigencore.interfaces import MinibatchOperator, Snapshot
from eigencore.operators import FunctionOperator
from eigencore_power.blocks import Block, Ritz, start_block
from eigencore_power.iteration import (
    Iterate,
    advance,
    begin,
    refuse_foreign,
    ritz_pairs,
    snapshot,
)
from eigencore_power.momentum import edge_below_ties, lower_bound
from eigencore_power.noise import Bearing, bearable, measure

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array
    from eigencore_power.accelerated import AccelPowerOptions


LITTLE = 0.5  # the squared error that an epoch leaves of 1, from where on it is said to gain little


@dataclass(frozen=True)
class StochasticState:
    """What the next epoch needs; `reach` in units of the iterate's scale, `noise` of its square.

    Attributes:
        iterate: a block with its full products.
        reach: the largest lower bound seen of the |eigenvalues| to damp.
        noise: the variance of a minibatch product of a unit vector; 0.0 before it is measured.
        drawn: minibatches so far.
        share: the part of the data in the last one.
    """

    iterate: Iterate
    reach: float = 0.0
    noise: float = 0.0
    drawn: int = 0
    share: float = 0.0

    @property
    def block(self) -> Block:
        return self.iterate.block


@dataclass(frozen=True)
class Rule:
    """The momentum of an epoch, in units of the scale^2, and what to tell of it."""

    beta: float = 0.0
    notes: tuple[str, ...] = ()


def stochastic_power(
    operator: LinearOperator,
    request: Request,
    options: AccelPowerOptions,
    *,
    state: StochasticState | None = None,
) -> Generator[Snapshot, None, None]:
    """The solver for LM: see `eigencore.interfaces.Solver`. A Snapshot for every b products.

    The last full ones are told. The first b columns of a start block are used; random ones fill it up. It
    begins, and goes on from a state, with two steps on the full data, which show the momentum and the noise.

    Raises:
        UsageError: the operator has no minibatches, or the state is from another solver or operator.
    """
    data, rng = with_minibatches(operator), np.random.default_rng(request.seed)
    at, rule = opening(operator, request, state, rng), Rule()
    previous: Block | None = None
    while True:
        ritz = ritz_pairs(operator, at.block, previous, request.k + 1)
        at = replace(at, reach=max(at.reach, lower_bound(operator, ritz, request.k, at.block.width)))
        told = snapshot(
            operator, request, ritz, at.iterate.scale, count=request.k, notes=rule.notes, state=at
        )
        yield told
        steps = 1
        if previous is not None:
            at = measured(data, request, options, at, previous)
            steps = epoch(options, at.share)
            yield told
        rule = choose(request, options, ritz, at, steps)
        iterate = at.iterate
        del ritz, previous  # blocks that the products need not wait beside
        for _ in range(steps - 1):
            sample, at = draw(data, request, options, at)
            iterate = advance(estimate(sample, options, at), iterate, rule.beta, rng)
            yield told
        iterate = advance(operator, iterate, rule.beta, rng)
        at, previous = replace(at, iterate=iterate), at.block


def with_minibatches(operator: LinearOperator) -> MinibatchOperator:
    """The operator, if it has minibatches; a UsageError otherwise."""
    if isinstance(operator, MinibatchOperator):
        return operator
    raise UsageError(
        "accel_power.batches asks for minibatches, and this operator has none",
        hint="Leave batches out: all steps are on the full data then.",
    )


def opening(
    operator: LinearOperator, request: Request, state: StochasticState | None, rng: np.random.Generator
) -> StochasticState:
    """A block with its full products: from the start block, or the one after the state's."""
    b = min(request.k + 1, operator.shape[0])
    if state is not None:
        refuse_foreign(operator, state, StochasticState)
        if state.block.width == b:
            return replace(state, iterate=advance(operator, state.iterate, 0.0, rng))
    given = request.start if state is None else state.block.X.T
    return StochasticState(begin(operator, start_block(operator, given, b, rng)))


def epoch(options: AccelPowerOptions, share: float) -> int:
    """Steps of an epoch: those asked for, or as many as cost one full product, but at most 10."""
    return options.epoch or min(max(round(1 / share), 2), 10)


def draw(
    data: MinibatchOperator, request: Request, options: AccelPowerOptions, at: StochasticState
) -> tuple[LinearOperator, StochasticState]:
    """The next minibatch."""
    sample, share = data.minibatch(at.drawn, request.seed, options.batches or 1)
    return sample, replace(at, drawn=at.drawn + 1, share=share)


def estimate(sample: LinearOperator, options: AccelPowerOptions, at: StochasticState) -> LinearOperator:
    """A_S; or, its variance reduced, A_S (I - P) + A P with P on the span of the epoch's first block."""
    if not options.variance_reduction:
        return sample
    X, AX, scale = at.block.X, at.block.AX, at.iterate.scale

    def matmat(V: Array) -> Array:
        C = X @ V
        return sample.matmat(V - X.T @ C) + scale * (AX.T @ C)

    return FunctionOperator(
        lambda v: matmat(v[:, None])[:, 0],
        sample.shape[0],
        xp=sample.xp,
        dtype=sample.dtype,
        device=sample.device,
        matmat=matmat,
    )


# -- the momentum ------------------------------------------------------------------------------------------


def measured(
    data: MinibatchOperator,
    request: Request,
    options: AccelPowerOptions,
    at: StochasticState,
    previous: Block,
) -> StochasticState:
    """With the noise of one more minibatch: the mean of it and of what was known."""
    sample, at = draw(data, request, options, at)
    around = previous if options.variance_reduction else None
    noise = measure(sample, at.iterate.scale, at.block, around)
    if noise is None:
        return at
    return replace(at, noise=noise if at.noise == 0 else (noise + at.noise) / 2)


def choose(request: Request, options: AccelPowerOptions, ritz: Ritz, at: StochasticState, steps: int) -> Rule:
    """The momentum of the next epoch: what is asked for, or what is found and the noise lets pay."""
    k, b, scale = request.k, at.block.width, at.iterate.scale
    if options.momentum == "auto":
        edge = edge_below_ties(ritz, k, b, at.reach)
    else:
        edge = 2 * math.sqrt(options.momentum) / scale
    wanted, noise = max(float(ritz.sizes[k - 1]), at.reach), at.noise
    if not options.variance_reduction and wanted > 0:  # the same noise, however small the error has become
        error = float(ritz.residuals[k - 1]) / max(wanted - edge, 1e-3 * wanted)
        noise /= min(max(error, 1e-6), 1.0) ** 2
    best = bearable(edge, wanted, noise, steps)
    used = best.edge if options.momentum == "auto" else edge
    rule = f"momentum {options.momentum}: |eigenvalues| up to {used * scale:.4g} are damped"
    if used < edge:
        rule += f"; lowered from {edge * scale:.4g}: the minibatches are too noisy for more, raise batches"
    elif best.edge < edge:
        square = (best.edge * scale / 2) ** 2
        rule += f"; the minibatches are too noisy for it: raise batches, or lower it to {square:.4g}"
    held = (9 if options.variance_reduction else 8) * b
    worth = f"memory: {held} vectors are held here; `lanczos` mostly needs fewer products"
    return Rule(used**2 / 4, (rule, manner(options, at.share, best), worth))


def manner(options: AccelPowerOptions, share: float, best: Bearing) -> str:
    """How the minibatches are used, and what to expect of them."""
    if not share:
        return "on the full data, before the first minibatch"
    sizes = f"minibatches of {100 * share:.2g} % of the data"
    if not options.variance_reduction:
        return f"{sizes}, no variance reduction: the residuals come down to a floor of noise, not below it"
    if best.factor > LITTLE:
        return f"{sizes}, variance reduced, and still so noisy that an epoch gains little: raise batches"
    return f"{sizes}, variance reduced: values and residuals are those of the full data"
