"""The wheel, installed bare: without PyTorch, without the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLUGINS = PROJECT["project"]["entry-points"]["eigencore"]
pytestmark = pytest.mark.slow

OWN_MODEL = """
def make():
    return object(), [(0, 0)], abs
"""

USER = """
import numpy as np

import eigencore
from eigencore import Problem, Snapshot
from eigencore.interfaces import SolverEntry
from eigencore.objectives import CrossEntropy
from eigencore.testing import solver_checks
from eigencore_numpy.network import TwoLayer

network = TwoLayer(np.ones((4, 5)), np.zeros(4), np.ones((3, 4)), np.zeros(3))
problem = Problem(model=network, data=[(np.ones((9, 5)), np.arange(9) % 3)], loss=CrossEntropy())
run = eigencore.analyze(problem, 2, backend="numpy", analyses=[], options={"lanczos": {"basis": 9}})
share: float = run.eigen.values[0] / run.eigen.values.sum()
entry = SolverEntry(name="mine", summary="made up", load="mine:solve")
print(share, run.eigen.certificate.bound, entry.which, [check.name for check in solver_checks("lanczos")])
# What is not there is seen as such, or these comments would be called idle.
run.eigen.eigenvalues  # type: ignore[attr-defined]
eigencore.solve(np.eye(3), kk=1, k="3")  # type: ignore[arg-type]
eigencore.eigsh  # type: ignore[attr-defined]
"""

EVERY_KIT = """
import importlib, pkgutil
import eigencore.testing as kit
for module in pkgutil.walk_packages(kit.__path__, "eigencore.testing."):
    importlib.import_module(module.name)
assert all(callable(getattr(kit, name)) for name in kit.__all__)
"""


def test_it_holds_the_core_and_the_plugins_each_with_its_types(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    packages = {name.partition("/")[0] for name in names if not name.partition("/")[0].endswith(".dist-info")}
    assert packages == {"eigencore", *PLUGINS.values()}
    assert {f"{package}/py.typed" for package in packages} <= set(names)


def test_it_has_no_plugin_that_is_broken_on_purpose(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert "eigencore/testing/solvers/checks.py" in names
    assert not [name for name in names if "broken" in name or {"tests", "kit"} & set(name.split("/"))]


def test_it_registers_no_pytest_plugin(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        text = archive.read(entry_points).decode()
    assert "[eigencore]" in text
    assert "pytest" not in text


def test_the_command_says_what_there_is_and_what_extras_would_bring(bare) -> None:
    told = bare.run("eigen", "plugins").stdout
    for name in PLUGINS:
        assert f"\n  {name} " in told
    assert "broken" not in told
    assert 'to use torch: pip install "eigencore[torch]" (installs torch)' in told
    everything = "cloudpickle, jinja2, joblib, matplotlib, mlxtend, scikit-learn, threadpoolctl, torch"
    assert f'pip install "eigencore[all]" (installs {everything})' in told
    found = json.loads(bare.run("eigen", "plugins", "--json").stdout)["plugins"]
    missing = {entry["name"]: entry["missing"] for plugin in found for entry in plugin["entries"]}
    assert missing["torch"] == ["torch"]
    assert missing["lanczos"] == missing["demo:quadratic"] == []


def test_it_finds_eigenvalues_without_pytorch(bare) -> None:
    ran = bare.run("eigen", "analyze", "demo:quadratic", "-k", "3", "--solver", "accel_power")
    assert "all 3 pairs converged" in ran.stdout
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "needs", "extra"),
    [
        (("analyze",), "demo:digits needs torch", "eigencore[torch,demo]"),
        (
            ("analyze", "demo:digits", "--backend", "torch"),
            "demo:digits needs torch",
            "eigencore[torch,demo]",
        ),
        (
            ("analyze", "own.py:make", "--backend", "torch"),
            "the backend torch needs torch",
            "eigencore[torch]",
        ),
        (("analyze", "own.py:make"), "the backend torch needs torch", "eigencore[torch]"),
        (("analyze", "demo:digits-numpy"), "demo:digits-numpy needs sklearn", "eigencore[demo]"),
        (("backends", "torch"), "the backend torch needs torch", "eigencore[torch]"),
        (("study", "demo:quadratic", "--analyses", "none"), "a study needs cloudpickle", "eigencore[study]"),
        (
            ("analyze", "demo:quadratic", "--html", "a.html"),
            "the renderer html needs jinja2",
            "eigencore[report]",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_needs_an_extra_says_which(bare, arguments, needs, extra) -> None:
    (bare.folder / "own.py").write_text(OWN_MODEL)
    ran = bare.run("eigen", *arguments, code=4)
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"eigen: {needs}")
    assert f'pip install "{extra}"' in ran.stderr


def test_the_kits_need_no_pytorch(bare) -> None:
    bare.run("python", "-W", "error", "-c", EVERY_KIT)


def test_the_core_passes_its_tests_away_from_the_checkout(bare, tmp_path: Path) -> None:
    for folder in ("core", "kit"):
        compiled = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests" / folder, tmp_path / folder, ignore=compiled)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)  # opts in to the fixture of eigencore
    asked = PROJECT["tool"]["pytest"]["ini_options"]
    lines = [
        f"addopts = {asked['addopts']}",
        "pythonpath = .",  # the tests import kit
        *(f"{name} = {asked[name][0]}" for name in ("filterwarnings", "markers")),
    ]
    (tmp_path / "pytest.ini").write_text("\n".join(["[pytest]", *lines]))
    ran = bare.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", tmp_path)
    assert int(ran.stdout.rpartition(" passed")[0].split()[-1]) > 1000


EXAMPLE = ROOT / "examples" / "eigencore-example-plugin" / "src" / "eigencore_example_plugin"


def checked(folder: Path, *arguments: object) -> None:
    """Runs mypy, which finds nothing."""
    asked = ["--strict", "--cache-dir", folder / "cache", *arguments]
    ran = subprocess.run([sys.executable, "-m", "mypy", *asked], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_users_script_passes_mypy(bare, tmp_path: Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(USER)
    checked(tmp_path, "--python-executable", bare.python, "--exclude", "uncoupled", script, EXAMPLE)


def test_a_kind_on_pytorch_passes_mypy(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    checked(tmp_path, EXAMPLE / "uncoupled.py")
