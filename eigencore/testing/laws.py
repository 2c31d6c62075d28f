"""What must hold of every answer, whoever found it: each law is a function, and raises where it is broken.

The truth is the exact operator in float64 on the host, and its spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request, precision_floor
from eigencore.results import EigenResult, Status
from eigencore.testing.costs import power_cost
from eigencore.testing.gallery import Case, SpectralOperator
from eigencore.testing.libraries import Library

if TYPE_CHECKING:
    from eigencore.space import Floats

CAP = 2000  # products that a case may cost
ORTHONORMAL = 1e3  # largest entry of |V'V - I|, in rounding units
NOISE = 300  # what rounding may add to a value or a residual in a long run, in rounding units of ||A||
TOO_LOW, TOO_HIGH = 3.0, 10.0  # how far a told residual may lie below and above the true one


class BrokenLawError(AssertionError):
    """Which laws are broken, and how."""

    def __init__(self, broken: dict[str, str], where: str):
        super().__init__("\n".join([where, *(f"  {law}: {how}" for law, how in broken.items())]))
        self.laws = tuple(broken)


def demand(holds: object, otherwise: str) -> None:
    """An assert that `python -O` keeps."""
    if not holds:
        raise AssertionError(otherwise)


@dataclass(frozen=True)
class Answer:
    """A result beside the truth. `operator` is the one that was solved, with its own count of products."""

    case: Case
    library: Library
    result: EigenResult
    operator: SpectralOperator

    @cached_property
    def vectors(self) -> Floats:
        """On the host."""
        return arrays.to_host(self.result.vectors)

    @cached_property
    def residual_block(self) -> Floats:
        """R = A V - V diag(theta), the columns of V scaled to norm 1."""
        V = self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=0), np.finfo(float).tiny)
        return np.asarray(self.case.exact(self.library).matmat(V) - V * self.result.values)

    @cached_property
    def residuals(self) -> Floats:
        return np.array([arrays.norm(column) for column in self.residual_block.T])

    @cached_property
    def floor(self) -> float:
        """What counts as zero: rounding at ||A||, a floor told that can be, or what products show."""
        least = precision_floor(self.library.eps, self.case.norm)
        told = min(self.result.certificate.floor or 0.0, NOISE * self.rounding)
        products = self.case.operator(self.library).matmat(self.result.vectors)
        off = arrays.to_host(products) - self.case.exact(self.library).matmat(self.vectors)
        return max([least, told, *(arrays.norm(column) for column in off.T)])

    @property
    def rounding(self) -> float:
        """One rounding unit of ||A||."""
        return self.library.eps * self.case.norm

    @cached_property
    def thresholds(self) -> Floats:
        """Twice the residual that counts as converged."""
        return 2 * np.maximum(self.result.tol * np.abs(self.result.values), self.floor)

    @cached_property
    def slack(self) -> Floats:
        """How far a converged value may lie from an eigenvalue of its own: ||R||_2 (Kahan), and tol.

        R is that of the converged pairs only: what is still far off excuses nothing.
        """
        R = self.residual_block[:, self.result.converged]
        size = float(np.max(np.abs(R), initial=0.0))
        return self.thresholds + (size * float(np.linalg.norm(R / size, 2)) if size > 0 else 0.0)


Law = Callable[[Answer], None]


def judge(answer: Answer, where: str = "", *, laws: tuple[Law, ...] | None = None) -> None:
    """Raises BrokenLawError with every law that the answer breaks."""
    broken: dict[str, str] = {}
    for law in LAWS if laws is None else laws:
        try:
            law(answer)
        except AssertionError as failure:
            broken[law.__name__] = str(failure)
            if law is well_formed:
                break  # there is nothing that the others could look at
    if broken:
        raise BrokenLawError(broken, where or f"{answer.case} on {answer.library}: {answer.result.advice}")


# -- the laws ----------------------------------------------------------------------------------------------


def well_formed(answer: Answer) -> None:
    """At most k pairs; host float64 numbers, all finite; vectors (n, pairs) of the operator's own kind."""
    result, operator = answer.result, answer.operator
    pairs = len(result.values)
    demand(pairs <= answer.case.k, f"{pairs} pairs where {answer.case.k} were asked for")
    for name in ("values", "residuals"):
        numbers = getattr(result, name)
        kind, shape = getattr(numbers, "dtype", type(numbers)), getattr(numbers, "shape", ())
        demand(kind == np.float64, f"{name} are {kind}; expected float64 on the host")
        demand(shape == (pairs,), f"{name} have shape {shape}; expected {(pairs,)}")
        demand(np.all(np.isfinite(numbers)), f"{name} are not finite: {numbers}")
    demand(np.all(result.residuals >= 0), f"a residual is negative: {result.residuals}")
    V = result.vectors
    demand(tuple(V.shape) == (answer.case.n, pairs), f"vectors have shape {tuple(V.shape)}")
    demand(V.dtype == operator.dtype, f"vectors are {V.dtype}; the operator is {operator.dtype}")
    demand(arrays.device_of(V) == operator.device, f"vectors live on {arrays.device_of(V)}")
    demand(type(V) is type(operator.xp.zeros(1)), f"vectors are {type(V)}, of another library")
    demand(np.all(np.isfinite(answer.vectors)), "vectors are not finite")


