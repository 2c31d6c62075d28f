"""The certificate of an answer, from fresh products: a solver may not grade itself.

For orthonormal V and R = A V - V diag(theta):

- each theta_i lies within ||r_i|| of an eigenvalue, and together they lie within ||R||_2 of as many
  eigenvalues, counted with multiplicity (Kahan; Parlett, The Symmetric Eigenvalue Problem, 1998, 11.5);
- for Gaussian Omega (k x s) drawn after V, P(||R||_2 > ||R Omega||_2 / sqrt(q)) <= P(chi2_s <= q): s
  products bound ||R||_2 at the chosen confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.interfaces import InexactOperator
from eigencore.operators.conversion import is_inexact
from eigencore.request import Request, precision_floor
from eigencore.results import Certificate

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats

LEVELS = ("sketch", "full", "none")
SKETCHES = 3
CONFIDENCE = 0.99
# If a threshold is below this many eps ||A||, the precision floor may decide whether the pair has converged,
# and is measured. On networks in float32 the error of a product was at most 11 eps ||A||.
MAY_DECIDE = 100
LARGEST_FLOOR = 1e-2  # relative to ||A||
NOTHING_PROVED = "that the values are near eigenvalues"


@dataclass(frozen=True)
class Claim:
    """The answer of a solver: Ritz pairs, their estimated residuals, and the largest |Ritz value| seen."""

    values: Floats
    vectors: Array
    estimates: Floats
    norm: float


@dataclass(frozen=True)
class Grade:
    """The core's verdict on a claim. `refuted`: fresh products contradict a convergence that was claimed."""

    residuals: Floats
    converged: npt.NDArray[np.bool_]
    certificate: Certificate
    refuted: bool = False


def products_needed(level: str, k: int) -> int:
    """The products to reserve for a certificate of k pairs, except those to measure the floor."""
    return 0 if level == "none" else k if _is_full(level, k) else SKETCHES


def certificate_vectors(level: str, k: int) -> int:
    """The most vectors (n,) that a certificate of k pairs holds: four blocks as wide as its products."""
    return 4 * products_needed(level, k)


def ungraded(operator: LinearOperator, claim: Claim, request: Request, why: str) -> Grade:
    """A grade that relies on the solver's estimates alone; `why` gives the reason for that."""
    floor = precision_floor(arrays.eps(operator), claim.norm)
    thresholds = request.thresholds(claim.values, floor)
    decided = _floor_decides(claim.estimates, request.tol * np.abs(claim.values), thresholds)
    certificate = Certificate(
        level="none",
        orthogonality=_orthogonality(arrays.to_host(_gram(operator, claim.vectors))),
        floor=floor,
        floor_decided=decided,
        not_proved=f"{NOTHING_PROVED} ({why})",
    )
    return Grade(claim.estimates, claim.estimates <= thresholds, certificate)


def certify(
    operator: LinearOperator,
    claim: Claim,
    request: Request,
    *,
    level: str,
    allowance: float = math.inf,
    products: Array | None = None,
) -> Grade:
    """The grade of a claim, from fresh products of the operator.

    Args:
        operator: the operator that was solved.
        claim: the solver's answer, at least one pair.
        request: the tolerance, and the seed of the random combinations.
        level: "full" takes one product per pair; "sketch" takes three in all, and is the same as "full" for
            up to three pairs; "none" takes none. Measuring the precision floor takes one or two more.
        allowance: the maximum number of products. If it is too small for the level, there is no certificate.
        products: A V (n, k), if it is known and the level is "full".

    Returns:
        The residual norms (exact or estimated), which pairs have converged, and the certificate.
    """
    eps, k = arrays.eps(operator), len(claim.values)
    static = precision_floor(eps, claim.norm)
    needed = 0 if products is not None else products_needed(level, k)
    if level == "none" or needed > allowance:
        why = "certify is none" if level == "none" else "the budget left no products for a certificate"
        return ungraded(operator, claim, request, why)
    thresholds = request.thresholds(claim.values, static)
    measure = is_inexact(operator) or bool(np.any(thresholds < MAY_DECIDE * eps * claim.norm))
    if _is_full(level, k):
        room = needed + 1 <= allowance
        return _full(operator, claim, request, static, products, measure=measure and room, room=room)
    measure = measure and needed + 2 <= allowance
    return _sketch(operator, claim, request, static, measure=measure, allowance=allowance)


