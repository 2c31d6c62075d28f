"""Shell completion of commands, flags and the names of entries; it never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from eigencore.cli import eigen
from eigencore.cli.shell_completion import words as split
from eigencore.entries import ProblemEntry
from eigencore.registry import catalogue as registry_module

EIGEN = [sys.executable, "-c", "import sys; from eigencore.cli import main; sys.exit(main())"]
DEMOS = [one.entry.name for one in registry_module.registry().entries(ProblemEntry)]
SHELL = ShellComplete(eigen, {}, "eigen", "_EIGEN_COMPLETE")


def completed(*words: str) -> list[str]:
    """The completions of the last word."""
    *before, incomplete = words
    return [item.value for item in SHELL.get_completions(before, incomplete)]


@pytest.fixture(autouse=True)
def _all_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plugins that a test disables are enabled afterwards."""
    monkeypatch.setattr(registry_module, "_switched_off", set())
    registry_module.registry.cache_clear()
    yield
    registry_module.registry.cache_clear()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("an",), ["analyze", "analyses"]),
        (("analyze", "--so"), ["--solver"]),
        (("analyze", "--solver", "la"), ["lanczos"]),
        (("analyze", "--solver", "lanczos", "--backend", "to"), ["torch"]),
        (("analyze", "demo:qua"), ["demo:quadratic"]),
        (("analyze", "--analyses", "rob"), ["robustness"]),
        (("analyze", "--analyses", "none,rob"), ["none,robustness"]),
        (("analyze", "--solver", "nothing"), []),
        (("attacks", "pg"), ["pgd"]),
        (("analyze", "--kind", "gg"), ["ggn"]),
        (("kinds", "h"), ["hessian"]),
        (("anlyze", "--so"), []),
        (("anlyze", "x", "y"), []),
        (("analyze", "--tol", "wrong", "--set", "wrong", "--see"), ["--seed"]),
        (("-p", "no:krylov", "analyze", "--see"), ["--seed"]),
        (("-p", "wrong", "analyze", "--see"), ["--seed"]),
        (("-p", "no:krylov", "analyze", "--solver", "la"), []),
    ],
    ids=str,
)
def test_completions(words: tuple[str, ...], found: list[str]):
    assert completed(*words) == found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with problems, matrices, a configuration and a run."""
    for name in ("runs/first", "runs/none", "empty", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("matrix.npy", "matrix.txt", "again.toml", "runs/first/result.json", ".hidden.py"):
        (tmp_path / name).touch()
    (tmp_path / "mine.py").write_text(PROBLEMS)
    (tmp_path / "wrong.py").write_text("def make(:")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PROBLEMS = """
raise SystemExit("this file must not run")
def make_network(n: int = 3, *, path=None): ...
def other(): ...
def _private(): ...
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        # problems
        (("analyze", "m"), ["matrix.npy", "mine.py:"]),
        (("analyze", "demo:q"), ["demo:quadratic"]),
        (("analyze", ""), [*DEMOS, "empty/", "matrix.npy", "mine.py:", "runs/", "wrong.py:"]),
        (("analyze", ".h"), [".hidden/", ".hidden.py:"]),
        (("analyze", "mine.py:"), ["mine.py:make_network", "mine.py:other"]),
        (("analyze", "./mine.py:o"), ["./mine.py:other"]),
        (("analyze", "wrong.py:"), []),
        (("analyze", "missing.py:"), []),
        (("study", "demo:quadratic", "mi"), ["mine.py:"]),
        # options of entries
        (("analyze", "--set", "accel"), ["accel_power."]),
        (("analyze", "--set", "pro"), ["problem."]),
        (("analyze", "--set", "accel_power.mo"), ["accel_power.momentum="]),
        (("analyze", "--set", "accel_power.momentum="), ["accel_power.momentum=auto"]),
        (("analyze", "--set", "accel_power.variance_reduction=t"), ["accel_power.variance_reduction=true"]),
        (("analyze", "--set", "accel_power.batches="), ["accel_power.batches=none"]),
        (("analyze", "--set", "accel_power.nothing="), []),
        (("analyze", "--set", "nothing.a"), []),
        (("analyze", "demo:quadratic", "--set", "problem.n"), ["problem.n="]),
        (("analyze", "--seed", "3", "mine.py:make_network", "--set", "problem.pa"), ["problem.path="]),
        (("analyze", "mine.py:make_network", "--set", "problem.c"), ["problem.checkpoint="]),
        (
            ("analyze", "--set", "problem.checkpoint=ma"),
            ["problem.checkpoint=matrix.npy", "problem.checkpoint=matrix.txt"],
        ),
        # files and folders
        (("analyze", "--config", ""), ["again.toml", "empty/", "runs/"]),
        (("analyze", "--csv", "ma"), ["matrix.npy", "matrix.txt"]),
        (("analyze", "--out", "r"), ["runs/"]),
        (("analyze", "--out", "nowhere/"), []),
        (("show", ""), ["runs/"]),
        (("show", "runs/"), ["runs/first"]),
    ],
    ids=str,
)
def test_problems_options_and_files(words: tuple[str, ...], found: list[str], folder: Path):
    assert completed(*words) == found


@pytest.mark.parametrize(
    ("line", "typed", "text", "begin"),
    [
        ("eigen analyze demo:di", "demo:di", "demo:di", 5),
        ("eigen analyze --set a.b=c", "a.b=c", "a.b=c", 4),
        ("eigen analyze ", "", "", 0),
        ("eigen  analyze  'demo:di", "'demo:di", "demo:di", 1),
        ("eigen analyze 'a b':c", "'a b':c", "a b:c", 6),
        ('eigen analyze x:"a b', 'x:"a b', "x:a b", 3),
        ("eigen analyze a\\ b\\:c", "a\\ b\\:c", "a b:c", 0),
        ("eigen analyze 'a\\ b'", "'a\\ b'", "a\\ b", 0),
        ("eigen analyze a\\", "a\\", "a", 0),
    ],
    ids=str,
)
def test_the_word_at_the_cursor(line: str, typed: str, text: str, begin: int):
    last = split(line, breaks=" \t\n\"'@><=;|&(:")[-1]
    assert (last.typed, last.text, last.begin) == (typed, text, begin)


def shell(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(EIGEN, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(name: str):
    ran = shell(_EIGEN_COMPLETE=f"{name}_source")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"_EIGEN_COMPLETE={name}_complete" in ran.stdout


def test_the_answer_to_the_script_of_an_earlier_version():
    ran = shell(_EIGEN_COMPLETE="bash_complete", COMP_WORDS="eigen analyze --so", COMP_CWORD="2")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "\n", "")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("analyze --solver ar", "arpack \n"),
        ("analyze --set accel_power.mo", "accel_power.momentum=\n"),
        ("analyze demo:q", "quadratic \n"),
        ("anlyze --so", "\n"),
    ],
)
def test_the_answer_to_bash(line: str, answer: str):
    ran = shell(_EIGEN_COMPLETE="bash_complete", _EIGEN_LINE=f"eigen {line}", _EIGEN_BREAKS=" =:")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, answer, "")
