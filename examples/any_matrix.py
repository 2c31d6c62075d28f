"""Can it solve for a matrix of mine, or for a function that multiplies by one?

    python examples/any_matrix.py

Anything that multiplies will do, if it is symmetric: a NumPy array, a tensor, a SciPy sparse matrix or
LinearOperator, an object with `shape` and `@`, or a function.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

import eigencore


def main() -> None:
    images = load_digits().data  # (1797, 64), handwritten digits of 8 by 8 pixels

    # A sparse matrix: which images are like which. Its entries are 1/sqrt(d_i d_j) where i and j are
    # neighbours and d_i is how many i has; its eigenvalues lie between -1 and 1.
    graph = sparse.csr_array(kneighbors_graph(images, n_neighbors=10))
    graph = graph.maximum(graph.T)
    scale = sparse.diags_array(1 / np.sqrt(graph.sum(axis=1)))
    # BE asks for both ends at once. Near 1: clusters that hang together by few edges. Near -1: two sets of
    # images that are neighbours of each other rather than of their own; there are none.
    ends = eigencore.solve(scale @ graph @ scale, k=8, which="BE", tol=1e-4)
    print("graph of neighbours, both ends:", ends.values.round(4))
    print(f"{ends.matvecs:.0f} products; {ends.advice}")

    # A function: the covariance of the pixels, which is never formed. What it returns for a vector is all
    # that is known of it; n says how long its vectors are.
    centred = images - images.mean(axis=0)

    def covariance(v: np.ndarray) -> np.ndarray:
        return centred.T @ (centred @ v) / (len(centred) - 1)

    main_axes = eigencore.solve(eigencore.as_operator(covariance, n=64), k=5, which="LA", tol=1e-6)
    share = main_axes.values / centred.var(axis=0, ddof=1).sum()
    print("share of the variance along the first axes:", share.round(4))


if __name__ == "__main__":
    main()
