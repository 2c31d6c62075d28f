"""Solvers that are wrong, each in one way and named for it: a check that fails none of them proves nothing.

Most take a solver that is right, and spoil its snapshots, or the products it gets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.interfaces import LinearOperator, Snapshot, Solver
from eigencore.operators import FunctionOperator
from eigencore.space import Array
from eigencore.testing.reference import block_krylov

if TYPE_CHECKING:
    from eigencore.request import Request

Snapshots = Generator[Snapshot, None, None]
Spoil = Callable[[Snapshot, LinearOperator], Snapshot]
Change = Callable[["Request", LinearOperator], "Request"]


@dataclass(frozen=True)
class Specimen:
    """A broken solver, the law or the behaviour that catches it, and a library on which it does."""

    solver: Solver
    caught_by: str
    library: str = "numpy-float64"

    def __str__(self) -> str:
        return getattr(self.solver, "__name__", "")


def spoiling(spoil: Spoil) -> Solver:
    """The right solver, each of whose snapshots is spoilt."""

    @functools.wraps(spoil)
    def solver(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
        for snapshot in block_krylov(operator, request, options, state=state):
            yield spoil(snapshot, operator)

    return solver


def asking(change: Change) -> Solver:
    """The right solver, asked for something else."""

    @functools.wraps(change)
    def solver(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
        yield from block_krylov(operator, change(request, operator), options, state=state)

    return solver


def columns(snapshot: Snapshot, operator: LinearOperator, kept: list[int]) -> Snapshot:
    """Some of a snapshot's pairs, in the order given."""
    index = operator.xp.asarray(kept, device=operator.device)
    return replace(
        snapshot,
        values=snapshot.values[kept],
        residuals=snapshot.residuals[kept],
        vectors=lambda: operator.xp.take(snapshot.vectors(), index, axis=1),
    )


# -- wrong values ------------------------------------------------------------------------------------------


