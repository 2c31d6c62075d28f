"""Large and random spectra, on which the cost of a solver and the eigenvalues that it misses are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from eigencore.request import WHICH
from eigencore.testing.gallery import TEN, Case, filled, hessian, power_law

if TYPE_CHECKING:
    from eigencore.space import Floats


# -- large -------------------------------------------------------------------------------------------------


def large_cases() -> tuple[Case, ...]:
    """About a hundred cases of 500 to 2,000 eigenvalues, like those of networks and harder, k up to 20."""
    return tuple(_large())


def bulk_edge_cases() -> tuple[Case, ...]:
    """Wanted eigenvalues at the edge of a bulk: hundreds of products, and many restarts of a small basis."""
    return tuple(
        Case(f"{name}-{which}-k{k}-edge", spectrum, k, which, tol=1e-3)
        for (name, spectrum), (which, k) in product(
            _networks().items(), (("SA", 1), ("SA", 5), ("SA", 10), ("BE", 5), ("BE", 10))
        )
    )


def _large() -> Iterator[Case]:
    networks = _networks()
    for (name, spectrum), k, tol in product(networks.items(), (1, 5, 10, 20), (1e-3, 1e-6)):
        yield Case(f"{name}-k{k}-tol{tol:.0e}", spectrum, k, tol=tol)
    for (name, spectrum), k in product(networks.items(), (1, 5)):
        yield Case(f"{name}-LA-k{k}", spectrum, k, "LA", tol=1e-3)
    for k, tol in product((5, 10), (1e-3, 1e-6)):
        yield Case(f"negative-SA-k{k}-tol{tol:.0e}", hessian(2000, -TEN, (-2.5, 1.0)), k, "SA", tol=tol)
    for k, tol in product((2, 6, 10), (1e-3, 1e-6)):
        yield Case(f"both-ends-k{k}-tol{tol:.0e}", hessian(2000, [*TEN[:5], *-TEN[:5]]), k, "BE", tol=tol)
    for exponent, k in product((1, 2, 3), (1, 5)):
        yield Case(f"gap-1e-{exponent}-k{k}", _gap(10.0**-exponent), k)
    for width, k in product((1e-1, 1e-2, 1e-3), (1, 5)):
        yield Case(f"cluster-{width:g}-k{k}", _cluster(width), k)
    for decay, k in product((1.0, 1.5, 2.0), (1, 5, 10)):
        yield Case(f"power-{decay:g}-k{k}", power_law(1000, decay), k)
    for multiplicity, k in product((2, 3), (5, 10)):
        yield Case(f"repeat{multiplicity}-k{k}", _repeated(multiplicity), k)
    yield Case("gap-1e-4-k1", _gap(1e-4), 1)
    yield Case("both-signs-k5", filled(1000, [*TEN[:5], *-TEN[:5]]), 5)
    yield Case("both-signs-k10", filled(1000, [*TEN[:5], *-TEN[:5]]), 10)


def _networks() -> dict[str, Floats]:
    """Ten or six outliers over a bulk; the last ones of twenty wanted eigenvalues lie inside the bulk."""
    n, rng = 2000, np.random.default_rng(0)
    tail = rng.standard_t(2, 2 * n) / 3
    return {
        "far-outliers": hessian(n, TEN),
        "near-outliers": hessian(n, np.geomspace(100.0, 3.0, 10), (-2.0, 2.7)),
        "negative-outliers": hessian(n, [90, 60, -58, 40, 39, -25, 15, 14.5, -8, 7]),
        "double-outlier": hessian(n, [60, 40, 20, 20, 15, 12, 10, 8, 6, 5]),
        "heavy-tail": np.concatenate([np.geomspace(60.0, 8.0, 6), tail[(tail > -3) & (tail < 6)][: n - 6]]),
        "gaussian-bulk": np.concatenate([np.geomspace(50.0, 4.0, 6), rng.standard_normal(n - 6) / 2]),
    }


def _gap(gap: float) -> Floats:
    return filled(1000, [(1 - gap) ** i for i in range(6)], 0.0, (1 - gap) ** 6)


def _cluster(width: float) -> Floats:
    return filled(500, [*np.linspace(10 - width, 10, 4), 6, 5, 4])


def _repeated(multiplicity: int) -> Floats:
    return filled(500, np.repeat(np.geomspace(50.0, 4.0, 12 // multiplicity), multiplicity))


# -- random ------------------------------------------------------------------------------------------------


def random_cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Random spectra of 30 to 1,500 eigenvalues, random requests: k up to 20, any end, often into the bulk.

    Each case depends on its index and the seed only: a larger count appends cases.
    """
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        family = FAMILIES[index % len(FAMILIES)]
        n = int(np.exp(rng.uniform(np.log(30), np.log(1500))))
        yield Case(
            f"random-{seed}-{index}-{family.__name__.strip('_')}",
            10.0 ** rng.uniform(-6, 6) * family(rng, n),
            k=int(rng.integers(1, 21)),
            which=str(rng.choice(list(WHICH))),
            tol=float(rng.choice([1e-2, 1e-3, 1e-4, 1e-6])),
        )