def resolvable(grade: Grade) -> Grade:
    """The grade without numbers below the precision floor, which the products cannot show.

    A residual or bound below the floor is replaced by the floor. Which pairs have converged is not affected,
    because the floor is never above a threshold.
    """
    floor, bound = grade.certificate.floor or 0.0, grade.certificate.bound
    certificate = replace(grade.certificate, bound=None if bound is None else max(bound, floor))
    return replace(grade, residuals=np.maximum(grade.residuals, floor), certificate=certificate)


def _full(
    operator: LinearOperator,
    claim: Claim,
    request: Request,
    static: float,
    products: Array | None = None,
    *,
    measure: bool,
    room: bool,
    spent: float = 0.0,
    floor: float | None = None,
) -> Grade:
    """A certificate from exact residual norms.

    The floor is measured if `measure` is true. If there is `room` for one more product, it is also measured
    before the estimates are refuted, because products may be less accurate than their data type suggests.

    Args:
        spent, floor: the products and the measured floor of a sketch that contradicted the estimates.
    """
    k = len(claim.values)
    AV = operator.matmat(claim.vectors) if products is None else products
    spent += k
    R = AV - claim.vectors * arrays.from_host(claim.values, operator)
    gram, squares = _gram_and_squares(operator, claim.vectors, R)
    lengths = np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    residuals = squares.column_norms / lengths
    measured, passed = floor is not None, claim.estimates <= request.thresholds(claim.values, static)
    floor = static if floor is None else floor
    # An estimate and the exact norm differ by rounding, so a pair may meet its threshold by only one of them.
    refuted = passed & (residuals > request.thresholds(claim.values, floor) + static)
    if not measured and (measure or (room and refuted.any())):
        floor = _measured_floor(operator, claim, static, AV[:, 0])
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
            bound=squares.spectral_norm / _smallest_singular_value(gram),
            confidence=1.0,
            orthogonality=_orthogonality(gram),
            floor=floor,
            floor_measured=measured,
            floor_decided=_floor_decides(
                _shown(operator, residuals, floor), request.tol * np.abs(claim.values), thresholds
            ),
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
    """A certificate from three Gaussian combinations of the residuals.

    If they contradict the estimates, all residuals are computed. Each residual is weighted by the inverse of
    its estimate (at least a tenth of its threshold), so that a false estimate for a small eigenvalue cannot
    hide behind a true one for a large eigenvalue.
    """
    k, spent, floor = len(claim.values), float(SKETCHES), static
    if measure:
        floor = _measured_floor(operator, claim, static, operator.matvec(claim.vectors[:, 0]))
        spent += 2
    thresholds = request.thresholds(claim.values, floor)
    weights, unit = _weights(np.maximum(claim.estimates, thresholds / 10), request.seed)
    combined = claim.vectors @ arrays.from_host(weights, operator)
    expected = claim.vectors @ arrays.from_host(claim.values[:, None] * weights, operator)
    residual = operator.matmat(combined) - expected
    gram, squares = _gram_and_squares(operator, claim.vectors, residual)

    size = float(np.linalg.norm(squares.column_norms))
    allowed = unit * math.sqrt(k * _chi2_quantile(CONFIDENCE)) + static * float(np.linalg.norm(weights))
    if size > allowed:
        if spent + k > allowance:
            return _contradicted(claim, gram, spent, floor)
        room, known = spent + k + 1 <= allowance, floor if measure else None
        grade = _full(operator, claim, request, static, measure=room, room=room, spent=spent, floor=known)
        return replace(grade, certificate=replace(grade.certificate, contradicted=True))
    bound = squares.spectral_norm / math.sqrt(_chi2_quantile(1 - CONFIDENCE))
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
            floor_decided=_floor_decides(
                _shown(operator, claim.estimates, floor), request.tol * np.abs(claim.values), thresholds
            ),
        ),
    )


def _weights(estimates: Floats, seed: int) -> tuple[Floats, float]:
    """Gaussian weights (k, s) divided by the estimates, in units of the largest estimate; and that unit."""
    unit = float(np.max(estimates)) or 1.0
    drawn = arrays.generator(seed, "certificate").standard_normal((len(estimates), SKETCHES))
    return drawn * (unit / np.where(estimates > 0, estimates, unit))[:, None], unit


