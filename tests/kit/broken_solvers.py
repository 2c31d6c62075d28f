"""Solvers that are broken on purpose, each in one way and named after it, and the law that detects each.

Most are a correct solver, `block_krylov`, with a fault in its snapshots, its request or its products.
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
from eigencore_krylov.lanczos import LanczosOptions, lanczos
from kit.block_krylov import block_krylov

if TYPE_CHECKING:
    from eigencore.request import Request

Snapshots = Generator[Snapshot, Array | None, None]
SnapshotFault = Callable[[Snapshot, LinearOperator], Snapshot]
RequestFault = Callable[["Request", LinearOperator], "Request"]


@dataclass(frozen=True)
class SolverSpecimen:
    """A broken solver, the law that detects it, and a library on which it is detected."""

    solver: Solver
    caught_by: str
    library: str = "numpy-float64"

    def __str__(self) -> str:
        return getattr(self.solver, "__name__", "")


def fault_in_snapshots(fault: SnapshotFault) -> Solver:
    """Changes each snapshot of the correct solver: fault(snapshot, operator)."""

    @functools.wraps(fault)
    def solver(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
        for snapshot in block_krylov(operator, request, options, state=state):
            yield fault(snapshot, operator)

    return solver


def fault_in_request(fault: RequestFault) -> Solver:
    """Changes the request of the correct solver: fault(request, operator)."""

    @functools.wraps(fault)
    def solver(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
        yield from block_krylov(operator, fault(request, operator), options, state=state)

    return solver


def select_pairs(snapshot: Snapshot, operator: LinearOperator, kept: list[int]) -> Snapshot:
    """A snapshot with some of the pairs, in the given order."""
    index = operator.xp.asarray(kept, device=operator.device)
    return replace(
        snapshot,
        values=snapshot.values[kept],
        residuals=snapshot.residuals[kept],
        vectors=lambda: operator.xp.take(snapshot.vectors(), index, axis=1),
    )


# -- wrong values ------------------------------------------------------------------------------------------


def lanczos_without_reorthogonalisation(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Lanczos without reorthogonalisation: eigenvalues that were found are found again and again."""
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


