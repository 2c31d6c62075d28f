"""Finds a Problem by its name: that of a registered problem, of a factory, or of the file of a matrix."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from eigencore.entries import ProblemEntry
from eigencore.errors import EigencoreError, ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import Problem
from eigencore.news import report
from eigencore.options import OptionSpec, check, describe_keywords
from eigencore.problems import matrix_files
from eigencore.registry import load, registry

_WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
SHOW_TRACEBACK = "Use --verbose to see the traceback."
NO_KEYWORDS: Mapping[str, object] = MappingProxyType({})
# Every problem has this keyword. If the factory does not take it, the backend loads the checkpoint.
CHECKPOINT = OptionSpec("checkpoint", (str, Path), (None,), None)


def find_problem(name: str, keywords: Mapping[str, object] = NO_KEYWORDS) -> Problem:
    """The problem with the given name.

    Args:
        name: a registered name; "path/file.py:factory"; "module:factory" for an installed module, while a
            module of the working directory is named by its file; or the file of a matrix (see `read_matrix`),
            "matrix.npy", "matrix.npz", "arrays.npz:name" or "matrix.mtx".
        keywords: keywords of the factory; a string is parsed according to the factory's annotations. The
            keyword `checkpoint`, a file of weights, is passed to the backend if the factory does not take it.

    Raises:
        UnknownNameError, UsageError: there is no such problem, file, factory or keyword.
        OptionError: the value of a keyword is invalid, or a required keyword is missing.
        ProblemError: the file or module can't be imported, or its factory fails or does not return a problem.
        PluginError: a registered problem can't be loaded, for example because a package is missing.

    Example:
        from eigencore.problems import find_problem

        problem = find_problem("demo:quadratic", {"n": "60"})
        print(problem.name, problem.spectrum[:3])
    """
    factory = find_factory(name)
    return make_problem(name, factory, check_keywords(factory, keywords))


def check_keywords(factory: Callable[..., Any], given: Mapping[str, object]) -> dict[str, Any]:
    """The keywords, including `checkpoint`, parsed and validated as the factory declares them."""
    specs = {spec.name: spec for spec in (CHECKPOINT, *_declared(factory))}
    return check(tuple(specs.values()), given, entry="problem")


def _declared(factory: Callable[..., Any]) -> tuple[OptionSpec, ...]:
    try:
        return describe_keywords(factory)
    except ValueError:  # a built-in function without a signature
        return ()


def make_problem(name: str, factory: Callable[..., Any], keywords: Mapping[str, Any]) -> Problem:
    """The Problem that a factory returns, with the given name.

    A checkpoint among the keywords is passed to the factory. If the factory does not take it, it is stored in
    the problem.
    """
    arguments, checkpoint = dict(keywords), None
    if CHECKPOINT.name not in (spec.name for spec in _declared(factory)):
        checkpoint = arguments.pop(CHECKPOINT.name, None)
    report(f"reading the problem {name}")
    try:
        returned = factory(**arguments)
    except EigencoreError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{name} failed: {type(error).__name__}: {error}", hint=SHOW_TRACEBACK) from error
    problem = as_problem(returned, f"{name} returned")
    if checkpoint is not None:
        # The factory's description, such as an accuracy, does not apply to the weights of the checkpoint.
        problem = replace(problem, checkpoint=checkpoint, description="")
    return problem if problem.name is not None else replace(problem, name=name)


def as_problem(value: Any, source: str = "the problem is") -> Problem:
    """A Problem from a Problem, a tuple (model, data, loss), or a matrix or anything else with a shape.

    Args:
        value: the value to convert.
        source: how an error message begins.

    Raises:
        ProblemError: the value is none of these.

    Example:
        import numpy as np
        from eigencore.problems import as_problem

        print(as_problem(np.eye(3)).operator.shape)
    """
    if isinstance(value, Problem):
        return value
    if isinstance(value, tuple) and len(value) == 3:
        model, data, loss = value
        return Problem(model=model, data=data, loss=loss)
    if hasattr(value, "shape"):
        return Problem(operator=value)
    if isinstance(value, tuple):
        found = f"a tuple of length {len(value)}"
    else:
        found = f"a value of type {type(value).__name__}: {value!r:.60}"
    raise ProblemError(
        f"{source} {found}; expected a Problem, a tuple (model, data, loss), or a matrix",
        hint="Construct one: Problem(model, data, loss).",
    )


# -- the factory of a name ---------------------------------------------------------------------------------


def find_factory(name: str) -> Callable[..., Any]:
    """The function that makes the problem with the given name (see `find_problem`).

    Raises:
        UnknownNameError, UsageError: there is no such problem, file or factory.
        ProblemError: the file or module can't be imported.
        PluginError: the factory of a registered problem can't be loaded.
    """
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        return _attribute(_import_file(Path(place)), attribute, place)
    for file, array in ((name, ""), (place, attribute)):
        if Path(file).suffix.lower() in matrix_files.SUFFIXES:
            return lambda: matrix_files.read_matrix(file, array)
    if Path(name).suffix in (".py", *_WEIGHTS):
        raise _without_factory(Path(name))
    registered = {one.entry.name for one in registry().entries(ProblemEntry)}
    module = None if name.partition("@")[0] in registered else _import_module(place)
    if module is not None:
        return _attribute(module, attribute, place)
    try:
        factory: Callable[..., Any] = load(registry().find(ProblemEntry, name))
    except UnknownNameError as error:
        if place:
            error.hint = f"{error.hint} {_no_module(place, attribute)}"
        raise
    return factory


def _without_factory(file: Path) -> UsageError:
    """The error for the name of a file without the name of a factory."""
    if file.suffix in _WEIGHTS:
        return UsageError(
            f"{file} is a file of weights, which is not a problem: its model, data and loss are unknown",
            hint="Write a function that returns an eigencore.Problem with the model, and name it and the "
            f"weights: eigen analyze FILE.py:FUNCTION --set problem.checkpoint={file}; the names of several "
            "files follow that of the function: eigen analyze FILE.py:FUNCTION *.pt",
        )
    functions = list(functions_in(file))
    which = f"{file}:{functions[0]}" if len(functions) == 1 else f"{file}:FACTORY"
    listed = f", where FACTORY is one of {', '.join(functions)}" if len(functions) > 1 else ""
    return UsageError(f"{file} names a file but no factory in it", hint=f"Write {which}{listed}.")


def functions_in(file: Path) -> dict[str, list[str]]:
    """The public functions that a file defines, each with its parameters, from its text: nothing is run.

    Example:
        from pathlib import Path
        from eigencore.problems import functions_in

        Path("mine.py").write_text("def make(n=9): ...")
        print(functions_in(Path("mine.py")))  # {'make': ['n']}
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {
        node.name: [parameter.arg for parameter in (*node.args.args, *node.args.kwonlyargs)]
        for node in defined
        if not node.name.startswith("_")
    }