def _contradicted(claim: Claim, gram: Floats, spent: float, floor: float) -> Grade:
    """The grade if the sketch contradicts the estimates and the budget does not allow exact residuals.

    It is unknown which estimates are wrong, so no pair counts as converged.
    """
    certificate = Certificate(
        level="sketch",
        matvecs=spent,
        orthogonality=_orthogonality(gram),
        floor=floor,
        contradicted=True,
        not_proved=f"{NOTHING_PROVED} (the estimated residuals are wrong, and the budget left no "
        "products for exact ones)",
    )
    return Grade(claim.estimates, np.zeros(len(claim.values), dtype=bool), certificate, refuted=True)


def _measured_floor(operator: LinearOperator, claim: Claim, static: float, Av: Array) -> float:
    """The precision floor: 3 ||A(s v)/s - A v|| at the first Ritz vector v, with s not a power of two.

    An operator with a larger error than rounding measures it; twice that is the floor.

    At random vectors most of the error would not show. On networks the true error was 0.7 to 2.3 times the
    norm. If the norm comes close to ||A|| itself, v is wrong, and a precision floor must not hide that: it is
    at most LARGEST_FLOOR ||A||.
    """
    s, v = 3.3, claim.vectors[:, 0]
    if isinstance(operator, InexactOperator) and operator.inexact:
        error = 2 * operator.product_error(v, Av)
    else:
        error = 3 * arrays.norm(operator.matvec(v * s) / s - Av, operator)
    if not math.isfinite(error):
        raise NotFiniteError("a product is not finite")
    return max(static, min(error, LARGEST_FLOOR * claim.norm))


def _shown(operator: LinearOperator, residuals: Floats, floor: float) -> Floats:
    """The residual norms that products show: those of an inexact operator are nowhere below the floor.

    Rounding errors are random, and are part of the residuals. The others are the same in each product.
    """
    return np.maximum(residuals, floor) if is_inexact(operator) else residuals


def _is_full(level: str, k: int) -> bool:
    return level == "full" or (level == "sketch" and k <= SKETCHES)


def _chi2_quantile(probability: float) -> float:
    from scipy.special import chdtri

    return float(chdtri(SKETCHES, 1 - probability))


@dataclass(frozen=True)
class _Squares:
    """R'R (b, b) of a block R of residuals, in units of `unit` squared."""

    unit: float
    gram: Floats

    @property
    def column_norms(self) -> Floats:
        return np.asarray(self.unit * np.sqrt(np.maximum(np.diag(self.gram), 0.0)))

    @property
    def spectral_norm(self) -> float:
        return self.unit * math.sqrt(max(float(np.linalg.eigvalsh(self.gram)[-1]), 0.0))


def _gram_and_squares(operator: LinearOperator, V: Array, R: Array) -> tuple[Floats, _Squares]:
    """V'V and R'R, in one transfer to the host.

    Raises:
        NotFiniteError: R is not finite.
    """
    xp = operator.xp
    zero = arrays.zeros((), operator)
    # In units of its largest number (of the sum of the largest ones of all shards), R'R does not overflow.
    largest = arrays.total(xp.max(xp.abs(R)) if R.shape[0] else zero, operator)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = R / xp.where(largest > 0, largest, zero + 1)
        parts = _gram(operator, V), _gram(operator, scaled), largest
    gram, squares, unit = arrays.to_host_at_once(*parts)
    if not (math.isfinite(unit) and np.all(np.isfinite(squares))):
        raise NotFiniteError("a product is not finite")
    return gram, _Squares(float(unit), squares)


def _gram(operator: LinearOperator, V: Array) -> Array:
    return arrays.total(V.T @ V, operator)


def _orthogonality(gram: Floats) -> float:
    return float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))


def _smallest_singular_value(gram: Floats) -> float:
    """The smallest singular value of V, from V'V: Kahan's bound is divided by it if V is not orthonormal."""
    return math.sqrt(max(float(np.linalg.eigvalsh(gram)[0]), np.finfo(float).tiny))


def _floor_decides(residuals: Floats, relative: Floats, thresholds: Floats) -> bool:
    """Whether a pair meets its threshold but not its relative tolerance."""
    return bool(np.any((residuals <= thresholds) & (residuals > relative)))
