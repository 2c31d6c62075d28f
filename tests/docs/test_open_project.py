"""The files that GitHub, pre-commit and pip read agree with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
CI = (ROOT / ".ci" / "run").read_text()


def test_the_workflow_runs_the_same_script_on_every_supported_version() -> None:
    versions = re.search(r"python: \[(.*)\]", WORKFLOW)
    assert versions
    assert re.findall(r'"([\d.]+)"', versions[1]) == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert "- run: bash .ci/run\n" in WORKFLOW
    assert "--constraint constraints-lowest.txt --editable '.[test]'" in WORKFLOW


def test_pre_commit_runs_the_checks_of_continuous_integration() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = {match.split(" --")[0] for match in re.findall(r"entry: python -m (.+)", config)}
    checks = {
        match.split(" --")[0].removesuffix(" .") for match in re.findall(r'^"\$python" -m (.+)$', CI, re.M)
    }
    assert hooks == {"ruff format", "ruff check", "mypy"}
    assert hooks <= checks


@pytest.mark.parametrize("name", ["Repository", "Documentation", "Changelog", "Issues"])
def test_the_urls_are_those_of_the_repository(name: str) -> None:
    url = PROJECT["urls"][name]
    repository = "https://github.com/eigencore/eigencore"
    assert url == repository or url.startswith(f"{repository}/")
    if "/blob/main/" in url:
        assert (ROOT / url.partition("/blob/main/")[2]).exists()
