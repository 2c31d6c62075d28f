"""Runs that are killed: resumed, they give what a run that was not stopped gives, to the last bit."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import analyze, arrays
from eigencore.errors import OperatorError, UsageError
from eigencore.interfaces import Problem
from eigencore.pipeline import RunInterrupted
from eigencore.pipeline.resumption import refuse_changed
from eigencore.results import Run, Status
from eigencore.runs import digests
from eigencore.runs import journal as journal_module
from eigencore.runs.journal import Journal
from eigencore.runs.journal_file import JournalFile, read_records
from kit.sample_means import RankOneMean

SPECTRUM = np.concatenate([[40.0, 25, -16, 10, 6], np.linspace(-1, 1, 295)])
POINTS = 3  # at which a run is killed; one with lanczos is killed at every product, and one on PyTorch once
DIGITS = "demo:digits-numpy"


class Killed(BaseException):
    """Stands for SIGKILL: nothing but the end of the process can be done about it."""


class Killer:
    """Ends a run when it computes its product number `at`, from 1; products of the journal do not count.

    Attributes:
        computed: the products that were computed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.at, self.computed = 0, 0
        product = Journal.product

        def watched(
            journal: Journal, what: str, inputs: Sequence[Any], make: Callable[[], Any], space: Any
        ) -> Any:
            def counted() -> Any:
                self.computed += 1
                if self.computed == self.at:
                    raise Killed
                return make()

            return product(journal, what, inputs, counted, space)

        monkeypatch.setattr(Journal, "product", watched)

    def kill(self, at: int, run: Callable[[], Run]) -> bool:
        """Whether a run was killed at this product; if not, it has ended before."""
        self.at, self.computed = at, 0
        try:
            run()
        except Killed:
            return True
        finally:
            self.at = 0
        return False


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def digits() -> str:
    pytest.importorskip("sklearn")
    return DIGITS


def diagonal(spectrum: np.ndarray = SPECTRUM, **more: Any) -> Problem:
    """A problem without a digest, as one of a data loader: its matrix is a function."""
    A = eigencore.as_operator(lambda v: spectrum * v, n=len(spectrum))
    return Problem(operator=A, **more)


def of_samples() -> Problem:
    rng = np.random.default_rng(0)
    scales = np.geomspace(1.0, 0.05, 40)
    mean = RankOneMean(rng.standard_normal((900, 40)) * scales, rng.uniform(0.5, 1.5, 900))
    return Problem(operator=mean)


def torch_problem() -> Problem:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.Tanh(), torch.nn.Linear(40, 5))
    data = [(torch.randn(50, 12), torch.randint(5, (50,))) for _ in range(2)]
    return Problem(model, data, torch.nn.functional.cross_entropy)


def content(run: Run) -> dict[str, Any]:
    """Everything of a run that a resumed one must have as well; not the time, and not how it was resumed."""
    found: dict[str, Any] = {"failed": sorted(run.failed), "finished": run.manifest["finished"]}
    if run.pairs is not None:
        pairs = {one.name: getattr(run.pairs, one.name) for one in dataclasses.fields(run.pairs)}
        del pairs["seconds"], pairs["state"]
        pairs["vectors"] = arrays.to_host(pairs["vectors"])
        history = pairs.pop("history")
        found |= pairs | {"history": [dataclasses.replace(step, seconds=0.0) for step in history]}
    for name, result in run.analyses.items():
        shown = dataclasses.replace(result, columns={}, figures=(), seconds=0.0)
        found[name] = shown
        found |= {f"{name}/{column}": values for column, values in result.columns.items()}
    return found


