"""The example plugin, installed by pip beside the wheel: used, tested by its own tests, and spoilt."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "eigencore-example-plugin"
MODULE = "eigencore_example_plugin"
BROUGHT = {
    "solvers": "davidson",
    "backends": "softmax",
    "problems": "example:clusters",
    "analyses": "explained",
    "kinds": "uncoupled",
}
pytestmark = pytest.mark.slow

FROM_PYTHON = """
import eigencore
from eigencore_example_plugin.clusters import make
run = eigencore.analyze(make(samples=90), k=3, solver="davidson", options={"davidson": {"basis": 12}})
print(run.eigen.status, *run.analyses)
print(eigencore.attack(eigencore.bind(make()), "pgd", eps=1.0, norm="L2").accuracy)
"""


# -- used --------------------------------------------------------------------------------------------------


def test_what_it_brings_is_listed(extended) -> None:
    told = extended.run("eigen", "plugins").stdout
    assert re.search(r"^  example +loaded +eigencore-example-plugin 0\.1\.0 +davidson, ", told, re.MULTILINE)
    for listing, name in BROUGHT.items():
        assert re.search(rf"^  {name} .* example$", extended.run("eigen", listing).stdout, re.MULTILINE)
    assert re.search(r"^  race +compares solvers by", extended.run("eigen", "--help").stdout, re.MULTILINE)
    assert "--set davidson.basis=VALUE" in extended.run("eigen", "solvers", "davidson").stdout


def test_it_is_used_by_name(extended) -> None:
    asked = ["--solver", "davidson", "-k", "3", "--set", "davidson.basis=12", "--set", "problem.samples=90"]
    told = json.loads(extended.run("eigen", "analyze", "example:clusters", *asked, "--json").stdout)
    assert told["status"] == "converged"
    assert told["backend"] == "softmax"
    assert set(told["analyses"]) == {"explained", "robustness"}
    raced = extended.run("eigen", "race", "example:clusters", "davidson", "lanczos").stdout
    assert len(re.findall(r"^ +\d+ products .* converged$", raced, re.MULTILINE)) == 2


def test_it_is_used_from_python(extended) -> None:
    ran = extended.run("python", "-W", "error", "-c", FROM_PYTHON)
    assert ran.stderr == ""
    first, accuracy = ran.stdout.splitlines()
    assert first == "converged explained robustness"
    assert 0 < float(accuracy) < 1


def test_it_passes_its_own_tests(extended, tmp_path: Path) -> None:
    for name in ("tests", "pyproject.toml"):  # and not its sources: what is tested is what was installed
        (shutil.copytree if name == "tests" else shutil.copy)(EXAMPLE / name, tmp_path / name)
    ran = extended.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path
    )
    assert re.search(r"^\d{3} passed, 1 skipped in", ran.stdout, re.MULTILINE)  # its kind on PyTorch


# -- left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_it_can_be_left_out(extended, how) -> None:
    here = extended.having(EIGEN_DISABLE_PLUGINS="example") if how == "variable" else extended
    flag = ["-p", "no:example"] if how == "flag" else []
    assert re.search(
        r"^  example +disabled +\S+ 0\.1\.0$", here.run("eigen", *flag, "plugins").stdout, re.MULTILINE
    )
    told = here.run("eigen", *flag, "solvers", "davidson", code=2).stderr
    assert "unknown solver: 'davidson'" in told
    assert "Plugin example is disabled." in told
    here.run("eigen", *flag, "race", "demo:quadratic", "lanczos", code=2)


# -- spoilt ------------------------------------------------------------------------------------------------


@pytest.fixture
def spoil(extended, tmp_path: Path):
    """spoil(old, new, name=...) has a changed copy of the plugin before all others on Python's path.

    A name makes it a distribution, and a module, of its own.
    """

    def change(old: str, new: str, *, name: str = MODULE):
        info = next(extended.packages.glob(f"{MODULE}-*.dist-info"))
        shutil.copytree(extended.packages / MODULE, tmp_path / name)
        copied = shutil.copytree(info, tmp_path / info.name.replace(MODULE, name))
        for file, changes in {
            tmp_path / name / "__init__.py": {old: new},
            copied / "METADATA": {f"Name: {EXAMPLE.name}\n": f"Name: {name.replace('_', '-')}\n"},
            copied / "entry_points.txt": {
                f"example = {MODULE}": f"{'example' if name == MODULE else 'other'} = {name}"
            },
        }.items():
            text = file.read_text()
            for before, after in changes.items():
                assert before in text
                text = text.replace(before, after)
            file.write_text(text)
        return extended.having(PYTHONPATH=str(tmp_path))

    return change


HOOKS = "from eigencore.hookspecs import hookimpl"
BROKEN = {
    "it cannot be imported": (
        HOOKS,
        f"import not_there\n{HOOKS}",
        "ModuleNotFoundError: No module named 'not_there'",
    ),
    "it exits": (HOOKS, f"raise SystemExit(3)\n{HOOKS}", "it called sys.exit(3)"),
    "a misspelt hook": (
        "def eigen_solvers(",
        "def eigen_solver(",
        "no hook eigen_solver; did you mean eigen_solvers?",
    ),
    "an entry of another kind": (
        "SolverEntry(",
        "BackendEntry(",
        "eigen_solvers returned a list with a BackendEntry",
    ),
    "a name that can't be": (
        'name="davidson"',
        'name="block davidson"',
        "an entry is named 'block davidson'",
    ),
    "no import string": (
        ".davidson:davidson",
        "/davidson.py",
        'expected an import string "module:attribute"',
    ),
}


@pytest.mark.parametrize(("old", "new", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_one_is_told_and_harms_nobody(spoil, old, new, told) -> None:
    here = spoil(old, new)
    listed = here.run("eigen", "plugins").stdout
    assert re.search(r"^  example +broken ", listed, re.MULTILINE)
    assert "example is broken: " in listed
    assert told in listed
    asked = here.run("eigen", "solvers", "davidson", code=2).stderr
    assert "unknown solver: 'davidson'" in asked
    assert "Plugin example failed to load: " in asked
    assert told in asked
    assert "failed to load: example" in here.run("eigen", "solvers").stderr
    assert "all 2 pairs converged" in here.run("eigen", "analyze", "demo:quadratic", "-k", "2").stdout


def test_a_second_copy_is_shadowed_by_the_first(spoil, extended) -> None:
    here = spoil('summary="block', 'summary="nearer block')
    listed = here.run("eigen", "plugins").stdout
    assert len(re.findall(r"^  example +(?:loaded|shadowed) ", listed, re.MULTILINE)) == 2
    assert f"example is shadowed: {MODULE} in {here.variables['PYTHONPATH']} is earlier on sys.path" in listed
    assert "nearer block" in here.run("eigen", "solvers").stdout


def test_a_name_that_is_taken_is_a_clash_only_for_those_who_ask(spoil) -> None:
    here = spoil('name="davidson"', 'name="lanczos"', name="lookalike")
    listed = here.run("eigen", "plugins").stdout
    assert "broken" not in listed
    asked = here.run("eigen", "analyze", "demo:quadratic", "--solver", "lanczos", code=2).stderr
    assert "'lanczos' is the name of 2 entries: a solver of plugin krylov@eigencore and" in asked
    assert "Use lanczos@eigencore or lanczos@lookalike" in asked
    for distribution, summary in (("eigencore", "thick-restart"), ("lookalike", "block Davidson")):
        assert summary in here.run("eigen", "solvers", f"lanczos@{distribution}").stdout
    ran = here.run("eigen", "analyze", "demo:quadratic", "-k", "2", "--solver", "lanczos@lookalike")
    assert "all 2 pairs converged" in ran.stdout
    alone = here.having(EIGEN_DISABLE_PLUGINS="other")
    assert "thick-restart" in alone.run("eigen", "solvers", "lanczos").stdout
