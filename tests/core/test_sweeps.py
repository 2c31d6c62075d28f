"""Sweeps over checkpoints: a row for each file of weights, on one process, several, or a Dask cluster."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import eigencore
from eigencore import Problem, Study, study
from eigencore.cli import main
from eigencore.errors import EigencoreError, PluginError, UsageError
from eigencore.pipeline.studies.checkpoints import checkpoints
from eigencore.pipeline.studies.members import Member
from eigencore.pipeline.studies.run_folders import run_folders

pytest.importorskip("joblib")  # with the extra `study`

FACTORY = """
import time
import numpy as np

def make(checkpoint, scale: float = 1.0, wait: float = 0.0):
    time.sleep(wait)
    return scale * np.diag(np.load(checkpoint))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a factory, and twelve checkpoints whose largest eigenvalue is 100 + number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "net.py").write_text(FACTORY)
    for number in range(0, 120, 10):
        np.save(f"step-{number}.npy", np.arange(1.0, 101.0 + number))
    yield tmp_path
    sys.modules.pop("net", None)


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def eigen(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """eigen(*arguments), as a user types it."""
    return lambda *arguments: Done(main(arguments), *capsys.readouterr())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*.npy"))


def test_a_member_for_each_file_in_the_order_of_the_numbers(folder: Path) -> None:
    found = checkpoints("net.py:make", files(folder))  # sorted as text, 100 comes before 20
    assert [member.covariates["number"] for member in found] == list(range(0, 120, 10))
    assert found[2].name == "step-20.npy"
    assert {member.group for member in found} == {"."}
    digests = {member.covariates["sha256"] for member in found}
    assert len(digests) == 12
    os.chdir("/")  # a worker may have another working directory
    assert found[0].problem().operator.shape == (100, 100)
    assert found[0].problem().name == "net.py:make"


def test_names_and_numbers_of_files_in_several_folders(folder: Path) -> None:
    for name in ("b/last.npy", "a/last.npy", "a/1.npy", "b/1.npy"):
        Path(name).parent.mkdir(exist_ok=True)
        np.save(name, np.ones(3))
    numbered = checkpoints("net.py:make", ["b/1.npy", "a/1.npy"])
    assert [(one.name, one.group) for one in numbered] == [("b/1.npy", "b"), ("a/1.npy", "a")]
    without = checkpoints("net.py:make", ["b/last.npy", "a/1.npy"])
    assert [one.name for one in without] == ["last.npy", "1.npy"]
    assert not any("number" in one.covariates for one in without)


@pytest.mark.parametrize(
    ("problem", "names", "keywords", "words"),
    [
        ("net.py:make", [], {}, "there is no checkpoint"),
        ("net.py:make", ["no.npy"], {}, "the checkpoint no.npy does not exist"),
        ("net.py:make", ["."], {}, "is a folder"),
        ("net.py:make", ["step-0.npy", "step-0.npy"], {}, "is given 2 times"),
        ("net.py:make", ["step-0.npy"], {"checkpoint": "step-10.npy"}, "problem.checkpoint is set"),
        ("net.py:make", ["step-0.npy"], {"size": 3}, "size"),
        (Problem(operator=np.eye(2)), ["step-0.npy"], {"scale": 3}, "no name"),
    ],
)
def test_what_is_refused_before_any_work(
    folder: Path, problem: Any, names: list[str], keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(EigencoreError, match=re.escape(words)):
        checkpoints(problem, names, keywords)


def test_folders_of_runs_have_names_of_letters_and_digits(tmp_path: Path) -> None:
    found = run_folders([Member("a/b c.pt", 1), Member("../x", 1)], tmp_path)
    assert [path.name for path in found.values()] == ["a-b-c.pt", "x"]
    with pytest.raises(UsageError, match="as that of another member"):
        run_folders([Member("a/b", 1), Member("a:b", 1)], tmp_path)


@pytest.mark.parametrize("jobs", ["dask://", "tcp://here:1", "many", 0, -2, True, 1.5])
def test_jobs_that_are_refused(jobs: Any) -> None:
    with pytest.raises(UsageError, match="jobs is"):
        study([Member("a", np.eye(3))], jobs=jobs, analyses="none")


# -- the command -------------------------------------------------------------------------------------------

SWEEP = ("analyze", "net.py:make", "-k", "2", "--analyses", "none", "--tol", "1e-6")


def test_the_command_prints_a_row_for_each_checkpoint_and_keeps_every_run(folder: Path, eigen: Any) -> None:
    done = eigen(*SWEEP, *files(folder), "--out", "sweep", "--csv", "rows.csv")
    assert done.exit_code == 0, done.stderr
    assert "12 checkpoints" in done.stdout
    with open("rows.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(float(row["number"])) for row in rows] == list(range(0, 120, 10))
    for row in rows:
        size = 100 + int(float(row["number"]))
        assert float(row["lambda_1"]) == pytest.approx(size, rel=1e-9)
        kept = eigencore.load(Path("sweep") / row["name"])
        assert kept.eigen.values[0] == float(row["lambda_1"])
        assert kept.eigen.vectors.shape == (size, 2)
    shown = eigen("show", "sweep")
    assert shown.stdout == done.stdout
    alone = eigen("show", "sweep/step-20.npy")
    assert alone.exit_code == 0
    assert "net.py:make" in alone.stdout


def test_a_sweep_goes_on_with_the_rows_that_are_missing(folder: Path, eigen: Any) -> None:
    names = files(folder)
    before = json.loads(eigen(*SWEEP, *names[:5], "--out", "sweep", "--json").stdout)["rows"]
    again = eigen(*SWEEP, *names, "--out", "sweep", "--json")
    assert again.exit_code == 0
    after = {row["name"]: row for row in json.loads(again.stdout)["rows"]}
    assert len(after) == 12
    assert [after[row["name"]] for row in before] == before  # with their times: they were not computed again


def test_a_checkpoint_that_changed_is_refused(folder: Path, eigen: Any) -> None:
    assert eigen(*SWEEP, "step-0.npy", "step-10.npy", "--out", "sweep").exit_code == 0
    np.save("step-10.npy", np.ones(4))
    again = eigen(*SWEEP, "step-0.npy", "step-10.npy", "--out", "sweep")
    assert again.exit_code == 2
    assert "the covariates of step-10.npy" in again.stderr


def test_options_of_the_problem_and_a_checkpoint_that_fails(folder: Path, eigen: Any) -> None:
    Path("step-10.npy").write_bytes(b"no array")
    done = eigen(*SWEEP, "step-0.npy", "step-10.npy", "--set", "problem.scale=2", "--json")
    first, second = json.loads(done.stdout)["rows"]
    assert done.exit_code == 1
    assert first["eigenvalues"][0] == pytest.approx(200)
    assert "step-10.npy" in second["name"]
    assert second["error"]


def test_a_checkpoint_that_failed_may_be_replaced(folder: Path, eigen: Any) -> None:
    good = Path("step-10.npy").read_bytes()
    Path("step-10.npy").write_bytes(good[:200])  # half written by the training
    two = (*SWEEP, "step-0.npy", "step-10.npy", "--out", "sweep")
    assert eigen(*two).exit_code == 1
    Path("step-10.npy").write_bytes(good)
    refused = eigen(*two)
    assert refused.exit_code == 2
    assert "--retry" in refused.stderr
    done = eigen(*two, "--retry", "--json")
    assert done.exit_code == 0
    assert [row["eigenvalues"][0] for row in json.loads(done.stdout)["rows"]] == pytest.approx([100, 110])


def test_a_sweep_that_is_killed_goes_on_at_once(folder: Path) -> None:
    """The workers of the killed one end, too, and their rows are computed again."""
    command = [sys.executable, "-m", "eigencore", *SWEEP, *files(folder)[:6], "--jobs", "2", "--out", "sweep"]
    command += ["--set", "problem.wait=0.3"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(folder.glob("sweep/step-*/result.json")) and time.monotonic() < until:
        time.sleep(0.05)
    workers = children(started.pid)
    started.kill()
    started.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(Study.read("sweep/rows.jsonl").rows) == 6
    assert workers
    assert not [pid for pid in workers if "LokyProcess" in command_line(pid)]


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_a_sweep_without_rows_is_said_to_have_none(folder: Path, eigen: Any) -> None:
    assert eigen(*SWEEP, "step-0.npy", "--out", "sweep").exit_code == 0
    rows = Path("sweep/rows.jsonl")
    rows.write_text(rows.read_text().splitlines(keepends=True)[0])
    shown = eigen("show", "sweep")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "no checkpoint is done yet" in shown.stderr
    resumed = eigen("analyze", "--resume", "sweep")
    assert resumed.exit_code == 2
    assert "Give the command of the sweep again" in resumed.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--jobs", "2"), "--jobs is given without checkpoints"),
        (("--retry",), "--retry is given without checkpoints"),
        (("step-0.npy", "--jobs", "dask"), "jobs is 'dask'"),
        (("step-0.npy", "--out", "a-run"), "holds a run"),
        (("no.npy",), "does not exist"),
    ],
)
def test_wrong_arguments_of_the_command(
    folder: Path, eigen: Any, arguments: tuple[str, ...], words: str
) -> None:
    eigencore.analyze(np.eye(3), 1, out="a-run")
    done = eigen(*SWEEP, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_figure_of_a_sweep_follows_the_numbers(folder: Path) -> None:
    found = study(checkpoints("net.py:make", files(folder)), analyses="none", k=2, jobs=1)
    (figure,) = found.report().figures
    assert figure.kind == "line"
    assert list(figure.series["x"]) == list(range(0, 120, 10))
    assert np.allclose(figure.series["lambda_1"], found.columns["lambda_1"])
    assert set(figure.series) == {"x", "lambda_1", "lambda_2"}


# -- a cluster ---------------------------------------------------------------------------------------------


def test_a_sweep_on_dask_has_every_row_though_a_worker_is_killed(folder: Path) -> None:
    """Twelve checkpoints on two workers, one of which is killed while it computes."""
    distributed = pytest.importorskip("distributed")
    members = checkpoints("net.py:make", files(folder), {"wait": 0.4})
    expected = study(members, analyses="none", k=2, jobs=1, out="alone.jsonl")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        first = {worker.pid for worker in cluster.workers.values()}
        killed = threading.Timer(2.0, os.kill, (min(first), signal.SIGKILL))
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        killed.start()
        found = study(members, analyses="none", k=2, jobs=address, out="rows.jsonl")
        assert not killed.is_alive()  # so it died before the end
        assert min(first) not in {worker.pid for worker in cluster.workers.values()}
    assert [row.name for row in found.rows] == [member.name for member in members]
    for name in ("lambda_1", "lambda_2", "error"):
        assert np.array_equal(found.columns[name], expected.columns[name])
    assert len(Study.read("rows.jsonl").rows) == 12


def test_a_cluster_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    members = checkpoints("net.py:make", ["step-0.npy"])
    began = time.monotonic()
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(EigencoreError, match=r"no Dask cluster at dask://127\.0\.0\.1:1") as caught,
    ):
        study(members, analyses="none", jobs="dask://127.0.0.1:1")
    assert "dask scheduler" in str(caught.value.hint)
    assert time.monotonic() - began < 60


def test_without_dask_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PluginError) as caught:
        study([Member("a", np.eye(3))], analyses="none", jobs="dask://here:1")
    assert 'pip install "eigencore[dask]"' in str(caught.value.hint)