def assert_same(run: Run, reference: Run) -> None:
    found, expected = content(run), content(reference)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            assert found[name] == value, name


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "lanczos": (diagonal, {"k": 4, "tol": 1e-6}),
    "lanczos, repeated eigenvalues": (
        lambda: diagonal(np.repeat([9.0, 5.0, 1.0, 0.5], 90)),
        {"k": 3, "options": {"lanczos": {"basis": 12}}},
    ),
    "arpack": (diagonal, {"k": 4, "solver": "arpack"}),
    "lobpcg": (diagonal, {"k": 3, "solver": "lobpcg", "which": "LA"}),
    "deflated_power": (diagonal, {"k": 2, "solver": "deflated_power"}),
    "minibatches": (digits, {"k": 1, "solver": "accel_power", "max_matvecs": 8}),
    "a full certificate": (diagonal, {"k": 3, "certify": "full", "which": "BE"}),
    "a budget": (diagonal, {"k": 6, "tol": 1e-9, "max_matvecs": 15}),
    "samples": (of_samples, {"k": 2, "samples": 300, "which": "LA"}),
    "an accuracy": (of_samples, {"k": 2, "rtol": 0.1, "which": "LA"}),
    "analyses": (
        lambda: diagonal(SPECTRUM[:60]),
        {"k": 2, "analyses": "density,trace", "options": {"density": {"probes": 2, "steps": 8}}},
    ),
    "an analysis of a sample": (digits, {"k": 0, "analyses": "trace", "samples": 200}),
    "an analysis that solves": (
        digits,
        {"k": 1, "analyses": "batch_sharpness", "options": {"batch_sharpness": {"draws": 2}}},
    ),
    "PyTorch": (lambda: torch_problem(), {"k": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_killed_at_any_product_is_resumed(case: str, tmp_path: Path, killer: Killer):
    make, arguments = CASES[case]
    arguments = {"analyses": "none", **arguments}
    reference = analyze(make(), **arguments)
    kept = {**arguments, "out": tmp_path / "run"}
    assert not killer.kill(0, lambda: analyze(make(), **kept))
    total = killer.computed
    shutil.rmtree(tmp_path / "run")
    step = {"lanczos": 1, "PyTorch": total}.get(case, -(-total // POINTS))
    for at in range((total + 1) // 2 if step == total else 1, total + 1, step):
        assert killer.kill(at, lambda: analyze(make(), **kept))
        killer.computed = 0
        resumed = analyze(make(), **kept, resume=True)
        assert killer.computed == total - at + 1  # what was kept is not computed again
        assert_same(resumed, reference)
        assert not {"journal", "run.toml"} & set(os.listdir(tmp_path / "run"))
        shutil.rmtree(tmp_path / "run")


def test_a_run_is_resumed_again_and_again(tmp_path: Path, killer: Killer):
    out, kept = tmp_path / "run", {"k": 4, "tol": 1e-6, "analyses": "none", "out": tmp_path / "run"}
    parts = 0
    while killer.kill(4, lambda: analyze(diagonal(), **kept, resume=True)):
        parts += 1
    assert parts > 4
    resumed = eigencore.load(out)
    assert resumed.manifest["resumption"] == [f"continued from {3 * parts} products that were saved"]
    assert_same(analyze(diagonal(), **kept, resume=True), resumed)  # it has ended


# -- damage ------------------------------------------------------------------------------------------------

KEPT: dict[str, Any] = {"k": 3, "tol": 1e-6, "analyses": "none"}
CALLS = 16  # the products of this run; that of the certificate multiplies three vectors


@pytest.fixture
def killed(tmp_path: Path, killer: Killer) -> Path:
    """The folder of a run of `diagonal()` that was killed at its tenth product."""
    assert killer.kill(10, lambda: analyze(diagonal(), **KEPT, out=tmp_path / "run"))
    return tmp_path / "run"


def records(folder: Path) -> list[Any]:
    with open(folder / "journal", "rb") as file:
        return read_records(file)


def torn(journal: bytearray, last: Any) -> bytearray:
    return journal[: last.offset + 100]


def torn_header(journal: bytearray, last: Any) -> bytearray:
    return journal[: last.start + 7]


def zeros_at_the_end(journal: bytearray, last: Any) -> bytearray:
    """The file has grown, but its last block was not written before the power failed."""
    journal[last.offset :] = bytes(last.length)
    return journal


def flipped(journal: bytearray, last: Any) -> bytearray:
    journal[last.offset + 3] ^= 4
    return journal


def flipped_in_the_header(journal: bytearray, last: Any) -> bytearray:
    journal[last.start + 30] ^= 4
    return journal


@pytest.mark.parametrize("damage", [torn, torn_header, zeros_at_the_end, flipped, flipped_in_the_header])
@pytest.mark.parametrize("which", [-1, -4])
def test_a_damaged_record_and_what_follows_is_computed_again(
    killed: Path, killer: Killer, damage: Callable[[bytearray, Any], bytearray], which: int
):
    reference, found = analyze(diagonal(), **KEPT), records(killed)
    assert len(found) == 11  # what was asked for, the vector of the first product, and nine products
    journal = (killed / "journal").read_bytes()
    (killed / "journal").write_bytes(damage(bytearray(journal), found[which]))
    killer.computed = 0
    resumed = analyze(diagonal(), **KEPT, out=killed, resume=True)
    assert_same(resumed, reference)
    assert killer.computed == CALLS - 9 - which


@pytest.mark.parametrize("length", [0, 5, 20, 60, 400])
def test_a_journal_that_has_hardly_begun_starts_the_run(killed: Path, length: int):
    (killed / "journal").write_bytes((killed / "journal").read_bytes()[:length])
    assert_same(analyze(diagonal(), **KEPT, out=killed, resume=True), analyze(diagonal(), **KEPT))


def test_products_of_other_inputs_are_not_used(killed: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch):
    """As if the computation between the products had other rounding errors, on another processor."""
    expand = eigencore.arrays.random_normal
    monkeypatch.setattr(arrays, "random_normal", lambda *given: expand(*given) * (1 + 1e-15))
    reference = analyze(diagonal(), **KEPT)
    killer.computed = 0
    resumed = analyze(diagonal(), **KEPT, out=killed, resume=True)
    assert_same(resumed, reference)
    assert killer.computed == CALLS
    assert resumed.manifest["resumption"][1].startswith(
        "computed again from product 1 on: the run took another"
    )


# -- what must be the same ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 4}, "k was 3 and is now 4"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"which": "LA"}, "which was LM and is now LA"),
        ({"solver": "arpack"}, "solver was lanczos and is now arpack"),
        ({"options": {"lanczos": {"basis": 30}}}, "options.lanczos.basis was none and is now 30"),
        (
            {"tol": 1e-5, "complete": None},
            "complete was 0.99 and is now none; tol was 1e-06 and is now 1e-05",
        ),
    ],
)
def test_other_arguments_are_refused_and_named(killed: Path, changed: dict[str, Any], message: str):
    before = (killed / "journal").read_bytes()
    with pytest.raises(UsageError) as refused:
        analyze(diagonal(), **{**KEPT, **changed}, out=killed, resume=True)
    assert refused.value.message == f"the run in {killed} can't be continued: {message}"
    assert (killed / "journal").read_bytes() == before
    ended = analyze(diagonal(), **KEPT, out=killed, resume=True)
    with pytest.raises(UsageError) as refused:  # also of a run that has ended
        analyze(diagonal(), **{**KEPT, **changed}, out=killed, resume=True)
    assert message in refused.value.message
    assert ended.manifest["finished"]


def test_other_limits_are_not_refused(killed: Path):
    resumed = analyze(diagonal(), **KEPT, out=killed, resume=True, max_matvecs=14)
    assert_same(resumed, analyze(diagonal(), **KEPT, max_matvecs=14))


def test_other_data_without_a_digest_show_in_the_first_product(killed: Path, killer: Killer):
    before = (killed / "journal").read_bytes()
    with pytest.raises(UsageError, match=r"its first product, computed again, differs by 0\.0") as refused:
        analyze(diagonal(SPECTRUM * 1.01), **KEPT, out=killed, resume=True)
    assert "the data, the loss or the weights have changed" in refused.value.message
    assert (killed / "journal").read_bytes() == before
    # Rounding is no other data.
    resumed = analyze(diagonal(SPECTRUM * (1 + 1e-12)), **KEPT, out=killed, resume=True)
    assert resumed.eigen.status is Status.CONVERGED
    assert "products differ in the last digits" in resumed.manifest["resumption"][1]


def test_other_weights_and_other_data_are_told_apart():
    def asked(weight: float = 1.0, pixel: float = 0.0) -> dict[str, Any]:
        problem = Problem({"W": np.array([[weight, 2.0]])}, [(np.array([[pixel]]), np.array([1]))], "loss")
        return {"arguments": {}, "versions": {}, "digests": digests(problem)[1]}

    refuse_changed(asked(), asked(), Path("run"))
    with pytest.raises(UsageError, match="the run in run can't be continued: the weights differ"):
        refuse_changed(asked(), asked(weight=1.5), Path("run"))
    with pytest.raises(UsageError, match="can't be continued: the weights differ; the data differ"):
        refuse_changed(asked(), asked(weight=1.5, pixel=0.1), Path("run"))
    with pytest.raises(UsageError, match="can't be continued: the data differ"):
        refuse_changed(asked(), asked(pixel=0.1), Path("run"))


def test_a_matrix_and_a_version_are_named(tmp_path: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch):
    out = {**KEPT, "out": tmp_path / "run"}
    assert killer.kill(4, lambda: analyze(np.diag(SPECTRUM), **out))
    with pytest.raises(UsageError, match="can't be continued: the matrix differs"):
        analyze(np.diag(SPECTRUM[::-1]), **out, resume=True)
    monkeypatch.setattr("eigencore.runs.manifest._version", lambda name: "99")
    with pytest.raises(UsageError, match=r"numpy was .* and is now 99"):
        analyze(np.diag(SPECTRUM), **out, resume=True)


def test_an_unfinished_run_is_not_overwritten(killed: Path):
    with pytest.raises(UsageError, match="holds an unfinished run with 9 products"):
        analyze(diagonal(), **KEPT, out=killed)
    assert len(records(killed)) == 11


def test_resuming_what_has_not_begun_starts_it(tmp_path: Path):
    run = analyze(diagonal(), **KEPT, out=tmp_path / "run", resume=True)
    assert_same(run, analyze(diagonal(), **KEPT))
    with pytest.raises(UsageError, match="resume is given without out"):
        analyze(diagonal(), **KEPT, resume=True)


def test_nothing_is_kept_without_save_every(tmp_path: Path, killer: Killer):
    with pytest.raises(UsageError, match="save_every is -1; expected seconds of at least 0, or None"):
        analyze(diagonal(), **KEPT, out=tmp_path / "run", save_every=-1)

    def stops(step: Any) -> None:
        if isinstance(step, eigencore.results.Step):
            raise Killed

    with pytest.raises(Killed):
        analyze(diagonal(), **KEPT, out=tmp_path / "run", save_every=None, progress=stops)
    assert not records(tmp_path / "run")


# -- the time of a run -------------------------------------------------------------------------------------


def take(folder: Path, seconds: float) -> None:
    """Changes a journal to that of a run which took so long."""
    with JournalFile(folder / "journal") as file:
        kept = [(dataclasses.replace(one, seconds=seconds), file.content(one)) for one in file.records]
        file.cut(0)
        for record, written in kept:
            file.append(record, written)


def test_the_time_of_the_earlier_part_counts(killed: Path):
    take(killed, 500.0)
    resumed = analyze(diagonal(), **KEPT, out=killed, resume=True)
    assert 499 < resumed.eigen.seconds < 600
    assert all(499 < step.seconds < 600 for step in resumed.eigen.history)


def test_a_limit_on_time_is_that_of_all_parts(killed: Path):
    take(killed, 500.0)
    resumed = analyze(diagonal(), **KEPT, out=killed, resume=True, max_seconds=400)
    assert resumed.eigen.status is Status.BUDGET
    assert resumed.eigen.matvecs < 10


# -- locks, and disks --------------------------------------------------------------------------------------


def test_a_folder_that_is_in_use_is_refused_by_name(tmp_path: Path):
    (tmp_path / "run").mkdir()
    holds = (
        "import pathlib, signal; from eigencore.runs.unfinished import locked\n"
        "with locked(pathlib.Path('run')): print('locked', flush=True); signal.pause()"
    )
    other = subprocess.Popen([sys.executable, "-c", holds], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        for resume in (False, True):
            with pytest.raises(UsageError, match=rf"is in use by process {other.pid} on .* since 20\d\d-"):
                analyze(diagonal(), **KEPT, out=tmp_path / "run", resume=resume)
    finally:
        other.kill()
        other.communicate()
    assert analyze(diagonal(), **KEPT, out=tmp_path / "run").manifest["finished"]  # the lock is gone with it
    assert sorted(os.listdir(tmp_path / "run")) == ["result.json", "vectors.npy"]


def test_a_full_disk_ends_the_journal_and_not_the_run(
    tmp_path: Path, killer: Killer, monkeypatch: pytest.MonkeyPatch
):
    write, out = JournalFile._write, tmp_path / "run"

    def full(file: JournalFile, offset: int, content: bytes) -> None:
        if offset > 10_000:
            write(file, offset, content[:50])
            raise OSError(28, "No space left on device")
        write(file, offset, content)

    with monkeypatch.context() as patched:
        patched.setattr(JournalFile, "_write", full)
        lines: list[Any] = []
        run = analyze(diagonal(), **KEPT, out=out, progress=lines.append)
        assert_same(run, analyze(diagonal(), **KEPT))
        (remark,) = run.manifest["resumption"]
        assert remark.startswith("the run goes on, but can't be resumed beyond 3 products: the journal in ")
        assert remark.endswith("has ended, because it can't be written: No space left on device")
        assert lines.count(remark) == 1
        assert killer.kill(8, lambda: analyze(diagonal(), **KEPT, out=out))
    assert len(records(out)) == 5
    resumed = analyze(diagonal(), **KEPT, out=out, resume=True)
    assert_same(resumed, run)
    assert resumed.manifest["resumption"] == ["continued from 3 products that were saved"]


def test_the_journal_leaves_as_much_space_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil._ntuple_diskusage(1, 1, 15_000)  # type: ignore[attr-defined]
    monkeypatch.setattr(journal_module.shutil, "disk_usage", lambda folder: usage)
    run = analyze(diagonal(), **KEPT, out=tmp_path / "run")
    (remark,) = run.manifest["resumption"]
    assert "can't be resumed beyond 4 products" in remark
    assert remark.endswith("it would take 1.56e-05 GB, more than is left free on the disk")


def test_a_disk_that_can_only_be_read_is_refused_before_any_work(tmp_path: Path, monkeypatch: Any):
    def refused(*given: Any, **more: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("eigencore.runs.unfinished.create_journal", refused)
    with pytest.raises(UsageError, match="can't be written to: Read-only file system"):
        analyze(diagonal(), **KEPT, out=tmp_path / "run")


# -- what ends a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_that_is_then_resumed(tmp_path: Path, sent: signal.Signals):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def pressed(news: Any) -> None:
        if isinstance(news, eigencore.results.Step) and news.matvecs == 8:
            signal.raise_signal(sent)

    with pytest.raises(RunInterrupted) as stopped:
        analyze(diagonal(), **KEPT, out=tmp_path / "run", progress=pressed)
    assert stopped.value.run.eigen.status is Status.INTERRUPTED
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert eigencore.load(tmp_path / "run").eigen.status is Status.INTERRUPTED
    resumed = analyze(diagonal(), **KEPT, out=tmp_path / "run", resume=True)
    assert_same(resumed, analyze(diagonal(), **KEPT))
    assert eigencore.load(tmp_path / "run").eigen.status is Status.CONVERGED


def test_a_run_whose_product_failed_is_resumed(tmp_path: Path, killer: Killer):
    products = 0

    def fails(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        if products == 9:
            raise OSError("the connection was lost")
        return np.asarray(SPECTRUM * v)

    problem = Problem(operator=eigencore.as_operator(fails, n=len(SPECTRUM)))
    with pytest.raises(OperatorError, match="the connection was lost"):
        analyze(problem, **KEPT, out=tmp_path / "run")
    killer.computed = 0
    reference = analyze(diagonal(), **KEPT)
    resumed = analyze(problem, **KEPT, out=tmp_path / "run", resume=True)
    assert_same(resumed, reference)
    assert killer.computed == CALLS - 8


ANALYSES = """
from eigencore.results import AnalysisResult
import numpy as np

CALLS = []

@hookimpl
def eigen_analyses():
    return [AnalysisEntry(name=name, summary="made up", load=f"plugged_slow:{name}", eigenpairs=False)
            for name in ("attacks", "stops")]

def attacks(context, options):
    CALLS.append("attacks")
    product = context.operator.matvec(np.ones(300))
    yield AnalysisResult(verdict="half")
    columns = {"x": product, "y": np.arange(300)}
    yield AnalysisResult(verdict="whole", numbers={"a": .1, "b": 7}, columns=columns)

def stops(context, options):
    CALLS.append("stops")
    product = context.operator.matvec(np.ones(300) / 2)
    if len(CALLS) == 2:
        raise KeyboardInterrupt
    yield AnalysisResult(verdict="done", columns={"x": product})
"""


def test_an_analysis_that_has_finished_does_not_run_again(plug: Any, tmp_path: Path, killer: Killer):
    plug("slow", ANALYSES)
    import plugged_slow

    kept = {**KEPT, "analyses": "attacks,stops"}
    with pytest.raises(RunInterrupted):
        analyze(diagonal(), **kept, out=tmp_path / "run")
    assert plugged_slow.CALLS == ["attacks", "stops"]
    killer.computed = 0
    resumed = analyze(diagonal(), **kept, out=tmp_path / "run", resume=True)
    assert plugged_slow.CALLS == ["attacks", "stops", "stops"]
    assert killer.computed == 0
    assert_same(resumed, analyze(diagonal(), **kept))


def test_what_it_takes_to_resume_is_one_product(killed: Path):
    products = 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return np.asarray(SPECTRUM * v)

    problem = Problem(operator=eigencore.as_operator(counted, n=len(SPECTRUM)))
    resumed = analyze(problem, **KEPT, out=killed, resume=True)
    assert products == resumed.eigen.matvecs - 9 + 1
