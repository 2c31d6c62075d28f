"""From a plugin to the entries it brings: its hooks collected, checked, and called one by one."""

from __future__ import annotations

import inspect
import re
import types
from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pluggy

from eigencore import hookspecs
from eigencore.entries import (
    AnalysisEntry,
    AttackEntry,
    BackendEntry,
    Capability,
    CommandEntry,
    Entry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.errors import PluginError
from eigencore.request import WHICH

if TYPE_CHECKING:
    from collections.abc import Callable

HOOKS: dict[str, type[Entry]] = {
    "eigen_problems": ProblemEntry,
    "eigen_backends": BackendEntry,
    "eigen_solvers": SolverEntry,
    "eigen_attacks": AttackEntry,
    "eigen_analyses": AnalysisEntry,
    "eigen_commands": CommandEntry,
}
PREFIX = "eigen_"
# A name stands in `--set NAME.OPTION=VALUE`, in `--analyses a,b` and before "@distribution".
_NAME = re.compile(r"[a-z][a-z0-9_-]*(:[a-z0-9_-]+)?", re.ASCII | re.IGNORECASE)
NORMS = ("Linf", "L2")
_RESERVED = {"none": "--analyses none", "problem": "--set problem.NAME=VALUE"}
_IMPORT_STRING = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def entries_of(plugin: object) -> list[Entry]:
    """All entries that a plugin brings.

    Every hook is called by itself, and the plugin is registered in a manager of its own: a failure can
    neither leave something behind in a shared one nor stop the hooks of others.

    Raises:
        PluginError: a hook's name, signature or result is wrong, or an entry is.
        pluggy.PluginValidationError: a hook takes an argument that it is not given.
        Exception: whatever a hook raises.
    """
    holder = types.ModuleType("hooks")
    for name, function in _hooks_of(plugin).items():
        setattr(holder, name, function)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(holder)

    entries: list[Entry] = []
    for hook, kind in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            if implementation.hookwrapper or implementation.wrapper:
                raise PluginError(f"{hook} is a wrapper; hooks are called one by one, so none wraps another")
            entries += _checked(hook, kind, implementation.function())
    for name, times in Counter(entry.name for entry in entries).items():
        if times > 1:
            raise PluginError(f"it brings {times} entries named {name!r}; names are unique across kinds")
    return entries


def one_line(error: BaseException) -> str:
    """What happened, in a line without a traceback."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _hooks_of(plugin: object) -> dict[str, Callable[..., object]]:
    """The functions marked as hooks, each under its name.

    Attributes are looked at statically: neither a module's lazy `__getattr__` or `__dir__` nor a property
    runs, and so nothing is imported that the plugin puts off.
    """
    names = type.__dir__(plugin) if isinstance(plugin, type) else object.__dir__(plugin)
    hooks = {}
    for name in names:
        value = inspect.getattr_static(plugin, name, None)
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        mark = getattr(value, f"{hookspecs.PROJECT}_impl", None)
        if mark is None:
            _refuse_unmarked(name, value)
        elif isinstance(value, types.FunctionType | types.MethodType):
            _refuse_unknown(mark["specname"] or name, optional=mark["optionalhook"])
            hooks[name] = getattr(plugin, name)
        else:
            raise PluginError(f"{name} is a {type(value).__name__}; a hook is a plain function")
    return hooks


def _refuse_unmarked(name: str, value: object) -> None:
    is_spec = hasattr(value, f"{hookspecs.PROJECT}_spec")
    if name.startswith(PREFIX) and callable(value) and not is_spec:
        raise PluginError(f"{name} lacks @hookimpl (names that begin with {PREFIX} are kept for hooks)")


def _refuse_unknown(hook: str, *, optional: bool) -> None:
    if hook not in HOOKS and not optional:
        near = get_close_matches(hook, HOOKS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(HOOKS)}"
        raise PluginError(f"there is no hook {hook}; {meant}")


def _checked(hook: str, kind: type[Entry], brought: Any) -> list[Entry]:
    if not isinstance(brought, list):
        raise PluginError(f"{hook} returned {_a(brought)}; expected a list of {kind.__name__}")
    for entry in brought:
        if not isinstance(entry, kind):
            raise PluginError(f"{hook} brings {_a(entry)}; expected {kind.__name__}")
        _refuse_malformed(entry)
    return brought


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _refuse_malformed(entry: Entry) -> None:
    name = entry.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"an entry is named {name!r}; expected letters, digits, _ and -, a letter first, "
            'with at most one ":" as in "demo:digits"'
        )
    if name in _RESERVED:
        raise PluginError(f"an entry is named {name!r}, which {_RESERVED[name]} needs for itself")
    for field, target in (("load", entry.load), ("options", entry.options)):
        if target is not None and not (isinstance(target, str) and _IMPORT_STRING.fullmatch(target)):
            raise PluginError(f'the {field} of {name} is {target!r}; expected text as "module:attribute"')
    unknown = sorted(map(str, frozenset(entry.needs) - frozenset(Capability)))
    if unknown:
        raise PluginError(f"{name} needs {', '.join(unknown)}; there is {', '.join(Capability)}")
    known, given, field = _words_of(entry)
    wrong = [word for word in given if word not in known]
    if wrong or (known and not given):
        told = ", ".join(map(repr, wrong)) or "nothing"
        raise PluginError(f"the {field} of {name} holds {told}; there is {', '.join(known)}")


def _words_of(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """The words that a field of the entry may hold, those that it holds, and its name."""
    if isinstance(entry, SolverEntry):
        return tuple(WHICH), tuple(entry.which), "which"
    if isinstance(entry, AttackEntry):
        return NORMS, tuple(entry.norms), "norms"
    return (), (), ""
