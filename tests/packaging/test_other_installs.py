"""An editable install, and the package of docs/write-a-plugin.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-plugin.md").read_text()
pytestmark = pytest.mark.slow


@pytest.fixture
def editable(bare, checkout, wheel):
    bare.install_sources("--editable", checkout)
    yield bare
    bare.install("--no-deps", "--force-reinstall", wheel)


def test_an_editable_install_runs_from_the_checkout(editable, checkout: Path) -> None:
    where = "import eigencore, eigencore_krylov; print(eigencore.__file__, eigencore_krylov.__file__)"
    core, plugin = editable.run("python", "-c", where).stdout.split()
    assert core == str(checkout / "eigencore" / "__init__.py")
    assert plugin == str(checkout / "plugins" / "eigencore_krylov" / "__init__.py")
    assert "all 2 pairs converged" in editable.run("eigen", "analyze", "demo:quadratic", "-k", "2").stdout
    assert "shadowed" not in editable.run("eigen", "plugins").stdout


def test_the_package_that_the_page_builds_is_one(bare, tmp_path: Path) -> None:
    for path, text in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    bare.install_sources(tmp_path)
    try:
        ran = bare.run("eigen", "analyze", "demo:quadratic", "--solver", "subspace", "-k", "2")
        assert "all 2 pairs converged" in ran.stdout
    finally:
        bare.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "eigencore-subspace")
