"""The laws of one answer: what must hold for the result of every solver on every case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request
from eigencore.results import Status
from eigencore.testing.checks import BrokenLawError, Law, demand
from eigencore.testing.gallery import Case
from eigencore.testing.solvers.subject import MAX_PRODUCTS, NOISE, SolverAnswer

if TYPE_CHECKING:
    from eigencore.space import Floats

ORTHONORMAL = 1e3  # largest entry of |V'V - I|, in rounding units
# The largest factors by which a reported residual may be below and above the true one.
TOO_LOW, TOO_HIGH = 3.0, 10.0


def judge(
    answer: SolverAnswer, where: str = "", *, laws: tuple[Law[SolverAnswer], ...] | None = None
) -> None:
    """Applies the laws to an answer.

    Args:
        answer: the answer of a solver.
        where: the first line of the error message; if empty, it names the case, the library and the advice.
        laws: the laws to apply; None: LAWS.

    Raises:
        BrokenLawError: the answer breaks at least one law; the error lists all that it breaks.
    """
    broken: dict[str, str] = {}
    for law in LAWS if laws is None else laws:
        try:
            law(answer)
        except AssertionError as failure:
            broken[law.__name__] = str(failure)
            if law is is_well_formed:
                break  # the other laws cannot examine such an answer
    if broken:
        raise BrokenLawError(broken, where or f"{answer.case} on {answer.library}: {answer.result.advice}")


# -- the laws ----------------------------------------------------------------------------------------------


def is_well_formed(answer: SolverAnswer) -> None:
    """At most k pairs; finite float64 numbers on the host; vectors (n, pairs) like those of the operator."""
    result, operator = answer.result, answer.operator
    pairs = len(result.values)
    demand(pairs <= answer.case.k, f"{pairs} pairs were returned; {answer.case.k} were requested")
    for name in ("values", "residuals"):
        numbers = getattr(result, name)
        kind, shape = getattr(numbers, "dtype", type(numbers)), getattr(numbers, "shape", ())
        demand(kind == np.float64, f"{name} are {kind}; expected float64 on the host")
        demand(shape == (pairs,), f"{name} have shape {shape}; expected {(pairs,)}")
        demand(np.all(np.isfinite(numbers)), f"{name} are not finite: {numbers}")
    demand(np.all(result.residuals >= 0), f"a residual is negative: {result.residuals}")
    V, expected = result.vectors, (answer.case.n, pairs)
    demand(tuple(V.shape) == expected, f"vectors have shape {tuple(V.shape)}; expected {expected}")
    demand(V.dtype == operator.dtype, f"vectors are {V.dtype}; the operator is {operator.dtype}")
    device = arrays.device_of(V)
    demand(device == operator.device, f"vectors are on the device {device}; expected {operator.device}")
    library = type(operator.xp.zeros(1))
    demand(type(V) is library, f"vectors are {type(V)}; expected {library}")
    demand(np.all(np.isfinite(answer.vectors)), "vectors are not finite")


def is_ordered(answer: SolverAnswer) -> None:
    """The values are in the order of the request."""
    order = Request(answer.case.k, answer.case.which).order(answer.result.values)
    in_order = np.array_equal(answer.result.values[order], answer.result.values)
    demand(in_order, f"{answer.result.values} are not in the order of {answer.case.which}")


def vectors_are_orthonormal(answer: SolverAnswer) -> None:
    V = answer.vectors
    defect = float(np.max(np.abs(V.T @ V - np.eye(V.shape[1])), initial=0.0))
    allowed = ORTHONORMAL * answer.library.eps
    demand(defect <= allowed, f"|V'V - I| reaches {defect:.1e}; rounding explains at most {allowed:.1e}")


def values_are_rayleigh_quotients(answer: SolverAnswer) -> None:
    """Each value is the Rayleigh quotient of its vector, up to an error much smaller than the residual."""
    errors = np.abs(np.sum(answer.vectors * answer.residual_block, axis=0))
    allowed = np.maximum(answer.residuals / 10, NOISE * answer.rounding)
    demand(
        np.all(errors <= allowed),
        f"values differ from the Rayleigh quotients of their vectors by {errors}; the limits are {allowed}",
    )


def no_false_convergence(answer: SolverAnswer) -> None:
    """A pair that is reported as converged has a true residual of at most 2 max(tol |theta|, floor)."""
    false = answer.result.converged & (answer.residuals > answer.thresholds)
    demand(
        not np.any(false),
        f"pairs with true residuals {answer.residuals[false]} are reported as converged; "
        f"the limits are {answer.thresholds[false]}",
    )


def no_spurious_eigenvalue(answer: SolverAnswer) -> None:
    """No eigenvalue is reported more often than the spectrum has it."""
    converged = answer.result.converged
    values, slack = answer.result.values[converged], answer.slack[converged]
    spurious = unmatched(values, slack, answer.case.spectrum)
    demand(
        len(spurious) == 0,
        f"the values {spurious} are spurious: no eigenvalue near them is left to match",
    )


def no_missed_eigenvalue(answer: SolverAnswer) -> None:
    """If all pairs are reported as converged, they are those requested, and none is missing."""
    if answer.result.status is not Status.CONVERGED:
        return
    values, wanted = answer.result.values, answer.case.wanted
    demand(
        len(values) == len(wanted),
        f"{len(values)} pairs are reported as a complete answer; {len(wanted)} were requested",
    )
    if answer.case.which == "LM":  # of two values equal in size and opposite in sign, either is right
        values, wanted = np.abs(values), np.abs(wanted)
    by_value = np.argsort(values)
    errors = np.abs(values[by_value] - np.sort(wanted))
    allowed = answer.slack[by_value]
    demand(
        np.all(errors <= allowed), f"the values are {answer.result.values}; exact are {answer.case.wanted}"
    )


def residuals_are_accurate(answer: SolverAnswer) -> None:
    """The reported residuals are the true ones, up to a factor and to rounding errors of the products.

    For a pair that is reported as converged, an upper bound is enough.
    """
    reported, true = answer.result.residuals, answer.residuals
    noise = max(answer.floor, NOISE * answer.rounding / TOO_LOW)
    low = true > TOO_LOW * np.maximum(reported, noise)
    demand(not np.any(low), f"true residuals {true[low]} are reported as {reported[low]}, which is too low")
    high = ~answer.result.converged & (reported > TOO_HIGH * np.maximum(true, noise))
    demand(
        not np.any(high), f"true residuals {true[high]} are reported as {reported[high]}, which is too high"
    )


def products_are_counted(answer: SolverAnswer) -> None:
    """The reported number of products is the number that the operator made."""
    reported, true = answer.result.matvecs, answer.operator.products
    demand(math.isclose(reported, true), f"{reported:g} products are reported; the operator made {true}")


def converges(answer: SolverAnswer) -> None:
    """The solver finds every requested pair."""
    result = answer.result
    demand(
        result.status is Status.CONVERGED, f"the status is {result.status} after {result.matvecs:g} products"
    )


def converges_where_power_iteration_does(answer: SolverAnswer) -> None:
    """Converges within the cap on products wherever power iteration needs at most a quarter of it."""
    if power_cost(answer.case) <= MAX_PRODUCTS / 4:
        converges(answer)


LAWS: tuple[Law[SolverAnswer], ...] = (
    is_well_formed,
    is_ordered,
    vectors_are_orthonormal,
    values_are_rayleigh_quotients,
    no_false_convergence,
    no_spurious_eigenvalue,
    no_missed_eigenvalue,
    residuals_are_accurate,
    products_are_counted,
)


# -- what the laws compare with ----------------------------------------------------------------------------


def unmatched(values: Floats, slack: Floats, spectrum: Floats) -> Floats:
    """The values that are left when as many as possible are matched with distinct eigenvalues.

    A value matches an eigenvalue within its slack. Each eigenvalue, in ascending order, is matched with the
    value whose interval ends first; this greedy choice matches as many values as possible.
    """
    waiting = sorted(zip(values - slack, values + slack, values, strict=True), key=lambda reach: reach[1])
    for eigenvalue in np.sort(spectrum):
        taker = next((reach for reach in waiting if reach[0] <= eigenvalue <= reach[1]), None)
        if taker is not None:
            waiting.remove(taker)
    return np.array([value for _, _, value in waiting])


def power_cost(case: Case) -> float:
    """The products that power iteration with deflation needs, one pair after the other.

    Returns:
        Infinity if power iteration does not find the answer: two eigenvalues have equal magnitude and
        opposite sign, a requested eigenvalue is zero, or the request is not for LM.
    """
    if case.which != "LM":
        return math.inf
    sizes = np.abs(case.spectrum)
    cost = 0.0
    for value in case.wanted:
        if value == 0 or np.any(case.spectrum == -value):
            return math.inf
        below = sizes[sizes < abs(value)]
        ratio = float(np.max(below)) / abs(value) if len(below) else 0.0
        cost += 2 + (math.log(case.n / case.tol) / -math.log(ratio) if ratio > 0 else 0)
    return cost
