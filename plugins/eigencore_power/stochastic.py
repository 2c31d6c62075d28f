"""Power iteration with momentum on minibatches; the results come from full products only.

De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670). Mini-batch Power+M
replaces A by a minibatch's A_S; its error decreases to a noise floor. VR Power+M has no noise floor: with the
last vector w~ whose full product is known, it replaces A w by A_S (w - alpha w~) + alpha A w~, where
alpha = w'w~, at the cost of one minibatch product per step. This differs from the paper in:

1. A block is iterated. alpha w~ becomes P w, the projection of each vector w on the span of the block whose
   full products are known: a step is a step of Power+M with the operator A_S (I - P) + A P.
2. The full product that ends an epoch gives the true Ritz pairs, and only these are reported. It is also the
   first step of the next epoch.
3. If the noise is too large, momentum makes the error grow instead of shrink. In every epoch, one minibatch
   product of vectors whose full products are known measures the noise, and momentum that is not given is
   lowered to the result of `minibatch_noise.best_momentum`.
4. If the core finds a missed direction, it joins the block, as in `accelerated`.

    k, s, T    vectors of a block; a minibatch's share of the data; steps of an epoch
    cost       of an epoch: k (1 + T s) full products

Memory: nine blocks, or eight without variance reduction.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eigencore.errors import UsageError
from eigencore.interfaces import MinibatchOperator, Snapshot
from eigencore.operators import FunctionOperator
from eigencore_power.blocks import Block
from eigencore_power.minibatch_noise import NoisyMomentum, best_momentum, measure_noise
from eigencore_power.momentum import damped_edge, damping_lower_bound, momentum_note
from eigencore_power.options import AccelPowerOptions
from eigencore_power.rayleigh_ritz import RitzDecomposition
from eigencore_power.subspace_iteration import (
    Iterate,
    PowerStep,
    advance,
    checked,
    ritz_pairs,
    snapshot,
    start,
    with_missed,
)
from eigencore_power.validation import check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array

# If an epoch leaves more than this fraction of the squared error, a note says that it gains little.
LITTLE_GAIN = 0.5


@dataclass(frozen=True)
class StochasticState:
    """The state between two epochs: `bound` in units of the iterate's scale, `noise` in units of its square.

    Attributes:
        iterate: a block with its full products.
        bound: the largest lower bound seen of the |eigenvalues| to damp.
        noise: the variance of a minibatch product of a unit vector; 0.0 before it is measured.
        drawn: the number of minibatches so far.
        share: the share of the data in the last minibatch.
    """

    iterate: Iterate
    bound: float = 0.0
    noise: float = 0.0
    drawn: int = 0
    share: float = 0.0

    @property
    def block(self) -> Block:
        return self.iterate.block


@dataclass(frozen=True)
class EpochMomentum:
    """The momentum of an epoch, in units of scale^2, with the notes about it."""

    beta: float = 0.0
    notes: tuple[str, ...] = ()


def stochastic_power(
    operator: LinearOperator,
    request: Request,
    options: AccelPowerOptions,
    *,
    state: StochasticState | None = None,
) -> Generator[Snapshot, Array | None, None]:
    """`accel_power` on minibatches: see `eigencore.interfaces.Solver`.

    It yields one Snapshot for every k products. A Snapshot repeats the results of the last full products
    until there are new ones. The first k columns of a start block are used; random vectors complete the
    block. Two steps on the full data, at the start and after resuming from a state, determine the momentum
    and the noise.

    Raises:
        UsageError: the operator has no minibatches, or the state comes from full products.
    """
    data, k = with_minibatches(operator), request.k
    at, iterate = initial_state(operator, request, state)
    momentum, previous = EpochMomentum(), None
    while True:
        iterate, ritz = ritz_pairs(operator, iterate, previous)
        at = replace(at, iterate=iterate, bound=max(at.bound, damping_lower_bound(operator, ritz, k)))
        latest = snapshot(operator, request, ritz, at.iterate.scale, count=k, notes=momentum.notes, state=at)
        missed = yield latest
        steps = 1
        if previous is not None and missed is None:
            at = with_measured_noise(data, request, options, at, previous)
            steps = epoch_steps(options, at.share)
            missed = yield latest
        if missed is not None:
            iterate, previous = with_missed(operator, ritz, missed, at.iterate)
            continue
        momentum, previous = choose_momentum(request, options, ritz, at, steps), at.block
        del ritz  # frees blocks before the next products
        for _ in range(steps - 1):
            sample, at = draw_minibatch(data, request, options, at)
            applied = minibatch_operator(sample, options, at)
            iterate = checked(operator, advance(applied, iterate, momentum.beta, request.seed))
            yield latest  # were a missed direction sent here, the core would find it again
        iterate = advance(operator, iterate, momentum.beta, request.seed)


def with_minibatches(operator: LinearOperator) -> MinibatchOperator:
    """Returns the operator as one with minibatches.

    Raises:
        UsageError: the operator has no minibatches.
    """
    if isinstance(operator, MinibatchOperator):
        return operator
    raise UsageError(
        "accel_power.batches needs minibatches, but this operator has none",
        hint="Omit batches, so that all steps use all of the data.",
    )


def initial_state(
    operator: LinearOperator, request: Request, state: StochasticState | None
) -> tuple[StochasticState, Iterate | PowerStep]:
    """Returns a state with a block and its full products: from the start block, or a step after a state."""
    if state is None:
        iterate = start(operator, request, request.start)
        return StochasticState(iterate), iterate
    check_state(state, StochasticState)
    if state.block.width == request.k:
        return state, advance(operator, state.iterate, 0.0, request.seed)
    iterate = start(operator, request, state.block.X.T)
    return StochasticState(iterate), iterate


def epoch_steps(options: AccelPowerOptions, share: float) -> int:
    """Returns the number of steps: as requested, or as many as cost one full product, but at most 10."""
    return options.epoch or min(max(round(1 / share), 2), 10)


def draw_minibatch(
    data: MinibatchOperator, request: Request, options: AccelPowerOptions, at: StochasticState
) -> tuple[LinearOperator, StochasticState]:
    """Returns the operator of the next minibatch, and the state that counts it."""
    sample, share = data.minibatch(at.drawn, request.seed, options.batches or 1)
    return sample, replace(at, drawn=at.drawn + 1, share=share)


def minibatch_operator(
    sample: LinearOperator, options: AccelPowerOptions, at: StochasticState
) -> LinearOperator:
    """Returns A_S, or with variance reduction A_S (I - P) + A P; P projects on the epoch's first block."""
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


