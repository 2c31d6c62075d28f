"""Power iteration with momentum, in blocks: extreme eigenpairs of a symmetric operator.

De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670):
w+ = A w - beta w_before, then both are divided by the norm of w+. After t steps, the start has been
multiplied by the Chebyshev polynomial beta^(t/2) U_t(x / (2 sqrt(beta))), which is small where
|x| <= 2 sqrt(beta) and grows outside. With mu(l) = (|l| + sqrt(l^2 - 4 beta)) / 2, or sqrt(beta) if that root
is not real, the component along l_j is multiplied by mu(l_j) / mu(l_i) per step, relative to that along the
wanted l_i. A may be indefinite. For a block of b vectors, beta = (l_{b+1} / 2)^2 is best. This differs from
the paper in:

1. A block of k + 1 vectors is iterated, so that a repeat of the k-th eigenvalue, or a value near it, is
   detected.
2. beta is determined during the run: the span of the last two blocks, whose products are known, gives a lower
   bound of the |eigenvalues| to damp (`damping_lower_bound`).
3. Ritz pairs are computed from the same span of two blocks; only one block is iterated.

    n, k, b    rows of A; wanted pairs; vectors of a block, k + 1 where n allows
    edge       2 sqrt(beta): |eigenvalues| up to it are damped
    bound      the largest lower bound seen of the |eigenvalues| to damp: the edge, except for ties

Memory: five blocks. Momentum saves memory if k is small, but no products: `lanczos` needs fewer.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore_power.blocks import Block, RitzDecomposition, start_block
from eigencore_power.converged import begin_from
from eigencore_power.locally_optimal_block import locally_optimal_block
from eigencore_power.locally_optimal_pair import locally_optimal_pair
from eigencore_power.options import AccelPowerOptions
from eigencore_power.stochastic import stochastic_power
from eigencore_power.subspace_iteration import (
    Iterate,
    advance,
    damping_lower_bound,
    edge_below_ties,
    first_iterate,
    ritz_pairs,
    snapshot,
)
from eigencore_power.validation import check_end, check_options_for_one_end, check_state

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator


@dataclass(frozen=True)
class AccelPowerState:
    """The state between two steps: `bound` in units of the iterate's scale, `beta` in units of its square."""

    iterate: Iterate
    bound: float
    beta: float

    @property
    def block(self) -> Block:
        return self.iterate.block


def accel_power(
    operator: LinearOperator,
    request: Request,
    options: AccelPowerOptions,
    *,
    state: Any = None,
) -> Generator[Snapshot, None, None]:
    """Power iteration with momentum as a solver: see `eigencore.interfaces.Solver`.

    It yields one Snapshot for every b products. Other methods take over in three cases:
    `locally_optimal_block` for LA and SA, `stochastic_power` if `options.batches` is given, and
    `locally_optimal_pair` for a single pair with momentum auto. The first b columns of a start block are
    used; random vectors complete the block.

    Raises:
        OptionError: LA or SA is requested together with a number for momentum, or with minibatches.
        UsageError: BE is requested; or the state comes from another solver or operator; or minibatches are
            requested of an operator that has none.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 101.0)), 3, solver="accel_power")
        print(result.values, result.notes)
    """
    check_end(request, "accel_power", ("LM", "LA", "SA"))
    request, state = begin_from(operator, request, state)
    if request.which != "LM":
        check_options_for_one_end(request, options)
        yield from locally_optimal_block(operator, request, state=state)
        return
    if options.batches is not None:
        yield from stochastic_power(operator, request, options, state=state)
        return
    if request.k == 1 and options.momentum == "auto":
        yield from locally_optimal_pair(operator, request, state=state)
        return
    rng, b = np.random.default_rng(request.seed), min(request.k + 1, operator.shape[0])
    bound, previous = 0.0, None
    if state is not None:
        check_state(operator, state, AccelPowerState)
    if state is not None and state.block.width == b:
        bound, previous = state.bound, state.block
        at = advance(operator, state.iterate, state.beta, rng)
    else:
        given = request.start if state is None else state.block.X.T
        at = first_iterate(operator, start_block(operator, given, b, rng))

    while True:
        ritz = ritz_pairs(operator, at.block, previous, request.k + 1)
        bound = max(bound, damping_lower_bound(operator, ritz, request.k, b))
        if options.momentum == "auto":
            beta = edge_below_ties(ritz, request.k, b, bound) ** 2 / 4
        else:
            beta = options.momentum / at.scale / at.scale
        state = AccelPowerState(at, bound, beta)
        notes = momentum_notes(options, ritz, request.k, state)
        yield snapshot(operator, request, ritz, at.scale, count=request.k, notes=notes, state=state)
        previous = at.block
        del ritz  # frees two blocks before the next product
        at = advance(operator, at, beta, rng)


def momentum_notes(
    options: AccelPowerOptions, ritz: RitzDecomposition, k: int, state: AccelPowerState
) -> tuple[str, ...]:
    """Returns the notes of a Snapshot: the momentum in use, and the memory with its cost in products."""
    scale, b = state.iterate.scale, state.block.width
    edge, wanted = 2 * math.sqrt(state.beta) * scale, abs(float(ritz.values[k - 1])) * scale
    momentum = f"momentum {options.momentum}: |eigenvalues| up to {edge:.4g} are damped"
    if edge >= wanted > 0:
        momentum += f", including the wanted {wanted:.4g}: set momentum below {(wanted / 2) ** 2:.4g}"
    memory = f"memory: this solver holds {5 * b} vectors; `lanczos` needs 2 to 10 times fewer products"
    return momentum, memory
