"""Checks of perturbed inputs: an attack must stay within its ball and within the bounds of the problem."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.errors import PluginError, ProblemError
from eigencore.problems.sharing import bounds_excess

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array

# How far rounding may take an input out of the ball, relative to its size.
SLACK = 1e-6


def refuse_samples_outside(x: Array, classifier: Classifier) -> None:
    """Raises ProblemError if the samples themselves are outside the bounds."""
    excess = _excess(x, classifier)
    if excess > 0:
        low, high = float(classifier.xp.min(x)), float(classifier.xp.max(x))
        raise ProblemError(
            f"the samples range from {low:g} to {high:g}, {excess:g} outside the problem's bounds",
            hint="Set Problem(bounds=...) to the range of the network's inputs, or to None if there is none. "
            "If inputs are normalised, put the normalisation into the model and give the values before it.",
        )


def refuse_outside(moved: Array, x: Array, classifier: Classifier, norm: str, eps: float | None) -> None:
    """Raises PluginError if perturbed inputs leave the ball around x or the bounds, or are not finite."""
    if getattr(moved, "shape", None) != x.shape or not arrays.is_finite(moved):
        found = getattr(moved, "shape", type(moved).__name__)
        raise PluginError(f"the attack returned {found}; expected finite numbers of shape {tuple(x.shape)}")
    xp = classifier.xp
    if eps is not None:
        farthest = float(xp.max(row_norms(moved - x, norm)))
        if farthest > eps * (1 + SLACK) + 4 * arrays.eps(classifier) * float(xp.max(xp.abs(x))):
            raise PluginError(
                f"the attack left the ball: the {norm} distance is {farthest:g}; eps is {eps:g}"
            )
    excess = _excess(moved, classifier)
    if excess > 0:
        raise PluginError(f"the attack left the bounds by {excess:g}")


def _excess(x: Array, classifier: Classifier) -> float:
    return 0.0 if classifier.bounds is None else bounds_excess(x, classifier.bounds)


def row_norms(x: Array, norm: str) -> Array:
    """The "Linf" or "L2" norm (b,) of each row of x (b, d)."""
    xp = arrays.namespace(x)
    return xp.linalg.vector_norm(x, axis=1, ord=math.inf if norm == "Linf" else 2)
