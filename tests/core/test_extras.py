"""The missing packages of an extra are read from metadata, and listed by `eigen plugins`."""

from __future__ import annotations

import importlib
import json

import pytest

from eigencore.cli import main
from eigencore.registry import missing_packages

REQUIRES = """
Requires-Dist: click
Requires-Dist: not-there-0
Requires-Dist: not-there-1>=2,<3 ; extra == 'gpu'
Requires-Dist: Not_There.2[fast]>=1; extra == "gpu"
Requires-Dist: click>=8; extra == "gpu"
Requires-Dist: not-there-3; extra == "docs"
Requires-Dist: not-there-4; sys_platform == "win32" and extra == "gpu"
Requires-Dist: plugged-needy[gpu, docs]; extra == "all"
"""

CODE = """
@hookimpl
def eigen_solvers():
    return [SolverEntry(name=f"solver_{extra}", summary="made up", load="a:b", extra=extra)
            for extra in ("gpu", "docs", "all", "unheard_of", None)]
"""


@pytest.fixture
def needy(plug):
    info = plug("needy", CODE) / "plugged_needy-1.0.dist-info" / "METADATA"
    info.write_text(info.read_text() + REQUIRES.lstrip())
    importlib.invalidate_caches()


def test_missing_packages_are_those_that_an_extra_requires_and_that_are_not_installed(needy):
    assert missing_packages("plugged-needy", "gpu") == ("Not_There.2", "not-there-1")
    assert missing_packages("plugged-needy", "docs") == ("not-there-3",)
    assert missing_packages("plugged_needy", "all") == ("Not_There.2", "not-there-1", "not-there-3")
    assert (
        missing_packages("plugged-needy", "unheard_of")
        == missing_packages("no-such-distribution", "gpu")
        == ()
    )


def test_the_command_lists_them_once_for_each_extra(needy, capsys):
    assert main(["plugins", "needy"]) == 0
    printed = capsys.readouterr().out
    assert 'to use solver_docs: pip install "plugged-needy[docs]" (installs not-there-3)\n' in printed
    assert printed.count("pip install") == 3
    assert main(["plugins", "needy", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["plugins"]
    lacking = {entry["name"]: entry["missing"] for entry in record["entries"]}
    assert lacking["solver_docs"] == ["not-there-3"]
    assert lacking["solver_None"] == lacking["solver_unheard_of"] == []
