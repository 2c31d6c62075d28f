"""Advice and hints as the command prints them: with its options in place of arguments of Python."""

from __future__ import annotations

import re

from eigencore.solving import RESUME

# Arguments of `analyze` that are options of the command under the same name.
_ARGUMENTS = (
    "solver|backend|kind|params|which|tol|complete|seed|max_matvecs|max_seconds|certify|samples|rtol|device|dtype|analyses"
    "|out"
)
_SET = re.compile(rf"\b({_ARGUMENTS}|k)=(?:\"([^\"]*)\"|'([^']*)'|([\w.+-]*\w))")
_NAMED = re.compile(r"(?<![-\w'])(max_matvecs|max_seconds|tol)\b")
_NO_RESUME = "Continue a run that has a folder with `eigen analyze --resume DIR`"


def for_command(text: str) -> str:
    """The text with `tol` as `--tol`, and with `solver="lanczos"` as `--solver lanczos`."""
    text = text.replace(RESUME, _NO_RESUME)
    return _NAMED.sub(lambda found: _option(found[1]), _SET.sub(_with_value, text))


def _with_value(found: re.Match[str]) -> str:
    value = next(value for value in found.groups()[1:] if value is not None)
    return f"{_option(found[1])} {value}"


def _option(argument: str) -> str:
    return "-k" if argument == "k" else f"--{argument.replace('_', '-')}"
