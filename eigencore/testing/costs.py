"""What a case costs: with the best of the single-vector Krylov methods, and with plain power iteration."""

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

    It starts where solvers do (the case's start, or standard normal numbers of `seed`), and works on the
    diagonal matrix in the eigenbasis, with the same result as on the case's own. A single Krylov space sees
    the copies of an eigenvalue by rounding only, some products after the first: they are waited for.

    Returns:
        None where they don't pass within `most` products, or the space closes first.
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
        if j + 1 >= case.k and _answered(case, request, alpha, beta, floor):
            return j + 1
        if beta[-1] <= floor or not math.isfinite(beta[-1]):
            return None
        V[j + 1] = w / beta[-1]
    return None


def _start(case: Case, seed: int) -> Floats:
    """In the eigenbasis, of norm 1."""
    x = case.start
    if x is None:
        operator = case.operator(HOST)
        drawn = arrays.random_normal(np.random.default_rng(seed), (case.n,), operator)
        x = operator.to_eigenbasis(drawn)
    return np.asarray(x / np.linalg.norm(x))


def _answered(case: Case, request: Request, alpha: list[float], beta: list[float], floor: float) -> bool:
    """Whether the tridiagonal matrix's Ritz pairs pass (residuals beta_j |s_j|) and are the wanted ones."""
    from scipy.linalg import eigh_tridiagonal

    values, rotation = eigh_tridiagonal(np.array(alpha), np.array(beta[:-1]))
    first = request.order(values)
    residuals = beta[-1] * np.abs(rotation[-1, first])
    thresholds = request.thresholds(values[first], floor)
    off = np.abs(np.sort(np.abs(values[first])) - np.sort(np.abs(case.wanted)))
    return bool(np.all(residuals <= thresholds) and np.max(off) <= 2 * np.max(thresholds))


def power_cost(case: Case) -> float:
    """Products that power iteration needs, one pair after the other, each deflated: what any solver can do.

    Infinite where it finds no answer: two values of equal size and opposite sign, a wanted zero, another end
    than LM.
    """
    if case.which != "LM":
        return math.inf
    sizes = np.abs(case.spectrum)
    cost = 0.0
    for value in case.wanted:
        if value == 0 or np.any(case.spectrum == -value):
            return math.inf
        below = sizes[sizes < abs(value)]
        ratio = float(np.max(below)) / abs(value) if len(below) else 0.0
        cost += 2 + (math.log(case.n / case.tol) / -math.log(ratio) if ratio > 0 else 0)
    return cost
