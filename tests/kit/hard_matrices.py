"""Hard matrices, stored in full: clusters, repeated eigenvalues, graphs, wide ranges, low rank and noise.

Most are classics: N. J. Higham, Accuracy and Stability of Numerical Algorithms (SIAM, 2002), chapter 28.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import solve
from eigencore.operators import as_operator
from eigencore.request import Request
from kit.planted import is_wrong

if TYPE_CHECKING:
    from eigencore.results import EigenResult
    from eigencore.space import Floats


@dataclass(frozen=True)
class HardMatrix:
    """A symmetric matrix (n, n), float64, of a family of matrices."""

    family: str
    matrix: Floats

    def spectrum(self, dtype: str) -> Floats:
        """The eigenvalues of the matrix as it is stored in a data type."""
        return self._spectra[dtype]

    @cached_property
    def _spectra(self) -> dict[str, Floats]:
        return {
            dtype: np.linalg.eigvalsh(self.matrix.astype(dtype).astype(np.float64))
            for dtype in ("float64", "float32")
        }


@dataclass(frozen=True)
class HardSolve:
    """A request for eigenvalues of a hard matrix in a data type."""

    hard: HardMatrix
    dtype: str
    k: int
    which: str
    tol: float
    seed: int

    def __str__(self) -> str:
        n = len(self.hard.matrix)
        return (
            f"{self.family} n {n}, {self.dtype}, k {self.k}, {self.which}, tol {self.tol:g}, seed {self.seed}"
        )

    @property
    def family(self) -> str:
        return self.hard.family

    @property
    def request(self) -> Request:
        return Request(self.k, self.which, self.tol, self.seed)

    @property
    def wanted(self) -> Floats:
        spectrum = self.hard.spectrum(self.dtype)
        return spectrum[self.request.order(spectrum)]

    def solve(self, solver: str, **keywords: Any) -> EigenResult:
        operator = as_operator(self.hard.matrix.astype(self.dtype))
        asked: dict[str, Any] = {"which": self.which, "tol": self.tol, "seed": self.seed, "solver": solver}
        return solve(operator, self.k, **(asked | keywords))

    def is_wrong(self, result: EigenResult) -> bool:
        """Whether an answer that is called complete is wrong."""
        eps, spectrum = float(np.finfo(self.dtype).eps), self.hard.spectrum(self.dtype)
        return result.complete is True and is_wrong(result.values, spectrum, self.request, eps)


def hard_solves(which: tuple[str, ...], *, largest: int = 1000, seeds: int = 1) -> Iterator[HardSolve]:
    """Every hard matrix of at most `largest` rows in both data types, for every end of the spectrum."""
    for index, hard in enumerate(hard_matrices(largest)):
        for seed in range(seeds):
            for turn, (dtype, end) in enumerate((d, e) for d in ("float64", "float32") for e in which):
                rng = np.random.default_rng([index, turn, seed])
                k = int(min(rng.choice([1, 2, 3, 5, 8, 12]), len(hard.matrix) - 1))
                tol = float(rng.choice([1e-2, 1e-3, 1e-3, 1e-6])) if dtype == "float64" else 1e-3
                yield HardSolve(hard, dtype, k, end, tol, seed)


def hard_matrices(largest: int = 1000) -> Iterator[HardMatrix]:
    """320 matrices, 20 of each family, with at most `largest` rows."""
    for name, family in FAMILIES.items():
        for index in range(PER_FAMILY):
            rng = np.random.default_rng([index, *name.encode()])
            n = int(np.exp(rng.uniform(np.log(12), np.log(largest if index % 4 == 3 else min(largest, 300)))))
            matrix = family(rng, n)
            yield HardMatrix(name, (matrix + matrix.T) / 2)


PER_FAMILY = 20


def rotated(rng: np.random.Generator, spectrum: Floats) -> Floats:
    """A matrix with this spectrum and random eigenvectors."""
    Q = np.linalg.qr(rng.standard_normal((len(spectrum), len(spectrum))))[0]
    return np.asarray((Q * spectrum) @ Q.T)


def _clusters(rng: np.random.Generator, n: int) -> Floats:
    centres = rng.uniform(-10, 10, rng.integers(1, 5))
    width = 10.0 ** rng.uniform(-8, -2)
    clustered = np.repeat(centres, 4)[: n // 2]
    clustered = clustered * (1 + width * rng.standard_normal(len(clustered)))
    return rotated(rng, np.concatenate([clustered, rng.uniform(-3, 3, n - len(clustered))]))


def _multiple(rng: np.random.Generator, n: int) -> Floats:
    """Few distinct values, each of them many times."""
    return rotated(rng, rng.choice(rng.uniform(-5, 5, rng.integers(2, 8)), n))


def _outlying_copies(rng: np.random.Generator, n: int) -> Floats:
    top = np.repeat(rng.uniform(4, 20, 4), rng.integers(1, 5, 4))[: n // 2]
    return rotated(rng, np.concatenate([top, rng.standard_normal(n - len(top))]))


def _laplacian(W: Floats) -> Floats:
    return np.asarray(np.diag(W.sum(axis=1)) - W)


def _ring(rng: np.random.Generator, n: int) -> Floats:
    W = np.eye(n, k=1) + np.eye(n, k=-1)
    W[0, -1] = W[-1, 0] = 1.0
    return _laplacian(W)


def _grid(rng: np.random.Generator, n: int) -> Floats:
    m = max(3, int(np.sqrt(n)))
    path = np.eye(m, k=1) + np.eye(m, k=-1)
    return _laplacian(np.kron(path, np.eye(m)) + np.kron(np.eye(m), path))


def _graph(rng: np.random.Generator, n: int) -> Floats:
    """A random graph of one to four components: so many zeros."""
    W = np.triu(rng.random((n, n)) < rng.uniform(0.05, 0.4), 1).astype(float)
    part = rng.integers(rng.integers(1, 5), size=n)
    W[part[:, None] != part[None, :]] = 0.0
    return _laplacian(W + W.T)


def _complete_or_star(rng: np.random.Generator, n: int) -> Floats:
    if rng.integers(2):
        return _laplacian(np.ones((n, n)) - np.eye(n))
    W = np.zeros((n, n))
    W[0, 1:] = W[1:, 0] = 1.0
    return _laplacian(W)


def _wilkinson(rng: np.random.Generator, n: int) -> Floats:
    return np.diag(np.abs(np.arange(n) - (n - 1) / 2)) + np.eye(n, k=1) + np.eye(n, k=-1)


def _arrow(rng: np.random.Generator, n: int) -> Floats:
    A = np.diag(rng.choice([rng.uniform(-1, 1, n), np.ones(n), np.linspace(0, 1, n)]))
    A[0, 1:] = A[1:, 0] = rng.standard_normal(n - 1) * 10.0 ** rng.uniform(-4, 0)
    return A


def _graded(rng: np.random.Generator, n: int) -> Floats:
    spectrum = np.geomspace(1.0, 10.0 ** -rng.uniform(2, 14), n) * rng.choice([1.0, 1.0, -1.0], n)
    return rotated(rng, spectrum) if rng.integers(2) else np.diag(spectrum)


def _low_rank(rng: np.random.Generator, n: int) -> Floats:
    """Low rank plus noise, relative 1e-8 to 1e-1."""
    U = rng.standard_normal((n, int(rng.integers(1, 10))))
    E = rng.standard_normal((n, n)) / np.sqrt(n)
    signs = rng.choice([1.0, 1.0, -1.0], U.shape[1])
    return np.asarray((U * signs) @ U.T / n + 10.0 ** rng.uniform(-8, -1) * (E + E.T))


def _minimum(rng: np.random.Generator, n: int) -> Floats:
    i = np.arange(1.0, n + 1)
    return np.asarray(np.minimum.outer(i, i))


def _hilbert(rng: np.random.Generator, n: int) -> Floats:
    i = np.arange(n) + rng.choice([0.0, 0.5, 3.0])
    return np.asarray(1 / (i[:, None] + i[None, :] + 1))


def _integers(rng: np.random.Generator, n: int) -> Floats:
    A = rng.integers(-2, 3, (n, n)).astype(float)
    return np.asarray(A + A.T if rng.integers(2) else A @ A.T)


def _blocks(rng: np.random.Generator, n: int) -> Floats:
    """The same small matrix along the diagonal: every eigenvalue is repeated."""
    size = int(rng.integers(2, 7))
    block = rng.standard_normal((size, size))
    return np.asarray(np.kron(np.eye(max(2, n // size)), block + block.T))


def _hidden(rng: np.random.Generator, n: int) -> Floats:
    """Most of the spectrum at one value, and a single one somewhat above it."""
    spectrum = 1 + rng.choice([0.0, 1e-6, 1e-3]) * rng.standard_normal(n)
    spectrum[0] = 1 + 10.0 ** rng.uniform(-2, 0)
    spectrum[1 : n // 3] = rng.uniform(-1, 0.5, len(spectrum[1 : n // 3]))
    return rotated(rng, spectrum)


FAMILIES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "clusters": _clusters,
    "multiple values": _multiple,
    "outlying copies": _outlying_copies,
    "ring": _ring,
    "grid": _grid,
    "random graph": _graph,
    "complete, star": _complete_or_star,
    "Wilkinson": _wilkinson,
    "arrow": _arrow,
    "graded": _graded,
    "low rank and noise": _low_rank,
    "min(i, j)": _minimum,
    "Hilbert-like": _hilbert,
    "integers": _integers,
    "equal blocks": _blocks,
    "hidden": _hidden,
}
