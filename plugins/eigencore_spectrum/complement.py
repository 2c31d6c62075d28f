"""What is left of an operator without the eigenpairs that are known: its compression to their complement.

With V (n, p) orthonormal and P = I - VV', the spectrum of A is, up to the residuals, that of V'AV and that of
P A P on the complement. Quantities of the first are exact; only those of the second are estimated, so that an
error bar covers the bulk alone (Gambhir, Stathopoulos and Orginos 2017; Meyer et al. 2021 for Hutch++).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext, LinearOperator
    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class Complement:
    """An operator on the complement of its known eigenvectors.

    Attributes:
        operator: the operator.
        values, residuals: the known eigenvalues (p,) and their residual norms, in increasing order.
        vectors: their eigenvectors V (n, p), or None if p = 0.
    """

    operator: LinearOperator
    values: Floats
    residuals: Floats
    vectors: Array | None

    @property
    def dimension(self) -> int:
        """n - p."""
        return int(self.operator.shape[0]) - len(self.values)

    def project(self, X: Array) -> Array:
        """X - V V'X, twice, so that rounding leaves nothing along V: a vector (n,) or a block (n, b)."""
        V = self.vectors
        if V is None:
            return X
        for _ in range(2):
            X = X - V @ arrays.total(V.T @ X, self.operator)
        return X

    def multiply(self, X: Array) -> Array:
        """P A X for a block X (n, b) in the complement: b products."""
        return self.project(self.operator.matmat(X))

    def remainder(self, X: Array) -> Array:
        """(A - V theta V')X for any block X (n, b): b products.

        A is the sum of V theta V' and of this matrix whether or not the pairs have converged, so that a
        linear function of A, such as its trace or its diagonal, has no error from their residuals.
        """
        return self.without_known(X, self.operator.matmat(X))

    def without_known(self, X: Array, AX: Array) -> Array:
        """AX - V theta V'X, for the product AX (n, b) of any operator of this space with X (n, b)."""
        V = self.vectors
        if V is None:
            return AX
        theta = arrays.from_host(self.values[:, None], self.operator)
        return AX - V @ (theta * arrays.total(V.T @ X, self.operator))


def complement(context: AnalysisContext, operator: LinearOperator | None = None) -> Complement:
    """The complement of the converged eigenvectors of a run, or the operator itself without any.

    Args:
        operator: the operator that they belong to; None: that of the context.
    """
    operator, eigen = context.operator if operator is None else operator, context.pairs
    chosen = np.zeros(0, dtype=np.intp) if eigen is None else np.flatnonzero(eigen.converged)
    if eigen is None or not len(chosen):
        return Complement(operator, np.zeros(0), np.zeros(0), None)
    order = chosen[np.argsort(eigen.values[chosen])]
    vectors = operator.xp.stack([eigen.vectors[:, int(i)] for i in order], axis=1)
    return Complement(operator, eigen.values[order], eigen.residuals[order], vectors)
