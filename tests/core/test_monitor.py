"""The monitor without PyTorch: on another framework, which a plugin brings, and when it looks."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import eigencore
from eigencore.errors import UsageError
from eigencore.pipeline.monitoring.look_rows import LookRow, columns_of
from eigencore.pipeline.monitoring.look_schedule import LookSchedule
from eigencore.problems import find_problem
from kit.numpy_training import GradientDescent, ManualClock

PLUGIN = """
from eigencore import MonitorEntry

@hookimpl
def eigen_monitors():
    return [MonitorEntry(name="numpy", summary="made up", load="kit.numpy_training:NumpyTraining")]
"""


@pytest.fixture
def descend(plug):
    """descend(steps, rate, **keywords of Monitor) returns the monitor and the problem after these steps."""
    pytest.importorskip("sklearn")
    plug("numpy_training", PLUGIN)
    ManualClock.now = 0.0

    def run(steps, rate=0.05, **keywords):
        problem = find_problem("demo:digits-numpy")
        optimizer, monitor = GradientDescent(problem.model, rate), eigencore.Monitor(problem, **keywords)
        for _ in range(steps):
            bound = eigencore.bind(problem)
            optimizer.step(bound.gradient(), bound.layout())
            monitor.step(optimizer)
        return monitor, problem

    return run


def test_a_framework_that_a_plugin_brings_is_monitored_like_pytorch(descend):
    monitor, problem = descend(4, every=2, quantities=["lambda_max", "critical_sharpness", "alignment"])
    assert [row.step for row in monitor.rows] == [2, 4]
    assert not any(row.failed for row in monitor.rows)
    bound = eigencore.bind(problem)  # at the weights of the last look
    exact = eigencore.solve(bound.operator(), k=1, which="LA", tol=1e-8)
    last, g = monitor.rows[-1].numbers, bound.gradient()
    assert last["lambda_max"] == pytest.approx(exact.values[0], rel=1e-3)
    assert last["threshold"] == last["critical_threshold"] == pytest.approx(40)
    assert last["loss"] == bound.loss()
    assert last["alignment"] == pytest.approx(abs(exact.vectors[:, 0] @ g) / np.linalg.norm(g), abs=1e-2)
    at = 2 / last["critical_low"]
    assert bound.loss(-at * g) > bound.loss() >= bound.loss(-2 / last["critical_high"] * g)
    assert list(monitor.to_pandas().columns) == list(monitor.columns)


def test_a_backend_without_a_monitor_is_refused():
    pytest.importorskip("sklearn")
    with pytest.raises(UsageError, match="the backend numpy has no monitor") as raised:
        eigencore.Monitor(find_problem("demo:digits-numpy"))
    assert "torch" in str(raised.value.hint)


def test_with_a_share_the_looks_stay_within_it(descend):
    every, share = 2, 0.1
    monitor, _ = descend(200, every=every, share=share, quantities=["critical_sharpness"])
    steps = monitor.columns["step"]
    assert steps[0] == every
    # Each look takes 3 s and each step 1 s: one look in 30 steps.
    assert set(np.diff(steps[1:]).tolist()) == {30}
    assert steps[1] == 62  # the first look, and as much again for the second; the first step is not counted
    assert monitor.cost == "6 looks took 18 s, 9.0% of the 199 s of training"
    assert len(descend(20, every=every, quantities=["critical_sharpness"])[0].rows) == 10


def test_the_schedule_counts_training_and_looks_apart():
    schedule = LookSchedule(every=3)
    schedule.started(10.0)
    assert [step for step in range(1, 8) if schedule.is_due(step)] == [3, 6]
    schedule.looked(14.0, 15.0)
    schedule.looked(19.0, 21.0)
    assert (schedule.training, schedule.looking, schedule.looks) == (8.0, 3.0, 2)
    assert schedule.may_look(1e9)


def test_columns_have_nan_where_a_look_has_no_number_and_lines_have_null():
    rows = [
        LookRow(5, {"lambda_max": 2.0, "critical_sharpness": float("inf")}, "full", True, 4.0, 0.1),
        LookRow(10, {"lambda_max": 3.0, "lambda_2": 1.0}, failed={"critical_sharpness": "the loss is flat"}),
    ]
    columns = columns_of(rows)
    assert columns["step"].tolist() == [5, 10]
    assert np.array_equal(columns["lambda_2"], [np.nan, 1.0], equal_nan=True)
    assert np.array_equal(columns["complete"], [1.0, np.nan], equal_nan=True)
    assert columns["failed"].tolist() == ["", "critical_sharpness: the loss is flat"]
    first = json.loads(rows[0].as_line())
    assert (first["critical_sharpness"], first["complete"], first["lambda_max"]) == (None, True, 2.0)


def test_rows_are_written_as_they_come_and_outlive_a_killed_training(descend, tmp_path):
    out = tmp_path / "rows.jsonl"
    monitor, _ = descend(3, every=1, out=out, quantities=["critical_sharpness"])
    assert [json.loads(line)["step"] for line in out.read_text().splitlines()] == [1, 2, 3]
    assert out.read_text() == "".join(row.as_line() for row in monitor.rows)
    descend(2, every=1, out=out, quantities=["critical_sharpness"])  # a training that goes on adds its rows
    assert len(out.read_text().splitlines()) == 5


def test_a_monitor_without_looks_has_a_report(descend):
    monitor, _ = descend(0)
    assert monitor.report().parts["training"].verdict == "0 looks took 0 s."
    assert repr(monitor) == "Monitor: 0 looks took 0 s"
    assert monitor.report().figures == ()


def test_the_class_is_imported_without_numpy():
    code = "import eigencore, sys; from eigencore import MonitorEntry; print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert ran.stdout.strip() == "False", ran.stderr
