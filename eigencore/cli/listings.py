"""eigen plugins, problems, backends, kinds and all other listings: entries and their options."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from eigencore.cli.completion import names
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.page import Page, page
from eigencore.entries import (
    AnalysisEntry,
    AttackEntry,
    BackendEntry,
    Entry,
    KindEntry,
    ProblemEntry,
    RendererEntry,
    SolverEntry,
)
from eigencore.errors import UnknownNameError
from eigencore.options import OptionSpec, describe, describe_keywords
from eigencore.registry import (
    PluginRecord,
    Registered,
    entry_kind,
    load,
    load_options,
    missing_packages,
    registry,
)

_IMPORT_STRINGS = ("load", "options")


def _listing(plural: str, kind: type[Entry], summary: str) -> click.Command:
    @click.command(plural, help=summary)
    @click.argument("name", required=False, shell_complete=names(kind))
    @json_flag
    @verbose_flag
    def command(name: str | None, as_json: bool) -> int:
        if name is None:
            _print_all(plural, registry().entries(kind), as_json)
        else:
            _print_one(registry().find(kind, name), as_json)
        return 0

    return command


problems = _listing("problems", ProblemEntry, "List the registered problems, or the keywords of one.")
backends = _listing(
    "backends", BackendEntry, "List the backends, or the kinds of operator and options of one."
)
solvers = _listing("solvers", SolverEntry, "List the eigensolvers, or the options of one.")
attacks = _listing("attacks", AttackEntry, "List the adversarial attacks, or the options of one.")
analyses = _listing("analyses", AnalysisEntry, "List the analyses, or the options of one.")
renderers = _listing("renderers", RendererEntry, "List what draws figures and pages, or the options of one.")


@click.command()
@click.argument("name", required=False, shell_complete=names(KindEntry))
@json_flag
@verbose_flag
def kinds(name: str | None, as_json: bool) -> int:
    """List the kinds of operator of all backends, or the options of one.

    NAME is that of a kind, such as hessian, or BACKEND:KIND.
    """
    if name is None:
        _print_all("kinds", registry().entries(KindEntry), as_json)
        return 0
    found = [one.entry for one in registry().kinds_named(name)]
    if as_json and len(found) > 1:
        print(json.dumps({"kinds": [_entry_with_options(entry) for entry in found]}))
        return 0
    for i, entry in enumerate(found):
        if i:
            page().line()
        _print_one(entry, as_json)
    return 0


@click.command()
@click.argument("name", required=False)
@json_flag
@verbose_flag
def plugins(name: str | None, as_json: bool) -> int:
    """List the plugins with their status, or the entries of one."""
    records = registry().records
    if name is not None:
        records = tuple(record for record in records if name in (record.name, record.full_name))
        if not records:
            raise UnknownNameError("plugin", name, {record.name for record in registry().records})
    entries = {
        record: [item.entry for item in registry().registered if item.plugin == record] for record in records
    }
    if as_json:
        print(json.dumps({"plugins": [_plugin_as_json(record, entries[record]) for record in records]}))
        return 0
    _print_plugins(entries, page())
    if name is not None:
        print()
        rows = [(entry_kind(entry), entry.name, entry.summary) for entry in entries[records[0]]]
        page().table(("kind", "name", "summary"), rows)
    return 0


def _print_plugins(plugins: Mapping[PluginRecord, Sequence[Entry]], on: Page) -> None:
    rows = [
        (
            record.name,
            record.status,
            f"{record.distribution} {record.version}",
            ", ".join(entry.name for entry in entries),
        )
        for record, entries in plugins.items()
    ]
    on.table(("plugin", "status", "package", "provides"), rows)
    unusable: dict[str, list[str]] = {}  # the entries that need each extra
    packages: dict[str, list[str]] = {}  # the missing packages that each extra installs
    for record, entries in plugins.items():
        if record.error:
            on.line(f"{record.name} is {record.status}: {record.error}", "yellow")
        for entry in entries:
            # A kind needs what its backend needs, which is listed.
            if not isinstance(entry, KindEntry) and (missing := _missing(record, entry)):
                extra = f"{record.distribution}[{entry.extra}]"
                unusable.setdefault(extra, []).append(entry.name)
                packages[extra] = missing
    for extra, entry_names in unusable.items():
        named = ", ".join(dict.fromkeys(entry_names))  # a backend and its monitor have one name
        on.line(f'to use {named}: pip install "{extra}" (installs {", ".join(packages[extra])})')


def _missing(record: PluginRecord, entry: Entry) -> list[str]:
    """The packages of the entry's extra that are not installed."""
    return [] if entry.extra is None else list(missing_packages(record.distribution, entry.extra))


