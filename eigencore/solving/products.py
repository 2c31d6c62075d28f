"""The operators of one solve, one for each use of products: counted, limited by the budget, and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.operators.counting import counting
from eigencore.solving.budget import Budget, Halt
from eigencore.solving.product_checks import ProductChecks

if TYPE_CHECKING:
    from eigencore.errors import EigencoreError
    from eigencore.interfaces import Approximation, LinearOperator
    from eigencore.space import Array


class CountedProducts:
    """The operator A of a solve, and its approximation B if it has one, for everything that multiplies.

    Args:
        operator: A.
        approximation: B; None: A has none, and B stands for A itself.
        budget: what the products are charged to.
        refused_by_solver: whether the solver refuses products that are not finite.

    Attributes:
        of_solver: B for the solver, within what the budget leaves.
        of_search: A for the search for missed eigenvalues, likewise.
        of_certificate: A for the certificate, which only Ctrl-C stops.
        of_comparison: B for the measurement of its error, which only Ctrl-C stops.
    """

    def __init__(
        self,
        operator: LinearOperator,
        approximation: Approximation | None,
        budget: Budget,
        *,
        refused_by_solver: bool,
    ):
        multiplied = operator if approximation is None else approximation.operator
        checks = ProductChecks(multiplied, refused_by_solver=refused_by_solver, approximation=approximation)
        own_checks = checks if approximation is None else ProductChecks(operator)
        self._checks = checks
        self._latest = latest = [checks]  # those of the latest product

        # Functions rather than methods: without a cycle, the operator and its graphs are freed at once.
        def after_product(V: Array, AV: Array) -> None:
            latest[0] = checks
            budget.after_product()
            checks.after(V, AV)

        def after_search(V: Array, AV: Array) -> None:
            latest[0] = own_checks
            if approximation is None:  # otherwise, the time of a product is that of the solver's
                budget.after_product()
            own_checks.after_own(V, AV)

        def after_sample(V: Array, AV: Array) -> None:
            latest[0] = checks
            budget.after_product(sample=True)
            checks.after_sample(V, AV)

        def after_certificate(V: Array, AV: Array) -> None:
            latest[0] = own_checks
            own_checks.after_own(V, AV)

        def failed(error: EigencoreError) -> None:
            if approximation is not None:
                way_out = f"If {approximation.name} are not possible here, {approximation.remedy}."
                error.hint = f"{error.hint} {way_out}" if error.hint else way_out
            raise Halt(error=error)

        before, unlimited = budget.before_product, budget.before_certificate
        self.of_solver = counting(
            multiplied, before=before, after=after_product, after_sample=after_sample, failed=failed
        )
        self.of_search = counting(operator, before=before, after=after_search, failed=_halt)
        self.of_certificate = counting(operator, before=unlimited, after=after_certificate, failed=_halt)
        self.of_comparison = counting(multiplied, before=unlimited, failed=failed)

    @property
    def matvecs(self) -> float:
        """The products so far, for all uses."""
        parts = self.of_solver, self.of_search, self.of_certificate, self.of_comparison
        return sum(part.matvecs for part in parts)

    def know_norm(self, norm: float) -> None:
        """Takes a lower bound of ||A|| into account that is known from an earlier solve."""
        self._checks.norm = norm

    def diagnosis(self) -> EigencoreError | None:
        """The error for the last product, which was found not to be finite; None if it is finite."""
        return self._latest[0].diagnosis()


def _halt(error: EigencoreError) -> None:
    raise Halt(error=error)
