"""A quadratic with known eigenvalues, distributed like those of a trained network's Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import OptionError
from eigencore.interfaces import Problem
from eigencore.operators import FunctionOperator

if TYPE_CHECKING:
    from eigencore.space import Floats

REFLECTIONS = 3


def make(n: int = 2000, outliers: int = 10, seed: int = 0) -> Problem:
    """The problem `demo:quadratic`: 1/2 w' A w with A = V diag(spectrum) V', in NumPy and float64.

    V is a product of random Householder reflections, so that a product costs O(n) and no matrix is formed.

    Args:
        n: the number of weights, at least 1.
        outliers: the number of eigenvalues outside the bulk, from 0 to n.
        seed: the seed of V, at least 0.

    Raises:
        OptionError: n, outliers or seed is out of range.
    """
    _check_at_least("n", n, 1)
    _check_at_least("outliers", outliers, 0)
    _check_at_least("seed", seed, 0)
    if outliers > n:
        raise OptionError(f"problem.outliers is {outliers}; expected at most n, {n}")
    values = spectrum(n, outliers)
    normals = np.random.default_rng(seed).standard_normal((REFLECTIONS, n))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)

    def apply(X: Any) -> Any:
        rotated = _reflect(X, normals)
        return _reflect((values * rotated.T).T, normals[::-1])

    xp = arrays.namespace(values)
    operator = FunctionOperator(apply, n, xp=xp, dtype=values.dtype, device="cpu", matmat=apply)
    return Problem(
        operator=operator,
        spectrum=values,
        name="demo:quadratic",
        description=f"quadratic of {n:,} weights · {outliers} outliers and a bulk of both signs · "
        "known eigenvalues",
    )


def spectrum(n: int, outliers: int) -> Floats:
    """Eigenvalues in descending order: outliers from 40 to 4 at equal ratios, above a bulk in [-0.4, 1].

    As in trained networks, most of the bulk is close to zero, and its negative side is smaller.
    """
    first = np.geomspace(40, 4, outliers)
    spread = np.linspace(1, -1, n - outliers) ** 3
    return np.sort(np.concatenate([first, np.where(spread > 0, spread, 0.4 * spread)]))[::-1].copy()


def _reflect(X: Any, normals: Any) -> Any:
    """X after the reflections I - 2 u u', in the order of the rows u of `normals`."""
    for u in normals:
        X = X - 2 * np.multiply.outer(u, u @ X)
    return X


def _check_at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise OptionError(f"problem.{name} is {value}; expected a whole number of at least {low}")
