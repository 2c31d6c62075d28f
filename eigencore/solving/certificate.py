"""What an answer is worth, from fresh products: a solver may not grade itself.

With orthonormal V, R = A V - V diag(theta):

- each theta_i lies within ||r_i|| of an eigenvalue, and together they lie within ||R||_2 of as many
  eigenvalues, counted with multiplicity (Kahan; Parlett, The Symmetric Eigenvalue Problem, 1998, 11.5);
- for Gaussian Omega (k x s) drawn after V, P(||R||_2 > ||R Omega||_2 / sqrt(q)) <= P(chi2_s <= q): s
  products bound ||R||_2 at the confidence wanted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request, precision_floor
from eigencore.results import Certificate

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

LEVELS = ("sketch", "full", "none")
SKETCHES = 3
CONFIDENCE = 0.99
# The floor may decide where a threshold is below this many eps ||A||; on networks in float32 the error of a
# product was at most 11 eps ||A||.
MAY_DECIDE = 100
LARGEST_FLOOR = 1e-2  # in parts of ||A||


@dataclass(frozen=True)
class Claim:
    """What a solver says: Ritz pairs, estimates of their residuals, the largest |Ritz value| it saw."""

    values: Floats
    vectors: Array
    estimates: Floats
    norm: float


@dataclass(frozen=True)
class Grade:
    """What the core says of it. `refuted`: pairs that the solver had passed did not."""

    residuals: Floats
    converged: npt.NDArray[np.bool_]
    certificate: Certificate
    refuted: bool = False


def products_needed(level: str, k: int) -> int:
    """Products to hold back for a certificate of k pairs, the floor's measurement left out."""
    return 0 if level == "none" else k if _is_full(level, k) else SKETCHES


def ungraded(claim: Claim, request: Request, eps: float, why: str) -> Grade:
    """Nothing but the solver's word for it."""
    floor = precision_floor(eps, claim.norm)
    thresholds = request.thresholds(claim.values, floor)
    decided = _floor_decides(claim.estimates, request.tol * np.abs(claim.values), thresholds)
    certificate = Certificate(
        level="none",
        orthogonality=_orthogonality(_gram(claim.vectors)),
        floor=floor,
        floor_decided=decided,
        not_proved=f"anything: {why}",
    )
    return Grade(claim.estimates, claim.estimates <= thresholds, certificate)


def certify(
    operator: LinearOperator, claim: Claim, request: Request, *, level: str, allowance: float = math.inf
) -> Grade:
    """Grades a claim with fresh products of `operator`, at most `allowance` of them.

    Args:
        level: "full" takes one product per pair; "sketch" three in all, and is full up to three pairs.
    """
    eps, k = arrays.eps(operator), len(claim.values)
    static = precision_floor(eps, claim.norm)
    needed = products_needed(level, k)
    if level == "none" or needed > allowance:
        why = "certify is none" if level == "none" else "the budget left nothing for a certificate"
        return ungraded(claim, request, eps, why)
    measure = bool(np.any(request.thresholds(claim.values, static) < MAY_DECIDE * eps * claim.norm))
    if _is_full(level, k):
        room = needed + 1 <= allowance
        return _full(operator, claim, request, static, measure=measure and room, room=room)
    measure = measure and needed + 2 <= allowance
    return _sketch(operator, claim, request, static, measure=measure, allowance=allowance)


def _full(
    operator: LinearOperator,
    claim: Claim,
    request: Request,
    static: float,
    *,
    measure: bool,
    room: bool,
    spent: float = 0.0,
    floor: float | None = None,
) -> Grade:
    """Exact residual norms. `spent` and `floor` come from a sketch that was contradicted.

    The floor is measured where it is to be; and where there is room for a product, also before a solver is
    called wrong: products may be less exact than their data type.
    """
    k = len(claim.values)
    AV = operator.matmat(claim.vectors)
    spent += k
    R = AV - claim.vectors * arrays.from_host(claim.values, operator)
    gram = _gram(claim.vectors)
    lengths = np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    residuals = np.array([arrays.norm(R[:, i]) for i in range(k)]) / lengths
    measured, passed = floor is not None, claim.estimates <= request.thresholds(claim.values, static)
    floor = static if floor is None else floor
    # An estimate and the norm it estimates differ by rounding, so that a pair may pass by one only.
    refuted = passed & (residuals > request.thresholds(claim.values, floor) + static)
    if not measured and (measure or (room and refuted.any())):
        floor = _measured(operator, claim, static, AV[:, 0])
        spent, measured = spent + 1, True
    thresholds = request.thresholds(claim.values, floor)
    converged = residuals <= thresholds + static
    return Grade(
        residuals,
        converged,
        Certificate(
            level="full",
            matvecs=spent,
            exact=True,
            bound=_spectral_norm(R) / _smallest_singular_value(gram),
            confidence=1.0,
            orthogonality=_orthogonality(gram),
            floor=floor,
            floor_measured=measured,
            floor_decided=_floor_decides(residuals, request.tol * np.abs(claim.values), thresholds),
            not_proved=_not_proved(request, operator),
        ),
        refuted=bool(np.any(~converged & (claim.estimates <= thresholds))),
    )


