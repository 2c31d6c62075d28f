"""solve: k eigenpairs of an operator by a named solver, checked before any product, graded after the last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from numbers import Real
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.certificate import LEVELS, products_needed
from eigencore.defaults import SOLVER
from eigencore.errors import Interrupted, OptionError, UsageError
from eigencore.interfaces import Capability, LinearOperator, MinibatchOperator, Solver, SolverEntry
from eigencore.operators import as_operator
from eigencore.options import resolve
from eigencore.registry import load, load_options, registry, require
from eigencore.request import Request
from eigencore.results import EigenResult
from eigencore.running import Chosen, Job, Progress
from eigencore.watching import Watch, interruption

if TYPE_CHECKING:
    from eigencore.interfaces import Array

log = logging.getLogger(__name__)


def solve(
    op: Any,
    k: int = 5,
    *,
    solver: str | Solver = SOLVER,
    which: str = "LM",
    tol: float = 1e-3,
    seed: int = 0,
    start: Array | None = None,
    state: Any = None,
    max_matvecs: float | None = None,
    max_seconds: float | None = None,
    certify: str = "sketch",
    progress: Progress | None = None,
    **options: Any,
) -> EigenResult:
    """k eigenpairs of a symmetric operator, with a certificate.

    Args:
        op: anything `as_operator` takes.
        k: how many pairs.
        solver: a registered name, or a callable as `interfaces.Solver` says.
        which: "LM" largest magnitude, "LA" largest, "SA" smallest, "BE" both ends.
        tol: a pair has converged when ||A v - theta v|| <= max(tol |theta|, floor of the precision).
        seed: of every random number.
        start: a vector (n,) or block (n, b) to start from.
        state: `EigenResult.state` of an earlier solve by the same solver, to go on from.
        max_matvecs: products at most, the certificate's included.
        max_seconds: time at most, looked at between products.
        certify: "sketch" (three products), "full" (k products) or "none".
        progress: called with a Step after every snapshot.
        **options: of the solver; see `eigen solvers NAME`.

    Raises:
        UsageError: something that can't be asked for; before any product.
        NotFiniteError, NotSymmetricError: by the products; `.partial` holds the result so far.
        Interrupted: Ctrl-C, also where the answer was complete by then; `.result` holds it.
    """
    operator = as_operator(op)
    request = Request(k, which, tol, seed, _as_start(start, operator))
    request.fits(operator.shape[0])
    chosen = _choose(solver, options, request, operator)
    _refuse_bad_limits(max_matvecs, max_seconds, certify)
    with interruption() as flag:
        watch = Watch(max_matvecs, max_seconds, products_needed(certify, k), flag)
        job = Job(operator, request, chosen, watch, certify, progress)
        result = job.run(state)
    log.info("%s: %s (%g products, %.1f s)", result.solver, result.advice, result.matvecs, result.seconds)
    if job.error is not None:
        job.error.partial = result
        raise job.error
    if flag.pressed:
        raise Interrupted(result)
    return result


def _choose(
    solver: str | Solver, options: Mapping[str, Any], request: Request, operator: LinearOperator
) -> Chosen:
    if not isinstance(solver, str):
        if not callable(solver):
            raise UsageError(f"solver is a {type(solver).__name__}; expected a name or a callable")
        name = getattr(solver, "__name__", type(solver).__name__)
        return Chosen(name, solver, SimpleNamespace(**options))
    entry = registry().find(SolverEntry, solver)
    if request.which not in entry.which:
        raise UsageError(
            f"{entry.name} finds {', '.join(entry.which)} only; which is {request.which}",
            hint=f"Use the solver {SOLVER}.",
        )
    offered = {Capability.PRODUCTS}
    if isinstance(operator, MinibatchOperator):
        offered.add(Capability.MINIBATCHES)
    require(entry, frozenset(offered), "this operator")
    declared = load_options(entry)
    if declared is None and options:
        raise OptionError(f"{entry.name} has no options; given were {', '.join(options)}")
    resolved = SimpleNamespace() if declared is None else resolve(declared, options, entry=entry.name)
    return Chosen(entry.name, load(entry), resolved, once=not entry.partial)


def _as_start(start: Any, operator: LinearOperator) -> Array | None:
    """The start vectors as arrays of the operator; a zero or non-finite one is refused."""
    if start is None:
        return None
    try:
        block = operator.xp.asarray(start, dtype=operator.dtype, device=operator.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"start is a {type(start).__name__}; expected an array of numbers") from error
    if not arrays.is_finite(block):
        raise UsageError("start holds NaN or infinity")
    if block.ndim in (1, 2) and not bool(operator.xp.any(block != 0)):
        raise UsageError("start is all zeros; expected a vector with a direction")
    return block


def _refuse_bad_limits(max_matvecs: float | None, max_seconds: float | None, certify: str) -> None:
    if max_matvecs is not None and not (isinstance(max_matvecs, Real) and max_matvecs >= 1):
        raise UsageError(f"max_matvecs is {max_matvecs!r}; expected at least 1, or None")
    if max_seconds is not None and not (isinstance(max_seconds, Real) and max_seconds > 0):
        raise UsageError(f"max_seconds is {max_seconds!r}; expected a number above 0, or None")
    if certify not in LEVELS:
        raise UsageError(f"certify is {certify!r}; expected one of {', '.join(LEVELS)}")
