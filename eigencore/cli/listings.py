"""eigen plugins, problems, backends, solvers, attacks, analyses: what there is, and its options."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from eigencore.cli.completion import names
from eigencore.cli.failures import json_flag, verbose_flag
from eigencore.cli.tables import Page, page
from eigencore.entries import AnalysisEntry, AttackEntry, BackendEntry, Entry, ProblemEntry, SolverEntry
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


problems = _listing("problems", ProblemEntry, "List the problems that have a name, or the keywords of one.")
backends = _listing("backends", BackendEntry, "List the backends, or the operators and options of one.")
solvers = _listing("solvers", SolverEntry, "List the eigensolvers, or the options of one.")
attacks = _listing("attacks", AttackEntry, "List the adversarial attacks, or the options of one.")
analyses = _listing("analyses", AnalysisEntry, "List the analyses, or the options of one.")


@click.command()
@click.argument("name", required=False)
@json_flag
@verbose_flag
def plugins(name: str | None, as_json: bool) -> int:
    """List the plugins and what became of each, or what one brings."""
    records = registry().records
    if name is not None:
        records = tuple(one for one in records if name in (one.name, one.full_name))
        if not records:
            raise UnknownNameError("plugin", name, {one.name for one in registry().records})
    brought = {
        record: [one.entry for one in registry().registered if one.plugin == record] for record in records
    }
    if as_json:
        told = [
            {
                **dataclasses.asdict(record),
                "entries": [{**_told(entry), "missing": _missing(record, entry)} for entry in entries],
            }
            for record, entries in brought.items()
        ]
        print(json.dumps({"plugins": told}))
        return 0
    _print_plugins(brought, page())
    if name is not None:
        print()
        page().table(
            ("kind", "name", "summary"), [(entry_kind(e), e.name, e.summary) for e in brought[records[0]]]
        )
    return 0


def _print_plugins(brought: Mapping[PluginRecord, Sequence[Entry]], on: Page) -> None:
    rows = [
        (
            one.name,
            one.status,
            f"{one.distribution} {one.version}",
            ", ".join(entry.name for entry in entries),
        )
        for one, entries in brought.items()
    ]
    on.table(("plugin", "status", "from", "brings"), rows)
    extras: dict[str, list[str]] = {}
    packages: dict[str, list[str]] = {}
    for record, entries in brought.items():
        if record.error:
            on.line(f"{record.name} is {record.status}: {record.error}", "yellow")
        for entry in entries:
            if lacking := _missing(record, entry):
                extra = f"{record.distribution}[{entry.extra}]"
                extras.setdefault(extra, []).append(entry.name)
                packages[extra] = lacking
    for extra, idle in extras.items():
        on.line(f'to use {", ".join(idle)}: pip install "{extra}" (brings {", ".join(packages[extra])})')


def _missing(record: PluginRecord, entry: Entry) -> list[str]:
    """The packages that the entry needs, and that its extra would bring."""
    return [] if entry.extra is None else list(missing_packages(record.distribution, entry.extra))


def _print_all(plural: str, found: Sequence[Registered[Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({plural: [{**_told(one.entry), "plugin": one.plugin.full_name} for one in found]}))
        return
    if found:
        rows = [(one.entry.name, one.entry.summary, one.plugin.name) for one in found]
        page().table(("name", "summary", "plugin"), rows)
    else:
        print(f"no {plural} are installed")
    failed = [record.name for record in registry().records if record.status == "broken"]
    if failed:
        print(f"failed to load: {', '.join(failed)}; `eigen plugins` says why", file=sys.stderr)


def _print_one(entry: Entry, as_json: bool) -> None:
    if isinstance(entry, ProblemEntry):
        specs, prefix = describe_keywords(load(entry)), "problem"
    else:
        declared = load_options(entry)
        specs, prefix = () if declared is None else describe(declared), entry.name
    if as_json:
        options = [_told_option(spec) for spec in specs]
        print(json.dumps({**_told(entry), "set": prefix, "options": options}))
        return
    on = page()
    on.line(f"{entry.name} · {entry.summary}", "bold")
    facts = {name: value for name, value in _told(entry).items() if name not in ("name", "summary", "kind")}
    for name, value in facts.items():
        if value not in (None, []):
            on.line(f"  {name}: {', '.join(value) if isinstance(value, list) else _word_of(value)}", "dim")
    on.line()
    for spec in specs:
        _print_option(spec, prefix, on)
    if not specs:
        on.line("no options")


def _print_option(spec: OptionSpec, prefix: str, on: Page) -> None:
    default = "needed" if spec.required else f"default {_word_of(spec.default)}"
    on.line(f"--set {prefix}.{spec.name}=VALUE   {spec.range}; {default}")
    if spec.help:
        on.line(f"    {spec.help}")
    if spec.when:
        on.line(f"    when to change it: {spec.when}", "dim")


def _told(entry: Entry) -> dict[str, Any]:
    """The entry without its import strings, in JSON's terms."""
    told: dict[str, Any] = {"kind": entry_kind(entry)}
    for field in dataclasses.fields(entry):
        if field.name not in _IMPORT_STRINGS:
            value = getattr(entry, field.name)
            told[field.name] = sorted(value) if isinstance(value, frozenset) else value
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _told_option(spec: OptionSpec) -> dict[str, Any]:
    simple = isinstance(spec.default, bool | int | float | str | None)
    return {
        "name": spec.name,
        "range": spec.range,
        "default": spec.default if simple else repr(spec.default),
        "needed": spec.required,
        "help": spec.help,
        "when": spec.when,
    }


def _word_of(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
