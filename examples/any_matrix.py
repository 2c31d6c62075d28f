"""Can eigencore solve for my own matrix, or for a function that multiplies by a matrix?

    python examples/any_matrix.py

Any symmetric operator works: a NumPy array, a tensor, a SciPy sparse matrix or LinearOperator, an object with
`shape` and `@`, or a function.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

import eigencore


def main() -> eigencore.EigenResult:
    """Solves for a sparse matrix and for a function, and prints the eigenvalues."""
    images = load_digits().data  # (1797, 64), handwritten digits of 8 by 8 pixels

    # A sparse matrix: the normalised neighbour graph of the images. Its entries are 1/sqrt(d_i d_j) if i and
    # j are neighbours, where d_i is the number of neighbours of i. Its eigenvalues are between -1 and 1.
    graph = sparse.csr_array(kneighbors_graph(images, n_neighbors=10))
    graph = graph.maximum(graph.T)
    scale = sparse.diags_array(1 / np.sqrt(graph.sum(axis=1)))
    # which="BE" requests both ends of the spectrum. Eigenvalues near 1 indicate clusters that are connected
    # by few edges. Eigenvalues near -1 would indicate two sets of images whose neighbours are mostly in the
    # other set; there are none.
    ends = eigencore.solve(scale @ graph @ scale, k=8, which="BE", tol=1e-4)
    print("neighbour graph, both ends:", ends.values.round(4))
    print(f"{ends.matvecs:.0f} products; {ends.advice}")

    # A function: the product with the covariance of the pixels, which is never formed as a matrix. A function
    # has no shape, so n gives the length of its vectors.
    centred = images - images.mean(axis=0)

    def covariance(v: np.ndarray) -> np.ndarray:
        return centred.T @ (centred @ v) / (len(centred) - 1)

    axes = eigencore.solve(eigencore.as_operator(covariance, n=64), k=5, which="LA", tol=1e-6)
    share = axes.values / centred.var(axis=0, ddof=1).sum()
    print("share of the variance along the principal axes:", share.round(4))
    return ends


if __name__ == "__main__":
    main()
