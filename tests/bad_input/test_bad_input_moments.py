"""Ctrl-C and SIGTERM at each moment of a run, and full disks: what was computed before is not lost."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows_plugins import plugin

import eigencore
from eigencore.cli import main
from eigencore.errors import UsageError
from eigencore.registry import registry
from eigencore.results import Status
from eigencore.runs.folder import CONFIG, JOURNAL, RESULT

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
EIGEN = [sys.executable, "-c", "import sys; from eigencore.cli import main; sys.exit(main())"]
TICKING = """
import signal
import numpy as np
from eigencore.interfaces import Problem
from eigencore.operators import FunctionOperator

def make(moment: int = 0, signal_number: int = 2):
    values = np.linspace(1, 2, 60) ** 8
    products = 0

    def apply(V):
        nonlocal products
        products += 1
        if products == moment:
            signal.raise_signal(signal_number)
        return (values * V.T).T

    operator = FunctionOperator(apply, 60, xp=np, dtype=values.dtype, device="cpu", matmat=apply)
    return Problem(operator=operator, spectrum=values[::-1].copy())

def intruded():
    # While it runs, another program writes into the folder of the run.
    problem = make()
    apply = problem.operator.matmat
    def intrude(v):
        with open("run/notes.txt", "w") as notes:
            notes.write("mine")
        return apply(v)
    problem.operator.matvec = intrude
    return problem

def factory(signal_number: int = 2):
    signal.raise_signal(signal_number)
"""
LOOK = """
    import signal
    from eigencore.hookspecs import hookimpl
    from eigencore.interfaces import AnalysisEntry
    from eigencore.results import AnalysisResult

    @hookimpl
    def eigen_analyses():
        return [AnalysisEntry(name="strange", summary="made up", load="strange:look")]

    def look(context, options):
        yield AnalysisResult(verdict="half of it")
        signal.raise_signal({number})
        yield AnalysisResult(verdict="all of it")
"""


@pytest.fixture
def ticking(folder: Path) -> Path:
    (folder / "ticking.py").write_text(TICKING)
    return folder


def run(capsys: pytest.CaptureFixture[str], problem: str, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the object that was printed, which is also in the folder given by --out."""
    flags = ("-k", "3", "--tol", "1e-6", "--certify", "full", "--json", "--out", "run", *more)
    code = main(("analyze", problem, *flags))
    out, err = capsys.readouterr()
    assert err in ("", "replaced the earlier run in run\n")
    document = json.loads(out)
    if "error" not in document:
        assert Path("run", RESULT).read_text() == out
        assert eigencore.load("run").eigen.n == 60
    return code, document


@pytest.mark.parametrize("sent", SIGNALS, ids=lambda sent: sent.name)
def test_at_every_product(ticking: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals):
    """At every product of the solver and the certificate, up to one that a whole run no longer makes."""
    endings = []
    for moment in itertools.count(1):
        signal_at = ("--set", f"problem.moment={moment}", "--set", f"problem.signal_number={int(sent)}")
        shutil.rmtree("run", ignore_errors=True)
        code, document = run(capsys, "ticking.py:make", "--analyses", "none", *signal_at)
        if code == 0:
            break
        assert code == SIGNALS[sent]
        endings.append(document["status"])
        found = np.array(document["eigenvalues"])[np.array(document["converged"])]
        np.testing.assert_allclose(found, document["exact"][: len(found)], rtol=1e-5)
    assert moment > 12
    assert set(endings) == {"interrupted", "converged"}


@pytest.mark.parametrize("sent", SIGNALS, ids=lambda sent: sent.name)
def test_before_there_is_a_result(ticking: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals):
    (ticking / "importing.py").write_text(f"import signal; signal.raise_signal({int(sent)})")
    number = ("--set", f"problem.signal_number={int(sent)}")
    for problem, more in (("ticking.py:factory", number), ("importing.py:make", ())):
        code, document = run(capsys, problem, *more)
        assert code == SIGNALS[sent]
        assert document["error"]["type"] == "Interrupted"
        assert sorted(path.name for path in (ticking / "run").iterdir()) == [JOURNAL, CONFIG]


