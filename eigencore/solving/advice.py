"""How a solve ended, in one sentence with a number and what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eigencore.results import Certificate, Step
from eigencore.solving.budget import Ending


@dataclass(frozen=True)
class Outcome:
    """The facts that advice is made of. `residual` and `threshold` are those of the worst pair left."""

    ending: Ending
    refuted: bool
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
    history: Sequence[Step]


def advise(outcome: Outcome) -> str:
    """One sentence; two where there is something to do."""
    if outcome.converged == outcome.k:
        return f"all {outcome.k} pairs converged (tol {outcome.tol:g})" if outcome.k > 1 else "converged"
    left = _left(outcome)
    if outcome.refuted:
        return f"{left} by fresh products, which contradict what {outcome.solver} told. {_another(outcome)}."
    match outcome.ending:
        case Ending.PRODUCTS:
            return f"{left} after {_products(outcome.matvecs)}. {_more_products(outcome)}."
        case Ending.TIME:
            return f"{left} after {outcome.seconds:.1f} s. {_more_time(outcome)}."
        case Ending.INTERRUPTED:
            return f"{left} when interrupted after {_products(outcome.matvecs)}. {_resume(outcome)}."
        case Ending.STALLED:
            return f"{left}, and no longer falling. {_past_stalling(outcome)}."
        case _:
            return f"{left} when {outcome.solver} ended by itself. {_another(outcome)}."


def products_ahead(history: Sequence[Step]) -> float | None:
    """How many more products until the worst residual passes, at the rate of the last half; None: none shows.

    On matrices of known spectrum half of these, told half way, were off by less than a half.
    """
    rows = [(row.matvecs, row.worst) for row in history if row.worst]
    if len(rows) < 2:
        return None
    now, worst = rows[-1]
    then, before = next(row for row in rows if row[0] >= min(now / 2, rows[-2][0]))
    if not 1 < worst < before or now <= then:
        return None
    return max(1.0, math.log(worst) * (now - then) / math.log(before / worst))


def _products(count: float) -> str:
    return f"{count:.4g} product{'' if count == 1 else 's'}"


def _left(outcome: Outcome) -> str:
    open_pairs = outcome.k - outcome.converged
    text = f"{open_pairs} of {outcome.k} pairs left"
    if outcome.residual is None or outcome.threshold is None:
        return text
    return f"{text}, the worst at residual {outcome.residual:.1e} where {outcome.threshold:.1e} passes"


def _more_products(outcome: Outcome) -> str:
    ahead = products_ahead(outcome.history)
    if outcome.max_matvecs is None or ahead is None:
        enough = max(2 * (outcome.max_matvecs or outcome.matvecs), 10 * outcome.k)
        return f"Raise max_matvecs to {math.ceil(enough)}" + _or_lanczos(outcome)
    total = math.ceil(outcome.max_matvecs + 1.5 * ahead + outcome.k)
    return f"At this rate about {ahead:.0f} more are needed: raise max_matvecs to {total}" + _or_lanczos(
        outcome
    )


def _more_time(outcome: Outcome) -> str:
    ahead = products_ahead(outcome.history)
    if ahead is None or outcome.matvecs == 0:
        return "Raise max_seconds" + _or_lanczos(outcome)
    seconds = outcome.seconds * (1 + 1.5 * ahead / outcome.matvecs)
    return (
        f"At this rate about {ahead:.0f} more products: raise max_seconds to {math.ceil(seconds)}"
        + _or_lanczos(outcome)
    )


def _resume(outcome: Outcome) -> str:
    return "Go on with solve(..., state=result.state), or start=result.vectors"


def _past_stalling(outcome: Outcome) -> str:
    if outcome.dtype.endswith("float32") and outcome.residual is not None:
        return "float32 products may not show less: use float64, or raise tol" + _or_lanczos(outcome)
    return "Raise tol" + (_or_lanczos(outcome) or ", or give lanczos a larger basis")


def _another(outcome: Outcome) -> str:
    if outcome.solver == "lanczos":
        return "Use float64 products, or raise tol"
    return "Use the solver lanczos, or raise tol"


def _or_lanczos(outcome: Outcome) -> str:
    return "" if outcome.solver == "lanczos" else ", or use the solver lanczos"


def caveats(certificate: Certificate, *, settled: bool) -> tuple[str, ...]:
    """What to know of an answer beside its advice."""
    notes = []
    if certificate.floor_decided:
        how = "measured" if certificate.floor_measured else "estimated"
        notes.append(
            f"the precision of the products decided: below {certificate.floor:.1e} ({how}) they show no more"
        )
    if not settled:
        notes.append(
            "stopped while still looking for copies of what was found: that none is missing isn't shown"
        )
    return tuple(notes)
