"""From the name of a problem to a Problem: the name may be registered, or stand for a file or a module."""

from __future__ import annotations

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
from eigencore.options import OptionSpec, check, describe_keywords
from eigencore.registry import load, registry

SEE_WHERE = "--verbose shows where."
NONE: Mapping[str, object] = MappingProxyType({})
# A keyword of every problem: what its factory doesn't take is the backend's to read.
CHECKPOINT = OptionSpec("checkpoint", (str, Path), (None,), None)


def find_problem(name: str, keywords: Mapping[str, object] = NONE) -> Problem:
    """The problem of that name.

    Args:
        name: a registered name; "path/file.py:factory"; or "module:factory".
        keywords: for the factory; text is read as the factory's annotations say. A `checkpoint`, a file of
            weights, is the problem's own where the factory has no such keyword.

    Raises:
        UnknownNameError, OptionError, UsageError: there is no such problem, file, factory or keyword.
        ProblemError: the file or module can't be imported, or its factory fails or returns no problem.
        PluginError: a package that a registered problem needs is missing.
    """
    factory = find_factory(name)
    return make_problem(name, factory, check_keywords(factory, keywords))


def check_keywords(factory: Callable[..., Any], given: Mapping[str, object]) -> dict[str, Any]:
    """The keywords, each read and checked as the factory declares it; a checkpoint always is one."""
    specs = {spec.name: spec for spec in (CHECKPOINT, *_declared(factory))}
    return check(tuple(specs.values()), given, entry="problem")


def _declared(factory: Callable[..., Any]) -> tuple[OptionSpec, ...]:
    try:
        return describe_keywords(factory)
    except ValueError:  # a builtin without a signature
        return ()


def make_problem(name: str, factory: Callable[..., Any], keywords: Mapping[str, Any]) -> Problem:
    """What the factory makes, as a Problem of that name, with the checkpoint if the factory takes none."""
    own, checkpoint = dict(keywords), None
    if CHECKPOINT.name not in (spec.name for spec in _declared(factory)):
        checkpoint = own.pop(CHECKPOINT.name, None)
    try:
        made = factory(**own)
    except EigencoreError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{name} failed: {type(error).__name__}: {error}", hint=SEE_WHERE) from error
    problem = as_problem(made, f"{name} returned")
    if checkpoint is not None:
        # What the factory told of its own weights, an accuracy for one, is not true of these.
        problem = replace(problem, checkpoint=checkpoint, description="")
    return problem if problem.name is not None else replace(problem, name=name)


def as_problem(made: Any, whence: str = "the problem is") -> Problem:
    """A Problem as it is, from a tuple (model, data, loss), or from anything with the shape of a matrix."""
    if isinstance(made, Problem):
        return made
    if isinstance(made, tuple) and len(made) == 3:
        model, data, loss = made
        return Problem(model=model, data=data, loss=loss)
    if hasattr(made, "shape"):
        return Problem(operator=made)
    told = f"a tuple of {len(made)}" if isinstance(made, tuple) else f"{type(made).__name__} {made!r:.60}"
    raise ProblemError(f"{whence} {told}; expected a Problem, a tuple (model, data, loss), or a matrix")


# -- the factory of a name ---------------------------------------------------------------------------------


def find_factory(name: str) -> Callable[..., Any]:
    """The function that makes the problem of that name; see `problems.find_problem`.

    Raises:
        UnknownNameError, UsageError: there is no such problem, file or factory.
        ProblemError: the file or module can't be imported.
        PluginError: nor can the plugin's.
    """
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        return _attribute(_import_file(Path(place)), attribute, place)
    if name.endswith(".py"):
        raise UsageError(f"{name} names a file but no factory", hint=f"Write {name}:FACTORY.")
    registered = {one.entry.name for one in registry().entries(ProblemEntry)}
    module = None if name.partition("@")[0] in registered else _import_module(place)
    if module is not None:
        return _attribute(module, attribute, place)
    try:
        factory: Callable[..., Any] = load(registry().find(ProblemEntry, name))
    except UnknownNameError as error:
        if place:
            error.hint = f"{error.hint} Nor is there a module {place!r} to take it from."
        raise
    return factory


def _attribute(module: ModuleType, attribute: str, place: str) -> Callable[..., Any]:
    found = getattr(module, attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise UsageError(
            f"{place}:{attribute} is of type {type(found).__name__}; expected a factory",
            hint="A factory is a function that returns a Problem.",
        )
    own = {
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", "") == module.__name__
    }
    raise UnknownNameError(f"factory in {place}", attribute, own)


def _import_file(path: Path) -> ModuleType:
    """Runs a file as a module under its own name, with its folder importable, as `python path` has it."""
    if not os.path.isfile(path):  # not path.is_file(), which fails on a name that is too long
        raise UsageError(f"there is no file {path}", hint=f"Paths are seen from {Path.cwd()}.")
    path = path.resolve()
    _make_importable(path.parent, first=True)
    earlier = sys.modules.get(path.stem)
    taken = earlier is not None and getattr(earlier, "__file__", None) != str(path)
    name = f"{path.stem}_problem" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_importable(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType | None:
    """The module, or None where there is none of that name; the current folder counts as importable."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    _make_importable(Path.cwd(), first=False)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise _not_importable(name, error) from error
    except (Exception, SystemExit) as error:
        raise _not_importable(name, error) from error


def _make_importable(folder: Path, *, first: bool) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0 if first else len(sys.path), str(folder))


def _not_importable(place: str, error: BaseException) -> ProblemError:
    return ProblemError(f"{place} can't be imported: {type(error).__name__}: {error}", hint=SEE_WHERE)
