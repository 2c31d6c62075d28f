"""The weight of each sample in a loss that is a mean over other things than samples, by `Problem.weight`.

With the weight w_s and the loss l_s of a batch with the sample s alone, the loss over all data is the sum of
w_s l_s, divided by that of the w_s. With class weights, for example, w_s is the weight of the sample's class;
in a mean over the labels that count, it is their number in the sample. The loss of a sample without weight is
not computed, since it may be 0 / 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import ProblemError
from eigencore_jax.data import JaxSamples

if TYPE_CHECKING:
    from eigencore.space import Floats

_TOLERANCE = 1e-6  # of the weight of a batch, which the weights of its samples add up to


def weighted(samples: JaxSamples, weight: Callable[[Any], float]) -> JaxSamples:
    """The samples with the weights that `Problem.weight` returns for batches of one.

    Raises:
        ProblemError: it fails, returns something else than a finite number of at least 0, returns another
            weight for a batch than the sum of those of its samples, or zero for all batches.

    Example:
        import numpy as np
        from eigencore_jax.data import gather
        from eigencore_jax.sample_weights import weighted

        samples, _ = gather([(np.zeros((3, 2)), np.array([0, -1, 1]))], None)
        print(weighted(samples, lambda batch: np.sum(batch[1] != -1)).weights)
    """
    weights: Floats = np.array([_weight(weight, samples, s, s + 1) for s in range(len(samples))])
    for number, (start, end) in enumerate(samples.ranges):
        whole, total = _weight(weight, samples, start, end), math.fsum(weights[start:end])
        if abs(whole - total) > _TOLERANCE * whole:
            raise ProblemError(
                f"weight returns {whole:g} for batch {number} but {total:g} in total for its samples",
                hint="Make weight count the items that the loss averages over, such as labels.",
            )
    if not weights.any():
        raise ProblemError("every batch has weight zero", hint="Look for labels that are all ignored.")
    return replace(samples, weights=weights)


def _weight(weight: Callable[[Any], float], samples: JaxSamples, start: int, end: int) -> float:
    batch, which = samples.rows(np.arange(start, end)), f"samples {start} to {end - 1}"
    try:
        found = float(weight(batch))
    except Exception as error:
        raise ProblemError(
            f"weight failed on {which}: {type(error).__name__}: {error}",
            hint="Give a function of a batch, with arrays of NumPy, that returns a number.",
        ) from error
    if not (math.isfinite(found) and found >= 0):
        raise ProblemError(f"weight returned {found} for {which}; expected a finite number of at least 0")
    return found
