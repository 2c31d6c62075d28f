"""The laws of behaviour: snapshots, stopping, start vectors, random numbers and related matrices."""

from __future__ import annotations

import contextlib
import pickle
import unittest
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore.solving.solve import solve
from eigencore.testing.checks import demand
from eigencore.testing.gallery import Case, filled
from eigencore.testing.libraries import Library
from eigencore.testing.side_effects import (
    InjectedInterrupt,
    refuse_global_randomness,
    refuse_printing,
    refuse_swallowed_errors,
)
from eigencore.testing.solvers.answer_laws import ORTHONORMAL, converges, judge
from eigencore.testing.solvers.subject import NOISE, FailingOperator, SolverSubject

if TYPE_CHECKING:
    from eigencore.space import Floats

# Long enough for a restart of most methods, short enough to be stopped at every product.
DECAY = Case("decay", 0.8 ** np.arange(100.0), 4)
ENDS = Case("ends", filled(100, [10.0, 8.0, 7.0, -6.0, -5.5]), 3)
WIDE = Case("wide", filled(2000, [10.0, 8.0, 6.0, 5.0, 4.0]), 4)
PRODUCTS = 60
HALF_WAY = 6  # snapshots


# -- snapshots ---------------------------------------------------------------------------------------------


def snapshots_are_correct(subject: SolverSubject) -> None:
    """Each snapshot, when it is yielded, has at most k pairs in the order of the request."""
    operator = FailingOperator(DECAY, subject.library)
    for snapshot in islice(subject.snapshots(DECAY, operator), PRODUCTS):
        _judge_snapshot(snapshot, subject.library, f"after {operator.products} products")


def yields_after_every_product(subject: SolverSubject) -> None:
    """The solver calls the operator at most once between two snapshots, so it can be stopped anywhere."""
    operator = FailingOperator(DECAY, subject.library)
    before = 0
    for _ in islice(subject.snapshots(DECAY, operator), PRODUCTS):
        demand(
            operator.calls <= before + 1,
            f"{operator.calls - before} calls of the operator between two snapshots; expected at most 1",
        )
        before = operator.calls


def vectors_stay_valid_during_the_next_product(subject: SolverSubject) -> None:
    """The vectors of a snapshot are still right when the product after it does not return.

    A solver that restarts in place must yield again between the restart and the next product.
    """
    for last in range(1, PRODUCTS):
        operator = FailingOperator(DECAY, subject.library, last)
        yielded: deque[Snapshot] = deque(maxlen=1)
        with contextlib.suppress(InjectedInterrupt):
            yielded.extend(islice(subject.snapshots(DECAY, operator), 2 * PRODUCTS))
        for snapshot in yielded:
            _judge_snapshot(snapshot, subject.library, f"stopped during product {last + 1}")


def errors_propagate(subject: SolverSubject) -> None:
    """An error of the operator propagates: the budget may be used up, or memory may have run out."""

    def run(error: type[BaseException]) -> None:
        operator = FailingOperator(DECAY, subject.library, last=3, error=error)
        for _ in islice(subject.snapshots(DECAY, operator), PRODUCTS):
            pass

    refuse_swallowed_errors(run, "by the operator")


def makes_no_product_when_closed(subject: SolverSubject) -> None:
    """If the generator is closed between two products, it ends without another product."""
    for yields in (1, 2, 5):
        operator = FailingOperator(DECAY, subject.library)
        snapshots = subject.snapshots(DECAY, operator)
        for _ in islice(snapshots, yields):
            pass
        before = operator.products
        snapshots.close()
        demand(operator.products == before, f"{operator.products - before} products after it was closed")


