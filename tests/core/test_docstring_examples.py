"""Every `Example:` block of a docstring runs, and the functions and classes that users call have one."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import eigencore
from eigencore import arrays, options, problems, registry
from eigencore.operators import CountingOperator, FunctionOperator, MatrixLike, WeightOperator, algebra
from eigencore.registry import catalogue

BUNDLED = metadata.distribution("eigencore").entry_points.select(group="eigencore")
PACKAGES = ["eigencore", *sorted(point.value for point in BUNDLED)]
# An example that needs a package of an optional extra is skipped if the package is not installed.
OPTIONAL = {
    *("torch", "torchvision", "jax", "sklearn", "mlxtend", "pandas", "matplotlib", "array_api_strict"),
    *("cloudpickle", "jinja2", "joblib", "threadpoolctl", "lightning", "transformers"),
}

FUNCTIONS = [name for name in eigencore.__all__ if inspect.isfunction(getattr(eigencore, name))]
RESULTS = [
    "AnalysisResult",
    "AttackResult",
    "Certificate",
    "Comparison",
    "EigenResult",
    "Report",
    "Run",
    "Study",
]
CALLED = {
    **{name: getattr(eigencore, name) for name in FUNCTIONS},
    **{
        name: getattr(eigencore, name)
        for name in ("Member", "Monitor", "Problem", "Request", "Snapshot", *RESULTS)
    },
    **{
        name: getattr(algebra, name)
        for name in ("add", "congruence", "multiply", "project", "restrict", "shift")
    },
    **{name: getattr(problems, name) for name in ("as_problem", "find_problem", "read_matrix")},
    **{
        f"registry.{name}": getattr(registry, name)
        for name in ("disable", "load", "load_options", "missing_packages", "registry", "require")
    },
    "registry.resolve_options": registry.resolve_options,
    "Registry.entries": registry.Registry.entries,
    "Registry.find": registry.Registry.find,
    "CountingOperator": CountingOperator,
    "FunctionOperator": FunctionOperator,
    "MatrixLike": MatrixLike,
    "WeightOperator": WeightOperator,
    "MatrixLike.to_scipy": MatrixLike.to_scipy,
    "arrays.from_host": arrays.from_host,
    "options.option": options.option,
    "options.resolve": options.resolve,
    "hookimpl": sys.modules["eigencore.hookspecs"],  # a marker of pluggy, described by its module
}


@dataclass(frozen=True)
class Example:
    """A block of code and the dotted name of what its docstring describes."""

    owner: str
    code: str


def blocks(docstring: str) -> Iterator[str]:
    """The dedented code under every line `Example:`, up to the next line that is not indented further."""
    lines = inspect.cleandoc(docstring).splitlines()
    for number, line in enumerate(lines):
        heading = re.fullmatch(r"( *)Example:", line)
        if heading is None:
            continue
        below = f"{heading[1]} "
        block = []
        for following in lines[number + 1 :]:
            if following.strip() and not following.startswith(below):
                break
            block.append(following)
        yield textwrap.dedent("\n".join(block)).strip("\n")


def examples(source: str, module: str) -> Iterator[Example]:
    """The examples in the docstrings of a module, and of its classes and functions at any depth."""

    def walk(node: ast.AST, owner: str) -> Iterator[Example]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for code in blocks(ast.get_docstring(node) or ""):
                yield Example(owner, code)
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, f"{owner}.{child.name}" if named else owner)

    yield from walk(ast.parse(source), module)


def collected() -> Iterator[Example]:
    """The examples of the core and of the bundled plugins; nothing is imported."""
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            parts = (package, *path.relative_to(root).with_suffix("").parts)
            yield from examples(path.read_text(), ".".join(parts).removesuffix(".__init__"))


EXAMPLES = list(collected())


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """The names of an empty module, in an empty folder; plugins that are disabled in it are enabled again."""
    module = types.ModuleType("docstring_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(catalogue, "_switched_off", set())
    monkeypatch.chdir(tmp_path)
    yield vars(module)
    if catalogue._switched_off:
        catalogue.registry.cache_clear()


def run(code: str, namespace: dict[str, object]) -> None:
    """Runs an example; skips the test if it needs an optional package that is not installed."""
    tree = ast.parse(code)
    if not tree.body:
        raise ValueError("the example is empty")
    try:
        exec(compile(tree, "<example>", "exec", dont_inherit=True), namespace)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ModuleNotFoundError) and str(cause.name).partition(".")[0] in OPTIONAL:
                pytest.skip(f"{cause.name} is not installed")
            cause = cause.__cause__
        raise


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.owner)
def test_the_example_runs(example: Example, namespace: dict[str, object]) -> None:
    run(example.code, namespace)


@pytest.mark.parametrize("name", sorted(CALLED))
def test_what_users_call_has_an_example(name: str) -> None:
    assert list(blocks(CALLED[name].__doc__ or ""))


def test_the_required_examples_are_among_the_collected_ones() -> None:
    assert len(EXAMPLES) >= len(CALLED)
    assert {code for called in CALLED.values() for code in blocks(called.__doc__ or "")} <= {
        example.code for example in EXAMPLES
    }


# -- the collection itself ---------------------------------------------------------------------------------

SOURCE = '''
"""A module.

Example:
    a = 1

    b = a + 1
"""

class Outer:
    """A class.

    Example:
        if True:
            c = 3

    Raises:
        ValueError: never.
    """

    def method(self):
        """A method.

        Example:
            d = 4
        Example:
            e = 5
        """

    def other(self):
        """An Example: of text in which the word is not a heading."""
'''


def test_blocks_are_found_at_any_depth_and_dedented() -> None:
    assert list(examples(SOURCE, "m")) == [
        Example("m", "a = 1\n\nb = a + 1"),
        Example("m.Outer", "if True:\n    c = 3"),
        Example("m.Outer.method", "d = 4"),
        Example("m.Outer.method", "e = 5"),
    ]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("assert 1 == 2", AssertionError),
        ("import eigencore\neigencore.solver", AttributeError),
        ("import no_such_package", ModuleNotFoundError),
        (">>> 1", SyntaxError),
        ("", ValueError),
    ],
)
def test_a_broken_example_fails(code: str, error: type[Exception], namespace: dict[str, object]) -> None:
    with pytest.raises(error):
        run(code, namespace)


def test_an_example_without_its_optional_package_is_skipped(namespace: dict[str, object]) -> None:
    code = "raise ImportError from ModuleNotFoundError(name='torch.nn')"
    with pytest.raises(pytest.skip.Exception, match=r"torch\.nn is not installed"):
        run(code, namespace)


def test_an_example_has_its_own_names(namespace: dict[str, object]) -> None:
    run(
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int = 1\nassert Point().x",
        namespace,
    )
    assert "Point" in namespace
    assert "Point" not in globals()
    with pytest.raises(NameError):
        run("blocks", namespace)
