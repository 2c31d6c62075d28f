"""The samples of a study: batches, and which samples are classified correctly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.space import Array


def batches(x: Array, y: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Yields the position of the first sample of each batch, and the inputs and labels of the batch."""
    for at in range(0, x.shape[0], size):
        yield at, x[at : at + size], y[at : at + size]


def classified_correctly(classifier: Classifier, x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """Returns which inputs (b, d) are classified as their labels (b,)."""
    predicted = arrays.to_host(classifier.xp.argmax(classifier.logits(x), axis=1))
    return np.asarray(predicted == arrays.to_host(y))


def evenly_spaced(rows: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    """Returns at most so many of the rows (n,), evenly spaced among them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.intp)]
