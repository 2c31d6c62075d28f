"""Spectra in which a solver is likely to miss an eigenvalue, and starts that make it more likely.

An answer is wrong if it is called complete but differs from the wanted eigenvalues by more than twice the
tolerance. The matrices are diagonal: a solver that does not know the basis finds them no easier than others,
and the eigenvectors are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import solve
from eigencore.operators import as_operator
from eigencore.request import Request

if TYPE_CHECKING:
    from eigencore.results import EigenResult
    from eigencore.space import Floats

# What rounding may add to an error, in rounding units of ||A||: `completeness.RESOLUTION`.
ROUNDING = 1000


def is_wrong(values: Floats, spectrum: Floats, request: Request, eps: float) -> bool:
    """Whether k values differ from the wanted ones of a spectrum (n,) by more than twice the tolerance.

    For LM, values of equal magnitude and opposite sign are interchangeable.
    """
    size: Callable[[Any], Any] = np.abs if request.which == "LM" else np.asarray
    wanted = np.sort(size(spectrum[request.order(spectrum)]))
    allowed = 2 * request.tol * np.abs(wanted) + ROUNDING * eps * np.max(np.abs(spectrum))
    return bool(np.any(np.abs(np.sort(size(values)) - wanted) > allowed))


@dataclass(frozen=True)
class Planted:
    """A diagonal matrix and a request, of which a solver may miss an eigenvalue.

    Attributes:
        kind: where the eigenvalue is planted, a name of SPECTRA.
        begin: how the solver starts, a name of STARTS.
        diagonal: all eigenvalues (n,).
        k, which, tol, seed: the request.
    """

    kind: str
    begin: str
    diagonal: Floats
    k: int
    which: str
    tol: float
    seed: int

    def __str__(self) -> str:
        asked = f"k {self.k}, {self.which}, tol {self.tol:g}, seed {self.seed}"
        return f"{self.kind}, {self.begin}, n {len(self.diagonal)}, {asked}"

    @property
    def request(self) -> Request:
        return Request(self.k, self.which, self.tol, self.seed)

    def operator(self) -> Any:
        d = self.diagonal
        return as_operator(lambda v: (d if v.ndim == 1 else d[:, None]) * v, n=len(d), dtype=np.float64)

    def solve(self, solver: str, **keywords: Any) -> EigenResult:
        return STARTS[self.begin](self, {"solver": solver, "certify": "none"} | keywords)

    def is_wrong(self, result: EigenResult) -> bool:
        """Whether an answer that is called complete is wrong."""
        eps = float(np.finfo(np.float64).eps)
        return result.complete is True and is_wrong(result.values, self.diagonal, self.request, eps)

    def ask(self, keywords: dict[str, Any]) -> EigenResult:
        asked: dict[str, Any] = {"which": self.which, "tol": self.tol, "seed": self.seed}
        return solve(self.operator(), self.k, **(asked | keywords))


# -- starts ------------------------------------------------------------------------------------------------


def _random(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    return planted.ask(keywords)


def _unit(planted: Planted, index: Any) -> Floats:
    return np.eye(len(planted.diagonal))[:, index]


def _right(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    """From the wanted eigenvectors with a small error, as those of an earlier network have."""
    wanted = planted.request.order(planted.diagonal)
    noise = np.random.default_rng(planted.seed).standard_normal(len(planted.diagonal))
    start = np.sum(_unit(planted, wanted), axis=1) + 1e-3 * noise
    return planted.ask({"start": start} | keywords)


def _second(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    """From the eigenvector after the first one."""
    order = replace(planted.request, k=len(planted.diagonal)).order(planted.diagonal)
    return planted.ask({"start": _unit(planted, order[1])} | keywords)


def _hostile_vector(planted: Planted) -> Floats:
    """A random vector that is exactly orthogonal to the first wanted eigenvectors, half of them or more."""
    rng = np.random.default_rng([planted.seed, 1])
    start = rng.standard_normal(len(planted.diagonal))
    wanted = planted.request.order(planted.diagonal)
    start[wanted[: rng.integers((planted.k + 1) // 2, planted.k, endpoint=True)]] = 0.0
    return np.asarray(start)


def _hostile(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    return planted.ask({"start": _hostile_vector(planted)} | keywords)


def _hostile_block(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    """From a block of two vectors, which the core does not mix with random ones."""
    start = np.stack([_hostile_vector(planted), _hostile_vector(replace(planted, seed=planted.seed + 1))])
    wanted = planted.request.order(planted.diagonal)
    start[:, wanted[0]] = 0.0
    return planted.ask({"start": start.T} | keywords)


def _resumed(planted: Planted, keywords: dict[str, Any]) -> EigenResult:
    """From the state of a solve that was stopped, or that converged without examining completeness."""
    rng = np.random.default_rng([planted.seed, 2])
    first: dict[str, Any] = {"complete": None, "max_matvecs": int(rng.integers(2, 40)) + planted.k}
    if rng.integers(2):
        first |= {"start": _hostile_vector(planted), "max_matvecs": None}
    before = planted.ask(keywords | first)
    again: dict[str, Any] = {"state": before.state}
    if before.state is None:
        again = {"start": before.vectors if before.vectors.shape[1] else None}
    return planted.ask(again | keywords)


STARTS: dict[str, Callable[[Planted, dict[str, Any]], EigenResult]] = {
    "random": _random,
    "right": _right,
    "second": _second,
    "hostile": _hostile,
    "hostile block": _hostile_block,
    "resumed": _resumed,
}


# -- spectra: the wanted ones in descending order, then a bulk within [-1, 1] ------------------------------


def _bulk(rng: np.random.Generator, n: int) -> Floats:
    """n eigenvalues within [-1, 1]: even, of few values, all but equal, or decaying."""
    drawn = rng.integers(5)
    if drawn == 0:
        return rng.uniform(-1, 1, n)
    if drawn == 1:
        return np.asarray(rng.choice(rng.uniform(-1, 1, 4), n))
    if drawn == 2:
        return rng.uniform(-1, 1) * (1 + 1e-3 * rng.standard_normal(n)).clip(0.9, 1.0)
    if drawn == 3:
        return np.zeros(n)
    return np.asarray(rng.choice([1.0, -1.0], n) / np.arange(1, n + 1) ** rng.uniform(0.5, 2))


def _separated(rng: np.random.Generator, k: int) -> Floats:
    """k values above the bulk, 3 % apart or more."""
    return np.asarray(rng.uniform(1.5, 6) * np.cumprod(1 + rng.uniform(0.03, 0.5, k)))[::-1].copy()


def _repeated(rng: np.random.Generator, k: int, tol: float) -> Floats:
    distinct = _separated(rng, k)
    copies = rng.integers(1, 4, k)
    copies[rng.integers(k)] += 1
    return np.repeat(distinct, copies)


def _nearly(relative: float) -> Callable[[np.random.Generator, int, float], Floats]:
    def spectrum(rng: np.random.Generator, k: int, tol: float) -> Floats:
        values = _repeated(rng, k, tol)
        return np.sort(values * (1 + relative * rng.uniform(-1, 1, len(values))))[::-1]

    return spectrum


def _hidden(rng: np.random.Generator, k: int, tol: float) -> Floats:
    """A value just beyond the threshold of the others, or further beyond it."""
    values = _separated(rng, k)
    beyond = values[rng.integers(k)] * (1 + tol * rng.choice([2.1, 3, 10, 30]))
    return np.sort(np.append(values, beyond))[::-1]


def _half(rng: np.random.Generator, k: int, tol: float) -> Floats:
    """Values just above one that half of the spectrum has."""
    return np.sort(1 + tol * rng.choice([2.1, 3, 10, 50], rng.integers(1, k, endpoint=True)))[::-1]


SPECTRA: dict[str, Callable[[np.random.Generator, int, float], Floats]] = {
    "repeated": _repeated,
    "nearly 1e-4": _nearly(1e-4),
    "nearly 1e-2": _nearly(1e-2),
    "hidden": _hidden,
    "half": _half,
}


def planted_cases(
    count: int,
    which: tuple[str, ...],
    *,
    largest: int = 600,
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-6),
    seed: int = 0,
) -> Iterator[Planted]:
    """Cases of 20 to `largest` eigenvalues: all kinds with all starts in turn, and requests for any end.

    Each case depends on its index and the other arguments: a larger count appends cases.
    """
    kinds, begins = list(SPECTRA), list(STARTS)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        kind, begin = kinds[index % len(kinds)], begins[index // len(kinds) % len(begins)]
        n, tol = int(rng.integers(20, largest)), float(rng.choice(tolerances))
        end = str(rng.choice(which))
        k = int(rng.integers(1, 7))
        top = SPECTRA[kind](rng, k, tol)[: n // 2]
        bulk = _bulk(rng, n - len(top))
        if kind == "half":
            bulk[: (n - len(top)) // 2] = 1.0
        if end == "BE":
            other = SPECTRA[kind](rng, k, tol)[: n // 4]
            bulk[: len(other)] = -other
        diagonal = np.concatenate([top, bulk])
        if end == "SA" or (end == "LM" and rng.integers(2)):
            diagonal = -diagonal
        elif end == "LM" and kind != "half":
            diagonal[: len(top)] *= rng.choice([1.0, -1.0], len(top))
        scale = float(10.0 ** rng.uniform(-3, 3))
        yield Planted(kind, begin, scale * rng.permutation(diagonal), min(k, n - 1), end, tol, seed=index)
