"""Imports point one way, and listing what there is costs no heavy import."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest


def folder(package: str) -> Path:
    """Where it is installed; it is not imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


CORE = folder("eigencore")
BUNDLED = metadata.distribution("eigencore").entry_points.select(group="eigencore")
PLUGINS = {point.value: folder(point.value) for point in BUNDLED}

# From the ground up: a module may import its own layer and those below it.
LAYERS = [
    {"hookspecs", "defaults", "interfaces", "options", "request", "arrays", "objectives", "errors"},
    {"registry", "discovery", "loading", "operators", "algebra", "results"},
    {"encoding", "decoding", "storage"},
    {"problems", "factories", "certificate", "watching", "snapshots", "advice", "manifest"},
    {"running", "solving", "attacking", "passes", "analysing"},
    {"pipeline"},
    {"testing"},
    {"cli"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
PLUGIN_MAY = LAYERS[0] - {"defaults"} | {"operators", "algebra", "results"}
FRAMEWORKS = {"torch", "torchvision", "jax", "flax", "tensorflow", "cupy", "sklearn"}
MAY_USE = {
    "eigencore_torch": {"torch"},
    "eigencore_numpy": {"sklearn"},
    "eigencore_demo": {"torch", "sklearn"},
}
HEAVY = ("torch", "numpy", "scipy", "rich", "array_api_compat")


def imports(path: Path) -> set[str]:
    """The modules a file imports when it runs, at its top or late; not those for a type checker only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = node.module == "eigencore"
            found |= {f"eigencore.{alias.name}" for alias in node.names} if whole else {str(node.module)}
    return found


def of_core(modules: set[str]) -> set[str]:
    return {module.split(".")[1] for module in modules if module.startswith("eigencore.")}


def files(root: Path) -> dict[Path, set[str]]:
    found = {path: imports(path) for path in sorted(root.rglob("*.py")) if "scripts" not in path.parts}
    assert found
    return found


def test_the_core_imports_downwards_without_a_circle_and_no_plugin():
    graph: dict[str, set[str]] = {}
    for path, modules in files(CORE).items():
        module = path.relative_to(CORE).parts[0].removesuffix(".py")
        assert not {name for name in modules if name.startswith("eigencore_")}, f"{path} imports a plugin"
        if module != "__init__":  # the public names, imported late
            assert module in RANK, f"{module} has no layer: give it one above"
            graph.setdefault(module, set()).update(of_core(modules) - {module})
    for module, below in graph.items():
        above = {name for name in below if RANK[name] > RANK[module]}
        assert not above, f"{module} imports {above} from above it"
    graphlib.TopologicalSorter(graph).prepare()


def test_a_plugin_imports_what_it_may_and_no_other_plugin():
    for plugin, root in PLUGINS.items():
        for path, modules in files(root).items():
            packages = {name.split(".")[0] for name in modules}
            others = {name for name in packages if name.startswith("eigencore_")} - {plugin}
            may = {"hookspecs", "interfaces"} if path == root / "__init__.py" else PLUGIN_MAY
            assert not others, f"{path} imports {others}"
            assert of_core(modules) <= may, f"{path} imports {of_core(modules) - may}"
            foreign = packages & FRAMEWORKS - MAY_USE.get(plugin, set())
            assert not foreign, f"{path} imports {foreign}"


LISTING = """
from eigencore.interfaces import Entry
from eigencore.registry import registry
assert len(registry().entries(Entry)) > 5, registry()
assert {record.status for record in registry().records} == {"loaded"}, registry()
"""


@pytest.mark.parametrize("code", ["import eigencore", LISTING], ids=["the package", "listing entries"])
def test_no_heavy_import(code):
    told = f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
