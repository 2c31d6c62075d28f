"""The function `solve`: checks its arguments, selects the solver, and runs it within the budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from numbers import Real
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.entries import DEFAULT_K, DEFAULT_SOLVER, Capability, SolverEntry
from eigencore.errors import CapabilityError, Culprit, Interrupted, OperatorError, UsageError, attach
from eigencore.interfaces import Approximation, LinearOperator, MinibatchOperator, Problem, Solver
from eigencore.operators import as_operator, release
from eigencore.operators.conversion import approximation_of
from eigencore.problems import bound_of, is_bound
from eigencore.processes import processes_of
from eigencore.registry import load, registry, require, resolve_options
from eigencore.request import Request
from eigencore.results import EigenResult, Step
from eigencore.solving.budget import Budget
from eigencore.solving.certificate import LEVELS, products_needed
from eigencore.solving.interrupt import interruption
from eigencore.solving.loop import Job
from eigencore.solving.memory import solve_bytes
from eigencore.solving.sampling.sampled_solve import Limits, sampled_solve
from eigencore.solving.selected import SelectedSolver
from eigencore.solving.start import ResumableState, start_vector

if TYPE_CHECKING:
    from eigencore.space import Array

log = logging.getLogger(__name__)


def solve(
    op: Any,
    k: int = DEFAULT_K,
    *,
    solver: str | Solver = DEFAULT_SOLVER,
    which: str = "LM",
    tol: float = 1e-3,
    complete: float | None = 0.99,
    seed: int = 0,
    start: Array | None = None,
    state: Any = None,
    max_matvecs: float | None = None,
    max_seconds: float | None = None,
    certify: str = "sketch",
    samples: int | None = None,
    rtol: float | None = None,
    progress: Callable[[Step], None] | None = None,
    **options: Any,
) -> EigenResult:
    """k eigenpairs of a symmetric operator, with a certificate.

    Args:
        op: anything that `as_operator` takes; or a Problem, the name of one, a tuple (model, data, loss) or
            a bound problem, whose Hessian over all trainable parameters is then solved.
        k: the number of eigenpairs.
        solver: a registered name, or a callable that implements `interfaces.Solver`.
        which: "LM" largest magnitude, "LA" largest, "SA" smallest, "BE" both ends.
        tol: a pair has converged when ||A v - theta v|| <= max(tol |theta|, precision floor).
        complete: the probability at which no eigenvalue beyond the k-th is to be missed, above 0 and below 1;
            None: this is not examined, and an answer may be incomplete without a sign of it.
        seed: the seed of all random numbers.
        start: a vector (n,) or block (n, b) to start from; None: random. A vector is mixed with a random one,
            a tenth of its length, unless `complete` is None.
        state: `EigenResult.state` of an earlier solve by the same solver, to resume from.
        max_matvecs: the maximum number of products, including those of the certificate.
        max_seconds: the maximum time, checked between products, including that of the certificate, for which
            as much is reserved as its products are measured to take.
        certify: "sketch" (three products), "full" (k products) or "none"; always "full" for an operator with
            an approximation, whose pairs take k products anyway.
        samples: the number of samples of the data to draw, by weights from one forward pass. The result is
            then that of the operator of the sample, and `EigenResult.sampling` has intervals for the
            eigenvalues of all data. Only for "LM" and "LA", and operators that are means over samples.
        rtol: the relative accuracy to which every eigenvalue of all data is wanted, at 95 %: a pilot sample
            finds what that costs, and the cheapest of a sample, products of all data with the vectors of a
            sample, and a solve on all data is taken.
        progress: called with a Step after every snapshot. An exception that it raises is raised as it is.
        **options: options of the solver; `eigen solvers NAME` lists them.

    Returns:
        The eigenpairs in the order that `which` defines: values (k,) on the host, vectors (n, k) in the
        operator's array library, residuals (k,), and the certificate. There may be fewer than k pairs if the
        solve was stopped early. Products are counted in full-data units: a product with a minibatch counts as
        the minibatch's share of the data.

    Raises:
        UsageError: an argument is invalid, or differs between the processes that compute the products of the
            operator together; or the memory of the solve exceeds the limit of the operator, as
            `torch.memory`; raised before any product.
        ProblemError: a problem can't be bound.
        CapabilityError: `samples` or `rtol` is given for an operator that is not a mean over samples; or the
            solver needs whole vectors, and those of the operator are cut into shards.
        NotFiniteError, NotSymmetricError, OperatorError: the products are not finite or not symmetric, or a
            product failed or has the wrong shape.
        PluginError: the solver failed.
        Interrupted: Ctrl-C was pressed, even if the answer was complete by then; `.result` holds the result.

    All errors but the first have the result so far as `.partial`, and the part that failed as `.culprit`:
    "solver", "operator" or "certificate". An exception that `progress` raised has them too, with "callback".

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 101.0)), k=3, which="LA", tol=1e-6)
        print(result.values, result.certificate.bound)
    """
    operator = _operator_of(op)
    processes = processes_of(operator)
    named = solver if isinstance(solver, str) else getattr(solver, "__name__", type(solver).__name__)
    same = {"k": k, "solver": named, "which": which, "tol": tol, "complete": complete, "seed": seed}
    same |= {"max_matvecs": max_matvecs, "max_seconds": max_seconds, "certify": certify}
    with processes.together("solve", **same, samples=samples, rtol=rtol, **options):
        if samples is not None or rtol is not None:
            request = Request(k, which, tol, seed)
            request.check_size(operator.shape[0])
            _select(solver, options, request, operator)
            refuse_bad_limits(max_matvecs, max_seconds, certify)
            _refuse_bad_probability(complete)
            if state is not None:
                raise UsageError(
                    "a state can't be resumed from with samples or rtol", hint="Leave state out."
                )
            settings: dict[str, Any] = {"solver": solver, "which": which, "tol": tol, "complete": complete}
            settings |= {"seed": seed, "start": start, "certify": certify, **options}
            return sampled_solve(
                operator,
                request,
                samples=samples,
                rtol=rtol,
                limits=Limits(max_matvecs, max_seconds),
                progress=progress,
                inner=partial(solve, **settings),
            )
        request = Request(k, which, tol, seed, _as_start(start, operator))
        request.check_size(operator.shape[0], arrays.local_rows(operator))
        approximation = approximation_of(operator)
        multiplied = operator if approximation is None else _of_same_space(approximation, operator)
        selected = _select(solver, options, request, multiplied)
        refuse_bad_limits(max_matvecs, max_seconds, certify)
        _refuse_bad_probability(complete)
        resumed = _as_state(state, selected.name, operator, approximation)
        release(operator, needed=solve_bytes(operator, selected, request, certify))
        vector, bound = start_vector(request, operator, mixed=complete is not None)
        bound = bound if approximation is None else 0.0  # the recurrence is that of the approximation
        request = replace(request, start=vector)
        with interruption() as flag:
            # Approximate pairs are refined by k products, which are at the same time a full certificate.
            reserved = products_needed(certify if approximation is None else "full", k)
            budget = Budget(max_matvecs, max_seconds, reserved, flag, processes=processes)
            job = Job(operator, request, selected, budget, certify, progress, complete, bound, approximation)
            result = job.run(resumed)
        log.info("%s: %s (%g products, %.1f s)", result.solver, result.advice, result.matvecs, result.seconds)
        if job.error is not None:
            attach(job.error, partial=result)
            raise job.error
        if processes.any(flag.pressed):
            raise Interrupted(result)
        return result


def _operator_of(op: Any) -> LinearOperator:
    if isinstance(op, Problem | str | tuple) or is_bound(op):
        return bound_of(op).operator()
    operator: LinearOperator = as_operator(op)
    return operator


def _of_same_space(approximation: Approximation, operator: LinearOperator) -> LinearOperator:
    """The operator of an approximation. Raises OperatorError if its vectors are others."""
    found: LinearOperator = approximation.operator
    if found.shape != operator.shape or found.dtype != operator.dtype:
        raise OperatorError(
            f"the approximation has shape {found.shape} and data type {found.dtype}; expected "
            f"{operator.shape} and {operator.dtype}",
            culprit=Culprit.OPERATOR,
        )
    return found


def _select(
    solver: str | Solver, options: Mapping[str, Any], request: Request, operator: LinearOperator
) -> SelectedSolver:
    if not isinstance(solver, str):
        if not callable(solver):
            raise UsageError(f"solver is a {type(solver).__name__}; expected a name or a callable")
        name = getattr(solver, "__name__", type(solver).__name__)
        return SelectedSolver(name, solver, SimpleNamespace(**options))
    entry = registry().find(SolverEntry, solver)
    if request.which not in entry.which:
        raise UsageError(
            f"which is {request.which}; {entry.name} finds {', '.join(entry.which)} only",
            hint=_finding(request.which),
        )
    if arrays.is_sharded(operator) and not entry.shards:
        able = [one.entry.name for one in registry().entries(SolverEntry) if one.entry.shards]
        raise CapabilityError(
            f"the solver {entry.name} needs whole vectors, and those of this operator are cut over several "
            "processes",
            hint=f"Choose one that works on shards: {', '.join(able)}.",
        )
    offered = {Capability.PRODUCTS}
    if isinstance(operator, MinibatchOperator):
        offered.add(Capability.MINIBATCHES)
    require(entry, frozenset(offered), "this operator")
    resolved = resolve_options(entry, options)
    own = SimpleNamespace() if resolved is None else resolved
    return SelectedSolver(
        entry.name,
        load(entry),
        own,
        once=not entry.partial,
        refuses_non_finite=entry.refuses_non_finite,
        on_device=entry.on_device,
        vectors=None if entry.vectors is None else load(replace(entry, load=entry.vectors)),
    )


def _finding(which: str) -> str:
    """A hint at the solvers that find this end of the spectrum, the default one first."""
    names = {one.entry.name for one in registry().entries(SolverEntry) if which in one.entry.which}
    others = sorted(names - {DEFAULT_SOLVER})
    return "Use " + ", or ".join(f'solver="{name}"' for name in [DEFAULT_SOLVER, *others]) + "."


def _as_start(start: Any, operator: LinearOperator) -> Array | None:
    """The start vectors in the operator's array library. Raises UsageError if they are zero or not finite."""
    if start is None:
        return None
    try:
        block = operator.xp.asarray(start, dtype=operator.dtype, device=operator.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"start is a {type(start).__name__}; expected an array of numbers") from error
    if not arrays.is_finite(block, operator):
        raise UsageError("start contains NaN or infinity")
    if block.ndim in (1, 2) and arrays.norm(block, operator) == 0:
        raise UsageError("start is all zeros; expected a nonzero vector")
    return block


