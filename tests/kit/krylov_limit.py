"""The fewest products with which any single-vector Krylov method can answer a case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.request import Request, precision_floor
from eigencore.testing.gallery import HOST, Case

if TYPE_CHECKING:
    from eigencore.space import Floats

EPS = float(np.finfo(np.float64).eps)


def krylov_limit(case: Case, *, tol: float | None = None, seed: int = 0, most: int = 1000) -> int | None:
    """Products until the k wanted pairs pass in Lanczos without restart, fully reorthogonalised, in float64.

    It starts where solvers do (the start of the case, or standard normal numbers of `seed`), and works on the
    diagonal matrix in the eigenbasis, with the same result as on the matrix of the case. A single Krylov
    space contains repetitions of an eigenvalue only through rounding, some products after the first; the
    limit includes them.

    Returns:
        None if the pairs do not pass within `most` products, or the space closes first.
    """
    request = Request(case.k, case.which, case.tol if tol is None else tol)
    floor = precision_floor(EPS, case.norm)
    V = np.empty((min(most, case.n) + 1, case.n))
    V[0] = _start(case, seed)
    alpha: list[float] = []
    beta: list[float] = []
    for j in range(len(V) - 1):
        w = case.spectrum * V[j]
        alpha.append(float(V[j] @ w))
        for _ in range(2):
            w -= (V[: j + 1] @ w) @ V[: j + 1]
        beta.append(arrays.norm(w))
        if j + 1 >= case.k and _is_answered(case, request, alpha, beta, floor):
            return j + 1
        if beta[-1] <= floor or not math.isfinite(beta[-1]):
            return None
        V[j + 1] = w / beta[-1]
    return None


def _start(case: Case, seed: int) -> Floats:
    """The start vector in the eigenbasis, of norm 1."""
    x = case.start
    if x is None:
        operator = case.operator(HOST)
        drawn = arrays.random_normal(arrays.generator(seed, "start"), (case.n,), operator)
        x = operator.to_eigenbasis(drawn)
    return np.asarray(x / np.linalg.norm(x))


def _is_answered(case: Case, request: Request, alpha: list[float], beta: list[float], floor: float) -> bool:
    """Whether the tridiagonal matrix has the wanted Ritz pairs, and they pass (residuals beta_j |s_j|)."""
    from scipy.linalg import eigh_tridiagonal

    values, rotation = eigh_tridiagonal(np.array(alpha), np.array(beta[:-1]))
    first = request.order(values)
    residuals = beta[-1] * np.abs(rotation[-1, first])
    thresholds = request.thresholds(values[first], floor)
    errors = np.abs(np.sort(np.abs(values[first])) - np.sort(np.abs(case.wanted)))
    return bool(np.all(residuals <= thresholds) and np.max(errors) <= 2 * np.max(thresholds))
