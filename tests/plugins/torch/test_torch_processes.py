"""Several processes of torch.distributed, each with a share of the data, equal one process with all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eigencore.processes import ALONE
from kit import process_programs as programs
from kit.processes import outcomes, values

SIZES = (10, 8, 5)  # ragged batches
PROBLEM = """
import torch, eigencore

def make(rows=41):
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.rand(rows, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (rows,), generator=generator)
    return eigencore.Problem(model, [(x, y)], torch.nn.CrossEntropyLoss(), bounds=(0, 1))
"""


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    return programs.on_all(0, SIZES)


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    gaps = programs.differences(one, other)
    assert max(gaps.values()) <= tolerance, {name: gap for name, gap in gaps.items() if gap > tolerance}


def test_two_processes_with_ragged_shares_equal_one_process(alone):
    data = programs.batches(SIZES)
    for found in values(programs.on_shares, 2, [data[:2], data[2:]]):
        assert_equal(alone, found)


def test_data_that_four_processes_have_are_divided_and_batches_cut(alone):
    for found in values(programs.on_all, 4, SIZES):
        assert_equal(alone, found)


def test_weights_that_are_measured_have_the_same_unit_in_all_processes():
    """With a single batch each, nothing within a process shows whether the loss is a mean or a sum."""
    data = programs.batches(SIZES)
    one = programs.class_weights(0, [data])
    for shares in ([data[:2], data[2:]], [data[:1], data[1:]]):
        for found in values(programs.class_weights, 2, shares):
            assert_equal(one, found, 1e-9)


@pytest.mark.slow
def test_a_language_model_in_a_wrapper_of_training():
    pytest.importorskip("transformers")
    one = programs.language_model(0, [])
    for found in values(programs.language_model, 2, [0, 1, 3], seconds=150):
        assert_equal(one, found)


def test_a_sum_that_forgets_the_weights_of_the_shares_would_be_found(alone):
    data = programs.batches(SIZES)
    found = values(programs.with_mean_of_means, 2, [data[:2], data[2:]])[0]
    assert programs.differences({"hessian": alone["hessian"]}, found)["hessian"] > 1e-3


def test_solves_and_analyses_equal_those_of_one_process():
    one = programs.solved(0, 1, SIZES)
    for found in values(programs.solved, 2, 2, SIZES, seconds=150):
        assert_equal(one, found, 1e-6)


def test_what_is_wrong_in_one_process_is_an_error_in_all_of_them():
    """Each fault is tried in turn, in the same processes: after an error, they go on together."""
    found = values(programs.faults, 2)
    first, second = found
    for name, (expected, same) in programs.FAULTS.items():
        assert expected in first[name], (name, first[name])
        assert (expected if same else programs.OWN[name]) in second[name], (name, second[name])
    np.testing.assert_array_equal(first["afterwards"], second["afterwards"])


def test_a_killed_process_ends_the_others_with_a_message():
    first, killed, third = outcomes(programs.killed, 3, seconds=60)
    assert killed.code == -9
    for one in (first, third):
        assert one.error is not None
        assert "another process has ended" in one.error


def test_limits_and_interrupts_end_all_processes_at_the_same_product():
    first, second = values(programs.stopped, 2)
    assert first == second
    assert first[0] == "budget"
    assert first[2] == "Interrupted"


def test_without_a_group_a_problem_is_computed_alone():
    import eigencore

    assert eigencore.bind(programs.problem_of(programs.batches(SIZES))).processes is ALONE


def run_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with subprocess.Popen(
        [*launcher, "-m", "eigencore", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the launcher leaves its processes running
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_the_command_under_torchrun_prints_and_writes_once(tmp_path):
    (tmp_path / "small.py").write_text(PROBLEM)
    done = run_command(
        tmp_path, "analyze", "small.py:make", "-k", "3", "--analyses", "trace", "--json", "--out", "run"
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "run" / "result.json").read_text())
    assert sorted(file.name for file in tmp_path.glob("run*")) == ["run"]
    alone = subprocess.run(
        [sys.executable, "-c", f"{PROBLEM}\nprint(eigencore.solve(make(), 3).values.tolist())"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    np.testing.assert_allclose(printed["eigenvalues"], json.loads(alone.stdout), rtol=1e-9)


def test_the_command_reports_a_failure_once_with_its_exit_code(tmp_path):
    (tmp_path / "small.py").write_text(PROBLEM)
    done = run_command(tmp_path, "analyze", "small.py:make", "-k", "3000")
    assert done.returncode != 0
    assert done.stderr.count("eigen: k is 3000") == 1
    assert done.stdout == ""
    assert "exitcode: 2" in done.stderr or "exitcode  : 2" in done.stderr


def test_parts_of_data_are_equal_and_in_order():
    from eigencore_torch.data.data_part import part_of_process

    class Ranked:
        def __init__(self, rank: int, count: int):
            self.rank, self.count = rank, count

    for counts in ([10, 8, 5], [23], [1] * 7, [3, 0, 4]):
        for count in range(1, min(sum(counts), 8) + 1):
            taken = []
            for rank in range(count):
                part = part_of_process(counts, Ranked(rank, count), cut=True)  # type: ignore[arg-type]
                own = []
                for index in range(part.first, part.last + 1):
                    where = part.of_batch(index)
                    chosen = range(counts[index])
                    own += [(index, i) for i in (chosen if where is None else chosen[where])]
                taken.append(own)
            sizes = [len(own) for own in taken]
            assert max(sizes) - min(sizes) <= 1
            assert [one for own in taken for one in own] == [
                (b, i) for b, n in enumerate(counts) for i in range(n)
            ]
