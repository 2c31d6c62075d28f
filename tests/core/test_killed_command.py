"""The command, killed by SIGKILL at random moments: nothing that it reported as saved is lost."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eigencore.runs.journal import product_count
from eigencore.runs.journal_file import read_records
from kit.effort import cases_to_try

EIGEN = [sys.executable, "-m", "eigencore"]
SLOWED = """
import time

import numpy as np

import eigencore
from eigencore.operators import FunctionOperator

VALUES = np.linspace(1, 2, 80) ** 12


def make(pause: float = 0.01):
    def product(v):
        time.sleep(pause)
        return VALUES * v

    A = FunctionOperator(product, len(VALUES), xp=np, dtype=VALUES.dtype, device="cpu")
    return eigencore.Problem(operator=A)
"""
# In seconds after the start: from before the folder is there to after the run has ended.
KILLED_WITHIN = 0.1, 3.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "slowed.py").write_text(SLOWED)
    return folder


def command(place: Path, *arguments: str) -> Any:
    return subprocess.Popen(
        [*EIGEN, *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def numbers(printed: str) -> dict[str, Any]:
    """The answer of a run, without times and what is said about how it was made."""
    read = json.loads(printed)
    for one in (*read["history"], *read["analyses"].values()):
        del one["seconds"]
    return {name: value for name, value in read.items() if name not in ("seconds", "run")}


@pytest.fixture(scope="module")
def answer(place: Path) -> dict[str, Any]:
    run = command(place, *START, "--json", "--set", "problem.pause=0")
    return numbers(run.communicate(timeout=100)[0])


START = ("analyze", "slowed.py:make", "-k", "3", "--tol", "1e-6", "--analyses", "trace")


@pytest.mark.parametrize("number", range(cases_to_try(5)))
def test_a_command_that_is_killed_is_resumed(place: Path, answer: dict[str, Any], number: int):
    """EIGEN_EFFORT=10 tries 50 of them."""
    rng, folder, log = random.Random(number), place / f"run-{number}", place / f"{number}.log"
    keep = ("--save-every", "0.1", "--log", str(log))
    for _ in range(rng.choice([1, 1, 2])):
        run = command(place, *to_go_on(folder), *keep)
        try:
            run.wait(timeout=rng.uniform(*KILLED_WITHIN))
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
        run.communicate(timeout=100)
        if (folder / "journal").exists():
            reported = re.findall(r"saved: ([\d,]+) product", log.read_text() if log.exists() else "")
            with open(folder / "journal", "rb") as file:
                kept = product_count(read_records(file))
            assert kept >= max((int(one.replace(",", "")) for one in reported), default=0)
    run = command(place, *to_go_on(folder), "--json")
    out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    assert numbers(out) == answer
    assert sorted(os.listdir(folder)) == ["arrays.npz", "result.json", "vectors.npy"]


def to_go_on(folder: Path) -> tuple[str, ...]:
    """The arguments with which the run is started, or resumed if there is anything to resume."""
    if (folder / "run.toml").exists() or (folder / "result.json").exists():
        return "analyze", "--resume", folder.name
    return *START, "--out", folder.name
