"""A solve that was stopped before all pairs had passed goes on from its state as if it had not been."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eigencore import as_operator, solve
from eigencore.errors import Interrupted
from eigencore.results import EigenResult, Step

SPECTRUM = np.concatenate([[40.0, 25, -16, 10, 6], np.linspace(-1, 1, 595)])
REPEATED = np.repeat([9.0, 5.0, 1.0, 0.5], 150)


def diagonal(spectrum: np.ndarray = SPECTRUM) -> Any:
    return as_operator(lambda v: (spectrum * v.T).T, n=len(spectrum))


def stopping_after(products: float) -> Callable[[Step], None]:
    """A progress function that presses Ctrl-C once, when so many products have been made."""
    pressed: list[Step] = []

    def watch(step: Step) -> None:
        if step.matvecs >= products and not pressed:
            pressed.append(step)
            signal.raise_signal(signal.SIGINT)

    return watch


def content(result: EigenResult) -> tuple[Any, ...]:
    return (
        *(part.tobytes() for part in (result.values, np.asarray(result.vectors), result.residuals)),
        *(result.converged.tolist(), result.status, result.certificate, result.notes),
    )


CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "lanczos": (SPECTRUM, {"k": 4, "tol": 1e-6}),
    "lanczos with restarts": (SPECTRUM, {"k": 4, "tol": 1e-9, "basis": 7}),
    "lanczos at both ends": (SPECTRUM, {"k": 3, "which": "BE", "basis": 12}),
    "lanczos, repeated eigenvalues": (REPEATED, {"k": 3, "basis": 12}),
    "lanczos from a block": (SPECTRUM, {"k": 2, "start": np.eye(600)[:, :3] + 0.01}),
    "lobpcg": (SPECTRUM, {"k": 3, "which": "LA", "solver": "lobpcg"}),
    "accel_power": (SPECTRUM, {"k": 2, "solver": "accel_power"}),
    "deflated_power": (SPECTRUM, {"k": 2, "solver": "deflated_power"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_solve_that_was_interrupted_goes_on_to_the_last_bit(case: str) -> None:
    spectrum, arguments = CASES[case]
    whole, exact = solve(diagonal(spectrum), **arguments), 0
    for products in range(1, int(whole.history[-1].matvecs) + 1):
        with pytest.raises(Interrupted) as stopped:
            solve(diagonal(spectrum), **arguments, progress=stopping_after(products))
        part = stopped.value.result
        if part.history[-1].converged == whole.k:  # the search for missed eigenvalues begins again
            continue
        for state in (part.state, pickle.loads(pickle.dumps(part.state))):
            rest = solve(diagonal(spectrum), **arguments, state=state)
            assert content(rest) == content(whole), f"stopped after {products} products"
            assert part.matvecs + rest.matvecs == whole.matvecs
        exact += 1
    assert exact > 2


def test_a_solve_is_stopped_and_continued_again_and_again() -> None:
    """After every product, by a limit; the products of the certificates come in addition."""
    arguments: dict[str, Any] = {"k": 4, "tol": 1e-6, "basis": 9, "certify": "none"}
    whole = solve(diagonal(), **arguments)
    state, products = None, 0.0
    for _ in range(int(whole.matvecs)):
        result = solve(diagonal(), **arguments, state=state, max_matvecs=1)
        state, products = result.state, products + result.matvecs
        if result.history and result.history[-1].converged == 4:
            break
    assert products < whole.matvecs
    assert np.array_equal(result.values, solve(diagonal(), **arguments, max_matvecs=products).values)


def test_a_state_is_not_changed_by_the_solves_that_share_its_vectors() -> None:
    whole = solve(diagonal(), 4, tol=1e-9, basis=7)
    part = solve(diagonal(), 4, tol=1e-9, basis=7, max_matvecs=14)
    before = pickle.dumps(part.state)
    rest = [solve(diagonal(), 4, tol=1e-9, basis=7, state=part.state) for _ in range(2)]
    assert content(rest[0]) == content(rest[1]) == content(whole)
    assert pickle.dumps(part.state) == before


@pytest.mark.parametrize("changed", [{"k": 6}, {"tol": 1e-10}, {"which": "LA"}, {"basis": 25}, {"seed": 1}])
def test_another_request_begins_a_new_search_from_the_state(changed: dict[str, Any]) -> None:
    """The evidence of the earlier part is not taken for that of the whole: completeness is shown anew."""
    part = solve(diagonal(), 4, tol=1e-6, max_matvecs=11)
    rest = solve(diagonal(), **{"k": 4, "tol": 1e-6, **changed}, state=part.state)
    order = np.argsort(-SPECTRUM if changed.get("which") == "LA" else -np.abs(SPECTRUM))
    wanted = SPECTRUM[order[: len(rest.values)]]
    assert np.all(rest.converged)
    np.testing.assert_allclose(np.sort(rest.values), np.sort(wanted), rtol=1e-5)
    assert rest.certificate.complete_matvecs > 0  # by a chain, and not by the recurrence


def test_without_the_evidence_of_the_earlier_part_the_answer_would_be_another() -> None:
    """The test above has power: a state that forgets it makes more products."""
    whole = solve(diagonal(), 4, tol=1e-6)
    part = solve(diagonal(), 4, tol=1e-6, max_matvecs=11)
    forgotten = replace(part.state, part=None)
    rest = solve(diagonal(), 4, tol=1e-6, state=forgotten)
    assert content(rest) != content(whole)
