"""Power iteration with momentum: the eigenpairs of largest magnitude of a symmetric operator.

De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670):
w+ = A w - beta w_before, then both are divided by the norm of w+. After t steps, the start has been
multiplied by the Chebyshev polynomial beta^(t/2) U_t(x / (2 sqrt(beta))), which is small where
|x| <= 2 sqrt(beta) and grows outside. With mu(l) = (|l| + sqrt(l^2 - 4 beta)) / 2, or sqrt(beta) if that
root is not real, the component along l_j is multiplied by mu(l_j) / mu(l_i) per step, relative to that along
the wanted l_i. A may be indefinite. For k vectors, beta = (l_{k+1} / 2)^2 is best. This differs from the
paper in:

1. A block of k vectors is iterated; the QR factors of the new block normalise both blocks.
2. Ritz pairs are computed from the span of the last two blocks, whose products are known. They converge
   earlier than the block, and between l and -l, where a single vector would alternate indefinitely.
3. beta is given, or found during the run from the same span, by the rule of `momentum`.
4. If the core finds a missed direction, it joins the block, which starts again with no momentum term.

`stochastic` has the two forms on minibatches. Memory: five blocks of k vectors, and k products a step.
Momentum saves memory if k is small, but no products: `lanczos` needs fewer.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore.interfaces import Snapshot
from eigencore_power.blocks import Block
from eigencore_power.converged import begin_from
from eigencore_power.momentum import damped_edge, damping_lower_bound, momentum_note
from eigencore_power.options import AccelPowerOptions
from eigencore_power.stochastic import stochastic_power
from eigencore_power.subspace_iteration import (
    Iterate,
    PowerStep,
    advance,
    ritz_pairs,
    snapshot,
    start,
    with_missed,
)
from eigencore_power.validation import check_effective, check_end, check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.request import Request
    from eigencore.space import Array


@dataclass(frozen=True)
class AccelPowerState:
    """The state between two steps, in units of the iterate's scale.

    Attributes:
        iterate: the block with its products, and the previous block.
        bound: the largest lower bound seen of the |eigenvalues| to damp.
        edge: |eigenvalues| up to it are damped in the next step; `bound`, except for ties.
    """

    iterate: Iterate
    bound: float
    edge: float

    @property
    def block(self) -> Block:
        return self.iterate.block


def vectors_held(options: AccelPowerOptions, k: int, n: int) -> int:
    """Returns the most vectors in memory: ten blocks between two products, with minibatches four more."""
    return (10 if options.batches is None else 14) * k + 3


def accel_power(
    operator: LinearOperator, request: Request, options: AccelPowerOptions, *, state: Any = None
) -> Generator[Snapshot, Array | None, None]:
    """Power iteration with momentum as a solver: see `eigencore.interfaces.Solver`.

    It yields one Snapshot for every k products; `stochastic_power` takes over if `options.batches` is given.
    The first k columns of a start block are used; random vectors complete the block.

    Raises:
        OptionError: an option has no effect without minibatches.
        UsageError: an end other than LM is requested; or the state comes from another setting of `batches`;
            or minibatches are requested of an operator that has none.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 101.0)), 3, solver="accel_power")
        print(result.values, result.notes)
    """
    check_end(request, "accel_power")
    check_effective(options)
    request, state = begin_from(operator, request, state)
    method = full_power if options.batches is None else stochastic_power
    yield from method(operator, request, options, state=state)


def full_power(
    operator: LinearOperator,
    request: Request,
    options: AccelPowerOptions,
    *,
    state: AccelPowerState | None = None,
) -> Generator[Snapshot, Array | None, None]:
    """`accel_power` on all of the data."""
    bound, previous = 0.0, None
    at: PowerStep | Iterate
    if state is not None:
        check_state(state, AccelPowerState)
    if state is not None and state.block.width == request.k:
        bound, previous = state.bound, state.block
        at = advance(operator, state.iterate, (state.edge / 2) ** 2, request.seed)
    else:
        at = start(operator, request, request.start if state is None else state.block.X.T)
    while True:
        at, ritz = ritz_pairs(operator, at, previous)
        bound = max(bound, damping_lower_bound(operator, ritz, request.k))
        edge = damped_edge(options.momentum, ritz, request.k, bound, at.scale)
        wanted = abs(float(ritz.values[request.k - 1]))
        notes = momentum_note(options.momentum, edge * at.scale, wanted * at.scale), memory_note(request.k)
        state = AccelPowerState(at, bound, edge)
        missed = yield snapshot(operator, request, ritz, at.scale, count=request.k, notes=notes, state=state)
        if missed is None:
            previous = at.block
            del ritz  # frees two blocks before the next product
            at = advance(operator, at, (edge / 2) ** 2, request.seed)
        else:
            at, previous = with_missed(operator, ritz, missed, at)


def memory_note(k: int) -> str:
    """Returns the note on the memory, with its cost in products."""
    return f"this solver holds {5 * k} vectors; `lanczos` needs up to 6 times fewer products"
