"""What must hold of a solver beyond one answer: each behaviour is a function, and raises where it fails."""

from __future__ import annotations

import contextlib
import unittest
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.interfaces import Snapshot
from eigencore.request import Request
from eigencore.solving.solve import solve
from eigencore.testing.gallery import Case, filled
from eigencore.testing.laws import NOISE, ORTHONORMAL, converges, demand, judge
from eigencore.testing.libraries import Library
from eigencore.testing.subject import Failure, StopHere, Subject, Tripwire
from eigencore.testing.traces import refuse_global_randomness, refuse_printing

if TYPE_CHECKING:
    from eigencore.space import Floats

Behaviour = Callable[[Subject], None]

# Long enough for a restart of most methods, short enough to be stopped at every product.
DECAY = Case("decay", 0.8 ** np.arange(100.0), 4)
ENDS = Case("ends", filled(100, [10.0, 8.0, 7.0, -6.0, -5.5]), 3)
PRODUCTS = 60


# -- what it yields ----------------------------------------------------------------------------------------


def snapshots_are_right(subject: Subject) -> None:
    """Each snapshot, when it comes: at most k pairs in the request's order, vectors that belong to them."""
    operator = Tripwire(DECAY, subject.library)
    for snapshot in islice(subject.snapshots(DECAY, operator), PRODUCTS):
        _judge_snapshot(snapshot, subject.library, f"after {operator.products} products")


def yields_after_every_product(subject: Subject) -> None:
    """No more than one call of the operator between two snapshots, so that it can be stopped anywhere."""
    operator = Tripwire(DECAY, subject.library)
    before = 0
    for _ in islice(subject.snapshots(DECAY, operator), PRODUCTS):
        demand(operator.calls <= before + 1, f"{operator.calls - before} calls between two snapshots")
        before = operator.calls


def vectors_outlive_a_product(subject: Subject) -> None:
    """A snapshot's vectors are still right when the product after it never comes back.

    Whoever restarts in place must yield again between the restart and the next product.
    """
    for last in range(1, PRODUCTS):
        operator = Tripwire(DECAY, subject.library, last)
        yielded: deque[Snapshot] = deque(maxlen=1)
        with contextlib.suppress(StopHere):
            yielded.extend(islice(subject.snapshots(DECAY, operator), 2 * PRODUCTS))
        for snapshot in yielded:
            _judge_snapshot(snapshot, subject.library, f"stopped in product {last + 1}")


def errors_come_through(subject: Subject) -> None:
    """What the operator raises is not swallowed: it may be the budget, or memory that ran out."""
    for error in (StopHere, Failure):
        operator = Tripwire(DECAY, subject.library, last=3, error=error)
        try:
            for _ in islice(subject.snapshots(DECAY, operator), PRODUCTS):
                pass
        except error:
            continue
        raise AssertionError(f"{error.__name__}, raised by the operator, never came out of the solver")


def closes_quietly(subject: Subject) -> None:
    """Closed between two products it ends, without another product."""
    for yields in (1, 2, 5):
        operator = Tripwire(DECAY, subject.library)
        snapshots = subject.snapshots(DECAY, operator)
        for _ in islice(snapshots, yields):
            pass
        before = operator.products
        snapshots.close()
        demand(operator.products == before, f"{operator.products - before} products after it was closed")


def _judge_snapshot(snapshot: Snapshot, library: Library, when: str) -> None:
    values, rounding = snapshot.values, library.eps * DECAY.norm
    demand(len(values) <= DECAY.k, f"{when}: {len(values)} values where {DECAY.k} were asked for")
    demand(np.all(np.isfinite(values)), f"{when}: values {values}")
    in_order = np.array_equal(values[Request(DECAY.k, DECAY.which).order(values)], values)
    demand(in_order, f"{when}: {values} are not in the order of {DECAY.which}")
    demand(snapshot.residuals.shape == values.shape, f"{when}: residuals {snapshot.residuals}")
    demand(np.all(snapshot.residuals >= 0), f"{when}: residuals {snapshot.residuals}")
    most = DECAY.norm + NOISE * rounding
    demand(snapshot.norm <= most, f"{when}: a norm of {snapshot.norm} where ||A|| is {DECAY.norm}")
    V = arrays.to_host(snapshot.vectors())
    demand(V.shape == (DECAY.n, len(values)), f"{when}: vectors have shape {V.shape}")
    defect = float(np.max(np.abs(V.T @ V - np.eye(len(values))), initial=0.0))
    demand(defect <= ORTHONORMAL * library.eps, f"{when}: |V'V - I| reaches {defect:.1e}")
    R = DECAY.exact(library).matmat(V) - V * values
    off = np.abs(np.sum(V * R, axis=0))
    allowed = np.maximum(np.linalg.norm(R, axis=0) / 10, NOISE * rounding)
    demand(np.all(off <= allowed), f"{when}: values {off} from the Rayleigh quotients of their vectors")


# -- how it ends -------------------------------------------------------------------------------------------


def budget_at_every_product(subject: Subject) -> None:
    """Stopped by the budget at any product, it holds right pairs or none, and the budget is kept."""
    most = subject.solve(DECAY).operator.products
    for budget in range(1, min(most, PRODUCTS) + 1):
        answer = subject.solve(DECAY, max_matvecs=budget)
        spent = answer.operator.products
        demand(spent <= budget, f"{spent} products where {budget} were allowed")
        judge(answer, f"stopped after {budget} products")