def _judge_snapshot(snapshot: Snapshot, library: Library, when: str) -> None:
    values, rounding = snapshot.values, library.eps * DECAY.norm
    demand(len(values) <= DECAY.k, f"{when}: {len(values)} values; {DECAY.k} were requested")
    demand(np.all(np.isfinite(values)), f"{when}: values are not finite: {values}")
    in_order = np.array_equal(values[Request(DECAY.k, DECAY.which).order(values)], values)
    demand(in_order, f"{when}: {values} are not in the order of {DECAY.which}")
    shape = snapshot.residuals.shape
    demand(shape == values.shape, f"{when}: residuals have shape {shape}; expected {values.shape}")
    demand(np.all(snapshot.residuals >= 0), f"{when}: residuals are negative or NaN: {snapshot.residuals}")
    most = DECAY.norm + NOISE * rounding
    demand(snapshot.norm <= most, f"{when}: the norm is {snapshot.norm}; ||A|| is {DECAY.norm}")
    V = arrays.to_host(snapshot.vectors())
    expected = (DECAY.n, len(values))
    demand(V.shape == expected, f"{when}: vectors have shape {V.shape}; expected {expected}")
    defect = float(np.max(np.abs(V.T @ V - np.eye(len(values))), initial=0.0))
    demand(defect <= ORTHONORMAL * library.eps, f"{when}: |V'V - I| reaches {defect:.1e}")
    R = DECAY.exact(library).matmat(V) - V * values
    errors = np.abs(np.sum(V * R, axis=0))
    allowed = np.maximum(np.linalg.norm(R, axis=0) / 10, NOISE * rounding)
    demand(
        np.all(errors <= allowed),
        f"{when}: values differ from the Rayleigh quotients of their vectors by {errors}",
    )


# -- how a run ends ----------------------------------------------------------------------------------------


def is_correct_at_every_budget(subject: SolverSubject) -> None:
    """Whatever the budget, it is not exceeded, and the result has correct pairs or none."""
    most = subject.solve(DECAY).operator.products
    for budget in range(1, min(most, PRODUCTS) + 1):
        answer = subject.solve(DECAY, max_matvecs=budget)
        spent = answer.operator.products
        demand(spent <= budget, f"{spent} products were made; the budget is {budget}")
        judge(answer, f"stopped after {budget} products")


def non_finite_products_are_reported(subject: SolverSubject) -> None:
    """A product of NaN raises NotFiniteError and never leads to an answer."""
    operator = FailingOperator(DECAY, subject.library, last=3, error=None)
    raised = "nothing"
    try:
        solve(operator, DECAY.k, solver=subject.solver, **subject.options)
    except Exception as error:
        raised = type(error).__name__
    expected = NotFiniteError.__name__
    demand(raised == expected, f"the fourth product was NaN; expected {expected}, but {raised} was raised")


def refuses_products_that_are_not_finite(subject: SolverSubject) -> None:
    """The solver itself raises NotFiniteError at a product of NaN, and its last snapshot stays valid."""
    operator = FailingOperator(DECAY, subject.library, last=HALF_WAY, error=None)
    raised, latest, before = "nothing", None, np.zeros(0)
    try:
        for latest in subject.snapshots(DECAY, operator):
            demand(operator.products <= HALF_WAY, "it yielded a snapshot after a product of NaN")
            before = arrays.to_host(latest.vectors())
    except Exception as error:
        raised = type(error).__name__
    expected = NotFiniteError.__name__
    demand(
        raised == expected, f"a product was NaN; expected {expected} of the solver, but {raised} was raised"
    )
    demand(latest is not None, "it yielded no snapshot")
    if latest is not None:
        same = np.array_equal(arrays.to_host(latest.vectors()), before)
        demand(same, "a product of NaN changed the vectors of the snapshot before it")


def is_correct_under_a_certificate(subject: SolverSubject) -> None:
    """The laws of an answer also hold with a certificate."""
    for case in (DECAY, ENDS):
        for level in ("sketch", "full"):
            answer = subject.solve(case, certify=level)
            judge(answer, f"{case}, certificate {level}")