def drops_the_second_pair(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Finds one pair more than requested, and drops the second."""
    more = replace(request, k=request.k + 1)
    for snapshot in block_krylov(operator, more, options, state=state):
        yield select_pairs(snapshot, operator, [i for i in range(len(snapshot.values)) if i != 1])


@fault_in_request
def finds_the_wrong_end(request: Request, operator: LinearOperator) -> Request:
    """Returns the largest values instead of the largest in magnitude, and similarly for other ends."""
    return replace(request, which={"LM": "LA", "LA": "SA", "SA": "LA", "BE": "LM"}[request.which])


@fault_in_snapshots
def reverses_the_order(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """The order of the pairs is reversed."""
    return select_pairs(snapshot, operator, list(range(len(snapshot.values)))[::-1])


def returns_nan(operator: LinearOperator, request: Request, options: Any, *, state: Any = None) -> Snapshots:
    for _, snapshot in zip(range(30), block_krylov(operator, request, options, state=state), strict=False):
        yield replace(snapshot, values=snapshot.values * np.nan)


@fault_in_snapshots
def returns_shifted_values(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Values that differ slightly from the Rayleigh quotients of the vectors."""
    return replace(snapshot, values=snapshot.values * (1 - 1e-4))


# -- wrong residuals and vectors ---------------------------------------------------------------------------


@fault_in_snapshots
def reports_a_tenth_of_the_residual(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Reports a tenth of each residual."""
    return replace(snapshot, residuals=snapshot.residuals / 10)


@fault_in_snapshots
def reports_a_thousandth_of_the_residual(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Reports a thousandth of each residual."""
    return replace(snapshot, residuals=snapshot.residuals / 1000)


@fault_in_snapshots
def has_an_absolute_tolerance(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Treats residuals below 1e-8 as zero, whatever the size of A."""
    small = snapshot.residuals < 1e-8
    return replace(snapshot, residuals=np.where(small, 0.0, snapshot.residuals))


@fault_in_snapshots
def returns_skewed_vectors(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Vectors that are not orthogonal."""
    mix = np.eye(len(snapshot.values)) + 1e-3
    return replace(snapshot, vectors=lambda: snapshot.vectors() @ arrays.from_host(mix, operator))


@fault_in_snapshots
def returns_vectors_on_the_host(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Vectors in float64 on the host, not in the space of the operator."""
    return replace(snapshot, vectors=lambda: arrays.to_host(snapshot.vectors()))


def overwrites_its_basis(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Overwrites its basis before the next product: vectors that are formed then do not fit the values."""
    for snapshot in block_krylov(operator, request, options, state=state):
        basis = {"V": snapshot.vectors()}
        yield replace(snapshot, vectors=functools.partial(basis.get, "V"))
        basis["V"] = operator.xp.flip(basis["V"], axis=1)


# -- wrong behaviour ---------------------------------------------------------------------------------------


def bypasses_the_counter(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Multiplies by the operator inside the counting one."""
    yield from block_krylov(vars(operator).get("_A", operator), request, options, state=state)


def swallows_errors(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Uses the vector itself in place of a product that raised an error."""

    def product(v: Array) -> Array:
        try:
            return operator.matvec(v)
        except BaseException:
            return v

    kind = {"xp": operator.xp, "dtype": operator.dtype, "device": operator.device}
    forgiving = FunctionOperator(product, operator.shape[0], **kind)
    yield from block_krylov(forgiving, request, options, state=state)


def raises_after_ten_steps(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Raises an error where it should continue."""
    for number, snapshot in enumerate(block_krylov(operator, request, options, state=state)):
        if number == 10:
            raise ArithmeticError("no convergence in 10 steps")
        yield snapshot


def yields_after_every_fifth_product(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Yields only after every fifth product."""
    for number, snapshot in enumerate(block_krylov(operator, request, options, state=state)):
        if number % 5 == 4:
            yield snapshot


def multiplies_when_closed(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Makes more products when it is closed."""
    last = None
    try:
        for last in block_krylov(operator, request, options, state=state):
            yield last
    finally:
        if last is not None:
            operator.matmat(last.vectors())


@fault_in_snapshots
def prints(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    print(snapshot.values)
    return snapshot


@fault_in_request
def draws_from_the_global_generator(request: Request, operator: LinearOperator) -> Request:
    """Draws its start from the global generator of NumPy."""
    start = np.random.standard_normal((operator.shape[0], request.k))
    return replace(request, start=arrays.from_host(start, operator))


@fault_in_request
def overwrites_its_start(request: Request, operator: LinearOperator) -> Request:
    """Normalises the array of the caller in place."""
    if request.start is not None:
        arrays.write(request.start, ..., request.start / arrays.norm(request.start))
    return request


@fault_in_request
def ignores_its_start(request: Request, operator: LinearOperator) -> Request:
    """Ignores the start of the request."""
    return replace(
        request, start=arrays.random_normal(np.random.default_rng(0), operator.shape[:1], operator)
    )


def reports_the_evidence_of_another_matrix(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Reports the Ritz values of a matrix whose eigenvalues are larger by 1 %."""
    snapshots = lanczos(operator, request, LanczosOptions(), state=state)
    missed = None
    while True:
        snapshot = snapshots.send(missed)
        assert snapshot.evidence is not None
        other = replace(snapshot.evidence, ritz=1.01 * snapshot.evidence.ritz)
        missed = yield replace(snapshot, evidence=other)


def ignores_its_state(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Starts again where it should continue from its state."""
    yield from block_krylov(operator, request, options)


def overwrites_its_state(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Works in the arrays of the state that it resumes from."""
    if isinstance(state, tuple):
        arrays.write(state[0][0], ..., -state[0][0])
    yield from block_krylov(operator, request, options, state=state)


def _with_operator(snapshot: Snapshot, operator: LinearOperator, vectors: Array) -> object:
    assert snapshot.state is not None
    return snapshot.state(vectors), operator


def puts_its_operator_into_its_state(
    operator: LinearOperator, request: Request, options: Any, *, state: Any = None
) -> Snapshots:
    """Its state holds the operator."""
    inner = None if state is None else state[0]
    for snapshot in block_krylov(operator, request, options, state=inner):
        yield replace(snapshot, state=functools.partial(_with_operator, snapshot, operator))


@fault_in_snapshots
def keeps_more_than_its_vectors(snapshot: Snapshot, operator: LinearOperator) -> Snapshot:
    """Its state holds a copy of the vectors, also when all pairs have converged."""
    copy = operator.xp.asarray
    form = snapshot.state
    assert form is not None
    return replace(snapshot, state=lambda vectors: form(copy(vectors, copy=True)))


SPECIMENS = (
    SolverSpecimen(lanczos_without_reorthogonalisation, "no_spurious_eigenvalue"),
    SolverSpecimen(drops_the_second_pair, "no_missed_eigenvalue"),
    SolverSpecimen(finds_the_wrong_end, "no_missed_eigenvalue"),
    SolverSpecimen(reverses_the_order, "snapshots_are_correct"),
    SolverSpecimen(returns_nan, "snapshots_are_correct"),
    SolverSpecimen(returns_shifted_values, "values_are_rayleigh_quotients"),
    SolverSpecimen(reports_a_tenth_of_the_residual, "residuals_are_accurate"),
    SolverSpecimen(reports_a_thousandth_of_the_residual, "no_false_convergence"),
    SolverSpecimen(has_an_absolute_tolerance, "values_scale_with_the_matrix"),
    SolverSpecimen(returns_skewed_vectors, "vectors_are_orthonormal"),
    SolverSpecimen(returns_vectors_on_the_host, "is_well_formed", "numpy-float32"),
    SolverSpecimen(overwrites_its_basis, "vectors_stay_valid_during_the_next_product"),
    SolverSpecimen(bypasses_the_counter, "products_are_counted"),
    SolverSpecimen(swallows_errors, "errors_propagate"),
    SolverSpecimen(raises_after_ten_steps, "raises_nothing"),
    SolverSpecimen(yields_after_every_fifth_product, "yields_after_every_product"),
    SolverSpecimen(multiplies_when_closed, "makes_no_product_when_closed"),
    SolverSpecimen(prints, "prints_nothing"),
    SolverSpecimen(draws_from_the_global_generator, "global_random_state_is_unchanged"),
    SolverSpecimen(overwrites_its_start, "start_is_not_modified"),
    SolverSpecimen(ignores_its_start, "warm_start_saves_products"),
    SolverSpecimen(reports_the_evidence_of_another_matrix, "evidence_is_of_the_vectors_that_are_multiplied"),
    SolverSpecimen(ignores_its_state, "continues_from_its_state"),
    SolverSpecimen(overwrites_its_state, "its_state_can_be_used_twice"),
    SolverSpecimen(puts_its_operator_into_its_state, "its_state_can_be_pickled"),
    SolverSpecimen(keeps_more_than_its_vectors, "a_converged_state_is_as_small_as_the_vectors"),
)
