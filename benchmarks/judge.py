"""Whether an answer is correct: eigenpairs verified with products in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

import eigencore
from eigencore import Problem


@dataclass
class Answer:
    """Eigenvalues (k,) and vectors (n, k) as a library returned them, and the number of products."""

    values: np.ndarray
    vectors: Tensor
    products: float


class Judge:
    """Verifies answers for a problem, given its k largest eigenvalues as ARPACK finds them in float64."""

    def __init__(self, problem: Problem, k: int, tol: float):
        self._operator = eigencore.bind(problem, dtype="float64").operator()
        self._tol = tol
        n = self._operator.shape[0]
        product = LinearOperator(
            (n, n), lambda v: self._operator.matvec(self._on_device(v)).cpu().numpy(), dtype=np.float64
        )
        start, basis = np.random.default_rng(0).standard_normal(n), min(3 * k, n)
        values = eigsh(product, k, which="LM", tol=1e-4, ncv=basis, v0=start, return_eigenvectors=False)
        self.values = _by_magnitude(values)

    def grade(self, answer: Answer) -> dict[str, object]:
        """Largest relative residual, number of different vectors, error of the values, and a verdict."""
        vectors = answer.vectors.detach().double().to(self._operator.device)
        vectors = vectors / torch.linalg.vector_norm(vectors, dim=0)
        values = self._on_device(np.array(answer.values))
        lengths = torch.linalg.vector_norm(self._operator.matmat(vectors) - vectors * values, dim=0)
        residual = float((lengths / values.abs()).max())
        # If vectors are repeated, their span has a lower dimension, and some singular values are near zero.
        different = int((torch.linalg.svdvals(vectors) > 0.5).sum())
        off = float(np.abs(_by_magnitude(answer.values) / self.values - 1).max())
        return {
            "products": answer.products,
            "residual": float(f"{residual:.2g}"),
            "different": different,
            "error": float(f"{off:.2g}"),
            "verdict": self._verdict(residual, different, off),
        }

    def _on_device(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x.astype(np.float64).ravel()).to(self._operator.device)

    def _verdict(self, residual: float, different: int, off: float) -> str:
        if different < len(self.values):
            return f"wrong: {different} different vectors of {len(self.values)}"
        if residual > self._tol:
            return f"not reached: residual {residual:.1g}"
        # A residual of tol |theta| bounds the distance to an eigenvalue; a larger error means another one.
        if off > 2 * self._tol:
            return f"wrong: a value is {100 * off:.1g} % off the {len(self.values)} largest"
        return "reached"


def _by_magnitude(values: np.ndarray) -> np.ndarray:
    return values[np.argsort(-np.abs(values))]
