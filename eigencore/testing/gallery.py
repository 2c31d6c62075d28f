"""Matrices with a prescribed spectrum: every eigenvalue is known exactly.

A = Q diag(spectrum) Q' with Q a product of two Householder reflections: a product costs a few passes over
the vector, in any array library, and the exact product is available in float64 on the host for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.request import Request
from eigencore.testing.libraries import Library

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

HOST = Library("numpy", "float64")
REFLECTIONS = 2


@dataclass(frozen=True)
class Case:
    """A spectrum and a request for some of its eigenvalues.

    Attributes:
        name: part of the ids of tests that use the case.
        spectrum: all n eigenvalues, float64, in any order.
        k, which, tol: the request; `tol` is meant for float64 (see `tol_in`).
        start: a start vector (n,) in the eigenbasis, in the order of the spectrum; None: a random one.
        rotated: False leaves A diagonal, so that products are exact.

    Example:
        import numpy as np
        from eigencore.testing.gallery import Case

        case = Case("two-outliers", np.append(np.linspace(-1, 1, 98), [9.0, -8.0]), k=2)
        assert case.wanted.tolist() == [9.0, -8.0]
        product = case.operator().matvec(np.ones(100))
    """

    name: str
    spectrum: Floats
    k: int = 5
    which: str = "LM"
    tol: float = 1e-6
    start: Floats | None = None
    rotated: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def n(self) -> int:
        return len(self.spectrum)

    @property
    def norm(self) -> float:
        """The spectral norm ||A||."""
        return float(np.max(np.abs(self.spectrum)))

    @property
    def wanted(self) -> Floats:
        """The exact eigenvalues that answer the request, in the order of the request."""
        return self.spectrum[Request(self.k, self.which).order(self.spectrum)]

    def tol_in(self, library: Library) -> float:
        """The tolerance to request, no smaller than products in the library's precision can resolve."""
        return max(self.tol, 1e3 * library.eps)

    def operator(self, library: Library = HOST) -> SpectralOperator:
        """A in an array library; it counts its products separately."""
        return SpectralOperator(self, library)

    def exact(self, library: Library = HOST) -> SpectralOperator:
        """The operator with the eigenvalues as the library stores them, for exact products in float64."""
        spectrum = arrays.to_host(library.array(self.spectrum))
        return SpectralOperator(replace(self, spectrum=spectrum), HOST)

    def start_in(self, library: Library) -> Array | None:
        """The start vector (n,) in the basis in which a solver works."""
        return None if self.start is None else self.operator(library).from_eigenbasis(self.start)

    @cached_property
    def basis(self) -> _Basis:
        return _Basis(self.n, self.rotated)


class SpectralOperator:
    """The matrix of a case. `products` counts every product, including those that bypass another counter."""

    def __init__(self, case: Case, library: Library):
        self.shape = (case.n, case.n)
        self.xp, self.dtype = library.xp, library.dtype
        self._library, self._basis = library, case.basis
        self._diagonal = library.array(case.spectrum[case.basis.shuffle])
        self._reflectors = [library.array(u) for u in case.basis.reflectors]
        self.device = arrays.device_of(self._diagonal)
        self.products = 0

    def matvec(self, v: Array, /) -> Array:
        self.products += 1
        return self._apply(v)

    def matmat(self, V: Array, /) -> Array:
        self.products += V.shape[1]
        return self._apply(V)

    def _apply(self, V: Array) -> Array:
        for u, scale in zip(self._reflectors, self._basis.scales, strict=True):
            V = _reflect(u, scale, V)
        V = (self._diagonal if V.ndim == 1 else self._diagonal[:, None]) * V
        for u, scale in zip(reversed(self._reflectors), reversed(self._basis.scales), strict=True):
            V = _reflect(u, scale, V)
        return V

    def from_eigenbasis(self, coordinates: Floats) -> Array:
        """Q x for coordinates x (n,) in the order of the spectrum of the case."""
        v = self._library.array(coordinates[self._basis.shuffle])
        for u, scale in zip(reversed(self._reflectors), reversed(self._basis.scales), strict=True):
            v = _reflect(u, scale, v)
        return v

    def to_eigenbasis(self, v: Array) -> Floats:
        """Q' v on the host, in the order of the spectrum of the case."""
        for u, scale in zip(self._reflectors, self._basis.scales, strict=True):
            v = _reflect(u, scale, v)
        coordinates = np.empty(self.shape[0])
        coordinates[self._basis.shuffle] = arrays.to_host(v)
        return coordinates


class _Basis:
    """Q = H_1 H_2 P: two reflections H = I - scale u u' and a permutation P of the eigenvalues.

    The entries of u are float32 numbers, so that Q is the same in every precision.
    """

    def __init__(self, n: int, rotated: bool):
        rng = np.random.default_rng(n)
        count = REFLECTIONS if rotated and n > 1 else 0
        self.shuffle = rng.permutation(n)
        self.reflectors = [rng.standard_normal(n).astype(np.float32).astype(np.float64) for _ in range(count)]
        self.scales = [2.0 / float(u @ u) for u in self.reflectors]


def _reflect(u: Array, scale: float, V: Array) -> Array:
    along = scale * (u @ V)
    return V - (u * along if V.ndim == 1 else u[:, None] * along[None, :])


# -- spectra -----------------------------------------------------------------------------------------------


def hessian(n: int, outliers: Any, bulk: tuple[float, float] = (-1.0, 2.5), seed: int = 0) -> Floats:
    """Outliers over a heavy-tailed bulk of both signs, like the spectrum of a network's Hessian."""
    outliers = np.asarray(outliers, dtype=np.float64)
    drawn = np.random.default_rng([seed, n]).standard_t(3, 4 * n + 100) / 3
    inside = drawn[(drawn > bulk[0]) & (drawn < bulk[1])]
    return np.concatenate([outliers, inside[: n - len(outliers)]])


