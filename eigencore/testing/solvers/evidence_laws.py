"""The law of evidence: what a solver reports of its recurrence is true of the vectors that it multiplies."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.testing.checks import demand
from eigencore.testing.gallery import Case, SpectralOperator, filled
from eigencore.testing.libraries import Library
from eigencore.testing.solvers.subject import SolverSubject

if TYPE_CHECKING:
    from eigencore.interfaces import Evidence
    from eigencore.space import Array, Floats

# Large enough for restarts of most methods.
CASE = Case("recurrence", filled(300, [9.0, 7.0, 6.0], -2.0, 2.0), 3, tol=1e-12)
PRODUCTS = 60
LARGE = 1e-2  # smaller parts of a vector have too few digits to be compared
AGREES = 1e-3
# In rounding units of ||A||: nearer to a Ritz value, p is rounding error.
RESOLUTION = 1e4


def evidence_is_of_the_vectors_that_are_multiplied(subject: SolverSubject) -> None:
    """The part of each vector along every eigenvector is what the evidence says, through restarts too.

    A solver without evidence, or with a start block, passes: the core then makes products of its own.
    """
    operator = _Recording(CASE, subject.library)
    reported: dict[int, Floats] = {}  # number of a vector -> log|p| at each eigenvalue, or NaN
    eps = subject.library.eps
    couplings, dropped = 0.0, np.zeros(0)
    for snapshot in islice(subject.snapshots(CASE, operator), PRODUCTS):
        evidence = snapshot.evidence
        if evidence is None or evidence.coupling is None or evidence.coupling <= 0:
            break
        couplings += np.log(evidence.coupling)
        dropped = np.concatenate([dropped, evidence.dropped])
        reported[len(operator.parts)] = _log_p(evidence, dropped, couplings, RESOLUTION * eps * CASE.norm)
    first = operator.parts[0] if operator.parts else np.zeros(0)
    for number, log_p in reported.items():
        if number >= len(operator.parts):
            continue
        found = np.abs(operator.parts[number])
        expected = np.exp(np.minimum(log_p, 700.0)) * np.abs(first)
        large = np.maximum(found, expected) > LARGE  # not where it is NaN
        gap = np.abs(found - expected)[large] / np.maximum(found, expected)[large]
        demand(
            bool(np.all(gap <= max(AGREES, 1e5 * eps))),
            f"the parts of vector {number} along eigenvectors differ from what the evidence says by up to "
            f"{np.max(gap, initial=0.0):.1e} of their size",
        )


def _log_p(evidence: Evidence, dropped: Floats, couplings: float, resolution: float) -> Floats:
    distances = np.abs(CASE.spectrum[:, None] - np.concatenate([np.asarray(evidence.ritz), dropped]))
    with np.errstate(divide="ignore"):
        log_p = np.sum(np.log(distances), axis=1) - couplings
    return np.where(np.min(distances, axis=1) > resolution, log_p, np.nan)


class _Recording(SpectralOperator):
    """The operator of a case, which records the parts of each vector along the eigenvectors."""

    def __init__(self, case: Case, library: Library):
        super().__init__(case, library)
        self.parts: list[Floats] = []

    def matvec(self, v: Array, /) -> Array:
        parts = self.to_eigenbasis(v)
        self.parts.append(parts / arrays.norm(parts))
        return super().matvec(v)

    def matmat(self, V: Array, /) -> Array:
        for i in range(V.shape[1]):
            parts = self.to_eigenbasis(V[:, i])
            self.parts.append(parts / arrays.norm(parts))
        return super().matmat(V)
