"""A result is a value: it holds no operator, takes the memory of its vectors, pickles, and can be saved."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import arrays, pipeline
from eigencore.errors import EigencoreError, Interrupted
from eigencore.figures import Figure, Table
from eigencore.operators import as_operator
from eigencore.results import AnalysisResult, AttackResult, EigenResult, Run, Status
from eigencore.testing.libraries import Library, installed

N = 3000
SPECTRUM = np.concatenate([[81.0, 27, 9, 3, 1], np.linspace(-0.3, 0.3, N - 5)])
# Every solver, with the options that select another method.
SOLVERS: dict[str, dict[str, Any]] = {
    "lanczos": {},
    "lanczos-single": {"complete": None},
    "arpack": {},
    "deflated_power": {},
    "deflated_power-single": {"block": False},
    "accel_power": {},
    "lobpcg": {},
    "lobpcg-LA": {"which": "LA"},
}
NAMES = [
    pytest.param(one, marks=pytest.mark.slow) if one == "deflated_power-single" else one for one in SOLVERS
]
LIBRARIES = [one for one in installed() if one.name in ("numpy", "torch")]


def solved(library: Library, name: str = "lanczos", k: int = 5, **options: Any) -> EigenResult:
    diagonal = library.array(SPECTRUM)[:, None]
    operator = as_operator(lambda v: diagonal[:, 0] * v, n=N, dtype=library.dtype)
    return eigencore.solve(operator, k, solver=name.partition("-")[0], **{**SOLVERS[name], **options})


def test_eigenpairs_as_a_data_frame():
    pandas = pytest.importorskip("pandas")
    for result in (solved(LIBRARIES[0], k=3), solved(LIBRARIES[-1], k=5, max_matvecs=7)):
        frame = result.to_pandas()
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame.columns) == ["eigenvalue", "residual", "converged"]
        assert len(frame) == len(result.values) > 0
        np.testing.assert_array_equal(frame.eigenvalue, result.values)
        np.testing.assert_array_equal(frame.residual, result.residuals)
        np.testing.assert_array_equal(frame.converged, result.converged)
        assert frame.converged.dtype == bool


def test_an_attack_as_a_data_frame():
    pytest.importorskip("pandas")
    bound = eigencore.bind("demo:digits-numpy")
    result = eigencore.attack(bound, "fgsm", eps=0.1, images=30)
    frame = result.to_pandas()
    assert list(frame.columns) == ["label", "correct", "success", "distance"]
    np.testing.assert_array_equal(frame.label, result.labels)
    assert 1 - frame.success.mean() == pytest.approx(result.accuracy)
    np.testing.assert_array_equal(np.isinf(frame.distance), ~frame.success)


def test_without_pandas_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EigencoreError, match=r"pandas is not installed\nRun: pip install pandas"):
        solved(LIBRARIES[0], k=1).to_pandas()


def bytes_held(*roots: Any) -> int:
    """The memory of all arrays that are reachable: each storage once, and as a whole."""
    storages: dict[int, int] = {}
    seen: set[int] = set()

    def visit(x: Any) -> None:
        if id(x) in seen:
            return
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            base = x
            while isinstance(base.base, np.ndarray):
                base = base.base
            storages[id(base)] = base.nbytes
        elif hasattr(x, "untyped_storage"):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        elif is_dataclass(x):
            for part in fields(x):
                visit(getattr(x, part.name))
        elif isinstance(x, dict):
            for part in x.values():
                visit(part)
        elif isinstance(x, list | tuple):
            for part in x:
                visit(part)
        elif not (x is None or isinstance(x, int | float | str)):
            assert type(x).__module__.startswith("eigencore.solving."), f"a result holds a {type(x)}"
            visit(vars(x))  # what the core remembers of an unfinished solve

    visit(roots)
    return sum(storages.values())


# -- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_twenty_results_take_the_memory_of_their_vectors(library: Library, name: str) -> None:
    results = [solved(library, name, seed=seed) for seed in range(20)]
    assert {result.status for result in results} == {Status.CONVERGED}
    vectors = 20 * 5 * N * (8 if library.precision == "float64" else 4)
    assert vectors <= bytes_held(results) <= 1.05 * vectors + 20 * 2000


@pytest.mark.parametrize("name", ["accel_power", "lobpcg", "lobpcg-LA"])
def test_a_single_pair_takes_the_memory_of_its_vector(name: str) -> None:
    result = solved(LIBRARIES[0], name, k=1)
    assert result.status is Status.CONVERGED
    assert bytes_held(result) <= 1.05 * 8 * N + 2000


def test_an_unfinished_result_holds_what_is_needed_to_continue_and_no_unused_room() -> None:
    result = solved(LIBRARIES[0], max_matvecs=9, certify="none", tol=1e-9)
    assert result.status is Status.BUDGET
    assert bytes_held(result) <= 15 * 8 * N + 5000  # five vectors, nine directions and a pending one


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("most", [8, None])
def test_no_result_keeps_its_operator(name: str, most: int | None) -> None:
    """Reference counting alone frees it: there is no cycle."""

    class Operator:
        def __init__(self) -> None:
            inner = as_operator(np.diag(SPECTRUM[:60]))
            self.shape, self.xp, self.dtype, self.device = inner.shape, inner.xp, inner.dtype, inner.device
            self.matvec, self.matmat = inner.matvec, inner.matmat

    gc.disable()
    try:
        operator = Operator()
        alive = weakref.ref(operator)
        result = eigencore.solve(
            operator, 5, solver=name.partition("-")[0], max_matvecs=most, **SOLVERS[name]
        )
        del operator
        assert alive() is None
    finally:
        gc.enable()
    assert result.n == 60


# -- pickles and processes ---------------------------------------------------------------------------------


def solve_in_a_worker(library: Library, name: str, state: Any) -> EigenResult:
    return solved(library, name, state=state, **({"max_matvecs": 8} if state is None else {"tol": 1e-6}))


def analyze_in_a_worker() -> Run:
    return eigencore.analyze("demo:digits-numpy", k=2, options={"robustness": {"images": 40}})


def interrupted_in_a_worker() -> None:
    raise Interrupted(solved(LIBRARIES[0]))


def same(one: Any, other: Any) -> bool:
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one)
        )
    if arrays.is_array(one):
        return one.dtype == other.dtype and np.array_equal(arrays.to_host(one), arrays.to_host(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one).__eq__ is object.__eq__ and hasattr(one, "__dict__"):
        return type(one) is type(other) and same(vars(one), vars(other))
    return bool(one == other)


@pytest.mark.slow
def test_results_come_back_from_a_worker_process() -> None:
    """Of every solver; and a state gives the same bits in another process, whichever way it got there."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for library in LIBRARIES:
            for name in SOLVERS:
                part = pool.submit(solve_in_a_worker, library, name, None).result()
                here = solve_in_a_worker(library, name, None)
                timed = {"seconds": 0.0, "history": (), "advice": ""}
                assert same(replace(part, **timed), replace(here, **timed))
                if part.state is not None:
                    there = pool.submit(solve_in_a_worker, library, name, here.state).result()
                    again = solve_in_a_worker(library, name, part.state)
                    assert np.array_equal(there.values, again.values)
                    assert np.array_equal(arrays.to_host(there.vectors), arrays.to_host(again.vectors))
        run = pool.submit(analyze_in_a_worker).result()
        assert len(run.eigen.values) == 2
        assert run.analyses["robustness"].columns
        with pytest.raises(Interrupted) as stopped:
            pool.submit(interrupted_in_a_worker).result()
        assert stopped.value.result.status is Status.CONVERGED


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_a_pickled_result_is_the_same_and_shares_its_vectors(library: Library, name: str) -> None:
    for result in (solved(library, name), solved(library, name, max_matvecs=8, tol=1e-9)):
        back = pickle.loads(pickle.dumps(result))
        assert same(back, result)
        assert len(pickle.dumps(back)) <= 1.1 * len(pickle.dumps(result))
        assert bytes_held(back) <= bytes_held(result) + 2000
        assert same(copy.deepcopy(result), result)


