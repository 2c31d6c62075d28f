"""A reader who does what docs/write-a-plugin.md says, block after block, gets a plugin that runs and passes.

pip stays out of it: what pip would make of the page's own pyproject.toml is written by hand. In
tests/packaging pip itself builds and installs the same package.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-plugin.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
INSTALL = "pip install --editable '.[test]'\n"


@dataclass(frozen=True)
class Reader:
    """A folder for the plugin, and a shell in which it is installed once it has been."""

    folder: Path

    def follow(self, language: str, code: str) -> str:
        """Does what a block says; returns what that printed."""
        path = re.match(r"# (\S+\.(?:py|toml))\n", code)
        if path is not None:
            file = self.folder / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
            return ""
        if code == INSTALL:
            self.install()
            return ""
        return self.run(*(["bash", "-euc"] if language == "sh" else [sys.executable, "-c"]), code)

    def install(self) -> None:
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        name, version = project["name"], project["version"]
        info = self.folder / "src" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = project["entry-points"]["eigencore"]
        lines = [f"{plugin} = {module}" for plugin, module in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[eigencore]", *lines]))

    def run(self, *command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(self.folder / "src")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
        return ran.stdout


@pytest.mark.slow
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    printed = []
    for language, code in BLOCKS:
        if language == "text":  # what a command prints
            command, _, shown = code.removeprefix("$ ").partition("\n")
            assert reader.run("bash", "-euc", command) == shown
        elif told := reader.follow(language, code):
            printed.append(told)
    use, python, test, leave_out = printed
    assert "all 3 pairs converged" in use
    assert [float(value) for value in re.findall(r"\d\.\d*", python)[:3]] == pytest.approx(
        [1, 0.9, 0.81], rel=1e-3
    )
    assert re.search(r"\d\d passed", test)
    assert "failed" not in test
    assert "subspace" not in leave_out
    assert leave_out.count("  lanczos ") == 2


def test_each_block_is_a_file_a_command_or_what_one_prints() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "toml", "sh", "text"}
    assert all(code.startswith("$ eigen ") for language, code in BLOCKS if language == "text")
    assert ("sh", INSTALL) in BLOCKS


@pytest.mark.slow
def test_the_mistake_that_the_page_suggests_is_caught(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    line = "        V, _ = xp.linalg.qr(V)\n"
    assert PAGE.count(line) == 1
    for language, code in BLOCKS:
        if code.startswith("# "):
            reader.follow(language, code.replace(line, ""))
    reader.install()
    told = reader.run("bash", "-euc", "python -m pytest -q -x || true")
    assert "BrokenLawError: " in told
