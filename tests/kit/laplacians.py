"""Laplacians of graphs: singular, and most with repeated eigenvalues."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats


def laplacian(W: Floats) -> Floats:
    """The Laplacian of a graph with adjacency matrix W (n, n)."""
    return np.diag(W.sum(axis=1)) - W


def _path(n: int) -> Floats:
    return np.eye(n, k=1) + np.eye(n, k=-1)


def _cycle(n: int) -> Floats:
    return _path(n) + np.eye(n, k=n - 1) + np.eye(n, k=1 - n)


def _product(W: Floats, X: Floats) -> Floats:
    """The Cartesian product of two graphs."""
    return np.kron(W, np.eye(len(X))) + np.kron(np.eye(len(W)), X)


def _bipartite(a: int, b: int) -> Floats:
    """The complete bipartite graph; for a = 1, a star."""
    side = np.arange(a + b) < a
    return np.asarray(side[:, None] != side, dtype=float)


def _random(n: int, probability: float) -> Floats:
    upper = np.triu(np.random.default_rng(0).random((n, n)) < probability, 1)
    return np.asarray(upper | upper.T, dtype=float)


LAPLACIANS = {
    "grid-7x7": laplacian(_product(_path(7), _path(7))),
    "grid-12x9": laplacian(_product(_path(12), _path(9))),
    "torus": laplacian(_product(_cycle(10), _cycle(8))),
    "hypercube": laplacian(reduce(_product, [_path(2)] * 7)),
    "complete": laplacian(1 - np.eye(50)),
    "bipartite": laplacian(_bipartite(20, 45)),
    "star": laplacian(_bipartite(1, 299)),
    "path": laplacian(_path(100)),
    "cycle": laplacian(_cycle(60)),
    "random": laplacian(_random(120, 0.08)),
}
