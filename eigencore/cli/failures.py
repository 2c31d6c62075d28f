"""How a failure is reported: a message and a hint, as text or as JSON, and the exit code."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from eigencore.entries import AnalysisEntry, Entry
from eigencore.errors import EigencoreError, described
from eigencore.processes import is_first, is_shared

if TYPE_CHECKING:
    from eigencore.results import EigenResult

INTERRUPTED, NOT_CONVERGED = 130, 3
# The flags that our commands share. A failure may happen before they are parsed, so `report` looks for them
# in the arguments itself.
json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also on failure.")
verbose_flag = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    help="Print every table and remark; on failure, the traceback.",
)
# Errors whose messages are written for users; any other exception is a bug in eigencore or a plugin.
USER_ERRORS = (EigencoreError, click.ClickException, click.exceptions.Exit, click.Abort)
ARGUMENTS = f"{__name__}.arguments"  # key of `Context.meta`: the command line as it was given
FLAGS = f"{__name__}.flags"  # key of `Context.meta`: the list of arguments that `report` searches
FEW_ENTRIES = 3  # as many lines are written out that set an option


def verbose() -> bool:
    """Whether the command that is running was given --verbose, or its file says so."""
    context = click.get_current_context()
    if context.get_parameter_source("verbose") is click.core.ParameterSource.DEFAULT_MAP:
        return bool(context.lookup_default("verbose"))
    return context.get_parameter_source("verbose") is click.core.ParameterSource.COMMANDLINE


def report(error: BaseException, arguments: Sequence[str]) -> int:
    """Prints the error as text or, if the arguments contain --json, as JSON; returns the exit code.

    The arguments are searched without being parsed, because they may be the cause of the error.
    """
    failure = _failure(error, arguments)
    if is_shared(error) and not is_first():
        return failure.exit_code  # the first process reports it
    with contextlib.suppress(OSError):
        if "--verbose" in arguments:
            traceback.print_exception(error, file=sys.stderr)
        try:
            _print_json(failure) if "--json" in arguments else _print_text(failure)
        except OSError:  # stdout cannot be written to
            _print_message(failure)
    return failure.exit_code


def report_unwritten(error: OSError) -> int:
    """Reports on stderr that output on stdout was lost, and returns the exit code."""
    failure = _failure(error)
    with contextlib.suppress(OSError):
        _print_message(failure)
    return failure.exit_code


@dataclass(frozen=True)
class _Failure:
    type: str
    message: str
    hint: str | None
    exit_code: int
    culprit: str | None = None
    partial: EigenResult | None = None


def _failure(error: BaseException, arguments: Sequence[str] = ()) -> _Failure:
    """What is reported of an error. Any exception may have a culprit and a partial result."""
    culprit, partial = getattr(error, "culprit", None), getattr(error, "partial", None)
    return replace(_without_result(error, arguments), culprit=culprit, partial=partial)


def _without_result(error: BaseException, arguments: Sequence[str]) -> _Failure:
    if isinstance(error, EigencoreError):
        return _Failure(type(error).__name__, error.message, error.hint, error.exit_code)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"See {context.command_path} --help." if context is not None else None
        if isinstance(error, click.NoSuchOption) and context is not None and context.parent is None:
            hint = f"{hint} The options of a command follow its name, as in `eigen analyze -k 5`."
        elif isinstance(error, click.NoSuchOption) and context is not None and context.info_name == "analyze":
            hint = f"{_how_to_set(error.option_name, arguments)} {hint}"
        return _Failure("UsageError", error.format_message(), hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        early = "" if hasattr(error, "partial") else " before there was a result"
        return _Failure("Interrupted", f"interrupted{early}", None, INTERRUPTED)
    if isinstance(error, click.Abort):
        return _Failure("Abort", "aborted", None, 1)
    return _Failure(type(error).__name__, _message(error), "Use --verbose to see the traceback.", 1)


def _how_to_set(option: str, arguments: Sequence[str]) -> str:
    """The text to write instead of --OPTION VALUE, for each entry that has an option of this name.

    Analyses that run only when they are named count only if they are named.
    """
    from eigencore.options import describe
    from eigencore.registry import load_options, registry

    name, found = option.lstrip("-").replace("-", "_"), []
    for registered in registry().entries(Entry):
        with contextlib.suppress(EigencoreError):
            options, entry = load_options(registered.entry), registered.entry
            unasked = isinstance(entry, AnalysisEntry) and not entry.by_default
            if unasked and not any(entry.name in argument for argument in arguments):
                continue
            if options is not None and name in (spec.name for spec in describe(options)):
                found.append(entry.name)
    value = f"{name}={_value_of(option, arguments)}"
    if len(found) > FEW_ENTRIES:
        return f"Write --set ENTRY.{value}, where ENTRY is one of {', '.join(found)}."
    if found:
        return f"Write {' or '.join(f'--set {entry}.{value}' for entry in found)}."
    return "Options of solvers, attacks and analyses are set as in --set pgd.steps=20."


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """The value of an unknown option: --OPTION=VALUE, or --OPTION VALUE."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        given, equals, value = argument.partition("=")
        if given == option:
            value = value if equals else following
            return shlex.quote(value) if value and not value.startswith("-") else "VALUE"
    return "VALUE"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({'' if error.code is None else repr(error.code)}) was called"
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return f"the output can't be written: {error.strerror}"
    return described(error)


def _print_json(failure: _Failure) -> None:
    document: dict[str, Any] = {
        "error": {name: getattr(failure, name) for name in ("type", "message", "hint", "culprit")}
    }
    if failure.partial is not None:
        from eigencore.runs import eigen_to_json

        document["partial"] = eigen_to_json(failure.partial)
    print(json.dumps(document), flush=True)


def _print_text(failure: _Failure) -> None:
    if failure.partial is not None and len(failure.partial.values):
        from eigencore.cli.print_run import print_pairs

        print("eigenpairs computed before the failure:")
        print_pairs(failure.partial)
    sys.stdout.flush()
    _print_message(failure)


def _print_message(failure: _Failure) -> None:
    text = f"eigen: {failure.message}"
    if failure.hint:
        from eigencore.cli.wording import for_command

        text += f"\n  {for_command(failure.hint)}"
    if sys.stderr.isatty():
        from eigencore.cli.page import wrapped

        text = wrapped(text, shutil.get_terminal_size().columns)
    print(text, file=sys.stderr)