def test_other_results_pickle() -> None:
    pytest.importorskip("sklearn")
    analysis = AnalysisResult(
        verdict="so",
        tables={"t": Table(("a",), ((1,),))},
        columns={"x": np.arange(3)},
        figures=(Figure("line", "", "", "", {"x": np.arange(2.0)}),),
    )
    attacked = eigencore.attack(eigencore.bind("demo:digits-numpy"), "fgsm", eps=0.1, images=10)
    run = Run(solved(LIBRARIES[0]), {"a": analysis}, {"problem": "demo:x"})
    for value in (analysis, attacked, run, pipeline.RunInterrupted(run)):
        back = pickle.loads(pickle.dumps(value))
        assert same(vars(back), vars(value))
    assert isinstance(attacked, AttackResult)


# -- a state is a value ------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [8, None])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "arpack"])
@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_using_a_state_twice_gives_the_same_run_twice(library: Library, name: str, most: int | None) -> None:
    result = solved(library, name, max_matvecs=most, certify="none")
    before = pickle.dumps(result)
    one, other = (solved(library, name, state=result.state, tol=1e-6, certify="none") for _ in range(2))
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(arrays.to_host(one.vectors), arrays.to_host(other.vectors))
    assert one.matvecs == other.matvecs
    assert pickle.dumps(result) == before
