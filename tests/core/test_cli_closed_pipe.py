"""Files are written also if the reader of the output has left, as `head` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eigencore.cli import main

EIGEN = f"{sys.executable} -m eigencore"
TRACE = "analyze demo:quadratic -k 0 --analyses trace --set problem.n=30"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    for name in ("a", "b"):
        assert (
            main(["analyze", "demo:quadratic", "-k", "2", "--analyses", "none", "--out", str(place / name)])
            == 0
        )
    return place


@pytest.mark.parametrize("command", [TRACE, "show a", "compare a b", "show a --json"])
def test_the_table_is_written(folder: Path, command: str) -> None:
    (folder / "table.csv").unlink(missing_ok=True)
    subprocess.run(f"{EIGEN} {command} --csv table.csv | true", shell=True, cwd=folder, check=False)
    assert len((folder / "table.csv").read_text().splitlines()) >= 2


@pytest.mark.parametrize("command", ["show a", "compare a b"])
def test_the_page_is_written(folder: Path, command: str) -> None:
    pytest.importorskip("matplotlib")
    (folder / "page.html").unlink(missing_ok=True)
    subprocess.run(f"{EIGEN} {command} --html page.html | true", shell=True, cwd=folder, check=False)
    assert (folder / "page.html").read_text().endswith("</html>")
