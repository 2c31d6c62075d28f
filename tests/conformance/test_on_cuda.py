"""The conformance kits on a CUDA device, and an analysis there; skipped where there is none.

PyTorch's default device is CUDA while a check runs, so that the arrays of the kits are made there.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

from eigencore.cli import main
from eigencore.testing import attack_checks, backend_checks, solver_checks
from eigencore.testing.checks import Check

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

LIBRARIES = ("torch-float32", "torch-float64")
SOLVERS = ("lanczos", "arpack", "deflated_power", "accel_power", "lobpcg")
FULL_BASIS = {"warm_start_saves_products": "ARPACK first tests for convergence when its basis is full"}


def solver_cases() -> list[Any]:
    return [
        pytest.param(check, id=f"{solver}-{check.name}")
        for solver in SOLVERS
        for check in solver_checks(
            solver,
            libraries=LIBRARIES,
            solves_everything=solver in ("lanczos", "arpack"),
            known_failures=FULL_BASIS if solver == "arpack" else None,
        )
    ]


def attack_cases() -> list[Any]:
    return [
        pytest.param(check, id=f"{attack}-{check.name}")
        for attack in ("fgsm", "pgd", "apgd", "apgd_t", "ddn", "fmn", "deepfool")
        for check in attack_checks(attack, libraries=LIBRARIES)
    ]


@pytest.mark.parametrize("check", solver_cases())
def test_a_solver_conforms_on_cuda(check: Check[Any]) -> None:
    with torch.device("cuda"):
        check()


@pytest.mark.parametrize("check", attack_cases())
def test_an_attack_conforms_on_cuda(check: Check[Any]) -> None:
    with torch.device("cuda"):
        check()


@functools.cache
def on_digits(dtype: str) -> dict[str, Check[Any]]:
    from eigencore_demo.digits import make

    problem = make()
    (x, y), *_ = problem.data
    problem = type(problem)(
        model=problem.model,
        data=[(x[:16], y[:16]), (x[16:24], y[16:24]), (x[24:30], y[24:30])],
        loss=problem.loss,
        bounds=problem.bounds,
        backend="torch",
    )
    return {check.name: check for check in backend_checks(problem, device="cuda", dtype=dtype)}


def laws() -> list[str]:
    from eigencore.testing.backends.checks import IF_OFFERED

    return [law.__name__ for _, laws in IF_OFFERED for law in laws]


@pytest.mark.parametrize("law", laws())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_backend_conforms_on_cuda(dtype: str, law: str) -> None:
    on_digits(dtype)[law]()


def test_the_command_gives_the_same_answer_on_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        arguments = ["analyze", "demo:digits", "-k", "3", "--device", device, "--json", "--analyses", "none"]
        assert main(arguments) == 0
        found[device] = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(found["cuda"]["eigenvalues"], found["cpu"]["eigenvalues"], rtol=2e-3)
    assert found["cuda"]["certificate"]["complete"] is True
