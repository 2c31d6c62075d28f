"""The analysis `batch_sharpness`: the curvature of random minibatches along their own gradients.

With the gradient g_b and the Hessian H_b of the loss over a minibatch b, drawn as an optimizer would draw it,
the sharpness of a minibatch is g_b'H_b g_b / |g_b|^2. Two averages of it are in use, the mean of the ratios
(Andreyev and Beneventano 2024) and the ratio of the means of numerator and denominator. Both differ from the
largest eigenvalue of the Hessian over all data. So does the mean of the largest eigenvalues of minibatches,
which is at least as large, because the largest eigenvalue is convex.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.figures import Figure, Reference, Table
from eigencore.findings import AnalysisResult
from eigencore.interfaces import MinibatchOperator
from eigencore.news import counter
from eigencore_spectrum.intervals import quantile

if TYPE_CHECKING:
    from eigencore.interfaces import AnalysisContext
    from eigencore.space import Floats
    from eigencore_spectrum.options import BatchSharpnessOptions


def batch_sharpness(
    context: AnalysisContext, options: BatchSharpnessOptions, /
) -> Generator[AnalysisResult, None, None]:
    """Yields the sharpness after every minibatch from the second on.

    Raises:
        ProblemError: the gradient of a minibatch is zero.

    Example:
        import eigencore

        run = eigencore.analyze(
            "demo:digits-numpy", k=1, analyses="batch_sharpness", options={"batch_sharpness": {"draws": 3}}
        )
        print(run.analyses["batch_sharpness"].verdict)
    """
    operator, bound, seed = context.operator, context.bound, context.seed
    assert isinstance(operator, MinibatchOperator)  # its entry needs minibatches and the loss
    assert bound is not None
    columns: dict[str, list[float]] = {name: [] for name in ("curvature", "squared_gradient", "lambda_max")}
    done = counter(context.progress, "batch_sharpness", options.draws, "minibatches")
    for draw in range(options.draws):
        sample, _ = operator.minibatch(draw, seed, options.batches)
        g = bound.gradient(context.params, (draw, seed, options.batches))
        length = arrays.norm(g, operator)
        if not length:
            raise ProblemError("the gradient of a minibatch is zero", hint="The weights may fit it exactly.")
        direction = g / length
        along = arrays.scalar(arrays.total(direction @ sample.matvec(direction), operator))
        largest = math.nan
        if options.largest:
            found = context.solve(
                sample, 1, which="LA", tol=1e-2, complete=None, certify="none", seed=seed, progress=None
            )
            largest = float(found.values[0]) if found.converged.all() and len(found.values) else math.nan
        for name, value in (
            ("curvature", along * length**2),
            ("squared_gradient", length**2),
            ("lambda_max", largest),
        ):
            columns[name].append(value)
        done(draw + 1)
        if draw:
            yield _result({name: np.array(column) for name, column in columns.items()}, context, options)


def _result(
    columns: dict[str, Floats], context: AnalysisContext, options: BatchSharpnessOptions
) -> AnalysisResult:
    numerator, denominator, largest = columns.values()
    ratios = numerator / denominator
    draws, level = len(ratios), options.confidence
    ratio = float(numerator.mean() / denominator.mean())
    # The ratio of means to first order: its error is that of the mean of these residuals.
    residuals = (numerator - ratio * denominator) / denominator.mean()
    rows = [
        ("mean of ratios", *_interval(float(ratios.mean()), ratios, level)),
        ("ratio of means", *_interval(ratio, residuals, level)),
    ]
    if not np.isnan(largest).any():
        rows.append(("mean largest eigenvalue", *_interval(float(largest.mean()), largest, level)))
    numbers: dict[str, float | int | None] = {
        "minibatches": draws,
        "batches": options.batches,
        "batch_sharpness": rows[0][1],
        "ratio_of_means": rows[1][1],
    }
    text = f"Minibatch sharpness is {rows[0][1]:.4g} (mean of ratios) or {rows[1][1]:.4g} (ratio of means)"
    text += f"; the mean largest eigenvalue is {rows[2][1]:.4g}" if len(rows) > 2 else ""
    eigen, whole = context.pairs, None
    if eigen is not None and eigen.which in ("LA", "LM") and eigen.converged.any():
        whole = float(np.max(eigen.values[eigen.converged]))
        numbers["lambda_max_of_all_data"] = whole
        text += f", and the largest computed of all data {whole:.4g}"
    return AnalysisResult(
        verdict=f"{text}.",
        title=f"{draws} minibatches of {options.batches} batch{'es' * (options.batches > 1)}",
        numbers=numbers,
        tables={"sharpness": Table(("quantity", "value", "low", "high"), tuple(rows))},
        columns={
            "sharpness": ratios,
            "gradient_norm": np.sqrt(denominator),
            "lambda_max": largest,
        },
        figures=(_figure(ratios, largest, whole),),
    )


def _figure(ratios: Floats, largest: Floats, of_all_data: float | None) -> Figure:
    draws, known = len(ratios), int(np.isfinite(largest).sum())
    series = {"x": np.arange(1, draws + 1), "along its gradient": ratios}
    text = f"The curvature of {draws} random minibatches along their own gradients"
    references: tuple[Reference, ...] = ()
    if known:
        series["largest eigenvalue"] = largest
        text += f", and the largest eigenvalue of {'each' if known == draws else f'{known} of them'}"
    if of_all_data is not None:
        references = (Reference("y", of_all_data, "largest eigenvalue, all data"),)
        text += "; the line is that of all data"
    return Figure(
        "scatter",
        "Sharpness of minibatches",
        "minibatch",
        "curvature",
        series,
        references=references,
        caption=f"{text}.",
    )


def _interval(value: float, sample: Floats, confidence: float) -> tuple[float, float, float]:
    """The value, with Student's interval for the mean of a sample around it."""
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    half = quantile(confidence, len(sample) - 1) * error
    return value, value - half, value + half