def _as_state(
    state: Any, solver: str, operator: LinearOperator, approximation: Approximation | None
) -> ResumableState | None:
    """The state to resume from. Raises UsageError if it is none, or that of another solver or operator."""
    if state is None:
        return None
    if not isinstance(state, ResumableState):
        raise UsageError(
            f"state is a {type(state).__name__}; expected the state of a result", hint="Give result.state."
        )
    if state.solver != solver:
        raise UsageError(
            f"this state comes from the solver {state.solver}; {solver} can't resume from it",
            hint=f'Use solver="{state.solver}", or start=result.vectors.',
        )
    if state.rows != arrays.local_rows(operator) or state.dtype != str(operator.dtype):
        raise UsageError("this state comes from an operator of another size or data type")
    own = "" if approximation is None else approximation.name
    if state.products != own:
        named = [f"{name}" or "products of the operator itself" for name in (state.products, own)]
        raise UsageError(
            f"this state comes from {named[0]}, and this solve would use {named[1]}",
            hint="Use start=result.vectors.",
        )
    return state


def _refuse_bad_probability(complete: float | None) -> None:
    if complete is not None and not (isinstance(complete, Real) and 0 < complete < 1):
        raise UsageError(
            f"complete is {complete!r}; expected a probability above 0 and below 1, such as 0.99, or None"
        )


def refuse_bad_limits(max_matvecs: float | None, max_seconds: float | None, certify: str) -> None:
    """Raises UsageError for a limit that is no positive number, or an unknown kind of certificate."""
    if max_matvecs is not None and not (isinstance(max_matvecs, Real) and max_matvecs >= 1):
        raise UsageError(f"max_matvecs is {max_matvecs!r}; expected a number of at least 1, or None")
    if max_seconds is not None and not (isinstance(max_seconds, Real) and max_seconds > 0):
        raise UsageError(f"max_seconds is {max_seconds!r}; expected a number above 0, or None")
    if certify not in LEVELS:
        raise UsageError(f"certify is {certify!r}; expected one of {', '.join(LEVELS)}")
