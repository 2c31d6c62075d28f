"""Data for demo problems, and the packages that they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import PluginError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array


@contextmanager
def requires_extras(name: str, extras: str) -> Iterator[None]:
    """Reports a package that is missing inside the `with` block as a PluginError.

    Args:
        name: what needs the package, such as "demo:digits".
        extras: the pip extras of eigencore that install it, separated by commas.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise PluginError(
            f"{name} needs {missing}, which is not installed", hint=f'Run: pip install "eigencore[{extras}]"'
        ) from error


def handwritten_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 1,797 handwritten digits that scikit-learn includes, in a fixed random order.

    Returns:
        Images (1797, 8, 8) with pixels from 0 to 1, and their labels (1797,) from 0 to 9.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = fixed_permutation(len(digits.target))
    return (digits.images[order] / 16).astype(np.float32), digits.target[order].astype(np.int64)


def fixed_permutation(n: int) -> npt.NDArray[Any]:
    """A random order of n samples that is the same with every version of NumPy."""
    # NumPy guarantees that the numbers of this legacy generator never change.
    return np.random.RandomState(0).permutation(n)


def split_batches(x: Array, y: Array, size: int) -> list[tuple[Array, Array]]:
    """Consecutive batches (x, y) of `size` samples; the last batch may be smaller."""
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