def _no_module(place: str, attribute: str) -> str:
    file = Path(*place.split(".")).with_suffix(".py")
    if os.path.isfile(file):
        return f"To use the file {file} of the working directory, write {file}:{attribute}."
    return f"There is no installed module named {place!r} either."


def _attribute(module: ModuleType, attribute: str, place: str) -> Callable[..., Any]:
    found = getattr(module, attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise UsageError(
            f"{place}:{attribute} is of type {type(found).__name__}; expected a factory",
            hint="A factory is a function that returns a Problem.",
        )
    factories = {
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    }
    raise UnknownNameError(f"factory in {place}", attribute, factories)


def _import_file(path: Path) -> ModuleType:
    """Imports a file as a module named after it, with its folder on sys.path as `python FILE` does."""
    if not os.path.isfile(path):  # not path.is_file(), which fails on a name that is too long
        raise UsageError(f"there is no file {path}", hint=f"Relative paths start at {Path.cwd()}.")
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    earlier = sys.modules.get(path.stem)
    taken = earlier is not None and getattr(earlier, "__file__", None) != str(path)
    name = f"{path.stem}_problem" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_importable(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType | None:
    """The module of that name, or None if there is none outside the working directory.

    The working directory is left out, because a misspelt name of a problem would import a file of it.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        if not _is_installed(name.partition(".")[0]):
            return None
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise _not_importable(name, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(name, error) from error


def _is_installed(package: str) -> bool:
    """Whether a module or package has been imported, or can be without the working directory."""
    if package in sys.modules:
        return True
    spec = importlib.util.find_spec(package)
    if spec is None:
        return False
    here = Path.cwd()
    found_in = {Path(place).parent for place in spec.submodule_search_locations or ()}
    if not found_in and spec.has_location and spec.origin is not None:
        found_in = {Path(spec.origin).parent}
    # Python itself puts the working directory first, as "" or as a path. Further down it was put on purpose,
    # as by an editable installation.
    return here not in {place.resolve() for place in found_in} or str(here) in sys.path[1:]


def _not_importable(place: str, error: BaseException) -> ProblemError:
    return ProblemError(f"{place} can't be imported: {type(error).__name__}: {error}", hint=SHOW_TRACEBACK)