def _sketch(
    operator: LinearOperator,
    claim: Claim,
    request: Request,
    static: float,
    *,
    measure: bool,
    allowance: float,
) -> Grade:
    """Three Gaussian combinations of the residuals; where they contradict the estimates, all of them.

    Each residual is weighed by what was told of it (at least a tenth of its threshold), so that a false
    word on a small pair doesn't hide behind a true one on a large pair.
    """
    k, spent, floor = len(claim.values), float(SKETCHES), static
    if measure:
        floor = _measured(operator, claim, static, operator.matvec(claim.vectors[:, 0]))
        spent += 2
    thresholds = request.thresholds(claim.values, floor)
    weights, unit = _weights(np.maximum(claim.estimates, thresholds / 10), request.seed)
    combined = claim.vectors @ arrays.from_host(weights, operator)
    expected = claim.vectors @ arrays.from_host(claim.values[:, None] * weights, operator)
    residual = operator.matmat(combined) - expected
    gram = _gram(claim.vectors)

    size = math.sqrt(sum(arrays.norm(residual[:, i]) ** 2 for i in range(SKETCHES)))
    allowed = unit * math.sqrt(k * _chi2_quantile(CONFIDENCE)) + static * float(np.linalg.norm(weights))
    if size > allowed:
        if spent + k > allowance:
            return _contradicted_unseen(claim, gram, spent, floor)
        room, known = spent + k + 1 <= allowance, floor if measure else None
        grade = _full(operator, claim, request, static, measure=room, room=room, spent=spent, floor=known)
        return replace(grade, certificate=replace(grade.certificate, contradicted=True))
    bound = _spectral_norm(residual) / math.sqrt(_chi2_quantile(1 - CONFIDENCE))
    return Grade(
        claim.estimates,
        claim.estimates <= thresholds,
        Certificate(
            level="sketch",
            matvecs=spent,
            bound=bound / _smallest_singular_value(gram),
            confidence=CONFIDENCE,
            orthogonality=_orthogonality(gram),
            floor=floor,
            floor_measured=measure,
            floor_decided=_floor_decides(claim.estimates, request.tol * np.abs(claim.values), thresholds),
            not_proved=_not_proved(request, operator),
        ),
    )


def _weights(told: Floats, seed: int) -> tuple[Floats, float]:
    """Gaussian weights (k, s) over the residuals told, in units of the largest of these; and that unit."""
    unit = float(np.max(told)) or 1.0
    drawn = np.random.default_rng([seed, SKETCHES]).standard_normal((len(told), SKETCHES))
    return drawn * (unit / np.where(told > 0, told, unit))[:, None], unit


def _contradicted_unseen(claim: Claim, gram: Floats, spent: float, floor: float) -> Grade:
    """The sketch contradicts the estimates, and no budget is left to see which: none counts as converged."""
    certificate = Certificate(
        level="sketch",
        matvecs=spent,
        orthogonality=_orthogonality(gram),
        floor=floor,
        contradicted=True,
        not_proved="anything: fresh products contradict the solver's residuals",
    )
    return Grade(claim.estimates, np.zeros(len(claim.values), dtype=bool), certificate, refuted=True)


def _measured(operator: LinearOperator, claim: Claim, static: float, Av: Array) -> float:
    """How exact products of this precision are, at the first Ritz vector v: random ones hide most of it.

    3 ||A(s v)/s - A v||, s no power of two; the true error was .7 to 2.3 times the norm on networks. Where it
    comes near ||A|| itself, v is what is wrong: no floor excuses that.
    """
    s, v = 3.3, claim.vectors[:, 0]
    return max(static, min(3 * arrays.norm(operator.matvec(v * s) / s - Av), LARGEST_FLOOR * claim.norm))


def _is_full(level: str, k: int) -> bool:
    return level == "full" or (level == "sketch" and k <= SKETCHES)


def _chi2_quantile(probability: float) -> float:
    from scipy.special import chdtri

    return float(chdtri(SKETCHES, 1 - probability))


def _gram(V: Array) -> Floats:
    return arrays.to_host(V.T @ V)


def _orthogonality(gram: Floats) -> float:
    return float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))


def _smallest_singular_value(gram: Floats) -> float:
    """Of V, through V'V: what Kahan's bound is divided by where V is not quite orthonormal."""
    return math.sqrt(max(float(np.linalg.eigvalsh(gram)[0]), np.finfo(float).tiny))


def _spectral_norm(R: Array) -> float:
    unit = max(arrays.norm(R[:, i]) for i in range(R.shape[1])) or 1.0
    return unit * math.sqrt(max(float(np.linalg.eigvalsh(_gram(R / unit))[-1]), 0.0))


def _floor_decides(residuals: Floats, relative: Floats, thresholds: Floats) -> bool:
    return bool(np.any((residuals <= thresholds) & (residuals > relative)))


def _not_proved(request: Request, operator: LinearOperator) -> str:
    if request.k == operator.shape[0]:
        return ""  # there are no others
    ends = {"LM": "larger in magnitude", "LA": "larger", "SA": "smaller", "BE": "further out"}
    return f"that none {ends[request.which]} was missed"
