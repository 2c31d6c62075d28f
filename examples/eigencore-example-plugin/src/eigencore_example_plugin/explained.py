"""How much of the operator do the eigenpairs explain?

The sum of all squared eigenvalues is ||A||_F^2. The found pairs have their part of it; of the rest, products
with random signs z, made orthogonal to the found vectors, give an unbiased estimate: E ||A (I - VV') z||^2 is
||A (I - VV')||_F^2 (Hutchinson 1990; taken outside of a subspace as in Meyer et al. 2021, "Hutch++").
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
    probes: int = option(
        10,
        low=2,
        help="random vectors, a product each",
        when="raise it where the margin of error is too wide",
    )


def explained(
    context: AnalysisContext, options: ExplainedOptions, /
) -> Generator[AnalysisResult, None, None]:
    """The share of ||A||_F^2, after every probe but the first; the last one counts.

    Raises:
        ProblemError: no pair has converged.
    """
    converged = np.flatnonzero(context.eigen.converged)
    if not len(converged):
        raise ProblemError("no eigenpair has converged", hint="Give the solver more products.")
    operator = context.bound.operator(context.kind, context.params)
    V = operator.xp.stack([context.eigen.vectors[:, int(i)] for i in converged], axis=1)
    found = float(np.sum(context.eigen.values[converged] ** 2))
    rng = np.random.default_rng(context.seed)
    rest: list[float] = []
    for _ in range(options.probes):
        context.progress(f"explained: probe {len(rest) + 1} of {options.probes}")
        z = arrays.from_host(rng.choice([-1.0, 1.0], operator.shape[0]), operator)
        rest.append(arrays.norm(operator.matvec(z - V @ (V.T @ z))) ** 2)
        if len(rest) > 1:
            yield told(len(converged), found, np.array(rest))


def told(pairs: int, found: float, rest: np.ndarray) -> AnalysisResult:
    """The share found / (found + rest), its error that of the mean of `rest`, to first order."""
    total = found + rest.mean()
    share = found / total if total else 1.0
    error = share * rest.std(ddof=1) / np.sqrt(len(rest)) / total if total else 0.0
    return AnalysisResult(
        verdict=f"{pairs} eigenpairs hold {100 * share:.1f} % (standard error {100 * error:.1f} %) of the "
        "operator's squared Frobenius norm.",
        title=f"the share of the sum of all squared eigenvalues, from {len(rest)} random vectors",
        numbers={"share": float(share), "standard_error": float(error), "probes": len(rest)},
    )
