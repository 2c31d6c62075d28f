"""`--config FILE`: arguments and options of a command from a TOML file.

A key is the name of an option without its leading dashes, or of an argument. Values are converted and
validated as those of the command line are, by click; only their TOML types are checked here. Options of
entries, which --set sets on the command line, are tables.

Example:
    import click
    from eigencore.cli.config_file import config_option
    from eigencore.cli.problem_options import problem_argument, seed_option

    @click.command()
    @problem_argument
    @seed_option
    @config_option
    def mine(problem: str, seed: int) -> None:
        click.echo(f"{problem} {seed}")
"""

from __future__ import annotations

import codecs
import functools
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, cast

import click

from eigencore.cli.completion import files_named
from eigencore.cli.failures import FLAGS
from eigencore.cli.lists import ListType, parts
from eigencore.entries import AnalysisEntry, AttackEntry, BackendEntry, Entry, KindEntry, SolverEntry
from eigencore.errors import EigencoreError, UsageError

C = TypeVar("C", bound=Callable[..., Any])
FILE, SET = f"{__name__}.file", f"{__name__}.set"  # keys of `Context.meta`
# The options that choose entries. Another choice on the command line makes options of the file's choice void.
_CHOICES: Mapping[str, type[Entry]] = {
    "backend": BackendEntry,
    "solver": SolverEntry,
    "kind": KindEntry,
    "attack": AttackEntry,
    "analyses": AnalysisEntry,
}
_TEXT = ((str,), "text")


