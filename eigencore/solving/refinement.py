"""Pairs that were found by products with an approximation, refined by products of the operator itself.

The solver multiplies by B, an approximation of A such as one with products in bfloat16. Its k vectors V are
only where to look: k products A V and a Rayleigh-Ritz step give values, vectors and residuals of A. The
errors of the values are then quadratic in the residuals.

What V can be worth depends on the errors (B - A) v of its products. No product of B shows them, because most
of them are the same in each product, such as the rounding of weights. They are measured on Ritz vectors,
because a random vector hides most of them: on seven networks in bfloat16, the error with the first
eigenvector was 37 to 340 times that with a random vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import Culprit, NotFiniteError, OperatorError
from eigencore.request import Request, precision_floor
from eigencore.solving.budget import Budget, Halt
from eigencore.solving.certificate import Claim, Grade, certify, ungraded
from eigencore.solving.products import CountedProducts

if TYPE_CHECKING:
    from collections.abc import Callable

    from eigencore.interfaces import Approximation, LinearOperator, Snapshot
    from eigencore.space import Array, Floats

# The products after which the error is measured first: the first Ritz vector is then near an eigenvector.
MEASURED_AFTER = 5
# The solver's tolerance relative to the requested one, which leaves room for the error.
SHARE = 0.5


@dataclass
class Refinement:
    """The refinement of one solve.

    Attributes:
        products: the products with A and B.
        request: what is requested of the answer.
        budget: what is left of it limits refinement and measurements.
        error: the latest measured ||B v - A v|| / |theta|, of the Ritz pair with the largest |theta|.
        largest_error: the same of the pair with the largest error, if some pairs have not converged.
    """

    products: CountedProducts
    approximation: Approximation
    request: Request
    budget: Budget
    error: float | None = None
    largest_error: float | None = None
    _answer: tuple[Snapshot, Claim, Grade] | None = field(default=None, repr=False)

    @property
    def solver_request(self) -> Request:
        """What is requested of the solver: a part of the tolerance."""
        return replace(self.request, tol=SHARE * self.request.tol)

    @property
    def note(self) -> str:
        """What the products were, as a note of the result."""
        error = "an unknown error" if self.error is None else f"a measured error of {self.error:.1e}"
        of = "" if self.error is None else " of the eigenvalue on the first Ritz vector"
        refined = "; values, vectors and residuals are from full products" if self._answer else ""
        return f"the solver used {self.approximation.name}, with {error}{of}{refined}"

    def watch(self, snapshot: Snapshot, vectors: Callable[[], Array]) -> None:
        """Measures the error on the first Ritz vector, once, after the first few products.

        Raises:
            Halt: the error is larger than the tolerance. Its error is an OperatorError.
        """
        few = self.budget.spent < MEASURED_AFTER or self.budget.left() < self.budget.reserved + 2
        if self.error is not None or few or not len(snapshot.values):
            return
        first = _first(snapshot.values)
        operator, before = self.products.of_certificate, self.budget.seconds
        V = vectors()[:, first]
        AV = operator.matmat(V)
        arrays.norm(AV, operator)  # waits for the device
        self.budget.per_reserved = self.budget.seconds - before
        BV = self.products.of_comparison.matmat(V)
        self.error = error = float(self._errors(BV, AV, snapshot.values[first])[0])
        if error > self.request.tol:
            raise Halt(error=self._refusal(error))

    def graded(self, snapshot: Snapshot | None, claim: Claim, why_not: str | None) -> tuple[Claim, Grade]:
        """The refined pairs of a snapshot, with a full certificate.

        It takes a product of A for each pair, and one of B, or of each pair if some have not converged.

        Args:
            claim: the pairs of the snapshot.
            why_not: why they can't be refined; None: they can. Without refinement, no pair has converged.
        """
        if self._answer is not None and self._answer[0] is snapshot:
            return self._answer[1:]
        if why_not is None and self.budget.left() < len(claim.values):
            why_not = "the budget left no products for a certificate"
        if why_not is not None or snapshot is None:
            grade = ungraded(self.products.of_certificate, claim, self.request, f"{why_not}")
            return claim, replace(grade, converged=np.zeros_like(grade.converged))
        AV = self.products.of_certificate.matmat(claim.vectors)
        self._answer = snapshot, *self._refined(claim, AV)
        return self._answer[1:]

    def _refined(self, claim: Claim, AV: Array) -> tuple[Claim, Grade]:
        operator = self.products.of_certificate
        values, Q = _rayleigh_ritz(claim.vectors, AV, self.request, operator)
        norm = max(claim.norm, float(np.max(np.abs(values))))
        unknown = np.full(len(values), np.inf)
        refined = Claim(values, claim.vectors @ Q, unknown, norm)
        left = self.budget.left()
        grade = certify(operator, refined, self.request, level="full", allowance=left, products=AV @ Q)
        passed = bool(np.all(grade.converged))
        measured = _first(claim.values) if passed else slice(None)
        if self.budget.allows(1 if passed else len(values)):
            refuted = self._compare(claim, AV, measured)
            grade = replace(grade, refuted=refuted and not passed)
        return replace(refined, estimates=grade.residuals), grade

    def _compare(self, claim: Claim, AV: Array, measured: slice) -> bool:
        """Measures the error with some of the vectors V, for which A V is known.

        Returns:
            Whether the solver's estimates are wrong: then it is not the error that prevents convergence.
        """
        V, theta, operator = claim.vectors[:, measured], claim.values[measured], self.products.of_certificate
        BV = self.products.of_comparison.matmat(V)
        errors = self._errors(BV, AV[:, measured], theta)
        self.error, self.largest_error = float(errors[_first(theta)][0]), float(np.max(errors))
        residuals = self._norms(BV - V * arrays.from_host(theta, operator))
        thresholds = self.request.thresholds(theta, precision_floor(arrays.eps(operator), claim.norm))
        claimed = claim.estimates[measured] <= thresholds
        return bool(np.any(claimed & (residuals > thresholds)))

    def _errors(self, BV: Array, AV: Array, values: Floats) -> Floats:
        """The errors (b,) of the products with Ritz vectors, relative to their values (b,)."""
        errors = self._norms(BV - AV)
        if not np.all(np.isfinite(errors)):
            raise Halt(error=self._not_finite())
        return errors / np.maximum(np.abs(values), np.finfo(float).tiny)

    def _norms(self, block: Array) -> Floats:
        space = self.products.of_certificate
        return np.array([arrays.norm(block[:, i], space) for i in range(block.shape[1])])

    def _not_finite(self) -> NotFiniteError:
        name, remedy = self.approximation.name, self.approximation.remedy
        return NotFiniteError(
            f"{name} are not finite", hint=f"They may overflow: {remedy}.", culprit=Culprit.OPERATOR
        )

    def _refusal(self, error: float) -> OperatorError:
        return OperatorError(
            f"{self.approximation.name} have an error of {error:.1e} of the eigenvalue on the first Ritz "
            f"vector, which is more than the tolerance {self.request.tol:g}",
            hint=f"To get the pairs to this tolerance, {self.approximation.remedy}; or raise tol to several "
            "times the error.",
            culprit=Culprit.OPERATOR,
        )


def _first(values: Floats) -> slice:
    """The place of the largest |value|, as a slice."""
    first = int(np.argmax(np.abs(values)))
    return slice(first, first + 1)


def _rayleigh_ritz(V: Array, AV: Array, request: Request, operator: LinearOperator) -> tuple[Floats, Array]:
    """The eigenvalues (k,) of V'AV in the order of the request, and its eigenvectors (k, k), a column each.

    Raises:
        Halt: A V is not finite. Its error is a NotFiniteError.
    """
    M = arrays.to_host(arrays.total(V.T @ AV, operator))
    if not np.all(np.isfinite(M)):
        raise Halt(error=NotFiniteError("a product is not finite", culprit=Culprit.OPERATOR))
    values, Q = np.linalg.eigh((M + M.T) / 2)
    order = request.order(values)
    return values[order], arrays.from_host(Q[:, order], operator)
