"""Transfers to the host: `lanczos` and the search for missed eigenvalues make one per product."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import pytest

from eigencore import arrays, solve
from eigencore.errors import Culprit, NotFiniteError, PluginError
from eigencore.operators import FunctionOperator
from eigencore.testing.libraries import Library
from eigencore_krylov.lanczos import LanczosOptions, lanczos
from kit.transfers import counted_transfers, diagonal_operator

N = 600
SPECTRUM = np.concatenate([[50.0, 41, -33, 20, 11, -9], np.linspace(-3, 3, N - 6)])
LIBRARIES = [Library("numpy", "float64"), Library("torch", "float64"), Library("torch", "float32")]


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return counted_transfers(monkeypatch)


@pytest.mark.parametrize("name", ["to_host_at_once", "norm", "safe_norm", "is_finite"])
def test_every_doorway_calls_one_that_is_counted(name: str, transfers: list[str]) -> None:
    x = np.array([1.0, np.nan])
    getattr(arrays, name)(*((np.nan, x) if name == "safe_norm" else (x,)))
    assert transfers


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("one basis", {"complete": None}),
        ("restarts", {"basis": 8, "complete": None}),
        ("restarts, complete", {"basis": 7}),
        ("a block", {"start": np.random.default_rng(0).standard_normal((N, 3)), "complete": None}),
        ("k = 1", {"k": 1, "basis": 6}),
    ],
)
def test_one_transfer_per_product(
    library: Library, name: str, options: dict[str, Any], transfers: list[str]
) -> None:
    at: list[int] = []
    tol = 1e-8 if library.precision == "float64" else 1e-5
    operator = diagonal_operator(library, SPECTRUM, at, transfers)
    result = solve(operator, **({"k": 3, "tol": tol, "certify": "none"} | options))
    assert result.converged.all()
    if "restarts" in name:
        assert result.history[-1].restarts > 0
    if "complete" in name:
        assert result.certificate.complete_matvecs > 3
    per_product = np.diff(at)[4:]  # the first products are compared with each other as well
    assert len(per_product) > 3
    assert statistics.median(per_product) == 1
    assert np.mean(per_product) < 1.2


def test_the_certificate_takes_one_transfer_per_block_of_products(transfers: list[str]) -> None:
    counts = {}
    for level in ("none", "sketch", "full"):
        transfers.clear()
        solve(np.diag(SPECTRUM), 8, tol=1e-8, complete=None, certify=level)
        counts[level] = len(transfers)
    # Without a certificate, the orthogonality of the vectors is computed all the same.
    assert counts["sketch"] - counts["none"] <= 1
    assert counts["full"] - counts["none"] <= 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_take_more_transfers_and_are_right(scale: float, transfers: list[str]) -> None:
    at: list[int] = []
    operator = diagonal_operator(Library("numpy", "float32"), scale * SPECTRUM, at, transfers)
    result = solve(operator, 3, tol=1e-4)
    np.testing.assert_allclose(result.values, scale * SPECTRUM[:3], rtol=1e-3)
    assert np.mean(np.diff(at)) < 4


# -- products that are not finite --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", [1, 2, 5, 8, 12, 14, 17])
@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_a_product_that_is_not_finite_is_named(library: Library, number: int, bad: float) -> None:
    """Wherever it occurs: in the run, in the chain or in the certificate."""
    diagonal, products = library.array(SPECTRUM), 0

    def product(v: Any) -> Any:
        nonlocal products
        products += 1
        w = diagonal * v
        return arrays.write(w, 7, library.array(np.asarray(bad))) if products == number else w

    device = arrays.device_of(diagonal)
    operator = FunctionOperator(product, N, xp=library.xp, dtype=library.dtype, device=device)
    with pytest.raises(
        NotFiniteError, match=rf"product {number if number < 15 else 18} is not finite"
    ) as caught:
        solve(operator, 3, basis=8, tol=1e-3)
    assert caught.value.culprit in (Culprit.OPERATOR, Culprit.CERTIFICATE)
    partial = caught.value.partial
    assert products == (number if number < 15 else 18)  # the last three are the block of the certificate
    if number > 5:
        V = arrays.to_host(partial.vectors)
        np.testing.assert_allclose(np.sum(V * (SPECTRUM[:, None] * V), axis=0), partial.values, rtol=1e-4)
        assert partial.state is not None


def test_a_vector_that_is_not_finite_is_the_fault_of_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the solver is trusted to refuse products."""
    from eigencore_krylov import basis

    expand, calls = basis.Basis.expand, []

    def spoilt(self: Any, apply: Any, index: int) -> float:
        calls.append(index)
        return expand(self, (lambda v: apply(v * np.nan)) if len(calls) == 6 else apply, index)

    monkeypatch.setattr(basis.Basis, "expand", spoilt)
    with pytest.raises(PluginError, match="requested product 6 of a vector that is not finite") as caught:
        solve(np.diag(SPECTRUM), 3)
    assert caught.value.culprit is Culprit.SOLVER


def test_products_are_tested_for_solvers_that_promise_nothing(transfers: list[str]) -> None:
    """`lanczos` without its entry: the core makes the second transfer."""

    def unregistered(operator: Any, request: Any, options: Any, *, state: Any = None) -> Any:
        return lanczos(operator, request, LanczosOptions(basis=20), state=state)

    at: list[int] = []
    operator = diagonal_operator(LIBRARIES[0], SPECTRUM, at, transfers)
    solve(operator, 3, solver=unregistered, complete=None, certify="none")
    assert statistics.median(np.diff(at)[4:]) == 2
