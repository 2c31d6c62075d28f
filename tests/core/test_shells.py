"""Completion in bash, zsh and fish: real shells, in a terminal, with the script of `eigen` and a Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TAB, SHOW, CLEAR = "\t", "\x18\x10", "\x18\x15"
# Each shell prints its line on ^X ^P and empties it on ^X ^U.
BASH = """
PS1='> '
bind 'set enable-bracketed-paste off' 'set bell-style none'
show() { printf '\\nLINE<%s>\\n' "$READLINE_LINE"; }
empty() { READLINE_LINE=; READLINE_POINT=0; }
bind -x '"\\C-x\\C-p": show'
bind -x '"\\C-x\\C-u": empty'
eval "$(_EIGEN_COMPLETE=bash_source eigen)"
echo READY
"""
ZSH = """
PS1='> '
unsetopt beep
autoload -Uz compinit && compinit -u -D
zstyle ':completion:*' insert-unambiguous true
show() { printf '\\nLINE<%s>\\n' "$BUFFER" }
empty() { BUFFER= }
zle -N show; zle -N empty
bindkey -e; bindkey '^X^P' show; bindkey '^X^U' empty
eval "$(_EIGEN_COMPLETE=zsh_source eigen)"
echo READY
"""
PROBLEMS = """
def make_network(n: int = 3, path=None): ...
def other(): ...
def _private(): ...
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the command in bin/, problems in two files, and a run."""
    home = tmp_path_factory.mktemp("home")
    for name in ("bin", "runs/first", "runs/none"):
        (home / name).mkdir(parents=True)
    (home / "mine.py").write_text(PROBLEMS)
    (home / "two words.py").write_text("def make(): ...")
    (home / "runs/first/result.json").touch()
    code = "import sys; from eigencore.cli import main; sys.exit(main())"
    command = home / "bin" / "eigen"
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    command.chmod(0o755)
    return home


def needed(shell: str) -> str:
    """The path of a shell; without it, the test is skipped, but not in continuous integration."""
    found = shutil.which(shell)
    if found is None and os.environ.get("CI") != "true":
        pytest.skip(f"{shell} is not installed")
    assert found is not None, f"{shell} is not installed"
    return found


def environment(home: Path) -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    search = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": search, "PYTHONPATH": paths, "TERM": "dumb", "LC_ALL": "C.UTF-8"}


class Terminal:
    """A shell in a terminal of its own, in which keys can be pressed."""

    def __init__(self, command: list[str], home: Path, setup: str):
        self._screen, ours = pty.openpty()
        self._shell = subprocess.Popen(
            command,
            stdin=ours,
            stdout=ours,
            stderr=ours,
            cwd=home,
            env=environment(home),
            start_new_session=True,
        )
        os.close(ours)
        (home / "setup").write_text(setup)
        self._press(". ./setup\n")
        self._until(r"READY\r?\n")

    def line(self, keys: str) -> str:
        """The line after the keys have been pressed."""
        self._press(keys + SHOW)
        found = self._until(r"LINE<(.*)>\r?\n")
        self._press(CLEAR)
        return found[1]

    def shown(self, keys: str) -> str:
        """What the shell has printed since, when the line is shown after the keys."""
        self._press(keys + SHOW)
        found = self._until(r"LINE<.*>\r?\n")
        self._press(CLEAR)
        return found.string

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._screen)

    def _press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def _until(self, pattern: str) -> re.Match[str]:
        text = ""
        while (found := re.search(pattern, text)) is None:
            answers, _, _ = select.select([self._screen], [], [], 60)
            assert answers, f"the shell is silent after {text}"
            text += os.read(self._screen, 4096).decode(errors="replace")
        return found


@pytest.fixture(scope="module")
def bash(home: Path) -> Iterator[Terminal]:
    terminal = Terminal([needed("bash"), "--norc", "--noprofile", "-i"], home, BASH)
    yield terminal
    terminal.close()


@pytest.fixture(scope="module")
def zsh(home: Path) -> Iterator[Terminal]:
    terminal = Terminal([needed("zsh"), "-f", "-i"], home, ZSH)
    yield terminal
    terminal.close()


# What is typed, and the line after Tab: what shells treat differently. test_cli_completion.py has the rest.
LINES = [
    ("eigen analyze demo:q", "eigen analyze demo:quadratic "),
    ("eigen analyze demo:dig", "eigen analyze demo:digits"),
    ("eigen analyze mi", "eigen analyze mine.py:"),
    ("eigen analyze mine.py:ma", "eigen analyze mine.py:make_network "),
    ("eigen analyze ~/mine.py:o", "eigen analyze ~/mine.py:other "),
    ("eigen analyze two\\ w", "eigen analyze two\\ words.py:"),
    ("eigen analyze two\\ words.py:m", "eigen analyze two\\ words.py:make "),
    ("eigen analyze zz", "eigen analyze zz"),
    ("eigen analyze --solver=arp", "eigen analyze --solver=arpack "),
    ("eigen analyze --set accel_power.momentum=a", "eigen analyze --set accel_power.momentum=auto "),
    ("eigen analyze --analyses none,rob", "eigen analyze --analyses none,robustness "),
    ("eigen show runs/", "eigen show runs/first "),
]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_tab_completes_the_line(name: str, request: pytest.FixtureRequest):
    terminal = request.getfixturevalue(name)
    assert [terminal.line(typed + TAB) for typed, _ in LINES] == [line for _, line in LINES]


@pytest.mark.parametrize(("name", "space"), [("bash", ""), ("zsh", " ")])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_word_in_quotes(name: str, space: str, quote: str, request: pytest.FixtureRequest):
    terminal = request.getfixturevalue(name)
    line = terminal.line(f"eigen analyze {quote}two words.py:m{TAB}")
    assert line == f"eigen analyze {quote}two words.py:make{quote}{space}"


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_several_names_are_listed(name: str, request: pytest.FixtureRequest):
    # bash lists them when Tab is pressed again after it has changed nothing.
    shown = request.getfixturevalue(name).shown("eigen analyze demo:m" + TAB * (3 if name == "bash" else 2))
    assert {"mnist", "mnist-robust"} <= {word.rpartition(":")[2] for word in shown.split()}


def test_zsh_and_fish_explain_the_names(zsh: Terminal, home: Path):
    assert re.search(r"lanczos +-- .*restart", zsh.shown(f"eigen analyze --solver l{TAB}{TAB}"))
    ((value, text), _) = in_fish(home, "eigen analyze --solver l")[0]
    assert (value, "restart" in text) == ("lanczos", True)


def in_fish(home: Path, *lines: str) -> list[list[tuple[str, str]]]:
    """What fish offers for each line: values and their descriptions."""
    asks = "".join(f"complete -C {_quoted(line)}; echo; echo END;" for line in lines)
    ran = subprocess.run(
        [needed("fish"), "--no-config", "-c", f"_EIGEN_COMPLETE=fish_source eigen | source; {asks}"],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    answers = ran.stdout.split("\nEND\n")[:-1]
    return [
        [(value, text) for value, _, text in (one.partition("\t") for one in answer.splitlines() if one)]
        for answer in answers
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_fish_offers_what_completes_the_line(home: Path):
    """fish adds quotes and spaces when it inserts one of the values."""
    offered = in_fish(home, *(line for line, _ in LINES))
    for (line, completed), found in zip(LINES, offered, strict=True):
        last = completed.replace("\\ ", "␣").split()[-1].replace("␣", " ")
        values = [value for value, _ in found]
        if completed == line:  # there is nothing to complete
            assert values == []
        elif completed.endswith(" "):
            assert values == [last]
        else:  # several, or one after which more follows
            assert values
            assert all(value.startswith(last) for value in values), line
