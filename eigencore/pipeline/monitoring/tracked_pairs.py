"""The top eigenpairs of an operator from one look to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.solving.solve import solve

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.results import EigenResult

NEAR = 0.9  # of the threshold: an eigenvalue above it is followed, and so is the next one
COMPLETE = 0.99  # the probability at which a complete solve has missed nothing
FULL = 3  # so many pairs are certified by a product each, which takes no more than a sketch
MOST_PRODUCTS = 200
TOL = 1e-2  # of the residual; an eigenvalue that is overtaken shows in it, late if the tolerance is larger


@dataclass
class TrackedPairs:
    """The largest eigenvalues and their vectors; each solve starts from the vectors of the one before.

    One pair is followed for every eigenvalue above 90 % of the threshold, and one more: several eigenvalues
    reach it one after the other (Cohen et al. 2021, section 3.1).

    Attributes:
        most: the largest number of pairs.
        found: those of the last solve, or None.
    """

    most: int
    found: EigenResult | None = None
    _wanted: int = 1

    def follow(
        self, operator: LinearOperator, threshold: float | None, *, complete: bool, seed: int
    ) -> EigenResult:
        """The eigenpairs of the operator as it is now.

        Args:
            complete: whether to show that no larger eigenvalue was missed, as in the first solve; otherwise
                one that overtook the others since the last complete solve may be missed.

        Raises:
            EigencoreError: as for `solve`; the next solve starts from random vectors, and is complete.
        """
        start, self.found = self._start(operator, seed), None
        k = min(self._wanted, operator.shape[0])
        found: EigenResult = solve(
            operator,
            k,
            which="LA",
            tol=TOL,
            complete=COMPLETE if complete or start is None else None,
            seed=seed,
            start=start,
            max_matvecs=MOST_PRODUCTS,
            certify="full" if k <= FULL else "sketch",
        )
        if len(found.values):
            self.found = found
        if threshold is not None:
            near = sum(value >= NEAR * threshold for value in found.values[found.converged])
            self._wanted = min(1 + near, self.most)
        return found

    def _start(self, operator: LinearOperator, seed: int) -> Any:
        """The vectors of the last solve, and random ones for pairs that are new.

        None: there are none, or other weights are trained now.
        """
        if self.found is None or self.found.n != operator.shape[0]:
            return None
        xp, vectors = operator.xp, self.found.vectors[:, : self._wanted]
        missing = self._wanted - vectors.shape[1]
        if missing > 0:
            rng = arrays.generator(seed, "monitor")
            more = arrays.random_normal(rng, (operator.shape[0], missing), operator)
            vectors = xp.concat([vectors, more / arrays.norm(more, operator)], axis=1)
        return vectors
