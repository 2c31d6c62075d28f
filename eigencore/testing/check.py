"""A check: a law held to a subject, a solver or a backend, so that a test runner can call it by name."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from eigencore.testing.laws import BrokenLawError

S = TypeVar("S")


@dataclass(frozen=True)
class Check(Generic[S]):
    """One check of one subject; call it to run it. `where` says on which library or in which precision.

    Raises:
        AssertionError: it fails; or it was a known failure, and holds.
        unittest.SkipTest: it fails, as is known; or there is nothing to check. pytest skips on it, too.
    """

    name: str
    where: str
    subject: S
    law: Callable[[S], None]
    known_failure: str | None = None

    @property
    def __name__(self) -> str:
        """What pytest calls it by."""
        return f"{self.name}/{self.where}"

    def __call__(self) -> None:
        if self.known_failure is None:
            self._run()
            return
        try:
            self._run()
        except AssertionError:
            raise unittest.SkipTest(f"known failure: {self.known_failure}") from None
        raise AssertionError(f"{self.name} is a known failure ({self.known_failure}), and holds")

    def _run(self) -> None:
        try:
            self.law(self.subject)
        except (AssertionError, unittest.SkipTest, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
            raise BrokenLawError({"raises_nothing": told}, self.__name__) from error


def with_known_failures(
    checks: list[Check[S]], known: Mapping[str, str] | None, whose: str
) -> list[Check[S]]:
    """The checks, those marked whose name, or NAME/WHERE, fits a pattern in `known`.

    Raises:
        ValueError: a pattern fits no check.
    """
    for pattern, reason in (known or {}).items():
        fits = [fnmatchcase(check.name, pattern) or fnmatchcase(check.__name__, pattern) for check in checks]
        if not any(fits):
            raise ValueError(f"known_failures has {pattern!r}; no check of {whose} is called that")
        checks = [
            replace(check, known_failure=reason) if fit else check
            for check, fit in zip(checks, fits, strict=True)
        ]
    return checks


def run_all(checks: Iterable[Check[S]]) -> None:
    """Runs them, without pytest.

    Raises:
        AssertionError: with all that failed, and how.
    """
    failed = []
    for check in checks:
        try:
            check()
        except unittest.SkipTest:
            continue
        except AssertionError as failure:
            failed.append(f"{check.__name__}: {failure}")
    if failed:
        raise AssertionError("\n".join([f"{len(failed)} checks failed", *failed]))