def _outliers(rng: np.random.Generator, n: int) -> Floats:
    top = np.geomspace(100.0, rng.uniform(2.7, 10.0), rng.integers(1, 15))
    return hessian(n, top * rng.choice([1, 1, 1, -1], len(top)), seed=int(rng.integers(1 << 31)))


def _gaussian(rng: np.random.Generator, n: int) -> Floats:
    top = rng.integers(0, 6)
    return np.concatenate([rng.uniform(3, 20, top), rng.standard_normal(n - top)])


def _uniform(rng: np.random.Generator, n: int) -> Floats:
    return rng.uniform(-rng.uniform(0, 1), 1.0, n)


def _power(rng: np.random.Generator, n: int) -> Floats:
    signs = rng.choice([1.0, 1.0, -1.0], n) if rng.integers(2) else np.ones(n)
    return signs / np.arange(1, n + 1) ** rng.uniform(0.5, 3.0)


def _clusters(rng: np.random.Generator, n: int) -> Floats:
    centres = rng.uniform(-10, 10, rng.integers(2, 6))
    spread = 10.0 ** rng.uniform(-6, -1)
    clustered = np.repeat(centres, 3) * (1 + spread * rng.standard_normal(3 * len(centres)))
    return filled(n, clustered)


def _multiples(rng: np.random.Generator, n: int) -> Floats:
    """Outliers of multiplicity one to four over a bulk."""
    distinct = rng.uniform(2, 20, 6) * rng.choice([1, 1, -1], 6)
    return filled(n, np.repeat(distinct, rng.integers(1, 5, 6)))


def _grid(rng: np.random.Generator, n: int) -> Floats:
    """Integers: eigenvalues are repeated, most often in the bulk."""
    return np.round(rng.uniform(1, 4) * rng.standard_normal(n))


def _low_rank(rng: np.random.Generator, n: int) -> Floats:
    rank = int(rng.integers(1, 25))
    return filled(n, rng.standard_normal(min(rank, n)), 0.0, 0.0)


def _mirrored(rng: np.random.Generator, n: int) -> Floats:
    half = rng.uniform(1, 10, rng.integers(1, 10))
    return filled(n, [*half, *-half])


def _geometric(rng: np.random.Generator, n: int) -> Floats:
    return np.asarray(rng.choice([1.0, -1.0], n) * rng.uniform(0.5, 0.95) ** np.arange(n))


FAMILIES: tuple[Callable[[np.random.Generator, int], Floats], ...] = (
    _outliers,
    _gaussian,
    _uniform,
    _power,
    _clusters,
    _multiples,
    _grid,
    _low_rank,
    _mirrored,
    _geometric,
)
