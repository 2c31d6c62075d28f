"""Power iteration with momentum, in blocks: extreme eigenpairs of a symmetric operator.

De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670):
w+ = A w - beta w_before, then both divided by the norm of w+. After t steps the start has been multiplied by
the Chebyshev polynomial beta^(t/2) U_t(x / (2 sqrt(beta))), small where |x| <= 2 sqrt(beta) and growing
outside. With mu(l) = (|l| + sqrt(l^2 - 4 beta)) / 2, or sqrt(beta) where that root is not real, the part
along l_j falls by mu(l_j) / mu(l_i) a step against the wanted l_i. A may be indefinite. For a block of b
vectors beta = (l_{b+1} / 2)^2 is best. This differs from the paper in:

1. A block of k + 1 vectors is iterated, so that a copy or a near tie of the k-th eigenvalue is seen.
2. beta is found: from what the last two blocks and their products show beyond one block (`lower_bound`).
3. Ritz pairs are read off the last two blocks together, whose products are known; what is iterated stays one
   block.

    n, k, b    rows of A; wanted pairs; vectors of a block, k + 1 where n allows
    edge       2 sqrt(beta): eigenvalues up to it are damped
    reach      the largest lower bound seen of the |eigenvalues| that must be: the edge, but for ties

Memory: five blocks. Momentum saves memory where k is small, but no products: `lanczos` needs fewer.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from eigencore.errors import OptionError
from eigencore.interfaces import Snapshot
from eigencore.options import option
from eigencore.request import Request
from eigencore_power.blocks import Block, Ritz, start_block
from eigencore_power.iteration import (
    Iterate,
    advance,
    begin,
    refuse_foreign,
    refuse_other_ends,
    ritz_pairs,
    snapshot,
)
from eigencore_power.momentum import edge_below_ties, lower_bound
from eigencore_power.stochastic import stochastic_power
from eigencore_power.three_term import three_term
from eigencore_power.two_ended import two_ended

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator


@dataclass(frozen=True)
class AccelPowerOptions:
    momentum: Literal["auto"] | float = option(
        "auto",
        low=0.0,
        help="beta in w+ = A w - beta w_before, in squared units of the eigenvalues; auto: it is found",
        when="set it where the largest unwanted |eigenvalue| l is known: (l/2)^2 is best; 0 is plain power "
        "iteration, and from the square of half the k-th |eigenvalue| on it does not converge",
    )
    batches: int | None = option(
        None,
        low=1,
        help="batches of the data, drawn at random, that a step multiplies by; none: all of the data",
        when="set it where one product on all the data takes long and batches tell nearly the same",
    )
    variance_reduction: bool = option(
        True,
        help="minibatches tell only what changed since the last product on all the data",
        when="turn it off to save memory: the residuals then come down to a floor of noise, not below it",
    )
    epoch: int | None = option(
        None,
        low=1,
        help="steps from one product on all the data to the next; none: as many as cost one, but at most 10",
        when="raise it where a minibatch is a tiny part of the data, lower it where minibatches are noisy",
    )


@dataclass(frozen=True)
class AccelPowerState:
    """What the next step needs; `reach` in units of the iterate's scale, `beta` of its square."""

    iterate: Iterate
    reach: float
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
    """The solver: see `eigencore.interfaces.Solver`. One Snapshot for every b products.

    For LA and SA it is `three_term.three_term`, with `options.batches` `stochastic.stochastic_power`, and for
    one pair with momentum to be found `two_ended.two_ended`.

    The first b columns of a start block are used; random ones fill it up.

    Raises:
        OptionError: LA or SA is asked for together with a number for momentum, or with minibatches.
        UsageError: BE is asked for, or the state is from another solver or operator; or minibatches are, of
            an operator that has none.
    """
    refuse_other_ends(request, "accel_power", ("LM", "LA", "SA"))
    if request.which != "LM":
        refuse_damping_around_zero(request, options)
        yield from three_term(operator, request, state=state)
        return
    if options.batches is not None:
        yield from stochastic_power(operator, request, options, state=state)
        return
    if request.k == 1 and options.momentum == "auto":
        yield from two_ended(operator, request, state=state)
        return
    rng, b = np.random.default_rng(request.seed), min(request.k + 1, operator.shape[0])
    reach, previous = 0.0, None
    if state is not None:
        refuse_foreign(operator, state, AccelPowerState)
    if state is not None and state.block.width == b:
        reach, previous = state.reach, state.block
        at = advance(operator, state.iterate, state.beta, rng)
    else:
        given = request.start if state is None else state.block.X.T
        at = begin(operator, start_block(operator, given, b, rng))

    while True:
        ritz = ritz_pairs(operator, at.block, previous, request.k + 1)
        reach = max(reach, lower_bound(operator, ritz, request.k, b))
        if options.momentum == "auto":
            beta = edge_below_ties(ritz, request.k, b, reach) ** 2 / 4
        else:
            beta = options.momentum / at.scale / at.scale
        state = AccelPowerState(at, reach, beta)
        notes = rule_in_use(options, ritz, request.k, state)
        yield snapshot(operator, request, ritz, at.scale, count=request.k, notes=notes, state=state)
        previous = at.block
        del ritz  # two blocks that the next product need not wait beside
        at = advance(operator, at, beta, rng)


def refuse_damping_around_zero(request: Request, options: AccelPowerOptions) -> None:
    """Raises OptionError where an option makes sense for LM only."""
    if options.momentum != "auto":
        raise OptionError(
            f"accel_power.momentum is {options.momentum}, which damps a range around zero and so finds LM; "
            f"which is {request.which}",
            hint="Leave momentum at auto, or ask for LM.",
        )
    if options.batches is not None:
        raise OptionError(
            f"accel_power.batches damps a range around zero and so finds LM; which is {request.which}",
            hint="Leave batches out, so that all steps are on the full data, or ask for LM.",
        )


def rule_in_use(options: AccelPowerOptions, ritz: Ritz, k: int, state: AccelPowerState) -> tuple[str, ...]:
    """The momentum, and what it is worth."""
    scale, b = state.iterate.scale, state.block.width
    edge, wanted = 2 * math.sqrt(state.beta) * scale, abs(float(ritz.values[k - 1])) * scale
    rule = f"momentum {options.momentum}: |eigenvalues| up to {edge:.4g} are damped"
    if edge >= wanted > 0:
        rule += f", the wanted {wanted:.4g} among them: set it below {(wanted / 2) ** 2:.4g}"
    worth = f"memory: {5 * b} vectors are held here; `lanczos` needs 2 to 10 times fewer products"
    return rule, worth
