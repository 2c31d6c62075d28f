"""What a row of the table of bad input is, and short ways to write one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eigencore
from eigencore.errors import EigencoreError, ProblemError, UsageError
from eigencore.problems import find_factory


def nothing(folder: Path) -> None: ...


@dataclass(frozen=True)
class Row:
    """Something that is given, through Python, through the command or both, and what is expected of it.

    Attributes:
        given: in words.
        error: what Python raises; None: it is no error after all.
        words: all stand in what is told; they name the culprit.
        python: gives it.
        command: gives it, too.
        code: the command's exit code where it is not the error's.
        prepare: makes what has to be there, in the current folder.
        truth: where it is no error, the eigenvalues that come out.
        fault: what is wrong about it today.
        fault_of: "python" or "command", where only that has the fault.
    """

    given: str
    error: type[BaseException] | None
    words: tuple[str, ...]
    python: Callable[[], Any] | None = None
    command: tuple[str, ...] | None = None
    code: int | None = None
    prepare: Callable[[Path], object] = nothing
    truth: Callable[[], Any] | None = None
    fault: str = ""
    fault_of: str = ""

    @property
    def exit_code(self) -> int:
        if self.code is not None:
            return self.code
        return self.error.exit_code if self.error and issubclass(self.error, EigencoreError) else 0


NO_ANALYSES = ("--analyses", "none")
QUADRATIC = ("analyze", "demo:quadratic", "--set", "problem.n=60", *NO_ANALYSES)


def asked(
    given: str,
    *words: str,
    error: type[BaseException] | None = UsageError,
    flags: tuple[str, ...] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    keywords: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """Of a sound problem, `demo:quadratic`; `flags` say the same as options and keywords."""
    of_problem = {"n": 60, **(options or {}).get("problem", {})}
    merged = {**(options or {}), "problem": of_problem}

    def python() -> Any:
        return eigencore.analyze(
            "demo:quadratic", **{"analyses": "none", "options": merged, **(keywords or {})}
        )

    through_python = python if keywords or options else None
    return Row(given, error, words, through_python, None if flags is None else (*QUADRATIC, *flags), **more)


def made(
    name: str,
    *words: str,
    error: type[BaseException] | None = ProblemError,
    file: str = "made.py",
    flags: tuple[str, ...] = NO_ANALYSES,
    as_good_as: str = "",
    keywords: Mapping[str, Any] | None = None,
    **more: Any,
) -> Row:
    """Of the problem of that name in made.py; `as_good_as` is the one that it has the eigenvalues of."""

    def analyzed(of: str, **asked: Any) -> Any:
        return eigencore.analyze(find_factory(f"{file}:{of}")(), **{"analyses": "none", **asked})

    extra = [] if flags == NO_ANALYSES else list(flags)
    return Row(
        " ".join([name.replace("_", " "), *extra]),
        error,
        words,
        lambda: analyzed(name, **(keywords or {})),
        ("analyze", f"{file}:{name}", *flags),
        **({"truth": lambda: analyzed(as_good_as).eigen.values} if as_good_as else {}),
        **more,
    )
