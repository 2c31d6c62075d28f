"""Shell completion of commands, flags and the names of entries; it never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.shell_completion import ShellComplete

from eigencore.cli import eigen
from eigencore.registry import catalogue as registry_module

EIGEN = [sys.executable, "-c", "import sys; from eigencore.cli import main; sys.exit(main())"]
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


@pytest.mark.parametrize("words", [("show", "ru"), ("analyze", "--out", "ru")], ids=" ".join)
def test_folders_are_completed_by_the_shell(words: tuple[str, ...]):
    (item,) = SHELL.get_completions(list(words[:-1]), words[-1])
    assert (item.type, item.value) == ("dir", "ru")


def shell(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(EIGEN, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(name: str):
    ran = shell(_EIGEN_COMPLETE=f"{name}_source")
    # For bash, click asks for its version, and reports it on stderr if there is no bash.
    assert ran.returncode == 0
    assert f"_EIGEN_COMPLETE={name}_complete" in ran.stdout


@pytest.mark.parametrize(("word", "answer"), [("analyze --solver ar", "plain,arpack"), ("anlyze --so", "")])
def test_the_answer_to_a_shell(word: str, answer: str):
    words = word.split()
    ran = shell(_EIGEN_COMPLETE="bash_complete", COMP_WORDS=f"eigen {word}", COMP_CWORD=str(len(words)))
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, answer, "")
