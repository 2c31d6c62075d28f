"""The configuration file that repeats a run: what decides its numbers, as `eigen analyze --config` reads it.

Defaults and resolved options are written, too, so that a later version with other defaults repeats the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eigencore.errors import ResultError

if TYPE_CHECKING:
    from eigencore.results import Run

_ARGUMENTS = (  # in the order of the file
    *("problem", "k", "backend", "solver", "kind", "params"),
    *("which", "tol", "complete", "seed", "max_matvecs", "max_seconds", "certify"),
    *("samples", "rtol", "device", "dtype", "analyses"),
)
_OBJECT = re.compile(r"<[\w.<>]+>")  # how a manifest names a Python object
_FACTORY = "FILE.py:FUNCTION"


def config_text(run: Run) -> str:
    """The TOML file with which `eigen analyze --config FILE` repeats a run.

    On a CPU, with the same versions and number of threads, which comments of the file state, the eigenvalues
    are the same to the last bit. A comment names what was given from Python and has no name on the command
    line; in place of a model, the file has FILE.py:FUNCTION, which has to be replaced.

    Raises:
        ResultError: the run does not have the arguments that it was made with.

    Example:
        import eigencore
        from eigencore.runs import config_text

        print(config_text(eigencore.analyze("demo:quadratic", k=3)))
    """
    manifest = run.manifest
    if "problem" not in manifest.get("arguments", {}):
        raise ResultError(
            "this result does not have the arguments that it was made with, so there is no file to repeat it",
            hint="Runs of `eigen analyze --out` and of analyze(out=...) have them; those of `solve` do not.",
        )
    arguments = {**manifest["arguments"], "backend": manifest.get("backend")}
    analyses = arguments.get("analyses")
    arguments["analyses"] = (manifest.get("unasked", []) if analyses is None else analyses) or "none"
    if arguments.get("complete") is None:
        arguments["complete"] = "none"
    content = {name: _without_none(arguments[name]) for name in _ARGUMENTS if arguments.get(name) is not None}
    tables = _tables(manifest["options"])
    remarks = _remarks_on(content)
    for entry, table in tables.items():
        remarks += _remarks_on(table, f"set.{entry}.")
    if "eigen" in arguments:
        remarks.append("The run analyzed eigenpairs that were given from Python; this file computes them.")
    if _objects_in(content["problem"]):
        content["problem"] = _FACTORY
    lines = ["Repeats a run: eigen analyze --config FILE", *_made_with(manifest), *remarks]
    return _file(content, tables, lines)


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """The file with the arguments of a run that begins, as the command got them; None is left out.

    Example:
        from eigencore.runs.config_text import arguments_text

        print(arguments_text({"problem": "demo:quadratic", "k": 3, "complete": None, "options": {}}))
    """
    given = dict(arguments)
    if "complete" in given and given["complete"] is None:
        given["complete"] = "none"
    if given.get("analyses") is not None:
        given["analyses"] = list(given["analyses"]) or "none"
    content = {name: _without_none(given[name]) for name in _ARGUMENTS if given.get(name) is not None}
    comment = "The arguments of a run that has not ended: eigen analyze --resume DIR continues it."
    return _file(content, _tables(given.get("options") or {}), [comment])


def _tables(options: Mapping[str, Any]) -> dict[str, Any]:
    return {entry: _without_none(given) for entry, given in options.items() if given}


def _file(content: Mapping[str, Any], tables: Mapping[str, Any], comments: Sequence[str]) -> str:
    import tomli_w

    lines = "".join(f"# {' '.join(line.split())}\n" for line in comments)
    return lines + tomli_w.dumps({**content, **({"set": tables} if tables else {})})


def _made_with(manifest: Mapping[str, Any]) -> list[str]:
    """The versions, data type, device and number of threads, on which the last bits depend."""
    versions, dtype, device, threads = (
        manifest.get(name) for name in ("versions", "dtype", "device", "threads")
    )
    if not isinstance(versions, Mapping):
        return []
    made = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    what = f"{str(dtype).removeprefix('torch.')} on {device}, {threads} thread{'s' * (threads != 1)}"
    return [f"It was made with {made}; {what}."]


def _without_none(value: Any) -> Any:
    """The value with the text "none", which options accept, for None, which TOML does not have."""
    if isinstance(value, Mapping):
        return {name: _without_none(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_none(one) for one in value]
    return "none" if value is None else value


def _remarks_on(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What to replace, for each value that is a Python object or a list with one."""
    remarks = []
    for name, value in content.items():
        for one in _objects_in(value):
            instead = f"name a function that returns it, as {_FACTORY}" if name == "problem" else "replace it"
            remarks.append(f"{prefix}{name} was given from Python, as {one[1:-1]}: {instead}.")
    return remarks


def _objects_in(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and _OBJECT.fullmatch(one)]