def with_measured_noise(
    data: MinibatchOperator,
    request: Request,
    options: AccelPowerOptions,
    at: StochasticState,
    previous: Block,
) -> StochasticState:
    """Measures the noise of one more minibatch; the estimate becomes the mean of old and new."""
    sample, at = draw_minibatch(data, request, options, at)
    known_span = previous if options.variance_reduction else None
    noise = measure_noise(sample, at.iterate.scale, at.block, known_span)
    if noise is None:
        return at
    return replace(at, noise=noise if at.noise == 0 else (noise + at.noise) / 2)


def choose_momentum(
    request: Request, options: AccelPowerOptions, ritz: RitzDecomposition, at: StochasticState, steps: int
) -> EpochMomentum:
    """Returns the momentum of the next epoch: the given one, or the best one under the measured noise."""
    k, scale = request.k, at.iterate.scale
    edge = damped_edge(options.momentum, ritz, k, at.bound, scale)
    wanted, noise = max(float(ritz.singular_values[k - 1]), at.bound), at.noise
    # Without variance reduction, the noise stays the same however small the error has become.
    if not options.variance_reduction and wanted > 0:
        error = float(ritz.residuals[k - 1]) / max(wanted - edge, 1e-3 * wanted)
        noise /= min(max(error, 1e-6), 1.0) ** 2
    best = best_momentum(edge, wanted, noise, steps)
    used = best.edge if options.momentum == "auto" else edge
    momentum = momentum_note(options.momentum, used * scale, abs(float(ritz.values[k - 1])) * scale)
    if used < edge:
        full = f"{edge * scale:.4g}"
        momentum += f"; this limit was lowered from {full} because the minibatches are noisy: raise batches"
    elif best.edge < edge:
        square = (best.edge * scale / 2) ** 2
        momentum += (
            f"; the minibatches are too noisy for this momentum: raise batches, or lower it to {square:.4g}"
        )
    held = (9 if options.variance_reduction else 8) * k
    memory = f"this solver holds {held} vectors; `lanczos` usually needs fewer products"
    return EpochMomentum((used / 2) ** 2, (momentum, minibatch_note(options, at.share, best), memory))


def minibatch_note(options: AccelPowerOptions, share: float, best: NoisyMomentum) -> str:
    """Returns how the minibatches are used, and which accuracy to expect."""
    if not share:
        return "minibatches: none drawn yet, all products so far are on the full data"
    sizes = f"minibatches of {100 * share:.2g} % of the data"
    if not options.variance_reduction:
        return f"{sizes}, without variance reduction: the residuals decrease only to a noise floor"
    if best.error_factor > LITTLE_GAIN:
        return f"{sizes}, with variance reduction, but so noisy that an epoch gains little: raise batches"
    return f"{sizes}, with variance reduction: values and residuals are those of the full data"