def ordered(answer: Answer) -> None:
    """The first wanted comes first."""
    order = Request(answer.case.k, answer.case.which).order(answer.result.values)
    in_order = np.array_equal(answer.result.values[order], answer.result.values)
    demand(in_order, f"{answer.result.values} are not in the order of {answer.case.which}")


def orthonormal(answer: Answer) -> None:
    V = answer.vectors
    defect = float(np.max(np.abs(V.T @ V - np.eye(V.shape[1])), initial=0.0))
    allowed = ORTHONORMAL * answer.library.eps
    demand(defect <= allowed, f"|V'V - I| reaches {defect:.1e}; at most {allowed:.1e} is rounding")


def rayleigh(answer: Answer) -> None:
    """Each value is the Rayleigh quotient of its vector: what it is off by is small beside their residual."""
    off = np.abs(np.sum(answer.vectors * answer.residual_block, axis=0))
    allowed = np.maximum(answer.residuals / 10, NOISE * answer.rounding)
    demand(np.all(off <= allowed), f"values are {off} from the Rayleigh quotients of their vectors")


def no_false_converged(answer: Answer) -> None:
    """Whatever is called converged has a true residual of at most 2 max(tol |theta|, floor)."""
    false = answer.result.converged & (answer.residuals > answer.thresholds)
    demand(
        not np.any(false),
        f"called converged with true residuals {answer.residuals[false]}, above {answer.thresholds[false]}",
    )


def no_ghost(answer: Answer) -> None:
    """No eigenvalue comes back more often than the spectrum has it."""
    converged = answer.result.converged
    values, slack = answer.result.values[converged], answer.slack[converged]
    homeless = unmatched(values, slack, answer.case.spectrum)
    demand(len(homeless) == 0, f"{homeless} have no eigenvalue of their own")


def nothing_missed(answer: Answer) -> None:
    """Where all is called converged, these are the wanted eigenvalues: none skipped, no wrong end."""
    if answer.result.status is not Status.CONVERGED:
        return
    values, wanted = answer.result.values, answer.case.wanted
    demand(len(values) == len(wanted), f"{len(values)} pairs are called all that was asked for")
    if answer.case.which == "LM":  # of two equal in size, either sign will do
        values, wanted = np.abs(values), np.abs(wanted)
    by_value = np.argsort(values)
    off = np.abs(values[by_value] - np.sort(wanted))
    allowed = answer.slack[by_value]
    demand(np.all(off <= allowed), f"{answer.result.values} where {answer.case.wanted} is the truth")


def honest_residuals(answer: Answer) -> None:
    """The residuals told are the true ones, up to a factor and to what products of this precision show.

    Of a pair that is called converged, a bound will do in place of a residual.
    """
    told, true = answer.result.residuals, answer.residuals
    noise = max(answer.floor, NOISE * answer.rounding / TOO_LOW)
    low = true > TOO_LOW * np.maximum(told, noise)
    demand(not np.any(low), f"residuals {true[low]} are told as {told[low]}")
    high = ~answer.result.converged & (told > TOO_HIGH * np.maximum(true, noise))
    demand(not np.any(high), f"residuals {true[high]} are told as {told[high]}: too high")


def counted(answer: Answer) -> None:
    """The products told are those that the operator was asked for."""
    told, true = answer.result.matvecs, answer.operator.products
    demand(math.isclose(told, true), f"{told:g} products are told; the operator was asked for {true}")


def converges(answer: Answer) -> None:
    """It gets there."""
    result = answer.result
    demand(result.status is Status.CONVERGED, f"{result.status} after {result.matvecs:g} products")


def converges_where_power_iteration_does(answer: Answer) -> None:
    """Where power iteration with deflation needs a quarter of the cap, nobody needs all of it."""
    if power_cost(answer.case) <= CAP / 4:
        converges(answer)


LAWS: tuple[Law, ...] = (
    well_formed,
    ordered,
    orthonormal,
    rayleigh,
    no_false_converged,
    no_ghost,
    nothing_missed,
    honest_residuals,
    counted,
)


def unmatched(values: Floats, slack: Floats, spectrum: Floats) -> Floats:
    """Values left over when each takes an eigenvalue of its own no further off than its slack.

    Taking eigenvalues in rising order, each for the value whose reach ends first, matches as many as can be.
    """
    waiting = sorted(zip(values - slack, values + slack, values, strict=True), key=lambda reach: reach[1])
    for eigenvalue in np.sort(spectrum):
        taker = next((reach for reach in waiting if reach[0] <= eigenvalue <= reach[1]), None)
        if taker is not None:
            waiting.remove(taker)
    return np.array([value for _, _, value in waiting])
