"""The members of a study: networks, each with what is known of it beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eigencore.entries import ProblemEntry
from eigencore.errors import EigencoreError, ProblemError, UsageError
from eigencore.interfaces import Problem
from eigencore.problems import check_keywords, find_factory
from eigencore.registry import registry

NO_TRACEBACK = "Use --verbose to see the traceback."


@dataclass(frozen=True)
class Member:
    """A network of a study, or a checkpoint of one.

    Attributes:
        name: the name of its row, which no other member has.
        problem: what `analyze` takes: a name, a Problem, a tuple (model, data, loss) or a matrix; or a
            function of no arguments that returns one. The function is called in the worker process, so that
            networks are trained at the same time, and not at all if their row exists. It seeds its random
            numbers itself.
        covariates: what is known beforehand, such as the batch size: numbers, text, True or False, by name.
        group: what the network shares with others that are not independent of it, such as the name of the
            training run that several checkpoints are from; None: it is independent of all others.

    Raises:
        UsageError: the name or a covariate is invalid.

    Example:
        import numpy as np
        from eigencore import Member

        member = Member("wide", lambda: np.diag([3.0, 2.0, 1.0]), {"width": 64}, group="run 1")
        print(member.name, member.covariates)
    """

    name: str
    problem: Any
    covariates: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)
    group: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise UsageError(f"the name of a member is {self.name!r}; expected text that is not empty")
        if self.group is not None and not isinstance(self.group, str):
            raise UsageError(f"the group of member {self.name} is {self.group!r}; expected text, or None")
        if not isinstance(self.covariates, Mapping):
            raise UsageError(
                f"the covariates of member {self.name} are {self.covariates!r:.60}; expected a mapping"
            )
        for name, value in self.covariates.items():
            plain = value is None or isinstance(value, bool | int | str)
            if not isinstance(name, str) or not (
                plain or (isinstance(value, float) and math.isfinite(value))
            ):
                raise UsageError(
                    f"the covariate {name!r} of member {self.name} is {value!r:.60}; expected a finite "
                    "number, text, True or False",
                    hint="Convert numbers of NumPy or PyTorch with float() or int().",
                )


def find_members(source: Any, keywords: Mapping[str, Any]) -> tuple[Member, ...]:
    """The members of a study.

    Args:
        source: a function that yields members, or the name of one, "path/file.py:function" or
            "module:function"; a Member; the name of a registered problem, which is a member of that name; or
            several of these.
        keywords: keywords of the function.

    Raises:
        UsageError: there is no member, or two have the same name.
        ProblemError: the function fails, or yields something that is no Member.
        EigencoreError: the function can't be found (see `find_factory`).
    """
    members = tuple(_members(source, keywords))
    if not members:
        raise UsageError(f"{_called(source)} yields no member; expected one for each network")
    names = [member.name for member in members]
    for member in members:
        if names.count(member.name) > 1:
            raise UsageError(
                f"{names.count(member.name)} members are named {member.name}",
                hint="Each network has a row of its own: give every member another name.",
            )
    return members


def _members(source: Any, keywords: Mapping[str, Any]) -> Iterator[Member]:
    if isinstance(source, Member):
        yield source
    elif isinstance(source, str):
        if any(one.entry.name == source for one in registry().entries(ProblemEntry)):
            yield Member(source, source if not keywords else _made(source, keywords))
        else:
            yield from _yielded(source, find_factory(source), keywords)
    elif callable(source):
        yield from _yielded(_called(source), source, keywords)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | Problem):
        for one in source:
            if not isinstance(one, Member | str) and not callable(one):
                raise _no_member("the study has", one)
            yield from _members(one, keywords)
    else:
        raise _no_member("the study is", source)


def _made(name: str, keywords: Mapping[str, Any]) -> Any:
    """A function that makes a registered problem with these keywords."""
    factory = find_factory(name)
    checked = check_keywords(factory, keywords)
    return lambda: factory(**checked)


def _yielded(name: str, factory: Any, keywords: Mapping[str, Any]) -> Iterator[Member]:
    """What the function yields; each is checked."""
    try:
        returned = factory(**(check_keywords(factory, keywords) if keywords else {}))
        if isinstance(returned, Problem | Member) or not isinstance(returned, Iterable):
            raise _no_member(f"{name} returned", returned)
        for one in returned:
            if not isinstance(one, Member):
                raise _no_member(f"{name} yielded", one)
            yield one
    except EigencoreError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{name} failed: {type(error).__name__}: {error}", hint=NO_TRACEBACK) from error


def _no_member(source: str, value: Any) -> ProblemError:
    what = "a Problem" if isinstance(value, Problem) else f"a value of type {type(value).__name__}"
    return ProblemError(
        f"{source} {what}; expected eigencore.Member, one for each network",
        hint="Yield Member(name, problem), where problem is a Problem or a function that makes one.",
    )


def _called(source: Any) -> str:
    return source if isinstance(source, str) else getattr(source, "__name__", "the study")
