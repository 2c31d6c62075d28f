"""The public names, each of which is imported when it is first used."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eigencore

NAMES = {
    *("analyze", "as_operator", "attack", "bind", "hookimpl", "layers", "load", "operator", "save", "solve"),
    *("checkpoints", "compare", "density", "diagonal", "norms", "render", "report", "study", "trace"),
    *("AnalysisResult", "AttackResult", "Certificate", "Comparison", "EigenResult", "Report", "Run"),
    *("Status", "Study"),
    *("LinearOperator", "Member", "Monitor", "Problem", "Request", "Snapshot", "WorkDone"),
    *("AnalysisEntry", "AttackEntry", "BackendEntry", "CommandEntry", "KindEntry", "MonitorEntry"),
    *("ProblemEntry", "RendererEntry", "SolverEntry"),
    *("EigencoreError", "Interrupted"),
}


def test_the_public_names_are_these():
    assert set(eigencore.__all__) == NAMES
    assert set(dir(eigencore)) >= NAMES | {"__version__"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_always_refers_to_the_same_object(name):
    assert getattr(eigencore, name) is getattr(eigencore, name)


def test_no_name_is_also_a_submodule():
    """Otherwise importing the submodule would replace the function by the module."""
    submodules = {module.name for module in pkgutil.iter_modules(eigencore.__path__)}
    assert submodules >= {"solving", "pipeline"}
    assert not submodules & NAMES


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(eigencore.__file__).with_suffix(".pyi").read_text())
    aliases = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert {alias.asname for alias in aliases} == {alias.name for alias in aliases} == NAMES


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'solver'"):
        eigencore.solver  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", eigencore.__version__)


@pytest.mark.parametrize("name", ["Member", "Problem", "Run", "SolverEntry", "hookimpl", "bind"])
def test_light_names_import_nothing_heavy(name):
    heavy = {"numpy", "scipy", "torch", "rich"}
    code = (
        f"import sys; from eigencore import {name}; print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