def continues_from_its_state(subject: SolverSubject) -> None:
    """A solve that was stopped half way continues from its state, at about the total cost of one run."""
    whole = subject.solve(DECAY)
    converges(whole)
    half = subject.solve(DECAY, max_matvecs=whole.operator.products // 2)
    if half.result.state is None:
        raise unittest.SkipTest("the solver has no state to continue from")
    before = half.vectors.copy()
    rest = subject.solve(DECAY, state=half.result.state)
    judge(rest, "continued from its state")
    converges(rest)
    both, one = half.operator.products + rest.operator.products, whole.operator.products
    demand(both <= one + DECAY.k, f"{both} products in two runs, {one} in one run")
    same = np.array_equal(arrays.to_host(half.result.vectors), before)
    demand(same, "continuing changed the vectors of the result that it started from")


# -- the state ---------------------------------------------------------------------------------------------


def its_state_can_be_used_twice(subject: SolverSubject) -> None:
    """Resuming gives the same bits before and after another use, and after the first solve has gone on."""
    snapshots = subject.snapshots(DECAY, DECAY.operator(subject.library))
    state = _state_of(_last(islice(snapshots, HALF_WAY)))
    first = _resumed(subject, state)
    demand(_equal(first, _resumed(subject, state)), "a second run from the same state differs")
    _last(islice(snapshots, HALF_WAY))
    demand(_equal(first, _resumed(subject, state)), "the state changed while its own solve went on")


def its_state_can_be_pickled(subject: SolverSubject) -> None:
    """A state has no operator and no array library, and gives the same run in another process."""
    state = _state_of(_last(islice(subject.snapshots(DECAY, DECAY.operator(subject.library)), HALF_WAY)))
    _refuse_arrays_that_are_not_pickled(subject.library)
    copy = pickle.loads(_pickled(state))
    demand(_equal(_resumed(subject, state), _resumed(subject, copy)), "a pickled copy gives another run")


def a_converged_state_is_as_small_as_the_vectors(subject: SolverSubject) -> None:
    """Once all pairs have converged, a result takes the memory of its vectors."""
    answer = subject.solve(WIDE)
    converges(answer)
    _refuse_arrays_that_are_not_pickled(subject.library)
    vectors, state = answer.result.vectors, answer.result.state
    alone, both = len(_pickled(vectors)), len(_pickled((vectors, state)))
    allowed = 1.05 * alone + 2000
    demand(both <= allowed, f"vectors and state take {both} bytes, the vectors alone {alone}")


def _last(snapshots: Iterator[Snapshot]) -> Snapshot:
    return deque(snapshots, maxlen=1)[0]


def _state_of(snapshot: Snapshot) -> object:
    state = None if snapshot.state is None else snapshot.state(snapshot.vectors())
    if state is None:
        raise unittest.SkipTest("the solver has no state to continue from")
    return state


def _resumed(subject: SolverSubject, state: object) -> list[Floats]:
    """The values and vectors of the first snapshots of a run from a state."""
    snapshots = subject.snapshots(DECAY, DECAY.operator(subject.library), state=state)
    found = [
        part for one in islice(snapshots, HALF_WAY) for part in (one.values, arrays.to_host(one.vectors()))
    ]
    snapshots.close()
    return found


def _pickled(state: object) -> bytes:
    try:
        return pickle.dumps(state)
    except Exception as error:
        raise AssertionError(f"the state can't be pickled: {type(error).__name__}: {error}") from error


def _equal(run: list[Floats], other: list[Floats]) -> bool:
    return len(run) == len(other) and all(map(np.array_equal, run, other))


def _refuse_arrays_that_are_not_pickled(library: Library) -> None:
    try:
        pickle.dumps(library.array(np.ones(1)))
    except Exception:
        raise unittest.SkipTest("arrays of this library can't be pickled") from None


# -- start vectors and random numbers ----------------------------------------------------------------------


def warm_start_saves_products(subject: SolverSubject) -> None:
    """Started from the answer, the solver finds it again with fewer products.

    Completeness is not examined: it costs the same from any start.
    """
    cold = subject.solve(DECAY, complete=None)
    converges(cold)
    warm = subject.solve(DECAY, start=cold.result.vectors, complete=None)
    judge(warm, "started from the answer")
    converges(warm)
    before, now = cold.operator.products, warm.operator.products
    demand(now < before, f"{now} products when started from the answer, {before} from a random start")


def start_is_not_modified(subject: SolverSubject) -> None:
    """The start vector or block belongs to the caller and is not written to."""
    for shape in ((DECAY.n,), (DECAY.n, DECAY.k)):
        start = subject.library.array(np.random.default_rng(1).standard_normal(shape))
        before = arrays.to_host(start)
        for _ in islice(subject.snapshots(DECAY, DECAY.operator(subject.library), start), PRODUCTS):
            pass
        same = np.array_equal(arrays.to_host(start), before)
        demand(same, f"the start of shape {shape} was overwritten")


def starts_from_vector_or_block(subject: SolverSubject) -> None:
    """The answer is right from any start vector and from a block of any number of them."""
    for shape in ((DECAY.n,), (DECAY.n, 1), (DECAY.n, DECAY.k), (DECAY.n, 3 * DECAY.k)):
        start = subject.library.array(np.random.default_rng(1).standard_normal(shape))
        answer = subject.solve(DECAY, start=start)
        judge(answer, f"started from an array of shape {shape}")
        converges(answer)


def same_seed_same_bits(subject: SolverSubject) -> None:
    """Two runs with the same seed give identical numbers."""
    one, other = (subject.solve(DECAY, seed=3) for _ in range(2))
    for name, same in (
        ("values", np.array_equal(one.result.values, other.result.values)),
        ("vectors", np.array_equal(one.vectors, other.vectors)),
        ("numbers of products", one.operator.products == other.operator.products),
    ):
        demand(same, f"{name} differ between two runs with the same seed")


def global_random_state_is_unchanged(subject: SolverSubject) -> None:
    """The solver uses its own random generators, seeded by the request."""
    refuse_global_randomness(lambda: subject.solve(DECAY))


def prints_nothing(subject: SolverSubject) -> None:
    """A solver prints nothing; it reports through the notes of its snapshots."""
    refuse_printing(lambda: subject.solve(DECAY))


# -- related matrices --------------------------------------------------------------------------------------


def values_scale_with_the_matrix(subject: SolverSubject) -> None:
    """c A has c times the values after equally many products: no threshold is absolute.

    c is a power of two, so that the scaling is exact.
    """
    one = subject.solve(DECAY)
    for c in (2.0**40, 2.0**-40):
        other = subject.solve(replace(DECAY, name=f"{c:.0e} decay", spectrum=c * DECAY.spectrum))
        judge(other)
        _agree(other.result.values / c, one.result.values, one.slack)
        products = one.operator.products, other.operator.products
        demand(products[0] == products[1], f"{products[0]} products for A, {products[1]} for {c:.0e} A")


def values_change_sign_with_the_matrix(subject: SolverSubject) -> None:
    """-A has the values of A with the opposite sign."""
    for which, opposite in (("LM", "LM"), ("LA", "SA")):
        if {which, opposite} <= set(subject.entry.which):
            one = subject.solve(replace(ENDS, which=which))
            other = subject.solve(replace(ENDS, name="-ends", spectrum=-ENDS.spectrum, which=opposite))
            judge(other)
            _agree(-other.result.values, one.result.values, one.slack + other.slack)


def values_shift_with_the_matrix(subject: SolverSubject) -> None:
    """A + s I has the values of A plus s."""
    one = subject.solve(replace(ENDS, which="LA"))
    other = subject.solve(replace(ENDS, name="ends + 50", spectrum=ENDS.spectrum + 50, which="LA"))
    judge(other)
    _agree(other.result.values - 50, one.result.values, one.slack + other.slack)


def _agree(values: Floats, expected: Floats, slack: Floats) -> None:
    demand(len(values) == len(expected), f"{len(values)} values; expected {len(expected)}")
    demand(np.all(np.abs(values - expected) <= slack), f"the values are {values}; expected {expected}")
