"""The README's blocks run as they are written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


MAIN, TESTS = blocks("sh")


def parts(command: str) -> list[list[str]]:
    """The words of the three commands that one line joins: environment, installation, and the run itself."""
    (line,) = command.splitlines()
    return [shlex.split(part) for part in line.split(" && ")]


def test_each_command_is_one_line_that_makes_its_environment() -> None:
    for command in (MAIN, TESTS):
        make, install, _ = parts(command)
        assert make == ["python3", "-m", "venv", ".venv"]
        assert install[:6] == shlex.split(".venv/bin/python -m pip install --constraint constraints.txt")


def test_it_is_short_and_says_how_long_the_tests_take() -> None:
    assert README.count("\n") <= 150
    assert "ten to twenty minutes on two cores" in " ".join(README.split())
    subset = " ".join(parts(TESTS)[2]) + " -m 'not slow' tests/core tests/bad_input"
    assert subset in " ".join(README.split())


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")))
    ran = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    model, matrix = ran.stdout.strip().splitlines()
    assert re.fullmatch(r"\[.+\] \[.+\] \d\S*", model)
    assert matrix.startswith("[100.  99.  98.] ")
    assert "all 3 pairs converged" in matrix
    assert [path.name for path in tmp_path.iterdir()] == ["readme.py"]


def test_continuous_integration_runs_the_test_command() -> None:
    make, install, test = parts(TESTS)
    assert make == ["python3", "-m", "venv", ".venv"]
    # The environment is created and filled by the same commands, in another place and without output.
    assert "python3 -m venv" in CI
    installs = [shlex.split(line) for line in CI.splitlines() if "-m pip install" in line]
    assert [word for word in installs[0] if word != "--quiet"][1:] == install[1:]
    # The command itself is read from the README, by this line.
    reads = next(line for line in CI.splitlines() if line.startswith("test_command="))
    read = subprocess.run(
        ["bash", "-euc", f'{reads}; echo "$test_command"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shlex.split(read.stdout) == test[2:]
    assert re.search(r'^.*eval "\$python -m \$test_command"$', CI, re.MULTILINE)
