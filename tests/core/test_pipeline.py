"""`analyze`: its defaults, what it refuses before any work, and that no result is lost."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import attack, bind, runs, solve
from eigencore.analyses import run_analyses
from eigencore.errors import (
    CapabilityError,
    NotFiniteError,
    OptionError,
    PluginError,
    ProblemError,
    ResultError,
    UnknownNameError,
    UsageError,
)
from eigencore.interfaces import Problem, Snapshot
from eigencore.news import WorkDone
from eigencore.operators import FunctionOperator, as_operator
from eigencore.pipeline import RunInterrupted, analyze
from eigencore.problems import find_problem
from eigencore.results import Status, Step
from eigencore.runs import manifest, to_json

SPECTRUM = np.concatenate([[40.0, 25, -16, 10, 6], np.linspace(-1, 1, 45)])

ANALYSES = """
from dataclasses import dataclass
import numpy as np
from eigencore.options import option
from eigencore.results import AnalysisResult

CALLS = []

def entry(name, **more):
    return AnalysisEntry(name=name, summary="made up", load=f"plugged_looks:{name}", **more)

@hookimpl
def eigen_analyses():
    return [entry("top", options="plugged_looks:Options"),
            entry("needy", needs=frozenset({Capability.LOGITS}))]

@dataclass(frozen=True)
class Options:
    power: int = option(1, low=1, help="of what", when="never")
    mode: str = option("fine", help="how it ends", when="never")

def top(context, options):
    CALLS.append(context)
    context.progress("looking")
    yield AnalysisResult(verdict="a first look")
    if options.mode == "raises":
        raise RuntimeError("lost the thread")
    if options.mode == "stops":
        raise KeyboardInterrupt
    if options.mode == "junk":
        yield "a word"
    if options.mode == "objects":
        yield AnalysisResult(verdict="second", columns={"x": np.array([{}])})
    if options.mode == "ragged":
        yield AnalysisResult(verdict="second", columns={"x": np.arange(2), "y": np.arange(3)})
    value = float(context.eigen.values[0]) ** options.power
    yield AnalysisResult(verdict="a second look", numbers={"top": value}, columns={"x": np.arange(4.0)})

def needy(context, options):
    yield AnalysisResult(verdict="it had logits")
