"""Transfers to the host: every solver by short recurrences makes one in a step, which is a block product."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import Culprit, NotFiniteError
from eigencore.operators import FunctionOperator
from eigencore.testing.libraries import Library, installed
from kit.transfers import counted_transfers, diagonal_operator

N = 600
SPECTRUM = np.concatenate([[50.0, 41, -33, 20, 11, -9], np.linspace(-6, 6, N - 6)])
LIBRARIES = pytest.mark.parametrize("library", installed(), ids=str)
SOLVERS = pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("deflated_power", {}),
        ("deflated_power", {"block": False}),
        ("accel_power", {}),
        ("accel_power", {"momentum": 4.0}),
        ("accel_power", {"batches": 1}),
        ("accel_power", {"batches": 1, "variance_reduction": False}),
        ("lobpcg", {}),
        ("lobpcg", {"which": "LA"}),
        ("lobpcg", {"which": "BE"}),
    ],
    ids=str,
)


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return counted_transfers(monkeypatch)


class WithMinibatches(FunctionOperator):
    """Every minibatch is a slightly different operator, a tenth of the data."""

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[Any, float]:
        def product(V: Any) -> Any:
            return self.matmat(V) * (1 + 1e-4 * math.sin(step))

        like = {"xp": self.xp, "dtype": self.dtype, "device": self.device}
        return FunctionOperator(product, N, matmat=product, **like), 0.1


def with_minibatches(A: FunctionOperator) -> WithMinibatches:
    return WithMinibatches(A.matvec, N, xp=A.xp, dtype=A.dtype, device=A.device, matmat=A.matmat)


@LIBRARIES
@SOLVERS
@pytest.mark.parametrize("k", [1, 4])
def test_one_transfer_per_block_product(
    library: Library, solver: str, options: dict[str, Any], k: int, transfers: list[str]
) -> None:
    at: list[int] = []
    tol = 1e-7 if library.precision == "float64" else 1e-4
    operator = with_minibatches(diagonal_operator(library, SPECTRUM, at, transfers))
    more = {"tol": tol, "complete": None, "certify": "none", "max_matvecs": 400}
    result = solve(operator, k, solver=solver, **more, **options)
    assert result.converged.all() or not options.get("variance_reduction", True)
    per_product = np.diff(at)[4:]  # the first products are compared with each other as well
    assert len(per_product) > 3
    assert statistics.median(per_product) == 1
    # The search for the next pair begins with more.
    assert np.mean(per_product) < (1.3 if options == {"block": False} else 1.1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@SOLVERS
def test_extreme_scales_are_right(
    solver: str, options: dict[str, Any], scale: float, transfers: list[str]
) -> None:
    at: list[int] = []
    scaled = diagonal_operator(Library("numpy", "float32"), scale * SPECTRUM, at, transfers)
    if "momentum" in options:
        options = {"momentum": 4.0 * scale**2}
    result = solve(with_minibatches(scaled), 1, solver=solver, tol=1e-3, **options)
    np.testing.assert_allclose(result.values, [scale * 50], rtol=1e-3)
    assert np.mean(np.diff(at)[4:]) < 2


# -- products that are not finite --------------------------------------------------------------------------


@LIBRARIES
@SOLVERS
@pytest.mark.parametrize("number", [1, 2, 4, 7, 12])
def test_a_product_that_is_not_finite_is_named(
    library: Library, solver: str, options: dict[str, Any], number: int
) -> None:
    """By the solver: the core does not test the products of these solvers. Minibatches are counted, too."""
    diagonal, products = library.array(SPECTRUM), 0
    bad = library.array(np.asarray([np.nan, np.inf, -np.inf][number % 3]))

    def product(V: Any) -> Any:
        nonlocal products
        columns = V.shape[1] if V.ndim == 2 else 1
        products += columns
        W = diagonal[:, None] * V if V.ndim == 2 else diagonal * V
        first = products - columns < number <= products
        return arrays.write(W, (7, 0) if V.ndim == 2 else 7, bad) if first else W

    device = arrays.device_of(diagonal)
    like = {"xp": library.xp, "dtype": library.dtype, "device": device}
    operator = with_minibatches(FunctionOperator(product, N, matmat=product, **like))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(NotFiniteError, match=r"product \d+ is not finite") as caught,
    ):
        solve(operator, 2, solver=solver, tol=1e-6, **options)
    assert f"product {products} is not finite" in str(caught.value)
    assert caught.value.culprit is Culprit.OPERATOR
    partial = caught.value.partial
    if len(partial.values):
        V = arrays.to_host(partial.vectors)
        np.testing.assert_allclose(
            np.sum(V * (SPECTRUM[:, None] * V), axis=0), partial.values, rtol=1e-4, atol=1e-3
        )
