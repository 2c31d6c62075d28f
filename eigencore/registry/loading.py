"""One plugin: it is imported, and its hooks are checked and called; a failure becomes a record."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import types
from collections import Counter
from dataclasses import replace
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
    KindEntry,
    MonitorEntry,
    ProblemEntry,
    RendererEntry,
    SolverEntry,
)
from eigencore.errors import PluginError
from eigencore.registry.wording import entry_kind, type_of
from eigencore.request import WHICH

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from eigencore.registry.discovery import PluginRecord

HOOKS: dict[str, type[Entry]] = {
    "eigen_problems": ProblemEntry,
    "eigen_backends": BackendEntry,
    "eigen_kinds": KindEntry,
    "eigen_solvers": SolverEntry,
    "eigen_attacks": AttackEntry,
    "eigen_analyses": AnalysisEntry,
    "eigen_commands": CommandEntry,
    "eigen_renderers": RendererEntry,
    "eigen_monitors": MonitorEntry,
}
PREFIX = "eigen_"
# Excludes the separators of `--set NAME.OPTION=VALUE`, `--analyses a,b` and "name@distribution".
_NAME = re.compile(r"[a-z][a-z0-9_-]*(:[a-z0-9_-]+)?", re.ASCII | re.IGNORECASE)
NORMS = ("Linf", "L2")
_RESERVED = {"none": "--analyses none", "problem": "--set problem.NAME=VALUE"}
_IMPORT_STRING = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def load_plugin(point: EntryPoint, record: PluginRecord) -> tuple[list[Entry], PluginRecord]:
    """The entries of an installed plugin and its record; a plugin that fails has no entries and is "broken".

    Nothing that a plugin raises escapes, except Ctrl-C.
    """
    try:
        # What a plugin prints while it is imported must not be mixed with the data on stdout.
        with contextlib.redirect_stdout(sys.stderr):
            return entries_of(point.load()), record
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and panics of extension modules are not Exceptions
        return [], replace(record, status="broken", error=one_line(error))


def entries_of(plugin: object) -> list[Entry]:
    """All entries that a plugin registers.

    Every hook is called separately, and every plugin has its own plugin manager: a failure leaves nothing
    in a shared manager and does not prevent the hooks of other plugins from being called.

    Raises:
        PluginError: a hook has an unknown name, is not a plain function marked with `hookimpl`, or returns
            anything but a list of valid entries; or two entries have the same name.
        pluggy.PluginValidationError: a hook has a parameter that its specification does not have.
        Exception: an exception that a hook raised.
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
                raise PluginError(f"{hook} is a wrapper; hooks are called separately and can't be wrapped")
            entries += _checked(hook, kind, implementation.function())
    _refuse_repeated_names(entries)
    return entries


def _refuse_repeated_names(entries: list[Entry]) -> None:
    kinds = [entry for entry in entries if isinstance(entry, KindEntry)]
    for (backend, name), times in Counter((one.backend, one.name) for one in kinds).items():
        if times > 1:
            raise PluginError(f"it registers {times} kinds of operator named {name!r} on {backend}")
    others = [entry for entry in entries if not isinstance(entry, KindEntry)]
    for (kind, name), times in Counter((type(one), one.name) for one in others).items():
        if times > 1:
            raise PluginError(f"it registers {times} {entry_kind(kind)} entries named {name!r}; expected one")


def one_line(error: BaseException) -> str:
    """An error as one line of text, without a traceback."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _hooks_of(plugin: object) -> dict[str, Callable[..., object]]:
    """The functions that are marked as hooks, by name.

    Attributes are inspected statically: properties and a module's `__getattr__` and `__dir__` are not called,
    so that nothing is imported that the plugin imports lazily.
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
            raise PluginError(f"{name} is {type_of(value)}; a hook must be a plain function")
    return hooks


def _refuse_unmarked(name: str, value: object) -> None:
    is_spec = hasattr(value, f"{hookspecs.PROJECT}_spec")
    if name.startswith(PREFIX) and callable(value) and not is_spec:
        raise PluginError(f"{name} lacks @hookimpl (names that begin with {PREFIX} are reserved for hooks)")


def _refuse_unknown(hook: str, *, optional: bool) -> None:
    if hook not in HOOKS and not optional:
        near = get_close_matches(hook, HOOKS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(HOOKS)}"
        raise PluginError(f"there is no hook {hook}; {meant}")


def _checked(hook: str, kind: type[Entry], returned: Any) -> list[Entry]:
    if not isinstance(returned, list):
        raise PluginError(f"{hook} returned {type_of(returned)}; expected a list of {kind.__name__}")
    for entry in returned:
        if not isinstance(entry, kind):
            raise PluginError(f"{hook} returned a list with {type_of(entry)}; expected {kind.__name__} only")
        _refuse_malformed(entry)
    return returned


def _refuse_malformed(entry: Entry) -> None:
    name = entry.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"an entry is named {name!r}; expected a letter followed by letters, digits, _ or -, "
            'with at most one ":" as in "demo:digits"'
        )
    if name in _RESERVED:
        raise PluginError(f"an entry is named {name!r}, which is reserved for {_RESERVED[name]}")
    for field, target in (("load", entry.load), ("options", entry.options)):
        if target is not None and not (isinstance(target, str) and _IMPORT_STRING.fullmatch(target)):
            raise PluginError(
                f'the {field} of {name} is {target!r}; expected an import string "module:attribute"'
            )
    unknown = sorted(map(str, frozenset(entry.needs) - frozenset(Capability)))
    if unknown:
        raise PluginError(f"{name} needs {', '.join(unknown)}; the capabilities are {', '.join(Capability)}")
    if isinstance(entry, RendererEntry) and not _are_suffixes(entry.suffixes):
        raise PluginError(
            f"the suffixes of {name} are {entry.suffixes!r}; expected a tuple of suffixes in lower case, "
            'without the dot, such as ("html",)'
        )
    known, given, field = _closed_field(entry)
    wrong = [value for value in given if value not in known]
    if wrong or (known and not given):
        contents = ", ".join(map(repr, wrong)) or "no value"
        raise PluginError(f"the {field} of {name} has {contents}; expected values from {', '.join(known)}")


def _are_suffixes(suffixes: object) -> bool:
    return (
        isinstance(suffixes, tuple)
        and bool(suffixes)
        and all(isinstance(one, str) and re.fullmatch("[a-z0-9]+", one) for one in suffixes)
    )


def _closed_field(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """The values that a field of the entry accepts, the values that it has, and its name."""
    if isinstance(entry, SolverEntry):
        return tuple(WHICH), tuple(entry.which), "which"
    if isinstance(entry, AttackEntry):
        return NORMS, tuple(entry.norms), "norms"
    return (), (), ""