"""


def counted(spectrum: np.ndarray = SPECTRUM) -> tuple[Problem, list[int]]:
    """A problem, and a list to which the columns of each of its products are appended."""
    products: list[int] = []
    A = as_operator(np.diag(spectrum))

    def apply(V: Any) -> Any:
        products.append(1 if V.ndim == 1 else V.shape[1])
        return A.matmat(V)

    operator = FunctionOperator(apply, len(spectrum), xp=A.xp, dtype=A.dtype, device="cpu", matmat=apply)
    return Problem(operator=operator, spectrum=spectrum, name="counted", description="made up"), products


def in_progress(press: int) -> Any:
    """A progress callback that presses Ctrl-C at the given number of a Step."""
    steps: list[Any] = []

    def progress(news: Any) -> None:
        if isinstance(news, Step):
            steps.append(news)
            if len(steps) == press:
                signal.raise_signal(signal.SIGINT)

    return progress


# -- results -----------------------------------------------------------------------------------------------


def test_a_problem_may_be_a_name_a_problem_or_a_matrix():
    by_name = analyze("demo:quadratic", 3, options={"problem": {"n": 60}})
    assert np.allclose(by_name.eigen.values, by_name.manifest["exact"], rtol=1e-3)
    assert by_name.manifest["problem"] == "demo:quadratic"
    assert by_name.manifest["options"]["problem"] == {"n": 60}
    for problem in (counted()[0], np.diag(SPECTRUM)):
        run = analyze(problem, 3, tol=1e-6)
        assert np.allclose(run.eigen.values, [40, 25, -16])
    assert run.manifest["problem"] is None
    assert run.manifest["arguments"]["problem"] == "<numpy.ndarray>"


@pytest.mark.parametrize(
    ("which", "exact"),
    [("LM", [40, 25, -16]), ("LA", [40, 25, 10]), ("SA", [-16, -1, -21 / 22]), ("BE", [40, 25, -16])],
)
def test_exact_values_are_in_the_order_of_the_computed_ones(which, exact):
    run = analyze(counted()[0], 3, which=which, tol=1e-8)
    assert np.allclose(run.manifest["exact"], exact)
    assert np.allclose(run.eigen.values, exact, atol=1e-6)


def test_the_manifest_records_how_it_was_run():
    problem, products = counted()
    run = analyze(problem, 2, seed=3, solver="lanczos", options={"lanczos": {"basis": "12"}})
    assert run.eigen.matvecs == sum(products)
    manifest = run.manifest
    assert manifest["operator"] == {
        "kind": "hessian",
        "params": None,
        "n": 50,
        "dtype": "float64",
        "device": "cpu",
    }
    assert manifest["arguments"] == {
        "problem": "<eigencore.interfaces.Problem>",
        "k": 2,
        "seed": 3,
        "solver": "lanczos",
        "tol": 1e-3,
        "complete": 0.99,
        "which": "LM",
        "certify": "sketch",
        "kind": "hessian",
        "options": {"lanczos": {"basis": "12"}},
        **dict.fromkeys(
            [
                *("backend", "params", "max_matvecs", "max_seconds", "samples", "rtol", "device", "dtype"),
                "analyses",
            ],
            None,
        ),
    }
    assert manifest["options"]["lanczos"]["basis"] == 12
    assert manifest["versions"]["eigencore"] == eigencore.__version__
    assert manifest["versions"]["numpy"] == np.__version__
    assert {"name", "status", "version"} <= manifest["plugins"][0].keys()
    assert (manifest["device"], manifest["dtype"]) == ("cpu", "float64")
    assert manifest["threads"] >= 1
    json.loads(to_json(run))


def test_the_digest_is_equal_for_equal_problems_only():
    def digest(operator: Any) -> str | None:
        problem = operator if isinstance(operator, Problem) else Problem(operator=operator)
        return runs.digest(problem)

    assert digest(np.diag([3.0, 1.0])) == digest(Problem(operator=np.diag([3.0, 1.0]), name="another name"))
    others = [np.diag([3.0, 1.5]), np.diag([3.0, 1.0, 1.0]), np.diag([3.0, 1.0]).astype(np.float32)]
    assert len({digest(A) for A in (np.diag([3.0, 1.0]), *others)}) == 4
    assert digest(counted()[0]) is None  # a function has no numbers to digest


@dataclass
class Layer:
    """A model as a backend without a framework may have it; `inside` may be a layer, or this one itself."""

    w: Any
    inside: Any = None
    activation: Any = np.tanh


class WithStateDict:
    """A model of another class, which says what its arrays are."""

    def __init__(self, w: Any):
        self.w = w

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.w}


def test_the_digest_reads_models_that_are_dataclasses_or_have_a_state_dict():
    def digest(model: Any) -> str | None:
        return runs.digest(Problem(model=model))

    one, other = np.zeros(3), np.array([0.0, 0.0, 1.0])
    for make in (
        Layer,
        WithStateDict,
        lambda w: Layer(one, [Layer(w)]),
        lambda w: (len, {"layer": Layer(w)}),
    ):
        assert digest(make(one)) == digest(make(one.copy())) is not None
        assert digest(make(one)) != digest(make(other))
    assert digest(Layer) is digest(object()) is None
    assert runs.digest(Problem(operator=Layer(one))) is None  # what it computes of its arrays is not known
    around = Layer(one)
    around.inside = around
    assert digest(around) == digest(Layer(one))


def test_the_digest_is_read_only_where_a_run_is_saved(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "eigencore.pipeline.run.digests", lambda problem: read.append(problem) or ("some digest", {})
    )
    assert analyze(np.diag([3.0, 1.0]), 1).manifest["digest"] is None
    assert not read
    assert analyze(np.diag([3.0, 1.0]), 1, out=tmp_path / "run").manifest["digest"] == "some digest"
    assert len(read) == 1


def test_the_digest_depends_on_every_byte_and_not_on_the_layout_in_memory(monkeypatch):
    monkeypatch.setattr(manifest, "BLOCK", 1 << 10)
    A = np.random.default_rng(0).standard_normal((60, 60)).astype(np.float32)
    plain = runs.digest(Problem(operator=A))
    assert plain == runs.digest(Problem(operator=np.asfortranarray(A)))
    assert plain == runs.digest(Problem(operator=np.repeat(A, 2, axis=1)[:, ::2]))
    others = set()
    for row, column in ((0, 0), (31, 7), (59, 59)):
        changed = A.copy()
        changed[row, column] = -changed[row, column]
        others.add(runs.digest(Problem(operator=changed)))
    swapped = np.concatenate([A[30:], A[:30]])
    others |= {runs.digest(Problem(operator=swapped)), runs.digest(Problem(operator=-A))}
    assert len(others | {plain}) == 6


def test_a_solver_may_be_a_callable():
    def dense(operator, request, options, *, state=None):
        values, vectors = np.linalg.eigh(operator.matmat(np.eye(operator.shape[0])))
        order = request.order(values)
        yield Snapshot(values[order], np.zeros(request.k), lambda: vectors[:, order], norm=40.0)

    run = analyze(counted()[0], 2, solver=dense)
    assert np.allclose(run.eigen.values, [40, 25])
    assert run.manifest["arguments"]["solver"] == f"<{dense.__module__}.{dense.__qualname__}>"


# -- analyses ----------------------------------------------------------------------------------------------


def test_analyses_run_by_default_if_their_needs_are_met(plug):
    plug("looks", ANALYSES)
    assert list(analyze(counted()[0], 2).analyses) == ["top"]
    assert not analyze(counted()[0], 2, analyses=[]).analyses
    assert list(analyze(counted()[0], 2, analyses=["top"]).analyses) == ["top"]
    assert list(analyze(counted()[0], 2, analyses="top").analyses) == ["top"]


def tokens() -> Problem:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Embedding(6, 4), torch.nn.Flatten(), torch.nn.Linear(20, 3))
    data = [(torch.randint(6, (15, 5)), torch.randint(3, (15,)))]
    return Problem(model, data, torch.nn.CrossEntropyLoss(), name="tokens")


def test_an_analysis_that_cannot_run_is_skipped_with_its_reason(plug, tmp_path, capsys):
    from eigencore.cli.print_run import print_run

    plug("looks", ANALYSES)
    run = analyze(tokens(), 1, out=tmp_path / "run")
    reason = run.manifest["skipped"]["needy"]
    assert reason == (
        "this problem offers no classifier: batch 0 of data is (int64 (15, 5), int64 (15,)); expected a pair "
        "of floating-point inputs (b, ...) and integer labels (b,)"
    )
    assert list(run.analyses) == ["top"]
    assert eigencore.load(tmp_path / "run").manifest["skipped"] == run.manifest["skipped"]
    print_run(run)
    assert f"needy was not run: {reason}" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match=r"options are given for needy, .*\n.*offers no classifier"):
        analyze(tokens(), 1, options={"needy": {}})


def test_nothing_is_reported_as_skipped_that_was_not_expected(plug):
    """Neither for a matrix, nor if the analyses are named."""
    plug("looks", ANALYSES)
    assert analyze(counted()[0], 1).manifest["skipped"] == {}
    assert analyze(tokens(), 1, analyses="none").manifest["skipped"] == {}
    with pytest.raises(
        CapabilityError, match=r"needy needs logits; tokens offers .*\n.*floating-point inputs"
    ):
        analyze(tokens(), 1, analyses="needy")


def test_the_last_result_counts_and_columns_are_saved(plug, tmp_path):
    plug("looks", ANALYSES)
    run = analyze(counted()[0], 2, options={"top": {"power": "2"}}, out=tmp_path / "run")
    assert run.analyses["top"].verdict == "a second look"
    assert run.analyses["top"].numbers["top"] == pytest.approx(1600)
    assert run.manifest["options"]["top"] == {"power": 2, "mode": "fine"}
    back = eigencore.load(tmp_path / "run")
    assert back.analyses["top"].numbers == run.analyses["top"].numbers
    assert np.array_equal(back.analyses["top"].columns["x"], np.arange(4.0))
    assert back.manifest == run.manifest


def test_an_analysis_receives_its_context(plug, tmp_path):
    plug("looks", ANALYSES)
    reported: list[Any] = []
    problem = counted()[0]
    run = analyze(problem, 2, seed=7, out=tmp_path / "run", progress=reported.append)
    import plugged_looks

    context = plugged_looks.CALLS[-1]
    assert context.problem is problem
    assert context.eigen is run.eigen
    assert context.seed == 7
    assert context.folder == tmp_path / "run"
    assert context.bound is None  # the problem is given directly as an operator
    assert np.allclose(context.solve(context.operator, 1).values, [40])
    assert context.load(tmp_path / "run").eigen.seed == 7
    halved = context.bind(replace(problem, operator=np.diag(SPECTRUM) / 2))
    assert np.allclose(context.solve(halved.operator(), 1).values, [20])
    steps = [news for news in reported if isinstance(news, Step)]
    assert steps == list(run.eigen.history)
    certified = reported.index("computing the certificate from fresh products")
    assert reported.index(steps[-1]) < certified < reported.index("looking")
    solved = [news for news in reported if isinstance(news, WorkDone)]
    assert {(news.what, news.unit) for news in solved} == {("top: solve", "products")}


def test_an_analysis_binds_a_variant_of_the_problem_as_the_run_bound_the_problem(plug):
    torch = pytest.importorskip("torch")
    plug("looks", ANALYSES)
    torch.manual_seed(0)
    model, x, y = torch.nn.Linear(3, 2), torch.randn(8, 3), torch.randint(2, (8,))
    loss = torch.nn.CrossEntropyLoss()
    options = {"torch": {"derivative": "difference"}}
    analyze(Problem(model, [(x, y)], loss), 1, analyses="top", dtype="float64", options=options)
    import plugged_looks

    context = plugged_looks.CALLS[-1]
    shifted = context.bind(replace(context.problem, data=[(x + 1, y)]))
    with torch.no_grad():
        expected = float(loss(model(x + 1), y))
    assert shifted.loss() == pytest.approx(expected, rel=1e-6)
    assert shifted.loss() != pytest.approx(context.bound.loss(), rel=1e-3)
    for words in ("float64", "by differences"):
        assert words in shifted.description


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("raises", "RuntimeError: lost the thread"),
        ("junk", "yielded a str"),
        ("objects", "Python objects"),
        ("ragged", "differ in length"),
    ],
)
def test_a_failing_analysis_loses_neither_its_last_result_nor_the_eigenpairs(plug, tmp_path, mode, words):
    plug("looks", ANALYSES)
    run = analyze(counted()[0], 2, options={"top": {"mode": mode}}, out=tmp_path / "run")
    assert run.eigen.status is Status.CONVERGED
    assert run.analyses["top"].verdict == "a first look"
    assert words in run.analyses["top"].warnings[-1]
    assert words in run.manifest["failed"]["top"]
    assert eigencore.load(tmp_path / "run").analyses["top"].verdict == "a first look"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def top(context, options):\n    raise ValueError('at once')\n    yield", "ValueError: at once"),
        ("def top(context, options):\n    return AnalysisResult(verdict='x')", "returned a AnalysisResult"),
        ("del top", "can't be loaded"),
    ],
)
def test_an_analysis_that_fails_at_once_is_reported(plug, body, words):
    plug("looks", ANALYSES + body)
    run = analyze(counted()[0], 2)
    assert run.analyses["top"].verdict == "no result"
    assert words in run.analyses["top"].warnings[0]
    assert words in run.manifest["failed"]["top"]


def test_an_interrupted_analysis_keeps_its_last_result(plug, tmp_path):
    plug("looks", ANALYSES)
    with pytest.raises(RunInterrupted) as stop:
        analyze(counted()[0], 2, options={"top": {"mode": "stops"}}, out=tmp_path / "run")
    run = stop.value.run
    assert run.eigen.status is Status.CONVERGED
    assert run.analyses["top"].verdict == "a first look"
    assert "interrupted" in run.analyses["top"].warnings[-1]
    assert not run.manifest["failed"]
    assert eigencore.load(tmp_path / "run").analyses["top"].verdict == "a first look"


def test_two_plugins_with_an_analysis_of_one_name_both_run(plug):
    plug("looks", ANALYSES)
    plug("more", ANALYSES.replace("plugged_looks", "plugged_more"))
    assert list(analyze(counted()[0], 2).analyses) == ["top@plugged-looks", "top@plugged-more"]
    assert list(analyze(counted()[0], 2, analyses=["top@plugged-more"]).analyses) == ["top@plugged-more"]
    with pytest.raises(UsageError, match="the name of 2 entries"):
        analyze(counted()[0], 2, analyses=["top"])


# -- Ctrl-C ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("press", [1, 2, 5, 9])
def test_an_interrupted_run_holds_what_had_been_computed(plug, tmp_path, press):
    plug("looks", ANALYSES)
    with pytest.raises(RunInterrupted) as stop:
        analyze(counted()[0], 4, tol=1e-9, out=tmp_path / "run", progress=in_progress(press))
    run = stop.value.run
    assert stop.value.result is run.eigen
    assert run.eigen.status is Status.INTERRUPTED
    assert len(run.eigen.values) == min(4, press)
    assert not run.analyses
    saved = eigencore.load(tmp_path / "run").eigen
    assert saved.status is Status.INTERRUPTED
    assert np.array_equal(saved.values, run.eigen.values)
    assert np.array_equal(saved.vectors, run.eigen.vectors)


def test_an_interrupted_run_replaces_no_finished_one(plug, tmp_path):
    plug("looks", ANALYSES)
    first = analyze(counted()[0], 4, out=tmp_path / "run")
    assert first.folder == tmp_path / "run"
    assert first.manifest["finished"]
    with pytest.raises(RunInterrupted) as stop:
        analyze(counted()[0], 4, tol=1e-9, out=tmp_path / "run", progress=in_progress(5))
    assert stop.value.run.folder == tmp_path / "run-unfinished"
    with pytest.raises(UsageError, match="holds an unfinished run with 5 products"):
        analyze(counted()[0], 4, out=tmp_path / "run")
    for mode in ("stops", "raises"):  # the pairs have converged, but the analysis has not finished
        (tmp_path / "run" / "journal").unlink(missing_ok=True)
        options = {"top": {"mode": mode}}
        try:
            run = analyze(counted()[0], 2, options=options, out=tmp_path / "run")
        except RunInterrupted as interrupted:
            run = interrupted.run
        assert run.folder == tmp_path / "run-unfinished"
        assert not run.manifest["finished"]
    assert eigencore.load(tmp_path / "run").eigen.k == 4
    assert eigencore.load(tmp_path / "run-unfinished").eigen.k == 2
    assert analyze(counted()[0], 2, max_matvecs=3, out=tmp_path / "run").folder == stop.value.run.folder


def test_a_failed_run_replaces_no_finished_one_and_says_where_it_is(tmp_path):
    analyze(counted()[0], 4, out=tmp_path / "run")
    A, made = as_operator(np.diag(SPECTRUM)), []

    def fails(v):
        made.append(v)
        return A.matvec(v) if len(made) < 6 else v * np.nan

    operator = FunctionOperator(fails, 50, xp=A.xp, dtype=A.dtype, device="cpu")
    with pytest.raises(NotFiniteError) as failure:
        analyze(Problem(operator=operator), 4, tol=1e-9, out=tmp_path / "run")
    place = tmp_path / "run-unfinished"
    assert f"What was computed is saved in {place}" in failure.value.hint
    assert len(eigencore.load(place).eigen.values) == 4
    assert eigencore.load(tmp_path / "run").eigen.status is Status.CONVERGED


def test_what_the_operator_keeps_is_freed_before_the_analyses(plug, monkeypatch):
    plug("looks", ANALYSES)
    happened: list[str] = []
    A = as_operator(np.diag(SPECTRUM))
    operator = FunctionOperator(
        A.matvec,
        50,
        xp=A.xp,
        dtype=A.dtype,
        device="cpu",
        matmat=A.matmat,
        release=lambda needed: happened.append("all" if needed is None else f"{needed} bytes"),
    )
    monkeypatch.setattr(
        "eigencore.pipeline.run.run_analyses",
        lambda *given: (happened.append("analyses"), run_analyses(*given))[1],
    )
    analyze(Problem(operator=operator), 2, certify="full")
    certificate = 4 * 2 * 50 * 8
    solving, certifying, everything, last = happened
    assert int(solving.split()[0]) > certificate
    assert (certifying, everything, last) == (f"{certificate} bytes", "all", "analyses")


# -- invalid arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"solver": "lanzcos"}, UnknownNameError, "Did you mean lanczos"),
        ({"analyses": ["tip"]}, UnknownNameError, "Did you mean top"),
        ({"analyses": ["needy"]}, CapabilityError, "needy needs logits; counted offers products"),
        ({"backend": "torch"}, UsageError, "backend can't be used: counted is given directly as an operator"),
        ({"kind": "ggn"}, UsageError, "kind can't be used: counted is given directly as an operator"),
        ({"params": "*"}, UsageError, "params can't be used: counted is given directly as an operator"),
        ({"dtype": "float32"}, UsageError, "dtype can't be used: counted is given directly as an operator"),
        ({"k": 0}, UsageError, "k is 0"),
        ({"k": 51}, UsageError, "k is 51"),
        ({"tol": 2.0}, UsageError, "tol is 2"),
        ({"which": "XX"}, UsageError, "which is 'XX'"),
        ({"solver": "deflated_power", "which": "SA"}, UsageError, "which is SA"),
        ({"certify": "maybe"}, UsageError, "certify is 'maybe'"),
        ({"max_matvecs": 0}, UsageError, "max_matvecs is 0"),
        ({"options": {"lanczos": {"bases": 3}}}, UnknownNameError, "Did you mean basis"),
        ({"options": {"lanczos": {"basis": 1}}}, OptionError, "at least 3"),
        ({"options": {"lancos": {"basis": 30}}}, UnknownNameError, "Did you mean lanczos"),
        ({"options": {"arpack": {"ncv": 30}}}, UsageError, "arpack, which this run does not use"),
        ({"options": {"needy": {"x": 1}}}, UsageError, "needy, which this run does not use"),
        ({"options": {"top": {"power": 0}}}, OptionError, "at least 1"),
        ({"options": {"problem": {"n": 3}}}, UsageError, "n can't be set: this problem is not given by name"),
    ],
    ids=str,
)
def test_an_invalid_argument_is_refused_before_any_product(plug, tmp_path, arguments, error, words):
    plug("looks", ANALYSES)
    problem, products = counted()
    with pytest.raises(error, match=words):
        analyze(problem, **{"k": 3, "out": tmp_path / "new", **arguments})
    assert not products
    assert not list(tmp_path.glob("new/*"))


def test_names_and_the_folder_are_checked_before_the_problem_is_made(tmp_path, monkeypatch):
    made: list[str] = []
    monkeypatch.setattr("eigencore.pipeline.setup.make_problem", lambda name, *_: made.append(name))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        analyze("demo:quadratic", out=tmp_path / "file")
    with pytest.raises(UnknownNameError):
        analyze("demo:quadratic", solver="lanzcos")
    with pytest.raises(UnknownNameError):
        analyze("demo:quadratic", options={"lancos": {}})
    with pytest.raises(UnknownNameError):
        analyze("demo:quadratic", analyses=["nothing"])
    assert not made


def test_a_requested_analysis_that_cannot_be_loaded_is_refused_at_once(plug):
    plug("looks", ANALYSES.replace('load=f"plugged_looks:{name}"', 'load="plugged_looks:gone"'))
    problem, products = counted()
    with pytest.raises(PluginError, match="top can't be loaded"):
        analyze(problem, 2, analyses=["top"])
    assert not products


# -- failures ----------------------------------------------------------------------------------------------


def test_the_error_of_a_run_that_cannot_be_saved_holds_the_result(tmp_path, monkeypatch):
    def full(run: Any, folder: Path) -> None:
        raise ResultError("no space", partial=run.eigen)

    monkeypatch.setattr("eigencore.pipeline.run.save", full)
    with pytest.raises(ResultError) as failure:
        analyze(counted()[0], 2, out=tmp_path / "run")
    assert np.allclose(failure.value.partial.values, [40, 25])


def test_anything_but_a_problem_is_refused():
    with pytest.raises(ProblemError, match="expected a Problem"):
        analyze(42)


def test_what_was_computed_before_a_product_failed_is_saved(tmp_path: Path) -> None:
    products = 0

    def fails(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return SPECTRUM * v if products < 9 else np.full(len(v), np.nan)

    problem = Problem(operator=as_operator(fails, n=len(SPECTRUM)))
    with pytest.raises(NotFiniteError):
        analyze(problem, 2, tol=1e-12, out=tmp_path / "run")
    kept = eigencore.load(tmp_path / "run")
    assert kept.eigen.vectors.shape == (50, 2)
    assert np.allclose(kept.eigen.values, [40, 25], rtol=0.1)


def test_analyses_may_be_given_as_for_the_command() -> None:
    assert analyze(np.diag(SPECTRUM), 2, analyses="none").analyses == {}
    with pytest.raises(UnknownNameError, match="'b'"):
        analyze(np.diag(SPECTRUM), 2, analyses="b,c")


@pytest.fixture
def torch_parts():
    """A small network, its data and its loss."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    x, y = torch.randn(12, 4, generator=generator), torch.randint(3, (12,), generator=generator)
    return model, [(x, y)], torch.nn.CrossEntropyLoss()


