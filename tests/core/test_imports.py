"""Imports point one way, without a cycle, and listing what is installed imports nothing heavy."""

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

# From the bottom up: a module may import its own layer and those below it.
TOP = {
    "hookspecs",
    "entries",
    "interfaces",
    "options",
    "request",
    "results",
    "figures",
    "findings",
    "news",
    "number_text",
    "display",
    "arrays",
    "objectives",
}
LAYERS = [
    {"errors", "space", "processes", "training"} | TOP,
    {"operators", "registry"},
    {"problems", "runs", "solving"},
    {"analyses", "attacks"},
    {"pipeline"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
PLUGIN_MAY = LAYERS[0] | {"operators", "problems.sharing"}
# Code written for another library calls `solve` and `bind` without a context that could bring them, so what
# stands in for that library uses the public names of eigencore, as any user does.
STAND_INS = {"eigencore_torch/eigenthings"}
FRAMEWORKS = {
    *("torch", "torchvision", "jax", "flax", "tensorflow", "cupy", "sklearn"),
    *("lightning", "transformers"),
}
MAY_USE = {
    "eigencore_torch": {"torch"},
    "eigencore_torch/training": {"torch", "lightning", "transformers"},  # callbacks
    "eigencore_jax": {"jax", "flax"},
    "eigencore_demo": {"torch", "jax"},
    "eigencore_attacks/adapters": {"torch"},  # foolbox and AutoAttack attack modules of PyTorch
}
HEAVY = ("torch", "numpy", "scipy", "rich", "array_api_compat", "msgspec")


def module_name(path: Path, root: Path) -> str:
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, for_checkers: bool = True) -> set[tuple[str, str]]:
    """What a file imports, at its top or later, as (module, name); also what only a type checker sees.

    Of a package whose names are exported lazily, that is what its stub lists.
    """
    tree = ast.parse(path.read_text())
    if not for_checkers:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def exports(root: Path) -> dict[tuple[str, str], str]:
    """The module that each lazily exported name comes from, by package and name."""
    found = {}
    for stub in root.rglob("__init__.pyi"):
        package = module_name(stub, root)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1, f"{stub}: the stub lists what is inside the package"
                for alias in node.names:
                    found[package, alias.name] = f"{package}.{node.module}"
    return found


def graph(root: Path, *, for_checkers: bool = True) -> dict[str, set[str]]:
    """The modules of a package, each with the modules of the package that it imports."""
    files = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    exported = exports(root)
    found = {}
    for module, path in files.items():
        below = set()
        for source, name in imports(path, for_checkers=for_checkers):
            where = exported.get((source, name)) or (
                f"{source}.{name}" if f"{source}.{name}" in files else source
            )
            if where in files:
                below.add(where)
        found[module] = below - {module}
    assert found
    return found


def of_core(path: Path) -> set[str]:
    """The parts of the core that a plugin's file imports: "arrays", "operators", "problems.sharing"."""
    parts = set()
    for source, name in imports(path, for_checkers=False):
        if source == "eigencore":
            parts.add(name)
        elif source.startswith("eigencore."):
            _, package, *module = source.split(".")
            parts.add(f"{package}.{module[0]}" if package == "problems" and module else package)
    return parts


@pytest.mark.parametrize("root", [CORE, *PLUGINS.values()], ids=lambda root: root.name)
def test_there_is_no_cycle_of_imports_also_none_that_only_a_type_checker_sees(root):
    graphlib.TopologicalSorter(graph(root)).prepare()


def test_a_cycle_would_be_found(tmp_path):
    (tmp_path / "__init__.py").write_text("")
    name = tmp_path.name
    (tmp_path / "a.py").write_text(f"from {name}.b import B")
    (tmp_path / "b.py").write_text(f"if TYPE_CHECKING:\n    from {name} import a")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph(tmp_path)).prepare()


def test_the_core_imports_downwards_and_no_plugin():
    for path in CORE.rglob("*.py"):
        plugins = {source for source, _ in imports(path) if source.startswith("eigencore_")}
        assert not plugins, f"{path} imports a plugin"
    for module, below in graph(CORE).items():
        if module == "eigencore":
            continue
        part = module.split(".")[1]
        assert part in RANK, f"{part} has no layer: give it one above"
        above = {name for name in below if name.count(".") and RANK[name.split(".")[1]] > RANK[part]}
        assert not above, f"{module} imports {above} from above it"


def test_a_plugin_imports_what_it_may_and_no_other_plugin():
    for plugin, root in PLUGINS.items():
        for path in root.rglob("*.py"):
            packages = {source.split(".")[0] for source, _ in imports(path, for_checkers=False)}
            others = {name for name in packages if name.startswith("eigencore_")} - {plugin}
            may = {"hookspecs", "entries", "interfaces"} if path == root / "__init__.py" else PLUGIN_MAY
            if path.name == "commands.py":
                may = may | {"cli"}  # click options that every command shares
            place = str(path.parent.relative_to(root.parent))
            if place in STAND_INS:
                may = may | {""}  # `import eigencore`
            assert not others, f"{path} imports {others}"
            assert of_core(path) <= may, f"{path} imports {of_core(path) - may}"
            foreign = packages & FRAMEWORKS - MAY_USE.get(plugin, set()) - MAY_USE.get(place, set())
            assert not foreign, f"{path} imports {foreign}"


def test_no_other_module_of_a_plugin_uses_what_stands_in_for_another_library():
    for stand_in in STAND_INS:
        plugin, _, package = stand_in.partition("/")
        below = graph(PLUGINS[plugin])
        inside = {module for module in below if module.startswith(f"{plugin}.{package}")}
        assert len(inside) > 1
        users = {module for module in below.keys() - inside if below[module] & inside}
        assert users == {plugin}, "only the package's own __init__, which exports them lazily"


def test_the_package_reads_as_a_table_of_contents():
    """At most 19 modules and 10 sub-packages, modules of at most 400 lines, no two classes of one name."""
    here = [path for path in CORE.iterdir() if path.name != "__pycache__"]
    assert len([path for path in here if path.suffix == ".py"]) <= 19
    assert len([path for path in here if path.is_dir()]) <= 10
    classes: dict[str, Path] = {}
    for root in (CORE, *PLUGINS.values()):
        for path in root.rglob("*.py"):
            text = path.read_text()
            assert len(text.splitlines()) <= 400, f"{path} is long"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ClassDef):
                    other = classes.setdefault(node.name, path)
                    assert other == path, f"the class {node.name} is in {other} and {path}"


LISTING = """
from eigencore.entries import Entry
from eigencore.registry import registry
assert len(registry().entries(Entry)) > 5, registry()
assert {record.status for record in registry().records} == {"loaded"}, registry()
"""


PLUGIN = "import eigencore_torch\nfor name in dir(eigencore_torch): getattr(eigencore_torch, name)"


@pytest.mark.parametrize(
    "code",
    ["import eigencore", LISTING, PLUGIN],
    ids=["the package", "listing entries", "a plugin that exports functions lazily"],
)
def test_no_heavy_import(code):
    script = f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
