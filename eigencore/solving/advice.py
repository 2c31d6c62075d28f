"""The advice of a result: how the solve ended, with numbers, and what to do next.

It names arguments of Python, as `max_matvecs` or `solver="lanczos"`, by words that occur in no other sense,
so that the command can replace them by its options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eigencore.errors import EigencoreError, described
from eigencore.interfaces import Approximation
from eigencore.results import Certificate, Status, Step
from eigencore.solving.budget import Ending

# The status of a solve in which not all pairs have converged.
STATUS = {
    Ending.PRODUCTS: Status.BUDGET,
    Ending.TIME: Status.BUDGET,
    Ending.INTERRUPTED: Status.INTERRUPTED,
    Ending.STALLED: Status.STAGNATED,
    Ending.PASSED: Status.STAGNATED,
    Ending.IMPRECISE: Status.STAGNATED,
    Ending.RETURNED: Status.BREAKDOWN,
    Ending.FAILED: Status.BREAKDOWN,
}


def first_line(error: BaseException) -> str:
    """The first line of the message of the error that ended a solve."""
    text = error.message if isinstance(error, EigencoreError) else described(error)
    return text.partition("\n")[0]


@dataclass(frozen=True)
class Outcome:
    """The facts that the advice is based on.

    `residual` and `threshold` belong to the worst of the pairs that have not converged. `exact` says whether
    the residual is a norm from a fresh product; otherwise it is estimated by the solver. `refuted` says
    whether fresh products contradict the solver's estimates. `reserved` is the number of products that the
    time limit left for the certificate, and `per_product` the measured time of one; 0 if it is not known.
    `failure` is the first line of the message of the error that ended the solve.

    `complete` says whether no eigenvalue was missed (None: not examined), `ignored` whether the solver made
    no use of directions along a missed one, and `cut_short` whether the budget ended the search.
    `approximation` is what the solver multiplied by in place of the operator, and `error` the measured error
    of its products relative to the eigenvalue.
    """

    ending: Ending
    refuted: bool
    exact: bool
    k: int
    converged: int
    tol: float
    residual: float | None
    threshold: float | None
    solver: str
    dtype: str
    matvecs: float
    seconds: float
    max_matvecs: float | None
    max_seconds: float | None
    reserved: int
    per_product: float
    failure: str
    history: Sequence[Step]
    complete: bool | None = None
    ignored: bool = False
    cut_short: bool = False
    approximation: Approximation | None = None
    error: float | None = None


def advise(outcome: Outcome) -> str:
    """One sentence on how the solve ended, and a second one on what to do, if there is something to do."""
    if outcome.converged == outcome.k:
        pairs = "the pair" if outcome.k == 1 else f"all {outcome.k} pairs"
        converged = f"{pairs} converged (relative tolerance {outcome.tol:g})"
        return f"{converged}{_may_be_incomplete(outcome)}" if outcome.complete is False else converged
    open_pairs, worst = _open_pairs(outcome), _worst(outcome)
    if outcome.refuted:
        return (
            f"{open_pairs}{worst}: fresh products contradict the estimated residuals of {outcome.solver}. "
            f"{_use_another_solver(outcome)}."
        )
    match outcome.ending:
        case Ending.PRODUCTS:
            return f"{open_pairs} after {_products(outcome)}{worst}. {_raise_max_matvecs(outcome)}."
        case Ending.TIME:
            return f"{open_pairs} after {_time(outcome)}{worst}. {_raise_max_seconds(outcome)}."
        case Ending.INTERRUPTED:
            return f"interrupted after {_products(outcome)}: {open_pairs}{worst}. {RESUME}."
        case Ending.FAILED:
            return f"failed after {_products(outcome)}: {outcome.failure}; {open_pairs}{worst}. {RESUME}."
        case Ending.IMPRECISE if outcome.approximation is not None:
            return f"{open_pairs}{worst}: {_imprecise(outcome.approximation, outcome.error)}."
        case Ending.STALLED:
            return f"{open_pairs}{worst}, and the solver makes no more progress. {_raise_tol(outcome)}."
        case _:
            return f"{open_pairs}{worst}, and {outcome.solver} ended early. {_use_another_solver(outcome)}."


def products_ahead(history: Sequence[Step]) -> float | None:
    """The number of further products until the worst estimated residual is below its threshold.

    It is extrapolated from the rate over the last half of the products; None if the residual did not fall.
    On matrices with known spectra, half of the predictions made half way through a solve were off by less
    than 50 %.
    """
    rows = [(row.matvecs, row.worst) for row in history if row.worst]
    if len(rows) < 2:
        return None
    now, worst = rows[-1]
    then, before = next(row for row in rows if row[0] >= min(now / 2, rows[-2][0]))
    if not 1 < worst < before or now <= then:
        return None
    return max(1.0, math.log(worst) * (now - then) / math.log(before / worst))


# -- what happened -----------------------------------------------------------------------------------------


def _open_pairs(outcome: Outcome) -> str:
    if outcome.k == 1:
        return "the pair has not converged"
    count = outcome.k - outcome.converged
    return f"{count} of {outcome.k} pairs {'has' if count == 1 else 'have'} not converged"


def _worst(outcome: Outcome) -> str:
    if outcome.residual is None or outcome.threshold is None:
        return ""
    name = "residual norm" if outcome.exact else "estimated residual"
    return f" (worst {name} {outcome.residual:.1e}, threshold {outcome.threshold:.1e})"


def _products(outcome: Outcome) -> str:
    return f"{outcome.matvecs:.4g} product{'' if outcome.matvecs == 1 else 's'}"


def _time(outcome: Outcome) -> str:
    """The time that the solve took of its limit, and what of it was reserved for the certificate."""
    took = f"{outcome.seconds:.1f} of {outcome.max_seconds:g} s"
    if not outcome.reserved or not outcome.per_product:
        return took
    products = "1 product" if outcome.reserved == 1 else f"{outcome.reserved} products"
    each = "" if outcome.reserved == 1 else " each"
    return f"{took}, with {products} of about {outcome.per_product:.2g} s{each} reserved for the certificate"


def _imprecise(approximation: Approximation, error: float | None) -> str:
    size = "an unknown error" if error is None else f"an error of up to {error:.1e} of an eigenvalue"
    remedy = approximation.remedy
    return f"{approximation.name} have {size}. {remedy[:1].upper()}{remedy[1:]}, or raise tol"


def _may_be_incomplete(outcome: Outcome) -> str:
    if outcome.ignored:
        return (
            f", but {outcome.solver} missed an eigenvalue, and made no use of what was found of it. "
            f"{_use_another_solver(outcome)}."
        )
    may = ", but an eigenvalue may have been missed"
    if outcome.cut_short:
        limit = "max_matvecs" if outcome.max_matvecs is not None else "max_seconds"
        return f"{may}: the budget ended the search for it. Raise {limit}{_or_lanczos(outcome)}."
    return (
        f"{may}: to exclude it takes more than 30 % of the products so far. Raise tol, or choose a k with a "
        f"gap below the last value{_or_lanczos(outcome)}."
    )


# -- what to do next ---------------------------------------------------------------------------------------

RESUME = "Continue with solve(..., state=result.state) or solve(..., start=result.vectors)"


def _raise_max_matvecs(outcome: Outcome) -> str:
    ahead = products_ahead(outcome.history)
    if outcome.max_matvecs is None or ahead is None:
        enough = max(2 * (outcome.max_matvecs or outcome.matvecs), 10 * outcome.k)
        return f"Raise max_matvecs to {math.ceil(enough)}{_or_lanczos(outcome)}"
    total = math.ceil(outcome.max_matvecs + 1.5 * ahead + outcome.k)
    return f"{_needed(ahead)}: raise max_matvecs to {total}{_or_lanczos(outcome)}"


def _raise_max_seconds(outcome: Outcome) -> str:
    ahead = products_ahead(outcome.history)
    if ahead is None or outcome.matvecs == 0:
        return f"Raise max_seconds{_or_lanczos(outcome)}"
    seconds = outcome.seconds + 1.5 * ahead * (outcome.per_product or outcome.seconds / outcome.matvecs)
    return f"{_needed(ahead)}: raise max_seconds to {math.ceil(seconds)}{_or_lanczos(outcome)}"


def _needed(ahead: float) -> str:
    products = "product is" if round(ahead) == 1 else "products are"
    return f"At this rate about {ahead:.0f} more {products} needed"


def _raise_tol(outcome: Outcome) -> str:
    if _in_float32(outcome) and outcome.residual is not None:
        return (
            'Products in float32 may not resolve smaller residuals: use dtype="float64", or raise tol'
            f"{_or_lanczos(outcome)}"
        )
    return f"Raise tol{_or_lanczos(outcome) or ', or give lanczos a larger basis'}"


def _use_another_solver(outcome: Outcome) -> str:
    if outcome.solver != "lanczos":
        return 'Use solver="lanczos", or raise tol'
    return 'Use dtype="float64", or raise tol' if _in_float32(outcome) else "Raise tol"


def _or_lanczos(outcome: Outcome) -> str:
    return "" if outcome.solver == "lanczos" else ', or use solver="lanczos"'


def _in_float32(outcome: Outcome) -> bool:
    return outcome.dtype.endswith("float32")


# -- notes -------------------------------------------------------------------------------------------------


def caveats(certificate: Certificate) -> tuple[str, ...]:
    """The limits of an answer that its advice does not mention."""
    notes = []
    if certificate.floor_decided:
        how = "measured" if certificate.floor_measured else "estimated"
        notes.append(
            "at least one pair counts as converged only because of the precision floor: "
            f"these products do not resolve residuals below {certificate.floor:.1e} ({how})"
        )
    return tuple(notes)
