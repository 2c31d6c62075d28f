"""The analysis `explained`: how much of the operator do the eigenpairs explain?

The sum of all squared eigenvalues is ||A||_F^2. The eigenpairs contribute the sum of their squared eigenvalues.
The remainder is estimated from products with vectors z of random signs, projected onto the orthogonal
complement of the eigenvectors V. The estimate is unbiased, since E ||A (I - VV') z||^2 is ||A (I - VV')||_F^2
(Hutchinson 1990; restricted to the complement of a subspace as in Meyer et al. 2021, "Hutch++").
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.interfaces import AnalysisContext
from eigencore.options import option
from eigencore.results import AnalysisResult


@dataclass(frozen=True)
class ExplainedOptions:
    """The options of the analysis `explained`."""

    probes: int = option(
        10,
        low=2,
        help="number of random vectors, each of which costs one product",
        when="raise it if the standard error is too large",
    )


def explained(
    context: AnalysisContext, options: ExplainedOptions, /
) -> Generator[AnalysisResult, None, None]:
    """Yields the estimated share of ||A||_F^2 after every probe except the first; the last result counts.

    Raises:
        ProblemError: no eigenpair has converged.
    """
    converged = np.flatnonzero(context.eigen.converged)
    if not len(converged):
        raise ProblemError(
            "no eigenpair has converged", hint="Give the solver more products: raise max_matvecs."
        )
    operator = context.operator
    V = operator.xp.stack([context.eigen.vectors[:, int(i)] for i in converged], axis=1)
    found = float(np.sum(context.eigen.values[converged] ** 2))
    rng = np.random.default_rng(context.seed)
    rest: list[float] = []
    for _ in range(options.probes):
        context.progress(f"explained: probe {len(rest) + 1} of {options.probes}")
        z = arrays.from_host(rng.choice([-1.0, 1.0], operator.shape[0]), operator)
        rest.append(arrays.norm(operator.matvec(z - V @ (V.T @ z))) ** 2)
        if len(rest) > 1:
            yield as_result(len(converged), found, np.array(rest))


def as_result(pairs: int, found: float, rest: np.ndarray) -> AnalysisResult:
    """The share found / (found + mean of rest) as a result, with its standard error to first order.

    Args:
        pairs: the number of eigenpairs.
        found: the sum of their squared eigenvalues.
        rest: one estimate of the remainder per probe.
    """
    total = found + rest.mean()
    share = found / total if total else 1.0
    error = share * rest.std(ddof=1) / np.sqrt(len(rest)) / total if total else 0.0
    return AnalysisResult(
        verdict=f"{pairs} eigenpairs explain {100 * share:.1f} % (standard error {100 * error:.1f} %) of the "
        "operator's squared Frobenius norm.",
        title=f"share of the sum of all squared eigenvalues, estimated from {len(rest)} random vectors",
        numbers={"share": float(share), "standard_error": float(error), "probes": len(rest)},
    )
