"""Power iteration with momentum as the paper writes it, on a diagonal matrix and a single vector."""

from __future__ import annotations

from typing import Any

import numpy as np


def power_products(spectrum: Any, start: Any, beta: float, tol: float, most: int) -> int:
    """Products of w+ = A w - beta w_before until the residual of w passes.

    De Sa et al., Accelerated stochastic power iteration, AISTATS 2018 (arXiv:1707.02670).

    Raises:
        AssertionError: it has not passed after fewer than `most` products.
    """
    w, before = start / np.linalg.norm(start), np.zeros(len(spectrum))
    for products in range(1, most):
        Aw = spectrum * w
        if np.linalg.norm(Aw - (w @ Aw) * w) <= tol * abs(w @ Aw):
            return products
        w, before = Aw - beta * before, w
        size = np.linalg.norm(w)
        w, before = w / size, before / size
    raise AssertionError("power iteration has not converged")