def _print_all(plural: str, found: Sequence[Registered[Any]], as_json: bool) -> None:
    if as_json:
        entries = [{**_entry_as_json(item.entry), "plugin": item.plugin.full_name} for item in found]
        print(json.dumps({plural: entries}))
        return
    if found:
        columns = ["name", "summary", "plugin"]
        rows = [[item.entry.name, item.entry.summary, item.plugin.name] for item in found]
        if plural == "kinds":
            columns.insert(1, "backend")
            for row, item in zip(rows, found, strict=True):
                row.insert(1, item.entry.backend)
        page().table(columns, rows)
    else:
        print(f"no {plural} are installed")
    failed = [record.name for record in registry().records if record.status == "broken"]
    if failed:
        print(f"failed to load: {', '.join(failed)}; `eigen plugins` shows why", file=sys.stderr)


def _specs(entry: Entry) -> tuple[Sequence[OptionSpec], str]:
    """The options of an entry, and the name before the dot in `--set NAME.OPTION=VALUE`."""
    if isinstance(entry, ProblemEntry):
        return describe_keywords(load(entry)), "problem"
    declared = load_options(entry)
    return () if declared is None else describe(declared), entry.name


def _entry_with_options(entry: Entry) -> dict[str, Any]:
    specs, prefix = _specs(entry)
    return {**_entry_as_json(entry), "set": prefix, "options": [_option_as_json(spec) for spec in specs]}


def _print_one(entry: Entry, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_entry_with_options(entry)))
        return
    specs, prefix = _specs(entry)
    on = page()
    where = f" on {entry.backend}" if isinstance(entry, KindEntry) else ""
    on.line(f"{entry.name}{where} · {entry.summary}", "bold")
    for name, value in _entry_as_json(entry).items():
        if name not in ("name", "summary", "kind") and value not in (None, []):
            on.line(f"  {name}: {', '.join(value) if isinstance(value, list) else _as_text(value)}", "dim")
    on.line()
    for spec in specs:
        _print_option(spec, prefix, on)
    if not specs:
        on.line("no options")


def _print_option(spec: OptionSpec, prefix: str, on: Page) -> None:
    default = "required" if spec.required else f"default {_as_text(spec.default)}"
    on.line(f"--set {prefix}.{spec.name}=VALUE   {spec.range}; {default}")
    if spec.help:
        on.line(f"    {spec.help}")
    if spec.when:
        on.line(f"    when to change it: {spec.when}", "dim")


def _plugin_as_json(record: PluginRecord, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        **dataclasses.asdict(record),
        "entries": [{**_entry_as_json(entry), "missing": _missing(record, entry)} for entry in entries],
    }


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    """The fields of an entry without its import strings."""
    fields: dict[str, Any] = {"kind": entry_kind(entry)}
    for field in dataclasses.fields(entry):
        if field.name not in _IMPORT_STRINGS:
            value = getattr(entry, field.name)
            fields[field.name] = sorted(value) if isinstance(value, frozenset) else value
    if isinstance(entry, BackendEntry):
        fields["kinds"] = sorted({one.entry.name for one in registry().kinds(entry.name)})
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _option_as_json(spec: OptionSpec) -> dict[str, Any]:
    simple = isinstance(spec.default, bool | int | float | str | None)
    return {
        "name": spec.name,
        "range": spec.range,
        "default": spec.default if simple else repr(spec.default),
        "needed": spec.required,
        "help": spec.help,
        "when": spec.when,
    }


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