def test_a_model_its_data_and_its_loss_are_given_directly(torch_parts):
    model, data, loss = torch_parts
    run = analyze(model, data, loss, k=2, analyses="none")
    named = analyze(Problem(model, data, loss), 2, analyses="none")
    fourth = analyze(model, data, loss, 2, analyses="none")
    assert run.eigen.k == 2
    for other in (named, fourth):
        np.testing.assert_array_equal(run.eigen.values, other.eigen.values)
        assert run.manifest["arguments"] == other.manifest["arguments"]


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        (("model", ["data"]), {}, "loss is missing"),
        (("model",), {"loss": "loss"}, "data is missing"),
        (("demo:quadratic", ["data"], "loss"), {}, "a problem and also data and loss"),
        (("demo:quadratic", 3), {"k": 4}, "k was given twice: 3 and 4"),
    ],
)
def test_an_unclear_problem_is_refused(arguments, keywords, words):
    with pytest.raises(UsageError, match=words):
        analyze(*arguments, **keywords)


def test_solve_takes_what_bind_takes(torch_parts):
    expected = solve(bind(Problem(*torch_parts)).operator(), 2, tol=1e-6).values
    for given in (Problem(*torch_parts), torch_parts, bind(torch_parts)):
        np.testing.assert_array_equal(solve(given, 2, tol=1e-6).values, expected)
    exact = np.sort(np.abs(find_problem("demo:quadratic").spectrum))[::-1]
    np.testing.assert_allclose(np.abs(solve("demo:quadratic", 2, tol=1e-6).values), exact[:2], rtol=1e-6)
    with pytest.raises(ProblemError, match=r"a tuple of length 2; expected .*\nConstruct one"):
        solve(("model", "data"), 2)


def test_attack_takes_what_bind_takes(torch_parts):
    problem = Problem(*torch_parts)
    expected = attack(bind(problem), "fgsm", eps=0.5)
    given = attack(problem, "fgsm", eps=0.5)
    np.testing.assert_array_equal(given.inputs, expected.inputs)
    with pytest.raises(UnknownNameError, match="unknown attack"):
        attack("no:problem", "pgb", eps=0.5)
    with pytest.raises(UnknownNameError, match="unknown problem"):
        attack("no:problem", "fgsm", eps=0.5)
