"""Comparing derivatives with central differences: does the operator belong to the loss?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eigencore import arrays
from eigencore.errors import ProblemError

if TYPE_CHECKING:
    from eigencore.space import Array, Floats, Space


@dataclass(frozen=True)
class Differences:
    """How derivatives are compared with central differences along a direction.

    Attributes:
        steps: the distances from the weights, relative to their norm, in decreasing order.
        tolerance: the largest gap between right derivatives and differences.
        eps: the rounding unit of the loss and the gradients.
    """

    steps: tuple[float, ...]
    tolerance: float
    eps: float


# In float32, rounding permits no steps that are small enough to avoid the kinks of ReLU and max-pooling, so
# that the gap is large for right derivatives as well and shows nothing on its own.
DIFFERENCES = {
    "float64": Differences((1e-5, 1e-6, 1e-7, 1e-8), 1e-4, 2.0**-52),
    "float32": Differences((1e-2, 3e-3, 1e-3), 0.05, 2.0**-23),
}
# The distance, relative to the norm of the weights, at which derivatives that seem wrong are compared again.
_SHIFT = 1e-3
# The relative rounding error of a loss and of a gradient, in rounding units; measured: below 10.
_ROUNDING = 100


class DerivativeGaps(NamedTuple):
    """How far derivatives along a direction are from central differences, relative to the larger of the two.

    Attributes:
        gradient: the gap between the gradient and differences of the loss.
        product: the gap between the Hessian product and differences of the gradient.
        resolved: whether the gradient changes by so much more than its rounding error that a wrong product
            would show.
    """

    gradient: float
    product: float
    resolved: bool = False

    def exceed(self, tolerance: float) -> bool:
        """Whether one of the gaps is larger; a gap that is NaN is not."""
        return self.gradient > tolerance or self.product > tolerance

    def description(self, tolerance: float) -> str:
        """The gaps above the tolerance, as a clause for messages."""
        gradient = f"the gradient differs by {_percent(self.gradient)} from the change of the loss"
        product = f"the Hessian product differs by {_percent(self.product)} from the change of the gradient"
        parts = [gradient] * (self.gradient > tolerance) + [product] * (self.product > tolerance)
        return f"along a random direction, {' and '.join(parts)}"


def derivative_gaps(
    at: Callable[[float], tuple[float, Array]],
    v: Array,
    product: Array,
    differences: Differences,
    weights_norm: float,
    terms: float = 0.0,
    space: Space | None = None,
) -> DerivativeGaps:
    """Compares the gradient and a Hessian product with central differences along a direction.

    The least gap over the steps counts: beyond the nearest kink of a ReLU or of max-pooling, differences do
    not show derivatives, and smaller steps do not reach it. A smaller step is only taken while a gap is above
    the tolerance, so that right derivatives mostly cost two gradients. Differences that are within rounding
    error show no gap, and differences that are not finite show nothing.

    Args:
        at: t -> the loss, and its gradient (n,), at the weights w + t v.
        v: a random direction (n,) of norm 1.
        product: the Hessian at w times v (n,).
        weights_norm: the norm of w; for weights of zero, the steps are not relative.
        terms: the size of what the loss is a difference of, if that is larger: a cross-entropy of confident
            logits has their rounding error.
        space: the space of the vectors, if they may be shards.

    Example:
        import numpy as np
        from eigencore.problems.sharing import DIFFERENCES, derivative_gaps

        v = np.array([0.6, 0.8])

        def at(t):
            w = np.ones(2) + t * v
            return float(np.sum(w**3)), 3 * w**2

        print(derivative_gaps(at, v, 3 * v, DIFFERENCES["float64"], 2**0.5).product)  # the right one is 6 v
    """
    tolerance, scale = differences.tolerance, weights_norm or 1.0
    least = DerivativeGaps(math.nan, math.nan)
    for relative in differences.steps:
        step = relative * scale
        (ahead, gradient_ahead), (behind, gradient_behind) = at(step), at(-step)
        loss = max(abs(ahead), abs(behind), terms)
        gradient = max(arrays.norm(one, space) for one in (gradient_ahead, gradient_behind))
        # The mean of both gradients, not the gradient at w, which at a kink is that of either side.
        slope = arrays.scalar(arrays.total((gradient_ahead + gradient_behind) @ v, space)) / 2
        change = (ahead - behind) / (2 * step)
        changes = (gradient_ahead - gradient_behind) / (2 * step)
        # A gap within rounding error is divided by so much that it is below the tolerance. The gradient of a
        # constant loss consists of rounding errors; those of its terms are about as large as loss / scale.
        rounding = _ROUNDING * differences.eps / (step * tolerance)
        size, smallest = arrays.norm(changes, space), rounding * max(gradient, loss / scale)
        found = (
            _relative(abs(change - slope), abs(change), abs(slope), 1e-3 * gradient, rounding * loss),
            _relative(arrays.norm(changes - product, space), size, arrays.norm(product, space), smallest),
        )
        least = DerivativeGaps(
            float(np.fmin(least.gradient, found[0])),
            float(np.fmin(least.product, found[1])),
            least.resolved or size > smallest,
        )
        if not least.exceed(tolerance):
            break
    return least


def random_direction(n: int, seed: int) -> Floats:
    """A random direction (n,) of norm 1, on the host."""
    v = np.random.default_rng(seed).standard_normal(n)
    return np.asarray(v / np.linalg.norm(v))


def check_derivatives(
    gaps: Callable[[Floats | None], DerivativeGaps],
    n: int,
    weights_norm: float,
    tolerance: float,
    hint: str | Callable[[DerivativeGaps], str],
) -> None:
    """Refuses a loss whose derivatives are wrong at the weights and also near them.

    At the weights themselves, a unit may be exactly at the kink of a ReLU.

    Args:
        gaps: the gaps at the weights, or at the weights plus a direction (n,) on the host.
        weights_norm: the norm of the weights (n,).
        tolerance: the largest gap of right derivatives, such as `DIFFERENCES["float64"].tolerance`.
        hint: what to do about wrong derivatives, or a function of the gaps that returns it.

    Raises:
        ProblemError: a derivative is wrong.

    Example:
        import numpy as np
        from eigencore.problems import sharing

        weights, v, exact = np.ones(2), sharing.random_direction(2, seed=0), sharing.DIFFERENCES["float64"]

        def gaps(shift):
            w = weights if shift is None else weights + shift
            loss = lambda t: (float(np.sum((w + t * v) ** 3)), 3 * (w + t * v) ** 2)
            return sharing.derivative_gaps(loss, v, 6 * w * v, exact, np.linalg.norm(w))

        sharing.check_derivatives(gaps, 2, np.linalg.norm(weights), exact.tolerance, hint="")  # 6 w is right
    """
    found = gaps(None)
    if found.exceed(tolerance):
        found = gaps(_SHIFT * weights_norm * random_direction(n, seed=1))
    if found.exceed(tolerance):
        raise ProblemError(
            f"the Hessian of the loss would be wrong: {found.description(tolerance)}",
            hint=hint(found) if callable(hint) else hint,
        )


def _percent(fraction: float) -> str:
    """Two significant digits, without an exponent."""
    digits = max(0, 1 - math.floor(math.log10(100 * fraction))) if fraction > 0 else 0
    return f"{100 * fraction:.{digits}f} %"


def _relative(gap: float, *sizes: float) -> float:
    """The gap relative to the largest size; NaN if it is not finite."""
    if not math.isfinite(gap):
        return math.nan
    return gap / max(sizes) if gap else 0.0
