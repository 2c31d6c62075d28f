"""An editable install, and the packages of docs/write-a-plugin.md and docs/write-a-backend.md."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
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


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ("write-a-plugin.md", ["demo:quadratic", "--solver", "subspace"]),
        ("write-a-backend.md", ["deeplinear:clusters", "--kind", "ggn"]),
    ],
)
def test_the_package_that_a_page_builds_passes_its_tests(bare, tmp_path: Path, page, command) -> None:
    """Installed beside the wheel by pip; its tests run where its sources are not."""
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    text = (DOCS / page).read_text()
    for path, code in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(code)
    name = tomllib.loads((package / "pyproject.toml").read_text())["project"]["name"]
    bare.install_sources(package)
    shutil.copytree(package / "tests", elsewhere)
    try:
        ran = bare.run("eigen", "analyze", *command, "-k", "2", "--analyses", "none")
        assert "all 2 pairs converged" in ran.stdout
        own = ["-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", elsewhere, elsewhere]
        ran = bare.run("python", "-m", "pytest", *own)  # checks that have nothing to examine are skipped
        assert re.search(r"^\d{2,} passed(, \d skipped)? in", ran.stdout, re.MULTILINE)
    finally:
        bare.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", name)
