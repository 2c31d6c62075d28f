"""How a failure is told: a message and what to do, as text or as JSON, and the exit code."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from eigencore.errors import EigencoreError

if TYPE_CHECKING:
    from eigencore.results import EigenResult

INTERRUPTED = 130
# The flags that our commands share. A failure may come before they are parsed, so `report` looks for them
# itself.
json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also on failure.")
verbose_flag = click.option(
    "--verbose", is_flag=True, expose_value=False, help="On failure, print where it happened too."
)
# What click and eigencore raise with something to say; any other exception is a fault.
WORDED = (EigencoreError, click.ClickException, click.exceptions.Exit, click.Abort)


def report(error: BaseException, arguments: Sequence[str]) -> int:
    """Tells the error, as the arguments ask for it; returns the exit code.

    The arguments are looked at as they stand, since they may be what is wrong.
    """
    failure = _failure(error)
    with contextlib.suppress(OSError):
        if "--verbose" in arguments:
            traceback.print_exception(error, file=sys.stderr)
        try:
            _print_json(failure) if "--json" in arguments else _print_text(failure)
        except OSError:  # nothing can be written on stdout: on stderr, then
            _print_message(failure)
    return failure.exit_code


def report_unwritten(why: OSError) -> int:
    """Tells on stderr that what was printed on stdout is lost; returns the exit code."""
    failure = _failure(why)
    with contextlib.suppress(OSError):
        _print_message(failure)
    return failure.exit_code


@dataclass(frozen=True)
class _Failure:
    type: str
    message: str
    hint: str | None
    exit_code: int
    partial: EigenResult | None = None


def _failure(error: BaseException) -> _Failure:
    if isinstance(error, EigencoreError):
        return _Failure(type(error).__name__, error.message, error.hint, error.exit_code, error.partial)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"See {context.command_path} --help." if context is not None else None
        if isinstance(error, click.NoSuchOption) and context is not None and context.parent is None:
            hint = f"{hint} A command's own options stand after it, as in `eigen analyze -k 5`."
        return _Failure("UsageError", error.format_message(), hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return _Failure("Interrupted", "interrupted before there was a result", None, INTERRUPTED)
    if isinstance(error, click.Abort):
        return _Failure("Abort", "aborted", None, 1)
    return _Failure(type(error).__name__, _told(error), "--verbose shows where.", 1)


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"something called sys.exit({'' if error.code is None else repr(error.code)})"
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return f"the output can't be written: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _print_json(failure: _Failure) -> None:
    told = {"error": {"type": failure.type, "message": failure.message, "hint": failure.hint}}
    if failure.partial is not None:
        from eigencore.runs import eigen_to_json

        told["partial"] = eigen_to_json(failure.partial)
    print(json.dumps(told), flush=True)


def _print_text(failure: _Failure) -> None:
    if failure.partial is not None and len(failure.partial.values):
        from eigencore.cli.screen import print_pairs

        print("what there was until then:")
        print_pairs(failure.partial)
    sys.stdout.flush()
    _print_message(failure)


def _print_message(failure: _Failure) -> None:
    print(f"eigen: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"  {failure.hint}", file=sys.stderr)
