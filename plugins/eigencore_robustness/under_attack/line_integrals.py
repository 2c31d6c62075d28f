"""Whether the gradients of the margin are those of the margin: its change along segments is their integral.

For every network that is continuous and differentiable almost everywhere, m(x + u) - m(x) is the integral of
the gradient along the segment, times u. Rounded inputs or logits, steps, and gradients that are not those of
the network break this, and so does a margin that varies on a much smaller scale than the segment. Curvature
and kinks do not, however long the segment is; central differences can't tell them from such faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.objectives import Margin
from eigencore.problems.sharing import clip_to_bounds

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array

POINTS = 16  # of each segment, at which gradients are taken


def integral_error(classifier: Classifier, x: Array, y: Array, eps: float, seed: int) -> float:
    """Returns by how much changes of the margin differ from the integrals of its gradient, as a share.

    The root mean square of the differences over that of the changes, along the segments from inputs (b, d)
    with labels (b,) to random corners of their Linf balls of radius eps. It is about .02 for smooth and for
    piecewise linear networks, because the integral is a sum of `POINTS` terms; 0 if no margin changes.
    """
    margin = Margin()
    rng = arrays.generator(seed, "line integrals")
    signs = arrays.from_host(rng.choice([-1.0, 1.0], size=x.shape), classifier)
    segment = clip_to_bounds(x + eps * signs, classifier.bounds) - x
    ends = (margin.value(classifier.logits(at), y) for at in (x + segment, x))
    change = np.subtract(*map(arrays.to_host, ends))
    integral = np.zeros_like(change)
    for i in range(POINTS):
        _, gradient = classifier.value_and_grad(margin, x + (i + 0.5) / POINTS * segment, y)
        integral += arrays.to_host(classifier.xp.sum(gradient * segment, axis=1)) / POINTS
    size = float(np.linalg.norm(change))
    return float(np.linalg.norm(change - integral)) / size if size else 0.0