def ghosts(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    """Lanczos as in exact arithmetic: not orthogonalised again, what was found comes back again and again."""
    n = operator.shape[0]
    w = arrays.random_normal(np.random.default_rng(request.seed), (n,), operator)
    V: list[Array] = []
    alpha: list[float] = []
    beta: list[float] = []
    while len(V) < 5 * n:
        size = arrays.norm(w)
        beta.append(size)
        V.append(w / size)
        w = operator.matvec(V[-1])
        alpha.append(arrays.scalar(V[-1] @ w))
        w = w - alpha[-1] * V[-1] - (beta[-1] * V[-2] if len(V) > 1 else 0 * w)
        off = np.diag(beta[1:], 1)
        values, rotation = np.linalg.eigh(np.diag(alpha) + off + off.T)
        first = request.order(values)
        norm = float(np.max(np.abs(values)))
        residuals = arrays.norm(w) * np.abs(rotation[-1, first])
        chosen = arrays.from_host(rotation[:, first], operator)
        block = operator.xp.stack(V, axis=1)
        yield Snapshot(values[first], residuals, functools.partial(operator.xp.matmul, block, chosen), norm)
        if arrays.norm(w) <= arrays.eps(operator) * norm:
            return


def misses_the_second(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Finds one pair more than asked for, and leaves the second out."""
    more = replace(request, k=request.k + 1)
    for snapshot in block_krylov(operator, more, options, state=state):
        yield columns(snapshot, operator, [i for i in range(len(snapshot.values)) if i != 1])


@asking
def wrong_end(request: Request, operator: LinearOperator) -> Request:
    """Takes the largest for the largest in magnitude."""
    return replace(request, which={"LM": "LA", "LA": "SA", "SA": "LA", "BE": "LM"}[request.which])


@spoiling
def unordered(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """The last wanted comes first."""
    return columns(snapshot, operator, list(range(len(snapshot.values)))[::-1])


def not_a_number(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    for _, snapshot in zip(range(30), block_krylov(operator, request, options, state=state), strict=False):
        yield replace(snapshot, values=snapshot.values * np.nan)


@spoiling
def drifting(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Values that are not quite those of the vectors beside them."""
    return replace(snapshot, values=snapshot.values * (1 - 1e-4))


# -- wrong residuals and vectors ---------------------------------------------------------------------------


@spoiling
def flatters_itself(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Tells residuals ten times smaller than they are."""
    return replace(snapshot, residuals=snapshot.residuals / 10)


@spoiling
def lies(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Tells residuals a thousand times smaller than they are."""
    return replace(snapshot, residuals=snapshot.residuals / 1000)


@spoiling
def absolute_tolerance(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Takes 1e-8 for nothing, whatever the size of A."""
    small = snapshot.residuals < 1e-8
    return replace(snapshot, residuals=np.where(small, 0.0, snapshot.residuals))


@spoiling
def skewed(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Vectors that lean on one another."""
    mix = np.eye(len(snapshot.values)) + 1e-3
    return replace(snapshot, vectors=lambda: snapshot.vectors() @ arrays.from_host(mix, operator))


@spoiling
def widens(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Vectors of its own precision, not the operator's."""
    return replace(snapshot, vectors=lambda: arrays.to_host(snapshot.vectors()))


def stale(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    """Restarts in place and multiplies at once: vectors that are formed then are not those of the values."""
    for snapshot in block_krylov(operator, request, options, state=state):
        basis = {"V": snapshot.vectors()}
        yield replace(snapshot, vectors=functools.partial(basis.get, "V"))
        basis["V"] = operator.xp.flip(basis["V"], axis=1)


# -- wrong manners -----------------------------------------------------------------------------------------


def behind_the_counter(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Finds the operator that the counting one holds, and multiplies by that."""
    yield from block_krylov(vars(operator).get("_A", operator), request, options, state=state)


def swallows_errors(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Takes its vector for the product that did not come."""

    def product(v: Array) -> Array:
        try:
            return operator.matvec(v)
        except BaseException:
            return v

    kind = {"xp": operator.xp, "dtype": operator.dtype, "device": operator.device}
    deaf = FunctionOperator(product, operator.shape[0], **kind)
    yield from block_krylov(deaf, request, options, state=state)


def gives_up(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    """Raises where it should go on."""
    for number, snapshot in enumerate(block_krylov(operator, request, options, state=state)):
        if number == 10:
            raise ArithmeticError("no convergence in 10 steps")
        yield snapshot


def yields_seldom(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Says nothing until five products have been made."""
    for number, snapshot in enumerate(block_krylov(operator, request, options, state=state)):
        if number % 5 == 4:
            yield snapshot


def clings(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    """Multiplies once more when it is told to stop."""
    last = None
    try:
        for last in block_krylov(operator, request, options, state=state):
            yield last
    finally:
        if last is not None:
            operator.matmat(last.vectors())


@spoiling
def prints(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    print(snapshot.values)
    return snapshot


@asking
def global_random_state(request: Request, operator: LinearOperator) -> Request:
    """Draws its start from NumPy's global generator."""
    start = np.random.standard_normal((operator.shape[0], request.k))
    return replace(request, start=arrays.from_host(start, operator))


@asking
def overwrites_its_start(request: Request, operator: LinearOperator) -> Request:
    """Normalises the caller's array."""
    if request.start is not None:
        arrays.write(request.start, ..., request.start / arrays.norm(request.start))
    return request


@asking
def starts_cold(request: Request, operator: LinearOperator) -> Request:
    """Doesn't look at the start vectors that it is given."""
    return replace(request, start=None)


def forgets(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    """Begins anew where it should go on."""
    yield from block_krylov(operator, request, options)


SPECIMENS = (
    Specimen(ghosts, "no_ghost"),
    Specimen(misses_the_second, "nothing_missed"),
    Specimen(wrong_end, "nothing_missed"),
    Specimen(unordered, "snapshots_are_right"),
    Specimen(not_a_number, "snapshots_are_right"),
    Specimen(drifting, "rayleigh"),
    Specimen(flatters_itself, "honest_residuals"),
    Specimen(lies, "no_false_converged"),
    Specimen(absolute_tolerance, "scaled"),
    Specimen(skewed, "orthonormal"),
    Specimen(widens, "well_formed", "numpy-float32"),
    Specimen(stale, "vectors_outlive_a_product"),
    Specimen(behind_the_counter, "counted"),
    Specimen(swallows_errors, "errors_come_through"),
    Specimen(gives_up, "raises_nothing"),
    Specimen(yields_seldom, "yields_after_every_product"),
    Specimen(clings, "closes_quietly"),
    Specimen(prints, "prints_nothing"),
    Specimen(global_random_state, "global_randomness_is_left_alone"),
    Specimen(overwrites_its_start, "start_is_left_alone"),
    Specimen(starts_cold, "warm_start_pays"),
    Specimen(forgets, "goes_on_from_its_state"),
)
