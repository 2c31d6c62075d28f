"""What a run reports while it works: work done, lines of text, and who is told."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.errors import Culprit, ProblemError
from eigencore.news import WorkDone, counter, report, reported_to, rounded_time
from eigencore.results import Status, Step


@pytest.mark.parametrize(
    ("done", "total", "seconds", "detail", "text"),
    [
        (0, 500, 0.0, "", "pgd: 0 of 500 samples"),
        (256, 1024, 5.0, "", "pgd: 256 of 1,024 samples · 5 s, about 20 s left"),
        (256, 1024, 5.0, "a cat", "pgd: 256 of 1,024 samples · 5 s, about 20 s left · a cat"),
        (1024, 1024, 20.0, "", "pgd: 1,024 of 1,024 samples · 20 s"),
        (7, None, 3.0, "", "pgd: 7 samples · 3 s"),
    ],
)
def test_the_text_of_work_that_is_done(
    done: int, total: int | None, seconds: float, detail: str, text: str
) -> None:
    assert str(WorkDone("pgd", done, total, "samples", seconds, detail)) == text


def test_the_time_left_follows_from_the_mean_rate() -> None:
    for done in range(1, 10):
        assert WorkDone("x", done, 10, "rows", 2.0 * done).seconds_left == pytest.approx(2.0 * (10 - done))
    assert WorkDone("x", 10, 10, "rows", 20.0).seconds_left is None
    assert WorkDone("x", 0, 10, "rows", 20.0).seconds_left is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (4.2, "4 s"), (77, "80 s"), (100, "2 min"), (6000, "2 h"), (1e6, "300 h")],
)
def test_a_time_has_one_digit(seconds: float, text: str) -> None:
    assert rounded_time(seconds) == text


def test_the_text_of_a_step() -> None:
    step = Step(18, 9.0, (37.6, 22.7), 1, 22.7, 0.3, 0, worst=10.0)
    assert str(step) == "18 products · 1 converged · worst estimated residual 10 x threshold · 9 s"


def test_a_counter_begins_at_zero() -> None:
    news: list[WorkDone] = []
    done = counter(news.append, "rows", 3, "rows")  # type: ignore[arg-type]
    done(1, "a")
    done(3)
    assert [(one.done, one.detail) for one in news] == [(0, ""), (1, "a"), (3, "")]
    assert all(one.seconds >= 0 for one in news)
    counter(None, "rows", 3, "rows")(1)


def test_news_reach_the_listener_of_the_innermost_block_in_this_thread() -> None:
    outer: list[Any] = []
    inner: list[Any] = []
    report("to nobody")
    with reported_to(outer.append):
        report("a")
        with reported_to(inner.append):
            report("b")
        with reported_to(None):
            report("to nobody")
        thread = threading.Thread(target=report, args=("another thread",))
        thread.start()
        thread.join()
        report("c")
    report("to nobody")
    assert (outer, inner) == (["a", "c"], ["b"])


def test_an_exception_of_a_listener_is_not_caught_by_what_reports() -> None:
    error, after, called = ValueError("mine"), [], []

    def listen(news: Any) -> None:
        called.append(news)
        raise error

    def check(news: str) -> None:
        try:
            report(news)
        except Exception as wrong:
            raise ProblemError("the loss failed") from wrong
        after.append(news)

    def run() -> None:
        with reported_to(listen):
            check("a")
            check("b")

    with pytest.raises(ValueError, match="mine") as caught:
        run()
    assert caught.value is error
    assert error.culprit is Culprit.CALLBACK  # type: ignore[attr-defined]
    assert (called, after) == (["a"], ["a", "b"])


# -- runs --------------------------------------------------------------------------------------------------


def raising_at(text: str, error: BaseException) -> Any:
    def progress(news: Any) -> None:
        if text in str(news):
            raise error

    return progress


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_the_callers_function_raises_during_the_certificate_keeps_the_pairs(
    tmp_path: Any, error: BaseException
) -> None:
    out = tmp_path / "run"
    with pytest.raises(type(error)) as caught:
        eigencore.analyze(np.diag(np.arange(1.0, 60)), 3, out=out, progress=raising_at("certificate", error))
    assert caught.value is error or isinstance(error, KeyboardInterrupt)
    saved = eigencore.load(out).eigen
    assert np.allclose(saved.values, [59, 58, 57])
    if not isinstance(error, KeyboardInterrupt):
        assert saved.status is Status.CONVERGED


def test_what_is_done_before_the_first_product() -> None:
    pytest.importorskip("sklearn")
    news: list[Any] = []
    run = eigencore.analyze("demo:digits-numpy", 2, analyses="none", progress=news.append)
    first = next(i for i, one in enumerate(news) if isinstance(one, Step))
    assert news[:first] == [
        "reading the problem demo:digits-numpy",
        "binding demo:digits-numpy to numpy",
        "comparing the derivatives with differences of the loss",
    ]
    assert [one for one in news if isinstance(one, Step)] == list(run.eigen.history)
    error = RuntimeError("mine")
    for text in ("reading", "comparing"):
        with pytest.raises(RuntimeError) as caught:
            eigencore.analyze("demo:digits-numpy", 2, analyses="none", progress=raising_at(text, error))
        assert caught.value is error


def test_what_pytorch_looks_at_before_the_first_product() -> None:
    torch = pytest.importorskip("torch")
    x, y = torch.randn(12, 4), torch.randint(3, (12,))
    problem = (torch.nn.Linear(4, 3), [(x[:8], y[:8]), (x[8:], y[8:])], torch.nn.CrossEntropyLoss())
    news: list[Any] = []
    eigencore.analyze(problem, 1, analyses="none", progress=news.append)
    before = [str(one) for one in news[: next(i for i, one in enumerate(news) if isinstance(one, Step))]]
    assert before[0] == "binding the problem to torch"
    assert before[1] == "checking data and loss: 0 batches"
    assert before[-2].startswith("checking data and loss: 2 batches")
    assert "comparing the derivatives with differences of the loss" in before
    assert before[-1] == "checking that a second pass over the data yields the same batches"


def test_attacks_and_random_vectors_are_counted() -> None:
    pytest.importorskip("sklearn")
    news: list[Any] = []
    options = {"robustness": {"images": 30, "batch": 20, "eps": 0.1}}
    names = ["robustness", "density", "trace", "diagonal", "norms", "network"]
    for name in ("density", "norms"):
        options[name] = {"probes": 2, "steps": 10}
    for name in ("trace", "diagonal"):
        options[name] = {"products": 20}
    options["network"] = {"images": 20}
    eigencore.analyze("demo:digits-numpy", 1, analyses=names, options=options, progress=news.append)
    counted: dict[str, list[WorkDone]] = {}
    for one in news:
        if isinstance(one, WorkDone):
            counted.setdefault(one.what, []).append(one)
    for what in (
        *(
            "robustness: pgd, eps 0.1",
            "robustness: deepfool",
            "curvature over the input",
            "trace",
            "diagonal",
        ),
        *("density, random vector 2 of 2", "norms, random vector 2 of 2", "network: fmn", "worst inputs"),
    ):
        ends = [one for one in counted[what] if one.done == one.total]
        assert counted[what][0].done == 0
        assert ends, f"{what}: {counted[what]}"
    assert counted["network: solve"][-1].unit == "products"


def test_layers_report_passes_and_the_whole_solve() -> None:
    pytest.importorskip("sklearn")
    news: list[Any] = []
    found = eigencore.layers("demo:digits-numpy", progress=news.append)
    passes = [one for one in news if isinstance(one, WorkDone) and one.unit == "passes"]
    assert [one.done for one in passes] == list(range(len(passes)))
    assert passes[0].what == "layers: eigenpairs of 4 blocks"
    assert found.whole is not None
    assert [one for one in news if isinstance(one, Step)] == list(found.whole.history)


def test_a_study_reports_its_rows_and_those_of_before(tmp_path: Any) -> None:
    pytest.importorskip("joblib")
    members = [eigencore.Member(f"m{i}", np.diag([3.0, 2.0, 1.0])) for i in range(3)]
    news: list[Any] = []
    settings = {"analyses": "none", "jobs": 1, "out": tmp_path / "rows.jsonl"}
    eigencore.study(members, progress=news.append, **settings)
    assert [(one.done, one.total) for one in news] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert news[-1].detail.startswith("m2, ")
    (tmp_path / "rows.jsonl").write_text("".join((tmp_path / "rows.jsonl").read_text().splitlines(True)[:-1]))
    news.clear()
    eigencore.study(members, progress=news.append, **settings)
    assert news[0] == "2 of 3 rows are done already"
    assert [(one.done, one.total) for one in news[1:]] == [(0, 1), (1, 1)]
