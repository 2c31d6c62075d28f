"""A classifier whose logits are quadratic functions of its input, so that all its Hessians are known."""

from __future__ import annotations

from collections.abc import Callable

import array_api_compat.numpy as xp
import numpy as np

from eigencore.interfaces import Objective


class QuadraticNetwork:
    """Logits z_k = b_k + w_k'x + x'Q_k x / 2, in NumPy.

    Args:
        Q: symmetric matrices (c, d, d).
        w: (c, d).
        b: (c,).
    """

    xp, device, bounds = xp, "cpu", None

    def __init__(self, Q: np.ndarray, w: np.ndarray, b: np.ndarray):
        self.Q, self.w, self.b = Q, w, b
        self.dtype = np.dtype(np.float64)
        self.classes, d = w.shape
        self.shape = (d,)

    def samples(self, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def logits(self, x: np.ndarray, /) -> np.ndarray:
        return np.asarray(self.b + x @ self.w.T + np.einsum("bi,kij,bj->bk", x, self.Q, x) / 2)

    def value_and_grad(
        self, objective: Objective, x: np.ndarray, y: np.ndarray, /
    ) -> tuple[np.ndarray, np.ndarray]:
        z = self.logits(x)
        return objective.value(z, y), np.einsum("bk,bkd->bd", objective.grad(z, y), self.jacobian(x))

    def input_products(
        self, objective: Objective, x: np.ndarray, y: np.ndarray, /
    ) -> Callable[[np.ndarray], np.ndarray]:
        z, J = self.logits(x), self.jacobian(x)

        def product(v: np.ndarray) -> np.ndarray:
            inner = objective.hvp(z, y, np.einsum("bkd,bd->bk", J, v))
            outer = np.einsum("bk,kij,bj->bi", objective.grad(z, y), self.Q, v)
            return np.asarray(np.einsum("bkd,bk->bd", J, inner) + outer)

        return product

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """(b, c, d)."""
        return np.asarray(self.w + np.einsum("kij,bj->bki", self.Q, x))

    def hessians(self, objective: Objective, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The dense Hessians (b, d, d)."""
        product = self.input_products(objective, x, y)
        return np.stack([product(np.tile(e, (len(x), 1))) for e in np.eye(x.shape[1])], axis=2)
