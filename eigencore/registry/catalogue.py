"""All plugins with their status, their entries by name, and the implementation of an entry.

A plugin is an entry point of the group "eigencore": a module, or an object, that implements hooks of
`eigencore.hookspecs`. Plugins are imported and checked separately. If one fails, only a record with the
reason is kept, and the other plugins are not affected.
"""

from __future__ import annotations

import functools
import importlib
import operator
import os
import warnings
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eigencore.entries import Entry, KindEntry
from eigencore.errors import (
    CapabilityError,
    EigencoreError,
    OptionError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from eigencore.options import resolve
from eigencore.registry.discovery import PluginRecord, discover, normalised
from eigencore.registry.loading import load_plugin, one_line
from eigencore.registry.wording import entry_kind, with_article

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eigencore.entries import Capability

E = TypeVar("E", bound=Entry)
DISABLE_VARIABLE = "EIGEN_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Registered(Generic[E]):
    """An entry and the plugin that registers it."""

    entry: E
    plugin: PluginRecord

    @property
    def full_name(self) -> str:
        """The name that is unambiguous even if several plugins use the same one: "name@distribution"."""
        return f"{self.entry.name}@{self.plugin.distribution}"


@dataclass(frozen=True)
class Registry:
    """All plugins, and the entries of the plugins that were loaded; both sorted by name.

    Attributes:
        records: one record per plugin.
        registered: the entries of all kinds, each with its plugin.
    """

    records: tuple[PluginRecord, ...]
    registered: tuple[Registered[Any], ...]

    def entries(self, kind: type[E]) -> tuple[Registered[E], ...]:
        """The entries of a kind; `entries(Entry)` returns all entries.

        Example:
            from eigencore import SolverEntry
            from eigencore.registry import registry

            for one in registry().entries(SolverEntry):
                print(one.entry.name, one.entry.summary, one.plugin.full_name)
        """
        return tuple(one for one in self.registered if isinstance(one.entry, kind))

    def find(self, kind: type[E], name: str) -> E:
        """The entry of a kind with the given name.

        Args:
            kind: the class of the entry, such as SolverEntry.
            name: the name of the entry, or "name@distribution" if several plugins register the same name.

        Raises:
            UnknownNameError: there is no such entry; the hint suggests near names, and lists the plugins that
                failed to load or are disabled.
            UsageError: several plugins register such an entry.

        Example:
            from eigencore import SolverEntry
            from eigencore.registry import registry

            print(registry().find(SolverEntry, "lanczos").which)
        """
        bare, _, distribution = name.partition("@")
        found = [one for one in self.entries(kind) if one.entry.name == bare]
        if distribution:
            found = [one for one in found if normalised(one.plugin.distribution) == normalised(distribution)]
        if not found:
            raise self._unknown(kind, name)
        if len(found) > 1:
            raise _ambiguous(name, [*found], choices=[] if distribution else [one.full_name for one in found])
        return found[0].entry

    def kinds(self, backend: str) -> tuple[Registered[KindEntry], ...]:
        """The kinds of operator on a backend, whichever plugins register them."""
        return tuple(one for one in self.entries(KindEntry) if one.entry.backend == backend)

    def find_kind(self, backend: str, name: str) -> KindEntry:
        """The kind of operator with the given name on a backend.

        Args:
            backend: the name of the backend.
            name: the name of the kind, or "name@distribution" if several plugins register it.

        Raises:
            UnknownNameError: there is no such kind on this backend.
            UsageError: several plugins register a kind of that name on this backend.

        Example:
            from eigencore.registry import registry

            print(registry().find_kind("torch", "hessian").summary)
        """
        bare, _, distribution = name.partition("@")
        found = [one for one in self.kinds(backend) if one.entry.name == bare]
        if distribution:
            found = [one for one in found if normalised(one.plugin.distribution) == normalised(distribution)]
        if not found:
            what, known = f"kind of operator on the backend {backend}", self.kinds(backend)
            raise UnknownNameError(what, name, {one.entry.name for one in known}, also=self._not_loaded())
        if len(found) > 1:
            raise _ambiguous(name, [*found], choices=[one.full_name for one in found])
        return found[0].entry

    def kinds_named(self, name: str) -> tuple[Registered[KindEntry], ...]:
        """The kinds of operator that are called NAME or BACKEND:NAME, on any backend and by any plugin.

        Args:
            name: the name of the kind, alone or after that of its backend; either also with "@distribution".

        Raises:
            UnknownNameError: there is no such kind.

        Example:
            from eigencore.registry import registry

            print([one.entry.backend for one in registry().kinds_named("hessian")])
        """
        bare, _, distribution = name.partition("@")
        known = self.entries(KindEntry)
        found = [one for one in known if bare in (one.entry.name, f"{one.entry.backend}:{one.entry.name}")]
        if distribution:
            found = [one for one in found if normalised(one.plugin.distribution) == normalised(distribution)]
        if not found:
            names = {one.entry.name for one in known}
            raise UnknownNameError("kind of operator", name, names, also=self._not_loaded())
        return tuple(found)

    def _unknown(self, kind: type[Entry], name: str) -> UnknownNameError:
        known = {one.full_name if "@" in name else one.entry.name for one in self.entries(kind)}
        also = [
            f"{name} is {with_article(entry_kind(one.entry))}."
            for one in self.registered
            if one.entry.name == name
        ]
        also_known = " ".join(filter(None, [*also, self._not_loaded()]))
        return UnknownNameError(entry_kind(kind), name, known, also=also_known)

    def _not_loaded(self) -> str:
        """The plugins that failed to load or are disabled, in sentences: one of them may have the name."""
        return " ".join(
            f"Plugin {record.name} failed to load: {record.error}."
            if record.status == "broken"
            else f"Plugin {record.name} is disabled."
            for record in self.records
            if record.status in ("broken", "disabled")
        )


def _ambiguous(name: str, named: list[Registered[Any]], *, choices: list[str]) -> UsageError:
    entries = " and ".join(
        f"{with_article(entry_kind(one.entry))} of plugin {one.plugin.full_name}" for one in named
    )
    disabling = f"{DISABLE_VARIABLE}={named[-1].plugin.full_name}"
    if len(set(choices)) == len(choices) > 0:
        hint = f"Use {' or '.join(choices)}, or disable a plugin: {disabling}."
    else:
        hint = f"Disable one of the plugins: {disabling}."
    return UsageError(f"{name!r} is the name of {len(named)} entries: {entries}", hint=hint)


# -- building the registry ---------------------------------------------------------------------------------

_switched_off: set[str] = set()


@functools.cache
def registry() -> Registry:
    """The plugins of this process, discovered and loaded by the first call.

    EIGEN_DISABLE_PLUGINS=a,b and `disable` exclude plugins. An unknown name in the variable causes a warning,
    not an error, because one shell may serve several environments.

    Example:
        from eigencore.registry import registry

        for record in registry().records:
            print(record.name, record.status)
    """
    from_environment = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")} - {""}
    built = _build(_switched_off | from_environment)
    for name in sorted(from_environment - _labels(built.records)):
        unknown = _no_plugin(name, built.records)
        warnings.warn(f"{DISABLE_VARIABLE}: {unknown.message}. {unknown.hint}", stacklevel=2)
    return built


def disable(*names: str) -> None:
    """Disables plugins, by the name of their entry point or by name@distribution.

    A plugin that is disabled before the first call of `registry` is not imported. After that call, the
    registry is rebuilt.

    Raises:
        UnknownNameError: a name does not belong to any plugin; in this case no plugin is disabled.

    Example:
        from eigencore import SolverEntry
        from eigencore.registry import disable, registry

        disable("arpack")
        print([one.entry.name for one in registry().entries(SolverEntry)])
    """
    records = [record for _, record in discover()]
    for name in names:
        if name not in _labels(records):
            raise _no_plugin(name, records)
    _switched_off.update(names)
    registry.cache_clear()


def _build(disabled: set[str]) -> Registry:
    records: list[PluginRecord] = []
    registered: list[Registered[Any]] = []
    for point, record in discover():
        entries: list[Entry] = []
        if point is not None and disabled & _labels([record]):
            record = replace(record, status="disabled")
        elif point is not None:
            entries, record = load_plugin(point, record)
        records.append(record)
        registered += [Registered(entry, record) for entry in entries]
    return Registry(
        tuple(sorted(records, key=lambda record: (record.name, record.distribution))),
        tuple(sorted(registered, key=lambda one: (one.entry.name, one.plugin.full_name))),
    )


def _labels(records: Iterable[PluginRecord]) -> set[str]:
    return {label for record in records for label in (record.name, record.full_name)}


def _no_plugin(name: str, records: Iterable[PluginRecord]) -> UnknownNameError:
    return UnknownNameError("plugin", name, {record.name for record in records})


# -- using an entry ----------------------------------------------------------------------------------------


def load(entry: Entry) -> Any:
    """The implementation of an entry, imported by its import string.

    Raises:
        PluginError: the implementation can't be imported; if an extra is missing, the hint says how to
            install it.

    Example:
        from eigencore import SolverEntry
        from eigencore.registry import load, registry

        print(load(registry().find(SolverEntry, "lanczos")))
    """
    return _follow(entry, entry.load)


def load_options(entry: Entry) -> type | None:
    """The dataclass that declares the options of an entry, or None if the entry takes no options.

    Raises:
        PluginError: the dataclass can't be imported, or the import string refers to something else.

    Example:
        from eigencore import SolverEntry
        from eigencore.options import describe
        from eigencore.registry import load_options, registry

        declared = load_options(registry().find(SolverEntry, "lanczos"))
        print([option.name for option in describe(declared)])
    """
    if entry.options is None:
        return None
    options = _follow(entry, entry.options)
    if not (isinstance(options, type) and is_dataclass(options)):
        raise PluginError(f"{entry.options}, the options of {entry.name}, is not a dataclass")
    return options


def resolve_options(entry: Entry, given: Mapping[str, object]) -> Any:
    """The options of an entry with the given values, or None if the entry takes no options.

    Raises:
        OptionError: a value is not accepted, or the entry takes no options.
        UnknownNameError: the entry does not have an option of that name.
        PluginError: the options can't be imported.

    Example:
        from eigencore import SolverEntry
        from eigencore.registry import registry, resolve_options

        print(resolve_options(registry().find(SolverEntry, "lanczos"), {"basis": "40"}))
    """
    declared = load_options(entry)
    if declared is not None:
        return resolve(declared, given, entry=entry.name)
    if given:
        raise OptionError(f"{entry.name} takes no options; given: {', '.join(given)}")
    return None


def require(entry: Entry, offered: frozenset[Capability], problem: str = "this problem") -> None:
    """Checks that a problem offers the capabilities that an entry needs.

    Args:
        entry: the entry.
        offered: the capabilities of the bound problem.
        problem: the name of the problem, for the error message.

    Raises:
        CapabilityError: capabilities are missing; the message lists them and those that are offered.

    Example:
        from eigencore import AttackEntry, bind
        from eigencore.registry import registry, require

        require(registry().find(AttackEntry, "pgd"), bind("demo:digits-numpy").capabilities)
    """
    missing = sorted(entry.needs - offered)
    if missing:
        offers = ", ".join(sorted(offered)) or "nothing"
        raise CapabilityError(f"{entry.name} needs {', '.join(missing)}; {problem} offers {offers}")


def _follow(entry: Entry, target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except (KeyboardInterrupt, EigencoreError):
        raise
    except BaseException as error:
        missing = _missing(error)
        if entry.extra and missing and missing != module.partition(".")[0]:
            raise PluginError(
                f"the {entry_kind(entry)} {entry.name} needs {missing}, which is not installed",
                hint=f'Run: pip install "{_distribution_of(entry)}[{entry.extra}]"',
            ) from error
        raise PluginError(f"{entry.name} can't be loaded from {target}: {one_line(error)}") from error


def _missing(error: BaseException) -> str | None:
    """The name of the package that an import did not find, or None if the error has another cause."""
    return error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None


def _distribution_of(entry: Entry) -> str:
    return next((one.plugin.distribution for one in registry().registered if one.entry == entry), "eigencore")