def products_that_are_not_finite(subject: Subject) -> None:
    """A product of NaN is told as an error, never answered."""
    operator = Tripwire(DECAY, subject.library, last=3, error=None)
    told = "nothing"
    try:
        solve(operator, DECAY.k, solver=subject.solver, **subject.options)
    except Exception as error:
        told = type(error).__name__
    demand(told == NotFiniteError.__name__, f"the fourth product was NaN; {told} was raised")


def certified(subject: Subject) -> None:
    """Under a certificate the laws hold as they do without."""
    for case in (DECAY, ENDS):
        for level in ("sketch", "full"):
            answer = subject.solve(case, certify=level)
            judge(answer, f"{case}, certificate {level}")


def goes_on_from_its_state(subject: Subject) -> None:
    """Stopped half way it goes on from there: right, for about as many products as at one go."""
    whole = subject.solve(DECAY)
    converges(whole)
    half = subject.solve(DECAY, max_matvecs=whole.operator.products // 2)
    if half.result.state is None:
        raise unittest.SkipTest("it keeps no state")
    kept = half.vectors.copy()
    rest = subject.solve(DECAY, state=half.result.state)
    judge(rest, "gone on from its state")
    converges(rest)
    both, one = half.operator.products + rest.operator.products, whole.operator.products
    demand(both <= one + DECAY.k, f"{both} products in two parts, {one} at one go")
    same = np.array_equal(arrays.to_host(half.result.vectors), kept)
    demand(same, "going on changed the vectors of the result that it went on from")


# -- what it starts from -----------------------------------------------------------------------------------


def warm_start_pays(subject: Subject) -> None:
    """Started from the answer it finds the same one, for fewer products."""
    cold = subject.solve(DECAY)
    converges(cold)
    warm = subject.solve(DECAY, start=cold.result.vectors)
    judge(warm, "started from the answer")
    converges(warm)
    was, now = cold.operator.products, warm.operator.products
    demand(now < was, f"{now} products from the answer, {was} from nothing")


def start_is_left_alone(subject: Subject) -> None:
    """A vector or block to start from is the caller's: it isn't written to."""
    for shape in ((DECAY.n,), (DECAY.n, DECAY.k)):
        start = subject.library.array(np.random.default_rng(1).standard_normal(shape))
        kept = arrays.to_host(start)
        for _ in islice(subject.snapshots(DECAY, DECAY.operator(subject.library), start), PRODUCTS):
            pass
        demand(np.array_equal(arrays.to_host(start), kept), f"start of shape {shape} was overwritten")


def starts_from_vector_or_block(subject: Subject) -> None:
    """From any vector, and any number of them, the answer is as right."""
    for shape in ((DECAY.n,), (DECAY.n, 1), (DECAY.n, DECAY.k), (DECAY.n, 3 * DECAY.k)):
        start = subject.library.array(np.random.default_rng(1).standard_normal(shape))
        answer = subject.solve(DECAY, start=start)
        judge(answer, f"started from an array of shape {shape}")
        converges(answer)


def same_seed_same_bits(subject: Subject) -> None:
    one, other = (subject.solve(DECAY, seed=3) for _ in range(2))
    demand(np.array_equal(one.result.values, other.result.values), "values differ between two runs of a seed")
    demand(np.array_equal(one.vectors, other.vectors), "vectors differ between two runs of a seed")
    demand(one.operator.products == other.operator.products, "products differ between two runs of a seed")


def global_randomness_is_left_alone(subject: Subject) -> None:
    """It draws from generators of its own, seeded by the request."""
    refuse_global_randomness(lambda: subject.solve(DECAY))


def prints_nothing(subject: Subject) -> None:
    """What is to be told goes into a snapshot's notes."""
    refuse_printing(lambda: subject.solve(DECAY))


# -- how its answers hang together -------------------------------------------------------------------------


def scaled(subject: Subject) -> None:
    """c A has c times the values, for the same products: no threshold is absolute. c is a power of two."""
    one = subject.solve(DECAY)
    for c in (2.0**40, 2.0**-40):
        other = subject.solve(replace(DECAY, name=f"{c:.0e} decay", spectrum=c * DECAY.spectrum))
        judge(other)
        _agree(other.result.values / c, one.result.values, one.slack)
        products = one.operator.products, other.operator.products
        demand(products[0] == products[1], f"{products[0]} products for A, {products[1]} for {c:.0e} A")


def negated(subject: Subject) -> None:
    """-A has the same values with the other sign."""
    for which, opposite in (("LM", "LM"), ("LA", "SA")):
        if {which, opposite} <= set(subject.entry.which):
            one = subject.solve(replace(ENDS, which=which))
            other = subject.solve(replace(ENDS, name="-ends", spectrum=-ENDS.spectrum, which=opposite))
            judge(other)
            _agree(-other.result.values, one.result.values, one.slack + other.slack)


def shifted(subject: Subject) -> None:
    """A + s I has the values of A, moved by s."""
    one = subject.solve(replace(ENDS, which="LA"))
    other = subject.solve(replace(ENDS, name="ends + 50", spectrum=ENDS.spectrum + 50, which="LA"))
    judge(other)
    _agree(other.result.values - 50, one.result.values, one.slack + other.slack)


def _agree(values: Floats, others: Floats, slack: Floats) -> None:
    demand(len(values) == len(others), f"{len(values)} values and {len(others)}")
    demand(np.all(np.abs(values - others) <= slack), f"{values} and {others}")
