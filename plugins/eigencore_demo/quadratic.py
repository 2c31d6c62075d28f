"""A quadratic whose Hessian is known: its eigenvalues are those of a trained network in shape, and exact."""

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
    """The problem `demo:quadratic`, 1/2 w' A w with A = V diag(spectrum) V', in NumPy and float64.

    V is a product of random Householder reflections, so that a product costs O(n) and no matrix is formed.

    Args:
        n: how many weights, at least 1.
        outliers: how many eigenvalues stand out of the bulk, at most n.
        seed: of V.

    Raises:
        OptionError: n, outliers or seed is out of range.
    """
    _refuse_below("n", n, 1)
    _refuse_below("outliers", outliers, 0)
    _refuse_below("seed", seed, 0)
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
        description=f"quadratic of {n:,} weights · {outliers} outliers over a bulk of both signs · "
        "its eigenvalues are known",
    )


def spectrum(n: int, outliers: int) -> Floats:
    """Eigenvalues in falling order: outliers from 40 down to 4 at equal ratios, over a bulk in [-0.4, 1].

    As in trained networks, most of the bulk is close to zero, and its negative side is the smaller one.
    """
    first = np.geomspace(40, 4, outliers)
    spread = np.linspace(1, -1, n - outliers) ** 3
    return np.sort(np.concatenate([first, np.where(spread > 0, spread, 0.4 * spread)]))[::-1].copy()


def _reflect(X: Any, normals: Any) -> Any:
    """X after the reflections I - 2 u u', one after the other, for each row u of `normals`."""
    for u in normals:
        X = X - 2 * np.multiply.outer(u, u @ X)
    return X


def _refuse_below(name: str, value: int, low: int) -> None:
    if value < low:
        raise OptionError(f"problem.{name} is {value}; expected a whole number of at least {low}")
