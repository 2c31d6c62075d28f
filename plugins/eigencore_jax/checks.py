"""The check of the derivatives before the first product, and errors of the user's functions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from eigencore.errors import ProblemError
from eigencore.problems.sharing import (
    DIFFERENCES,
    DerivativeGaps,
    check_derivatives,
    derivative_gaps,
    random_direction,
)
from eigencore_jax import program as compiled
from eigencore_jax.data import JaxSamples
from eigencore_jax.layout import select
from eigencore_jax.models import Weights
from eigencore_jax.program import Chunk, Program
from eigencore_jax.risk import Placement

if TYPE_CHECKING:
    from eigencore.space import Floats

_PROBED = 32  # samples


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """Reports an exception of the user's functions as a ProblemError."""
    try:
        yield
    except ProblemError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ProblemError(
            f"{what} failed: {type(error).__name__}: {first:.300}",
            hint="Model and loss must be functions that JAX can trace: of arrays, without side effects, and "
            "for a batch of any size. --verbose shows where it failed.",
        ) from error


def probe(program: Program, weights: Weights, constants: Any, samples: JaxSamples, place: Placement) -> None:
    """Compares the gradient and the Hessian product with central differences of the loss of few samples.

    They are computed in float64, which JAX allows for a block of code in one thread, unless the model rounds
    to a shorter type: then it is only tried whether they can be computed.

    Raises:
        ProblemError: a derivative is wrong, or the model or the loss failed.
    """
    with jax.enable_x64(True), explain_errors("computing the derivatives of the loss"):
        wide = Placement("float64", place.device)
        at, fixed = wide((weights, constants))
        precision = "float64" if _keeps_float64(program, at, fixed, samples, wide) else "float32"
    scope = jax.enable_x64(True) if precision == "float64" else nullcontext()
    with scope, explain_errors("computing the derivatives of the loss"):
        there = Placement(precision, place.device)
        at, fixed = there((weights, constants))
        layout = select(at)

        def gaps(shift: Floats | None) -> DerivativeGaps:
            near = at if shift is None else compiled.moved(layout, at, there(shift))
            return _gaps(program, near, fixed, samples, there)

        check_derivatives(
            gaps,
            layout.n,
            _norm(at),
            DIFFERENCES["float64"].tolerance if precision == "float64" else math.inf,
            "Look for stop_gradient, for custom_jvp or custom_vjp with a wrong rule, and for operations "
            "without a derivative, such as round. Set jax.check=false if this is intended.",
        )


def _keeps_float64(
    program: Program, weights: Weights, constants: Any, samples: JaxSamples, place: Placement
) -> bool:
    """Whether nothing in the loss rounds to a shorter type, as a layer with a type of its own does."""
    batch = place(samples.rows(np.arange(1)))
    trace = jax.make_jaxpr(program.sample_losses)(weights, constants, batch)
    return re.search(r"\b(f32|bf16|f16)\[", str(trace)) is None


def _gaps(
    program: Program, weights: Weights, constants: Any, samples: JaxSamples, place: Placement
) -> DerivativeGaps:
    layout = select(weights)
    rows = np.flatnonzero(samples.weights)[:_PROBED]
    chunk = Chunk(place(samples.rows(rows)), place(np.full(len(rows), 1 / len(rows))))
    v = random_direction(layout.n, seed=0)
    on_device = place(v)

    def at(t: float) -> tuple[float, Floats]:
        there = compiled.moved(layout, weights, place(t * v))
        value, gradient = compiled.gradient(program, layout, there, constants, chunk)
        return float(value), np.asarray(gradient, dtype=np.float64)

    zero = place(np.zeros(layout.n))
    product = compiled.product(program, layout, "hessian", weights, constants, chunk, on_device, zero)
    differences = DIFFERENCES[place.dtype]
    return derivative_gaps(at, v, np.asarray(product, np.float64), differences, _norm(weights))


def _norm(weights: Weights) -> float:
    return float(np.sqrt(sum(float(np.sum(np.asarray(w, np.float64) ** 2)) for w in weights.values())))
