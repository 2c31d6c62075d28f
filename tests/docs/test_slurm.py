"""The job script of the page about Slurm, run by bash with stand-ins for `srun` and `scontrol`."""

from __future__ import annotations

import ast
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import eigencore

DOCS = Path(__file__).parents[2] / "docs"
PAGES = SimpleNamespace(**runpy.run_path(str(DOCS / "pages.py")))
SCRIPT, PYTHON = PAGES.blocks(PAGES.PAGES[PAGES.SLURM_PAGE])
MODEL = """
import time

import numpy as np

import eigencore
from eigencore.operators import FunctionOperator

VALUES = np.linspace(1, 2, 200) ** 12


def problem():
    def product(v):
        time.sleep(0.05)
        return VALUES * v

    A = FunctionOperator(product, len(VALUES), xp=np, dtype=VALUES.dtype, device="cpu")
    return eigencore.Problem(operator=A)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with the job script, a model, and the commands of Slurm and of eigencore."""
    commands = {
        "srun": 'exec "$@"',
        "scontrol": 'echo "$@" >> scontrol.log',
        "eigen": f'exec {sys.executable} -m eigencore "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, line in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "job.sh").write_text(SCRIPT.code.replace("--analyses density", "--analyses none"))
    return tmp_path


def job(cluster: Path) -> subprocess.Popen[str]:
    path = f"{cluster / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["bash", "job.sh"], cwd=cluster, env=environment, stdout=subprocess.PIPE, text=True
    )


def test_the_script_stops_the_run_puts_itself_back_and_resumes(cluster: Path) -> None:
    folder, log = cluster / "runs" / "7", cluster / "scontrol.log"
    first = job(cluster)
    deadline = time.monotonic() + 60
    while not ((folder / "journal").exists() and (folder / "journal").stat().st_size > 9000):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGUSR1)
    printed, _ = first.communicate(timeout=60)
    assert first.returncode == 143
    assert "interrupted after" in printed
    assert log.read_text() == "requeue 7\n"
    second = job(cluster)
    printed, _ = second.communicate(timeout=100)
    assert second.returncode == 0
    assert "all 20 pairs converged" in printed
    assert log.read_text() == "requeue 7\n"
    run = eigencore.load(folder)
    assert run.manifest["finished"]
    assert run.manifest["resumption"][0].startswith("continued from ")


def test_the_blocks_are_valid() -> None:
    subprocess.run(["bash", "-n"], input=SCRIPT.code, text=True, check=True)
    (call,) = [node for node in ast.walk(ast.parse(PYTHON.code)) if isinstance(node, ast.Call)][:1]
    assert ast.unparse(call.func) == "eigencore.analyze"
