"""Solves in lockstep: the same answers as on their own, in shared calls, and no hang whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from eigencore import as_operator, solve
from eigencore.errors import OperatorError
from eigencore.solving.lockstep import in_lockstep

SIZES = (60, 3, 41, 1)


def matrices() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(A + A.T) / 2 for A in (rng.standard_normal((n, n)) for n in SIZES)]


def run(
    matrices: list[np.ndarray],
    one: Callable[[Any], Any],
    before: Callable[[Mapping[int, Any]], None] = lambda wanted: None,
) -> list[Any]:
    def products(wanted: Mapping[int, Any]) -> Mapping[int, Any]:
        before(wanted)
        return {i: matrices[i] @ V for i, V in wanted.items()}

    return in_lockstep([one] * len(matrices), SIZES, as_operator(matrices[0]), products)


def test_each_answer_is_that_of_a_solve_on_its_own() -> None:
    calls: list[int] = []
    found = run(matrices(), lambda A: solve(A, 1, seed=3), lambda wanted: calls.append(len(wanted)))
    for result, A in zip(found, matrices(), strict=True):
        alone = solve(A, 1, seed=3)
        assert np.array_equal(result.values, alone.values)
        assert np.array_equal(result.vectors, alone.vectors)
        assert result.matvecs == alone.matvecs
    assert max(calls) == len(SIZES)
    assert len(calls) < sum(result.matvecs for result in found)


def test_what_a_solve_raises_is_raised_and_ends_the_others() -> None:
    def one(A: Any) -> Any:
        if A.shape[0] == 3:
            raise RuntimeError("no")
        return solve(A, 1)

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="no"):
        run(matrices(), one)
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [ValueError("lost"), KeyboardInterrupt()])
def test_what_a_product_raises_is_raised_and_ends_all(error: BaseException) -> None:
    calls: list[int] = []

    def fail(wanted: Mapping[int, Any]) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise error

    before = threading.active_count()
    with pytest.raises(type(error)):
        run(matrices(), lambda A: solve(A, 1), fail)
    assert threading.active_count() == before


def test_no_solve_and_a_solve_without_products() -> None:
    assert in_lockstep([], [], as_operator(np.eye(2)), lambda wanted: {}) == []
    assert run(matrices(), lambda A: A.shape[0]) == list(SIZES)


def test_a_product_that_is_not_finite_is_the_fault_of_its_block() -> None:
    broken = matrices()
    broken[2][5, 5] = np.nan
    with pytest.raises(OperatorError):
        run(broken, lambda A: solve(A, 1))