@pytest.mark.parametrize("sent", SIGNALS, ids=lambda sent: sent.name)
def test_in_an_analysis(ticking: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals):
    plugin(LOOK.format(number=int(sent)))(ticking)
    registry.cache_clear()
    code, document = run(capsys, "ticking.py:make", "--analyses", "strange")
    assert (code, document["status"]) == (SIGNALS[sent], "converged")
    assert document["analyses"]["strange"]["verdict"] == "half of it"
    assert "interrupted" in document["analyses"]["strange"]["warnings"][0]


@pytest.mark.parametrize("sent", SIGNALS, ids=lambda sent: sent.name)
def test_while_it_is_saved(
    ticking: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
):
    fsync, times = os.fsync, itertools.count()

    def interrupted(file: int) -> None:
        if next(times) == 1:  # the first one is that of the arguments
            signal.raise_signal(sent)
        fsync(file)

    monkeypatch.setattr(os, "fsync", interrupted)
    code, document = run(capsys, "ticking.py:make", "--analyses", "none")
    assert (code, document["status"]) == (SIGNALS[sent], "converged")


def test_a_folder_that_is_used_by_another_program_during_the_run(
    ticking: Path, capsys: pytest.CaptureFixture[str]
):
    flags = ("-k", "3", "--analyses", "none", "--out", "run")
    assert main(("analyze", "ticking.py:intruded", *flags)) == 2
    out, err = capsys.readouterr()
    assert "contains notes.txt, which is not part of a run" in err
    assert out.startswith("eigenpairs computed before the failure:")
    assert sorted(path.name for path in (ticking / "run").iterdir()) == [JOURNAL, "notes.txt", CONFIG]
    shutil.rmtree(ticking / "run")
    with pytest.raises(UsageError) as caught:
        eigencore.analyze("ticking.py:intruded", k=3, analyses="none", out="run")
    assert caught.value.partial.status is Status.CONVERGED


# -- full disks --------------------------------------------------------------------------------------------


def limited() -> None:
    """Limits the files of this process to 20 kB, which has the effect of a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def process(*arguments: str, preexec_fn: Callable[[], None] | None = None, **more: Any) -> Any:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120, **more}
    return subprocess.run([*EIGEN, *arguments], preexec_fn=preexec_fn, **streams)


def test_a_full_disk_loses_neither_this_run_nor_the_earlier_one(folder: Path):
    before = eigencore.analyze("demo:quadratic", k=2, options={"problem": {"n": 20}}, out="run")
    big = ("analyze", "demo:quadratic", "--set", "problem.n=3000", "--out", "run")
    for as_json in (False, True):
        ran = process(*big, *["--json"] * as_json, preexec_fn=limited)
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        assert "can't be saved in run: is the disk full?" in (ran.stdout if as_json else ran.stderr)
        if as_json:
            assert len(json.loads(ran.stdout)["partial"]["eigenvalues"]) == 5
        else:
            assert ran.stdout.startswith("eigenpairs computed before the failure:")
        assert eigencore.load("run").eigen.values.tolist() == before.eigen.values.tolist()
        names = [JOURNAL, RESULT, CONFIG, "vectors.npy"]
        assert sorted(path.name for path in (folder / "run").iterdir()) == names


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("plugins",), 1, "the output can't be written: No space left on device"),
        (("analyze", "demo:quadratic", "--json"), 1, "the output can't be written: No space left on device"),
        (("analyze", "demo:quadratic", "-k", "0"), 2, "k is 0"),
        (("analyze", "demo:quadratic", "-k", "0", "--json"), 2, "k is 0"),
    ],
    ids=["text", "JSON", "a failure", "a failure as JSON"],
)
def test_output_on_a_full_disk(arguments: tuple[str, ...], code: int, message: str, unbuffered: str):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        ran = process(*arguments, stdout=full, env=environment)
        assert ran.returncode == code
        assert ran.stderr.startswith(f"eigen: {message}")
        assert ran.stderr.count("eigen: ") == 1
        assert "Traceback" not in ran.stderr
        assert process(*arguments, stdout=full, stderr=full, env=environment).returncode == code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "closed").mkdir(mode=0o500)
    assert main(("analyze", "demo:quadratic", "--out", "closed/run")) == 2
    assert "can't be written to" in capsys.readouterr().err