class _ConfigOption(click.Option):
    """Reads the file before click looks for the values that the command line does not give."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        file, args = super().handle_parse_result(ctx, opts, args)
        if isinstance(file, str) and not ctx.resilient_parsing:
            given = {name: value for name, value in opts.items() if isinstance(value, str | list | tuple)}
            for name in [name for name, value in given.items() if value == ()]:
                # No value of an argument that takes any number of them; it would precede those of the file.
                del cast("dict[str, Any]", opts)[name]
            use_file(ctx, file, given)
        return file, args


def config_option(command: C) -> C:
    """A click decorator: the option --config of a command.

    An invalid request that the command finds itself mentions the file, too.
    """

    @functools.wraps(command)
    def with_file(*arguments: Any, **keywords: Any) -> Any:
        try:
            return command(*arguments, **keywords)
        except UsageError as error:
            file = click.get_current_context().meta.get(FILE)
            if file is not None:
                error.hint = f"Options were read from {file}. {error.hint or ''}".rstrip()
            raise

    made: C = click.option(
        "--config",
        cls=_ConfigOption,
        is_eager=True,
        expose_value=False,
        metavar="FILE",
        shell_complete=files_named(".toml"),
        help="Read arguments and options from this TOML file; those of the command line take precedence.",
    )(cast("C", with_file))
    return made


def options_of_file(ctx: click.Context) -> dict[str, dict[str, Any]]:
    """The options of entries that the file sets, by entry and option; empty without a file."""
    return {entry: dict(options) for entry, options in ctx.meta.get(SET, {}).items()}


def use_file(ctx: click.Context, file: str, given: Mapping[str, Any]) -> None:
    """Makes the values of a file those that the command line does not give.

    Args:
        given: the values of the command line, by the name of their parameter.
    """
    parameters, content = _parameters(ctx.command), _read(file)
    ctx.meta.get(FLAGS, []).extend(f"--{key}" for key, value in content.items() if value is True)
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in parameters:
            raise _unknown(ctx, file, key, value, parameters)
        if name in found:
            raise UsageError(f"{file}: {name} is given twice, also as {name.replace('_', '-')}")
        found[name] = value
    tables = _tables(file, found.pop("set", {}))
    values = {name: _value(ctx, file, name, parameters[name], value) for name, value in found.items()}
    ctx.default_map = {str(parameters[name].name): value for name, value in values.items()}
    void = _void(parameters, values, given)
    ctx.meta[SET] = {entry: options for entry, options in tables.items() if entry not in void}
    ctx.meta[FILE] = file


def _parameters(command: click.Command) -> dict[str, click.Parameter]:
    """The parameters that a file can set, by their keys."""
    keys = {_key(parameter): parameter for parameter in command.params}
    return {key: parameter for key, parameter in keys.items() if key not in ("config", "resume", "help")}


def _key(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return str(parameter.name)
    return max(parameter.opts, key=len).lstrip("-").replace("-", "_")


def _read(file: str) -> dict[str, Any]:
    """The content of a TOML file; every failure is a UsageError that names the file."""
    try:
        with open(file, "rb") as opened:
            content = opened.read().removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--config {file} can't be read: {reason}") from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{file} is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}; expected TOML",
            hint="Save the file in the encoding UTF-8.",
        ) from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number with thousands of digits
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}, the end of the file"
        reason = str(error).replace("at end of document", end)
        raise UsageError(f"{file} is not valid TOML: {reason}") from error


def _unknown(
    ctx: click.Context, file: str, key: str, value: object, parameters: Mapping[str, click.Parameter]
) -> UsageError:
    """The error for a key that the command does not have."""
    from eigencore.registry import registry

    name, command = key.replace("-", "_"), f"eigen {ctx.info_name}"
    if isinstance(value, dict) and any(one.entry.name == key for one in registry().entries(Entry)):
        hint = f"The options of {key} are set in the table [set.{key}]."
        return UsageError(f"{file}: {key} is not an option of {command}", hint=hint)
    others = _commands_with(ctx, name)
    if others:
        hint = f"It is an option of {', '.join(others)}."
        return UsageError(f"{file}: {key} is not an option of {command}", hint=hint)
    near = [repr(one) for one in get_close_matches(name, parameters)]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"`{command} --help` lists the options."
    return UsageError(f"{file}: unknown key {key!r}; expected an option of {command}", hint=hint)


def _commands_with(ctx: click.Context, key: str) -> list[str]:
    """The other commands with --config that have an option of this name."""
    group, found = ctx.find_root().command, []
    if not isinstance(group, click.Group):
        return []
    for name in group.list_commands(ctx):
        try:
            _, command, _ = group.resolve_command(ctx, [name])
        except EigencoreError:  # of a plugin
            continue
        if command is not None and any(isinstance(one, _ConfigOption) for one in command.params):
            found += [f"eigen {name}"] if key in _parameters(command) else []
    return found


# -- values ------------------------------------------------------------------------------------------------


def _value(ctx: click.Context, file: str, key: str, parameter: click.Parameter, value: object) -> Any:
    """The value as the command line gives it, which click has validated."""
    given = _as_given(parameter, value, f"{file}: {key}")
    try:
        parameter.process_value(ctx, given)
    except click.UsageError as error:
        raise UsageError(f"{file}: {key}: {error.message}") from error
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}", hint=error.hint) from error
    return given


def _as_given(parameter: click.Parameter, value: object, where: str) -> Any:
    """The value as the command line gives it: text, a switch, or a list of texts.

    Args:
        where: the file and the key, for an error message.
    """
    accepted, expected = _accepted(parameter)
    if getattr(parameter, "multiple", False) or parameter.nargs == -1:
        if isinstance(value, dict) and "=" in (parameter.metavar or ""):
            texts = {
                name: [
                    _text(one, accepted, f"{expected}, or a list", f"{where}.{name}") for one in _listed(part)
                ]
                for name, part in value.items()
            }
            return [f"{name}={','.join(part)}" for name, part in texts.items()]
        return [_text(one, accepted, f"{expected}, or a list", where) for one in _listed(value)]
    if isinstance(parameter.type, ListType) and isinstance(value, list):
        return [_text(one, accepted, expected, where) for one in value]
    text = _text(value, accepted, expected, where)
    return value if accepted == (bool,) else text


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _text(value: object, accepted: tuple[type, ...], expected: str, where: str) -> str:
    if type(value) not in accepted:  # not isinstance: in Python, true is a whole number
        raise UsageError(f"{where} is {_shown(value)}; expected {expected}")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _accepted(parameter: click.Parameter) -> tuple[tuple[type, ...], str]:
    """The types that a value of a parameter may have in a file, and how they are called."""
    kind = parameter.type
    if getattr(parameter, "is_flag", False):
        return (bool,), "true or false"
    if isinstance(kind, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return (int, float), "a number"
    if kind is click.UNPROCESSED:  # its meaning is found out elsewhere
        return (str, int, float, bool), "text, a number, true or false"
    if isinstance(kind, ListType):
        return kind.of, "text, or a list" if kind.of == (str,) else "text, a number, or a list"
    return _TEXT


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str | int | float | list) else str(value)


# -- options of entries ------------------------------------------------------------------------------------


def _tables(file: str, value: object) -> dict[str, dict[str, Any]]:
    """The options by entry, of the tables [set.ENTRY]."""
    if not isinstance(value, dict):
        raise UsageError(
            f"{file}: set is {_shown(value)}; expected a table of each entry, as in [set.lanczos]"
        )
    for entry, options in value.items():
        if not isinstance(options, dict):
            raise UsageError(f"{file}: set.{entry} is {_shown(options)}; expected a table of its options")
    return value


def _void(
    parameters: Mapping[str, click.Parameter], values: Mapping[str, Any], given: Mapping[str, Any]
) -> set[str]:
    """The entries that the command line replaces, so that options of the file for them do not apply.

    Args:
        values: those of the file, by key.
        given: those of the command line, by the name of their parameter.
    """
    from eigencore.registry import registry

    void = set()
    problem = values.get("problem")
    if problem is not None and given.get("problem", problem) != problem:
        void.add("problem")
    for key, kind in _CHOICES.items():
        chosen = given.get(str(parameters[key].name)) if key in parameters else None
        if chosen is not None:
            names = {one.entry.name for one in registry().entries(kind)}
            void |= names - {name.partition("@")[0] for name in parts(chosen)}
            if key == "analyses" and parts(chosen) == ["none"]:  # attacks are run by analyses
                void |= {one.entry.name for one in registry().entries(AttackEntry)}
    return void
