"""All plugins with what became of each, their entries by name, and what an entry stands for.

A plugin is an entry point of the group "eigencore": a module, or an object, that implements hooks of
`eigencore.hookspecs`. Each is imported, checked and asked for its entries by itself; where any of that fails,
nothing of it is kept but a record that says why, and nobody else notices.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import os
import sys
import warnings
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eigencore.entries import Entry
from eigencore.errors import (
    CapabilityError,
    EigencoreError,
    OptionError,
    PluginError,
    UnknownNameError,
    UsageError,
)
from eigencore.options import resolve
from eigencore.registry.discovery import PluginRecord, discover, normal
from eigencore.registry.loading import entries_of, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eigencore.entries import Capability

E = TypeVar("E", bound=Entry)
DISABLE_VARIABLE = "EIGEN_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Registered(Generic[E]):
    """An entry and the plugin that brings it."""

    entry: E
    plugin: PluginRecord

    @property
    def full_name(self) -> str:
        return f"{self.entry.name}@{self.plugin.distribution}"


@dataclass(frozen=True)
class Registry:
    """All plugins, and the entries of those that loaded; both sorted by name."""

    records: tuple[PluginRecord, ...]
    registered: tuple[Registered[Any], ...]

    def entries(self, kind: type[E]) -> tuple[Registered[E], ...]:
        """The entries of a kind; `entries(Entry)` are all."""
        return tuple(one for one in self.registered if isinstance(one.entry, kind))

    def find(self, kind: type[E], name: str) -> E:
        """The entry of that name; "name@distribution" picks where two plugins bring it.

        Raises:
            UnknownNameError: there is none; tells near names, and plugins that failed or are disabled.
            UsageError: plugins bring two entries of that name, be they of the same kind or not.
        """
        bare, _, distribution = name.partition("@")
        named = [one for one in self.registered if one.entry.name == bare]
        right = [one for one in self.entries(kind) if one.entry.name == bare]
        if distribution:
            right = [one for one in right if normal(one.plugin.distribution) == normal(distribution)]
            named = list(right)
        if not right:
            raise self._unknown(kind, name)
        if len(named) > 1:
            raise _clash(name, named, ways=[] if distribution else [one.full_name for one in right])
        return right[0].entry

    def _unknown(self, kind: type[Entry], name: str) -> UnknownNameError:
        known = {one.full_name if "@" in name else one.entry.name for one in self.entries(kind)}
        also = [f"{name} is {_article(one.entry)}." for one in self.registered if one.entry.name == name]
        for record in self.records:
            if record.status == "broken":
                also.append(f"Plugin {record.name} failed to load: {record.error}.")
            elif record.status == "disabled":
                also.append(f"Plugin {record.name} is disabled.")
        return UnknownNameError(_word(kind), name, known, also=" ".join(also))


def _clash(name: str, named: list[Registered[Any]], *, ways: list[str]) -> UsageError:
    brought = " and ".join(f"{_article(one.entry)} of plugin {one.plugin.full_name}" for one in named)
    hint = f"Disable one of them: {DISABLE_VARIABLE}={named[-1].plugin.full_name}."
    if len(set(ways)) == len(ways) > 0:
        hint = f"Say {' or '.join(ways)}, or disable one: {DISABLE_VARIABLE}={named[-1].plugin.full_name}."
    return UsageError(f"{name!r} can mean {len(named)} things: {brought}", hint=hint)


def _word(kind: type[Entry]) -> str:
    """SolverEntry -> solver."""
    return kind.__name__.removesuffix("Entry").lower() or "entry"


def _article(entry: Entry) -> str:
    word = _word(type(entry))
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


# -- building it -------------------------------------------------------------------------------------------

_switched_off: set[str] = set()


@functools.cache
def registry() -> Registry:
    """The plugins of this process, found and loaded when first asked for.

    EIGEN_DISABLE_PLUGINS=a,b and `disable` keep plugins out. A name in the variable that no plugin bears is
    warned of, not refused: one shell may serve several environments.
    """
    ambient = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")} - {""}
    built = _build(_switched_off | ambient)
    for name in sorted(ambient - _labels(built.records)):
        unknown = _no_plugin(name, built.records)
        warnings.warn(f"{DISABLE_VARIABLE}: {unknown.message}. {unknown.hint}", stacklevel=2)
    return built


def disable(*names: str) -> None:
    """Keeps plugins out, by the name of their entry point, or by name@distribution.

    Before the first `registry()` nothing of them is imported; after it, the registry is built anew.

    Raises:
        UnknownNameError: no plugin bears that name; then none is disabled.
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
            try:
                # What a plugin prints while it is imported must not mix with the data on stdout.
                with contextlib.redirect_stdout(sys.stderr):
                    entries = entries_of(point.load())
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit, and an extension module's panic, are no Exception
                record = replace(record, status="broken", error=one_line(error))
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
    """What the entry stands for.

    Raises:
        PluginError: it can't be imported; where an extra is missing, the hint tells how to install it.
    """
    return _follow(entry, entry.load)


def load_options(entry: Entry) -> type | None:
    """The dataclass of the entry's options, or None where it has none. Raises PluginError as `load` does."""
    if entry.options is None:
        return None
    options = _follow(entry, entry.options)
    if not (isinstance(options, type) and is_dataclass(options)):
        raise PluginError(f"{entry.options}, the options of {entry.name}, is no dataclass")
    return options


def resolve_options(entry: Entry, given: Mapping[str, object]) -> Any:
    """The entry's options with the given values, or None where it declares none.

    Raises:
        OptionError, UnknownNameError: an option that it doesn't have, or a value that it can't take.
    """
    declared = load_options(entry)
    if declared is not None:
        return resolve(declared, given, entry=entry.name)
    if given:
        raise OptionError(f"{entry.name} has no options; given were {', '.join(given)}")
    return None


def require(entry: Entry, offered: frozenset[Capability], problem: str = "this problem") -> None:
    """Raises CapabilityError where the problem does not offer all that the entry needs."""
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
                f"the {_word(type(entry))} {entry.name} needs {missing}, which is not installed",
                hint=f'Run: pip install "{_distribution_of(entry)}[{entry.extra}]"',
            ) from error
        raise PluginError(f"{entry.name} can't be loaded from {target}: {one_line(error)}") from error


def _missing(error: BaseException) -> str | None:
    """The package that was not found, where that is what went wrong."""
    return error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None


def _distribution_of(entry: Entry) -> str:
    return next((one.plugin.distribution for one in registry().registered if one.entry == entry), "eigencore")
