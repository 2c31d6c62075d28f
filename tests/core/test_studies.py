"""`study`: a row for each network, kept in a file that a killed study continues from."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import Interrupted, Member, Study, analyze, study
from eigencore.errors import (
    EigencoreError,
    OptionError,
    ProblemError,
    ResultError,
    UnknownNameError,
    UsageError,
)
from eigencore.pipeline.studies.study_file import StudyFile
from eigencore.pipeline.studies.threads import VARIABLES, limited

threadpool_info = pytest.importorskip("threadpoolctl").threadpool_info  # with the extra `study`

CALLS: list[int] = []


def made(n: int) -> Any:
    CALLS.append(n)
    return np.diag(np.arange(1.0, n))


def networks(*sizes: int) -> list[Member]:
    return [Member(f"n{n}", lambda n=n: made(n), {"size": n}, f"group {n % 2}") for n in sizes]


def run(members: Any, out: Path | None = None, **more: Any) -> Study:
    return study(members, out=out, **{"analyses": "trace", "jobs": 1, **more})


def lines(file: Path) -> list[bytes]:
    """The lines of a file, without the times."""
    found = file.read_bytes().splitlines()
    timeless = [{**json.loads(line), "seconds": 0.0} for line in found[1:]]
    return [found[0], *(json.dumps(line).encode() for line in timeless)]


@pytest.fixture(autouse=True)
def _calls() -> None:
    CALLS.clear()


# -- rows --------------------------------------------------------------------------------------------------


def test_a_row_has_what_analyze_finds_of_the_network(tmp_path: Path) -> None:
    found = run(networks(30, 61), tmp_path / "rows.jsonl", k=2, seed=3, options={"trace": {"rtol": 0.01}})
    for row, n in zip(found.rows, (30, 61), strict=True):
        alone = analyze(made(n), 2, seed=3, analyses="trace", options={"trace": {"rtol": 0.01}})
        assert row.eigenvalues == tuple(alone.eigen.values)
        assert row.converged == (True, True)
        assert row.numbers == {"trace": alone.analyses["trace"].numbers}
        assert (row.group, row.covariates, row.seed) == (f"group {n % 2}", {"size": n}, 3)
    columns = found.columns
    assert np.array_equal(columns["size"], [30, 61])
    assert np.allclose(columns["lambda_1"], [29, 60])
    assert np.allclose(columns["lambda_2"], [28, 59])
    assert list(columns["group"]) == ["group 0", "group 1"]
    assert np.array_equal(columns["trace.trace"], [row.numbers["trace"]["trace"] for row in found.rows])
    assert all(len(column) == 2 for column in columns.values())
    assert list(found.to_pandas().name) == ["n30", "n61"]


def test_what_did_not_converge_or_is_missing_is_nan() -> None:
    failing = Member("none", lambda: 1 / 0, {"extra": True})
    hard = Member("hard", lambda: np.diag(np.linspace(0, 1, 400) ** 0.1))
    found = run([*networks(4), hard, failing], analyses="none", k=2, max_matvecs=8)
    assert np.array_equal(np.isnan(found.columns["lambda_2"]), [False, True, True])
    assert not any(found.rows[1].converged)
    assert np.array_equal(found.columns["extra"], [np.nan, np.nan, 1.0], equal_nan=True)
    assert list(found.columns["error"]) == ["", "", "ZeroDivisionError: division by zero"]
    assert found.failed == (found.rows[2],)


def test_a_failed_analysis_is_part_of_its_row(plug: Any) -> None:
    plug(
        "breaks",
        """
        @hookimpl
        def eigen_analyses():
            return [AnalysisEntry(name="breaks", summary="made up", load="plugged_breaks:breaks")]

        def breaks(context, options):
            raise ValueError("no luck")
            yield
        """,
    )
    (row,) = run(networks(30), analyses="breaks,trace").rows
    assert row.failed == {"breaks": "ValueError: no luck"}
    assert row.error is None
    assert not row.complete
    assert row.numbers["trace"]["trace"] == pytest.approx(435)


def test_a_problem_may_be_all_that_analyze_takes_and_a_name_is_a_member() -> None:
    given = [Member("matrix", np.diag([3.0, 1.0])), Member("name", "demo:quadratic"), "demo:quadratic"]
    given += [Member("problem", eigencore.Problem(operator=np.diag([4.0, 1.0])))]
    found = run(given, analyses="none", options={})
    assert np.allclose(found.columns["lambda_1"], [3, 40, 40, 4])
    assert [row.name for row in found.rows] == ["matrix", "name", "demo:quadratic", "problem"]
    small = study("demo:quadratic", analyses="none", jobs=1, options={"problem": {"n": 30, "outliers": 1}})
    assert small.columns["lambda_1"] == pytest.approx(40)


def test_each_row_has_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    before, variables = threads_of_libraries(), {name: os.environ.get(name) for name in VARIABLES}

    def problem() -> Any:
        (tmp_path / "seen").write_text(str({pool["num_threads"] for pool in threadpool_info()}))
        return np.diag([3.0, 1.0])

    for threads in (1, 2):
        (row,) = run([Member("a", problem)], threads=threads).rows
        assert row.backend.endswith(f"{threads} thread{'s' * (threads > 1)}")
        assert (tmp_path / "seen").read_text() == f"{{{threads}}}"
    after = threads_of_libraries()
    assert {library: after[library] for library in before} == before
    assert {name: os.environ.get(name) for name in VARIABLES} == variables


def threads_of_libraries() -> dict[str, int]:
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


def test_limited_changes_what_is_loaded_and_what_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    for threads in (1, 2):
        with limited(threads):
            assert torch.get_num_threads() == threads
            assert {pool["num_threads"] for pool in threadpool_info()} == {threads}
            assert os.environ["MKL_NUM_THREADS"] == str(threads)
    assert torch.get_num_threads() == before
    assert "MKL_NUM_THREADS" not in os.environ


# -- the file ----------------------------------------------------------------------------------------------


def test_a_second_start_computes_what_is_missing_and_the_file_is_the_same(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    found = run(networks(30, 40, 50), whole)
    run(networks(40), parts)
    run(networks(30, 40), parts)
    CALLS.clear()
    again = run(networks(30, 40, 50), parts)
    assert CALLS == [50]
    assert lines(parts) == lines(whole)
    assert [row.name for row in again.rows] == [row.name for row in found.rows] == ["n30", "n40", "n50"]
    before = parts.read_bytes()
    assert run(networks(30, 40, 50), parts).columns.keys() == found.columns.keys()
    assert CALLS == [50]
    assert parts.read_bytes() == before
    assert Study.read(parts).rows == again.rows
    assert Study.read(parts).settings == again.settings


def test_a_line_that_was_cut_anywhere_is_computed_again(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    run(networks(30, 40), whole)
    text = whole.read_bytes()
    places = random.Random(0).sample(range(len(text)), 12)
    ends = [i for i, byte in enumerate(text) if byte == ord("\n")]
    for place in (0, 1, 20, *ends, *(end + 1 for end in ends), *places):
        cut.write_bytes(text[:place])
        # The study goes on, and is killed again after a row.
        file = StudyFile(cut, Study.read(whole).settings)
        for row in Study.read(whole).rows:
            if row.name not in file.rows:
                file.append(row)
                break
        file.close()
        rows = Study.read(cut).rows
        assert rows == Study.read(whole).rows[: len(rows)], f"cut after {place} bytes"
        run(networks(30, 40), cut)
        assert lines(cut) == lines(whole), f"cut after {place} bytes"


def test_rows_are_in_the_order_of_the_members_however_they_were_finished(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    run(networks(50, 30, 40), file)
    first = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([first[0], first[3], first[1], first[2]]) + b"\n")
    run(networks(50, 30, 40), file)
    assert file.read_bytes().splitlines() == first
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_other_settings_are_refused_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    run(networks(30), file)
    before = file.read_bytes()
    for more, words in (
        ({"k": 2}, "k was 1 and is now 2"),
        ({"seed": 5}, "seed was 0 and is now 5"),
        ({"threads": 2}, "threads was 1 and is now 2"),
        ({"tol": 0.01}, "tol was 0.001 and is now 0.01"),
        ({"options": {"trace": {"products": 50}}}, "options.trace.products was 100 and is now 50"),
        ({"analyses": "none"}, "analyses was trace and is now none"),
    ):
        with pytest.raises(UsageError, match=words):
            run(networks(30, 40), file, **more)
    with pytest.raises(UsageError, match=r"the covariates of n30 were .*30.* and are now .*31"):
        run([Member("n30", np.eye(3), {"size": 31}, "group 0")], file)
    with pytest.raises(UsageError, match=r"the group of n30 were? .*group 0.* now None"):
        run([Member("n30", np.eye(3), {"size": 30})], file)
    with pytest.raises(UsageError, match="a row for n30, which is not a member"):
        run(networks(40), file)
    assert file.read_bytes() == before
    # The same option as text, as the command has it, and a default that is stated, are the same settings.
    run(networks(30), file, tol=1e-3, options={"trace": {"products": "100"}})
    assert CALLS == [30]


def test_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    run(networks(30), file)
    file.write_bytes(file.read_bytes().replace(b'"numpy": "', b'"numpy": "0.'))
    with pytest.raises(UsageError, match=r"versions.numpy was 0\.\d"):
        run(networks(30, 40), file)


@pytest.mark.parametrize(
    "text", [b"my notes", b"my notes\n", b'{"a": 1}\n', b"[]\n", b"\x00\xff\n{}\n", b"\n"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "notes"
    file.write_bytes(text)
    for use in (lambda: run(networks(30), file), lambda: Study.read(file)):
        with pytest.raises(ResultError, match="not the file of a study"):
            use()
    assert file.read_bytes() == text


def test_a_broken_row_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    run(networks(30, 40), file)
    text = file.read_bytes()
    for old, new in (
        (b'"name": "n40"', b'"name": 40'),
        (b'{"name": "n40"', b'{"nome": "n40"'),
        (b'"n40"', b"n40"),
    ):
        file.write_bytes(text.replace(old, new))
        with pytest.raises(ResultError, match=r"rows\.jsonl, line 3, is not a row"):
            run(networks(30, 40), file)
    file.write_bytes(text.replace(b'study": 1', b'study": 7'))
    with pytest.raises(ResultError, match="version 7 of the format; expected version 1"):
        run(networks(30, 40), file)


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; expected a file"):
        run(networks(30), tmp_path)
    with pytest.raises(ResultError, match="can't be used for the rows: No such file"):
        run(networks(30), tmp_path / "no" / "rows.jsonl")
    with pytest.raises(ResultError, match="No such file"):
        Study.read(tmp_path / "none")


@pytest.mark.skipif(os.name == "nt", reason="files are not locked there")
def test_two_studies_never_write_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def second() -> Any:
        run(networks(30), file)

    (row,) = run([Member("first", second)], file).rows
    assert str(row.error).startswith(f"UsageError: another process is writing to {file}")


def test_a_failed_row_is_kept_until_a_retry(tmp_path: Path) -> None:
    file, works = tmp_path / "rows.jsonl", tmp_path / "works"

    def fragile() -> Any:
        if not works.exists():
            raise RuntimeError("not yet")
        return np.eye(3)

    members = [*networks(30), Member("fragile", fragile)]
    assert run(members, file).rows[1].error == "RuntimeError: not yet"
    works.touch()
    assert run(members, file).rows[1].error == "RuntimeError: not yet"
    assert run(members, file, retry=True).rows[1].error is None
    assert CALLS == [30]
    assert [row.error for row in Study.read(file).rows] == [None, None]


def test_ctrl_c_keeps_the_rows_that_are_done(tmp_path: Path) -> None:
    file, pressed = tmp_path / "rows.jsonl", tmp_path / "pressed"

    def interrupts() -> Any:
        if not pressed.exists():
            pressed.touch()
            raise KeyboardInterrupt
        return np.diag(np.arange(1.0, 40))

    members = [*networks(30), Member("n40", interrupts, {"size": 40}, "group 0"), *networks(50)]
    with pytest.raises(Interrupted) as caught:
        run(members, file)
    assert [row.name for row in caught.value.result.rows] == ["n30"]
    found = run(members, file)
    assert CALLS == [30, 50]
    assert [row.error for row in found.rows] == [None, None, None]
    whole = tmp_path / "whole.jsonl"
    run(networks(30, 40, 50), whole)
    assert lines(whole) == lines(file)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "kind", "words"),
    [
        ([], UsageError, "yields no member"),
        (lambda: iter(()), UsageError, "<lambda> yields no member"),
        (lambda: networks(3, 4, 3), UsageError, "2 members are named n3"),
        (lambda: [np.eye(2)], ProblemError, "yielded a value of type ndarray; expected eigencore.Member"),
        (
            lambda: eigencore.Problem(operator=np.eye(2)),
            ProblemError,
            "returned a Problem; expected eigencore",
        ),
        (lambda: 3, ProblemError, "returned a value of type int"),
        (lambda: 1 / 0, ProblemError, "failed: ZeroDivisionError"),
        (lambda: (Member(f"{i}", 1 / (1 - i)) for i in range(3)), ProblemError, "failed: ZeroDivisionError"),
        (5, ProblemError, "the study is a value of type int"),
        ([5], ProblemError, "the study has a value of type int"),
        ("demo:quadratc", UnknownNameError, "unknown problem"),
        ("no.py:networks", UsageError, "there is no file no.py"),
        (
            lambda: [Member("a", None, {"lambda_1": 3})],
            UsageError,
            "lambda_1 of member a has the name of a column",
        ),
        (lambda: [Member("a", None, {"seed": 3})], UsageError, "the covariate seed"),
    ],
)
def test_members_that_are_refused(members: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        run(members)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("", None), "the name of a member is ''"),
        ((3, None), "the name of a member is 3"),
        (("a", None, {"x": float("nan")}), "covariate 'x' of member a is nan; expected a finite number"),
        (("a", None, {"x": np.float64(3).astype(np.float32)}), "Convert numbers of NumPy"),
        (("a", None, {3: 4}), "covariate 3 of member a"),
        (("a", None, [3]), "expected a mapping"),
        (("a", None, {}, 3), "the group of member a is 3"),
    ],
)
def test_a_member_that_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Member(*arguments)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"jobs": 0}, UsageError, "jobs is 0; expected a whole number of at least 1, -1"),
        ({"jobs": -2}, UsageError, "jobs is -2"),
        ({"jobs": True}, UsageError, "jobs is True"),
        ({"threads": 0}, UsageError, "threads is 0"),
        ({"threads": "1"}, UsageError, "threads is '1'; expected a whole number of at least 1, or None$"),
        ({"k": -1}, UsageError, "k is -1"),
        ({"k": 0, "analyses": "none"}, UsageError, "k is 0 and there is no analysis"),
        ({"analyses": "trac"}, UnknownNameError, "unknown analysis: 'trac'"),
        ({"options": {"trace": {"products": -1}}}, OptionError, "trace.products is -1"),
        ({"sedd": 1}, UsageError, "study has no argument 'sedd'"),
        ({"progres": 1}, UsageError, "no argument"),
        ({"eigen": None}, UsageError, "no argument 'eigen'"),
        ({"k": 0, "analyses": "robustness"}, UsageError, "robustness needs eigenpairs"),
    ],
)
def test_arguments_are_refused_before_any_work(tmp_path: Path, more: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        run(networks(30), tmp_path / "rows.jsonl", **more)
    assert CALLS == []
    assert not list(tmp_path.iterdir())


def test_a_problem_that_cannot_travel_is_a_failed_row() -> None:
    lock = threading.Lock()
    first, second = run([Member("lock", lambda: lock), *networks(30)]).rows
    assert "can't be sent to a worker process: TypeError" in str(first.error)
    assert second.error is None


def test_without_joblib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(EigencoreError, match=r'needs joblib, which is not installed\n.*"eigencore\[study\]"'):
        run(networks(30))


# -- worker processes --------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
import numpy as np
import eigencore
from helper import scale

def networks(n: int = 8, pause: float = 0.0, dies: bool = False):
    for i in range(n):
        yield eigencore.Member(f"network {i}", lambda i=i: make(i, pause, dies), {"index": i})

def make(i, pause, dies):
    time.sleep(pause)
    if dies and i == 3:
        time.sleep(0.5)
        os._exit(3)
    print("printed by a worker")
    return scale(i) * np.diag(np.arange(1.0, 40 + i))

if __name__ == "__main__":
    eigencore.study(lambda: networks(pause=0.15), analyses="trace", jobs=2, out=sys.argv[1])
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "my_networks.py"
    file.write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("def scale(i):\n    return 1.0 + i\n")
    return file


def start(script: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, script, out], start_new_session=True, cwd=script.parent)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes are killed by a signal")
def test_a_study_that_is_killed_twice_loses_no_row(script: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert start(script, whole).wait(120) == 0
    moments, kept = random.Random(os.getpid()), 0
    for _ in range(2):
        process = start(script, killed)
        while not killed.exists() or killed.read_bytes().count(b"\n") < kept + 2:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        text = killed.read_bytes()
        assert text.count(b"\n") > kept
        kept = text.count(b"\n") - 1
        complete = set(text.splitlines(keepends=True)[1:])
    assert 2 <= kept <= 8
    assert start(script, killed).wait(120) == 0
    final = killed.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["name"] for line in final[1:]] == [f"network {i}" for i in range(8)]
    # Rows that were done before the last start are not computed again: even their times are the same.
    assert {line for line in complete if line.endswith(b"\n")} <= set(final)
    assert lines(killed) == lines(whole)


@pytest.mark.slow
def test_worker_processes_find_the_file_and_its_neighbours_and_one_that_dies_is_reported(
    script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    name = f"{script}:networks"
    run(name, here)
    run(name, there, jobs=2)
    assert lines(here) == lines(there)
    assert "printed by a worker" not in capfd.readouterr().out
    died = tmp_path / "died.jsonl"
    options = {"problem": {"dies": True}}
    with pytest.raises(EigencoreError, match="a worker process of the study died") as caught:
        run(name, died, jobs=2, options=options)
    by_name = {row.name: row for row in caught.value.partial.rows}
    assert by_name == {row.name: row for row in Study.read(died).rows}
    done = {row.name for row in Study.read(died).rows}
    assert done >= {"network 0", "network 1"}
    assert "network 3" not in done
    CALLS.clear()
    pickled_once = [Member(f"{i}", Pickled(), {"index": i}) for i in range(2)]
    assert run(pickled_once, analyses="none", jobs=2).columns["lambda_1"] == pytest.approx([3, 3])
    assert CALLS == [-1, -1]
    del sys.modules["my_networks"], sys.modules["helper"]


class Pickled:
    """A problem that notes how often it is pickled: a worker that lacks its module gets it only as bytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        CALLS.append(-1)
        return np.diag, ([3.0, 1.0],)
