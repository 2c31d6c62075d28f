"""The modules that a model and a loss function use, found in closures, defaults, globals and attributes.

A loss may use modules that are no part of the model, such as a teacher, a discriminator or a metric, and a
model may keep modules in a plain list. They are evaluated in the same mode as the model, and restored too.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_DEPTH = 16  # of functions that call functions, and of objects within objects
_SCANNED = 100  # the largest container whose items are looked at
_VISITED = 10_000  # objects in total
_INTERNAL = frozenset(vars(nn.Module()))
_LIBRARIES = {"torch", "torchvision", "numpy", "eigencore", "eigencore_torch"}


def related_modules(model: nn.Module, function: Callable[..., Any] | None = None) -> dict[str, nn.Module]:
    """The model under the name "", and all other modules that it or the loss function uses, by their names.

    A function uses what its closure, its defaults, and the globals and attributes that its code names refer
    to; so do the functions that it calls. A module is not listed if a listed one contains it.
    """
    search = _Search()
    search.visit("model", model, frozenset(), _DEPTH)
    search.visit("loss", function, frozenset(), _DEPTH)
    listed, contained = {"": model}, {id(module) for module in model.modules()}
    for name, module in search.found.items():
        if id(module) not in contained:
            listed[name] = module
            contained |= {id(x) for x in module.modules()}
    return listed


def names_attribute(function: FunctionType, name: str) -> bool:
    """Whether the code of a function reads an attribute of this name."""
    return name in _uses(function.__code__)[1]


class _Search:
    """Collects modules in `found`, each under the first name that it is found by."""

    def __init__(self) -> None:
        self.found: dict[str, nn.Module] = {}
        self._seen: dict[Any, Any] = {}  # with the objects, so that their ids are not used again

    def visit(self, name: str, value: Any, attributes: frozenset[str], depth: int) -> None:
        """Visits a value; of an object only the given attributes, which are those that code names."""
        if isinstance(value, nn.Module | FunctionType):
            attributes = frozenset()
        if depth < 0 or _is_library(value) or not self._is_new(attributes, value):
            return
        if isinstance(value, nn.Module):
            self._visit_module(name, value, depth)
        elif isinstance(value, FunctionType):
            self._visit_function(value, depth)
        elif isinstance(value, partial):
            for part, x in [("loss", value.func), *((name, x) for x in value.args), *value.keywords.items()]:
                self.visit(part, x, attributes, depth - 1)
        elif isinstance(value, MethodType):
            self._visit_function(value.__func__, depth, name, value.__self__)
        elif isinstance(value, list | tuple | set | Mapping):
            if len(value) <= _SCANNED:
                pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
                for key, item in pairs:
                    self.visit(f"{name}[{key!r}]", item, attributes, depth - 1)
        else:
            self._visit_object(value, attributes | {"__call__"}, depth)

    def _is_new(self, attributes: frozenset[str], *objects: Any) -> bool:
        key = (attributes, *map(id, objects))
        if key in self._seen or len(self._seen) > _VISITED:
            return False
        self._seen[key] = objects
        return True

    def _visit_module(self, name: str, module: nn.Module, depth: int) -> None:
        while name in self.found:
            name += "'"
        self.found[name] = module
        for child in module.modules():
            self._is_new(frozenset(), child)  # a child is not listed separately
            hooks = (*child._forward_hooks.values(), *child._forward_pre_hooks.values())
            own = ((key, x) for key, x in vars(child).items() if key not in _INTERNAL)
            for key, value in (*own, *(("hook", hook) for hook in hooks)):
                self.visit(key, value, frozenset(), depth - 1)
            if (forward := _method_of(child, "forward")) is not None:
                self.visit("forward", forward, frozenset(), depth - 1)

    def _visit_object(self, value: Any, attributes: frozenset[str], depth: int) -> None:
        own = getattr(value, "__dict__", None) or {}
        for name in attributes:
            if name in own:
                self.visit(name, own[name], attributes, depth - 1)
            elif (method := _method_of(value, name)) is not None and self._is_new(attributes, method, value):
                self._visit_function(method, depth - 1, name, value)

    def _visit_function(self, function: Any, depth: int, name: str = "", owner: Any = None) -> None:
        """Visits the variables of a function, and of a method the attributes of its owner, called `name`."""
        if not isinstance(function, FunctionType) or _is_library(function):
            return
        globals_used, attributes = _uses(function.__code__)
        for variable, value in _variables(function, globals_used):
            self.visit(variable, value, attributes, depth - 1)
        if owner is not None:
            self.visit(name, owner, attributes, depth - 1)


def _variables(function: FunctionType, globals_used: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The variables of a function that are bound before it is called, by their names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # nothing has been assigned yet
            continue
    defaults = function.__defaults__ or ()
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name in globals_used:
        if name in function.__globals__:
            yield name, function.__globals__[name]


@cache
def _uses(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the globals and of the attributes that code uses, with the code nested in it."""
    instructions = list(dis.get_instructions(code))
    globals_used = {i.argval for i in instructions if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    attributes = {i.argval for i in instructions if i.opname in ("LOAD_ATTR", "LOAD_METHOD")}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more_globals, more_attributes = _uses(inner)
            globals_used |= more_globals
            attributes |= more_attributes
    return frozenset(globals_used), frozenset(attributes)


def _method_of(value: Any, name: str) -> FunctionType | None:
    """The function behind a method or property of an object."""
    found = inspect.getattr_static(type(value), name, None)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) and not _is_library(found) else None


def _is_library(value: Any) -> bool:
    """Whether a value can't lead to a module of the user's: a type, a tensor, or a part of a library."""
    if isinstance(value, type | Tensor | str | bytes | int | float | None):
        return True
    if isinstance(value, FunctionType | ModuleType):
        name = value.__name__ if isinstance(value, ModuleType) else value.__module__ or ""
        return name.partition(".")[0] in _LIBRARIES
    return False
