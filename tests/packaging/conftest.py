"""One wheel and one environment for all tests here: made by pip, without PyTorch, away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "eigencore-example-plugin"
NOT_SOURCES = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().split())]


@dataclass(frozen=True)
class Environment:
    """A virtual environment, the folder that its commands run in, and environment variables that they get."""

    python: Path
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> Path:
        (found,) = self.python.parents[1].glob("lib/python*/site-packages")
        return found

    def having(self, **variables: str) -> Environment:
        return replace(self, variables={**self.variables, **variables})

    def run(self, command: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment, such as eigen, which has to end with that exit code."""
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "EIGEN_DISABLE_PLUGINS")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        ran = subprocess.run(
            [self.python.with_name(command), *arguments],
            cwd=self.folder,
            env={**inherited, "OMP_NUM_THREADS": "1", **self.variables},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert ran.returncode == code, f"{ran.args} ended with {ran.returncode}\n{ran.stdout}{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    def install(self, *what: str | Path) -> None:
        quiet = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        self.run("python", "-m", "pip", "install", *quiet, *what)

    def install_sources(self, *package: str | Path) -> None:
        """What it depends on is there already, and so is hatchling."""
        self.install("--no-deps", "--no-build-isolation", *package)


def sources(package: Path, folder: Path) -> Path:
    """A copy, as a clone has it: pip may write beside what it builds."""
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    return copy


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources(ROOT, tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    asked = ["--quiet", "--disable-pip-version-check", "--no-deps", "--wheel-dir", folder, checkout]
    Environment(Path(sys.executable), folder).run("python", "-m", "pip", "wheel", *asked)
    (built,) = folder.glob("eigencore-*.whl")
    return built


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The wheel without extras, what tests need, and what builds packages."""
    home = tmp_path_factory.mktemp("bare")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    environment = Environment(home / "venv" / "bin" / "python", elsewhere)
    environment.install(wheel, "array-api-strict", "hatchling", "hypothesis", "pytest")
    yield environment
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def extended(bare: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The same with the example plugin, for as long as the tests of one file take."""
    bare.install_sources(sources(EXAMPLE, tmp_path_factory.mktemp("example")))
    yield bare
    bare.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", EXAMPLE.name)
