"""The parts that the kits share: a check applies one law to one subject, and a test runner calls it."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from eigencore.entries import Entry
from eigencore.registry import load, registry, resolve_options


class Subject(Protocol):
    """A plugin under test. `where` names what it is tested on: an array library, a precision or a problem."""

    @property
    def where(self) -> str: ...


S = TypeVar("S", bound=Subject)
E = TypeVar("E", bound=Entry)
T = TypeVar("T")
P = ParamSpec("P")

Law = Callable[[T], None]
"""A property that every plugin of a kind must have: a function that raises AssertionError if not."""


class BrokenLawError(AssertionError):
    """At least one law is broken; `laws` has their names."""

    def __init__(self, broken: Mapping[str, str], where: str):
        super().__init__("\n".join([where, *(f"  {law}: {reason}" for law, reason in broken.items())]))
        self.laws = tuple(broken)


def demand(condition: object, message: str) -> None:
    """Raises AssertionError with the message unless the condition is true; `python -O` does not remove it."""
    if not condition:
        raise AssertionError(message)


# -- checks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check(Generic[S]):
    """One law applied to one subject; call it to run it.

    Attributes:
        name: the name of the law, or of the case of the gallery that is solved.
        subject: the plugin under test.
        law: raises AssertionError if it is violated.
        known_failure: the reason why the check is expected to fail; None: it is expected to pass.

    Raises:
        AssertionError: the check fails, or it is listed as a known failure and passes.
        unittest.SkipTest: the check is a known failure, or has nothing to examine. pytest skips it, too.
    """

    name: str
    subject: S
    law: Law[S]
    known_failure: str | None = None

    @property
    def __name__(self) -> str:
        """NAME/WHERE; pytest uses it as the id of the check."""
        return f"{self.name}/{self.subject.where}"

    def __call__(self) -> None:
        if self.known_failure is None:
            self._run()
            return
        try:
            self._run()
        except AssertionError:
            raise unittest.SkipTest(f"known failure: {self.known_failure}") from None
        raise AssertionError(
            f"{self.name} is listed as a known failure ({self.known_failure}), but it passes: "
            "remove it from known_failures"
        )

    def _run(self) -> None:
        try:
            self.law(self.subject)
        except (AssertionError, unittest.SkipTest, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise BrokenLawError({"raises_nothing": reason}, self.__name__) from error


def checks_of(subject: S, laws: Iterable[Law[S]]) -> list[Check[S]]:
    """One check per law, named after the law."""
    return [Check(law.__name__, subject, law) for law in laws]


def with_known_failures(
    checks: list[Check[S]], known_failures: Mapping[str, str] | None, subject: str
) -> list[Check[S]]:
    """The checks, marked as known failures if their name or NAME/WHERE matches a pattern.

    Args:
        checks: all checks of the subject.
        known_failures: pattern, with * for any text -> why the check fails.
        subject: the name of the plugin under test, for the error message.

    Raises:
        ValueError: a pattern matches no check.
    """
    for pattern, reason in (known_failures or {}).items():
        matches = [
            fnmatchcase(check.name, pattern) or fnmatchcase(check.__name__, pattern) for check in checks
        ]
        if not any(matches):
            raise ValueError(f"known_failures has {pattern!r}, which matches no check of {subject}")
        checks = [
            replace(check, known_failure=reason) if match else check
            for check, match in zip(checks, matches, strict=True)
        ]
    return checks


def run_all(checks: Iterable[Check[S]]) -> None:
    """Runs the checks without pytest.

    Raises:
        AssertionError: at least one check fails; the message names each of them and gives the reason.
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
        count = f"{len(failed)} check{'s' if len(failed) > 1 else ''} failed"
        raise AssertionError("\n".join([count, *failed]))


def runner_of(select: Callable[P, list[Check[S]]], example: str) -> Callable[P, None]:
    """The function `check_KIND` for `KIND_checks`: it takes the same arguments and runs the checks."""

    def run(*arguments: P.args, **keywords: P.kwargs) -> None:
        run_all(select(*arguments, **keywords))

    run.__name__ = run.__qualname__ = "check_" + select.__name__.removesuffix("_checks")
    run.__module__ = select.__module__
    run.__doc__ = f"""Runs every check that `{select.__name__}` returns for these arguments, without pytest.

    Raises:
        AssertionError: at least one check fails; the message names each of them and gives the reason.

    Example:
        {example}
    """
    vars(run)["__signature__"] = inspect.signature(select).replace(return_annotation=None)
    return run


# -- the plugin under test ---------------------------------------------------------------------------------


def declared_entry(kind: type[E], plugin: str | Callable[..., Any], **defaults: Any) -> E:
    """The entry of a registered plugin; for an object that is not registered, an entry with default fields.

    Args:
        kind: the class of the entry.
        plugin: a registered name, or the object itself.
        **defaults: further fields of the entry of an object that is not registered.

    Raises:
        UnknownNameError: no entry of that kind has this name.
    """
    if isinstance(plugin, str):
        return registry().find(kind, plugin)
    name = getattr(plugin, "__name__", type(plugin).__name__)
    return kind(name=name, summary="", load="", **defaults)


def loaded(plugin: str | Callable[..., Any], entry: Entry, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """The plugin itself and its options.

    The options of a registered plugin are resolved as in the core, and are None if it declares none. The
    options of an object that is not registered are passed on without checks.

    Raises:
        PluginError: the plugin cannot be imported.
        OptionError, UnknownNameError: the plugin does not have such an option, or the value is invalid.
    """
    if isinstance(plugin, str):
        return load(entry), resolve_options(entry, options)
    return plugin, SimpleNamespace(**options)