def filled(n: int, top: Any, low: float = -1.0, high: float = 1.0) -> Floats:
    """The given eigenvalues over a bulk that is evenly spaced from low to high."""
    top = np.asarray(top, dtype=np.float64)
    return np.concatenate([top, np.linspace(low, high, n - len(top))])


def power_law(n: int, exponent: float) -> Floats:
    """The eigenvalues 100 i^-exponent for i = 1, ..., n."""
    return np.asarray(100.0 / np.arange(1.0, n + 1) ** exponent)


TEN = np.geomspace(100.0, 5.0, 10)


def cases() -> tuple[Case, ...]:
    """The small cases of the solver kit: the difficulties of symmetric eigenproblems, n from 1 to 400."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for k in (1, 5, 10):
        yield Case(f"hessian-k{k}", hessian(300, TEN), k)
    yield Case("hessian-LA", hessian(300, TEN), 5, "LA")
    yield Case("hessian-SA", hessian(300, -TEN), 5, "SA")
    yield Case("hessian-BE", hessian(300, [*TEN[:5], *-TEN[:5]]), 5, "BE")
    yield Case("hessian-loose", hessian(400, TEN), 10, tol=1e-2)
    yield Case("into-the-bulk", hessian(200, TEN[:4]), 8, tol=1e-3)
    yield Case("negative-dominated", hessian(200, [*-TEN[:5], 3.0, 2.8]), 5)
    yield Case("mixed-signs", hessian(200, TEN * (-1.0) ** np.arange(10)), 8)
    yield Case("equal-size-both-signs", filled(200, [10, -10, 7, -7, 5, -5]), 6)
    yield Case("tie-of-signs-at-the-edge", filled(200, [10, 8, 6, -6]), 3)
    yield Case("near-tie-of-signs", filled(150, [10, -9.9]), 1)
    yield Case("clustered", filled(200, [*np.linspace(10, 10.01, 4), 5, 4]), 6)
    yield Case("clustered-at-the-edge", filled(200, [10, 8, *np.linspace(5, 5.01, 4)]), 4, tol=1e-4)
    yield Case("pairs", filled(200, [10, 10, 8, 8, 6, 6]), 6)
    yield Case("pair-first", filled(200, [10, 10, 7, 5, 4]), 5)
    yield Case("pair-at-the-edge", filled(200, [10, 8, 6, 6]), 3)
    yield Case("pair-second-LA", filled(200, [10, 8, 8, 6]), 4, "LA")
    yield Case("pair-both-ends", filled(200, [10, 10, 6, -6, -10, -10]), 6, "BE")
    yield Case("triples", filled(200, [10, 10, 10, 6, 6, 6]), 6)
    yield Case("triple-over-the-edge", filled(200, [10, 8, 6, 6, 6]), 4)
    yield Case("power-law", power_law(200, 1.5), 5)
    yield Case("power-law-both-signs", power_law(200, 2.0) * (-1.0) ** np.arange(200), 5)
    yield Case("geometric", np.exp2(-np.arange(100.0)), 8)
    yield Case("gap-1e-4", filled(100, [1.0, 1 - 1e-4], 0.0, 0.9), 1)
    yield Case("gap-1e-2", filled(200, [1.0, 0.99], -0.9, 0.9), 2)
    yield Case("uniform", np.linspace(0.0, 1.0, 60), 3, tol=1e-4)
    yield Case("rank-one", filled(100, [3.0], 0.0, 0.0), 1)
    yield Case("rank-one-and-zeros", filled(100, [3.0], 0.0, 0.0), 3)
    yield Case("low-rank-LA", filled(100, [5, 4, 3, -2], 0.0, 0.0), 5, "LA")
    yield Case("low-rank-SA", filled(100, [5, 4, -2], 0.0, 0.0), 3, "SA")
    yield Case("low-rank-BE", filled(100, [5, 4, -2], 0.0, 0.0), 5, "BE")
    yield Case("zero", np.zeros(50), 2)
    yield Case("identity", np.ones(50), 3, rotated=False)
    yield Case("two-values", np.where(np.arange(60) < 30, 2.0, -1.0), 3)
    yield Case("breaks-down-at-step-2", filled(60, [2.0, -3.0], 0.5, 0.5), 3, start=_ones(60, 2))
    yield Case("start-is-the-answer", filled(100, [10, 8, 6]), 2, start=_ones(100, 1))
    yield Case(
        "start-misses-the-answer", filled(100, [10, 8, 6, 5]), 3, start=1 - _ones(100, 1), rotated=False
    )
    yield Case("scale-1e30", 1e30 * hessian(100, TEN[:6] / 100), 4)
    yield Case("scale-1e-30", 1e-30 * hessian(100, TEN[:6] / 100), 4)
    yield Case("wide-range", np.geomspace(1e6, 1e-6, 100), 3)
    yield Case("one-row", np.array([-3.0]), 1)
    yield Case("two-rows", np.array([2.0, -3.0]), 1)
    yield Case("two-rows-both", np.array([2.0, 2.0]), 2)
    yield Case("k-is-n", np.array([4.0, -3.0, 2.0, 1.0, 0.0, 2.0]), 6)
    yield Case("k-is-n-SA", np.linspace(-1, 2, 30), 30, "SA")
    yield Case("k-is-n-less-one", np.linspace(-1, 2, 12), 11, "LA")


def _ones(n: int, count: int) -> Floats:
    """A vector (n,) with 1 in the first `count` places and 0 elsewhere."""
    return np.where(np.arange(n) < count, 1.0, 0.0)
