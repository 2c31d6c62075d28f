"""The checkpoints of a network as members of a study: one network at the weights of several files."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eigencore.errors import UsageError
from eigencore.interfaces import Problem
from eigencore.pipeline.studies.members import Member
from eigencore.problems import as_problem, check_keywords, find_factory
from eigencore.problems.lookup import find_problem

NUMBER, DIGEST = "number", "sha256"  # the covariates of a checkpoint
_WHOLE_NUMBER = re.compile(r"\d+")
_NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})


def checkpoints(
    problem: Any,
    files: Iterable[str | os.PathLike[str]],
    keywords: Mapping[str, Any] = _NO_KEYWORDS,
) -> tuple[Member, ...]:
    """A member of a study for each file of weights.

    A member is named by its file: by the name alone if no other file has it, or else by the path as given.
    Its group is the folder of the file, because checkpoints of one training run are not independent. Its
    covariates are `sha256`, the beginning of the file's digest, by which a study that is continued notices a
    file that changed; and `number`, if each name has a number that tells it from the others of its folder, as
    in step-200.pt. The members are then in the order of folders and numbers, or else in that of the files.

    Args:
        problem: the name of a problem, which is made in the worker; a Problem; or a tuple
            (model, data, loss).
        files: files of weights, as for `Problem.checkpoint`.
        keywords: keywords of the problem's factory, if it is given by name.

    Raises:
        UsageError: a file does not exist or occurs twice, or there is none; or keywords are given, and the
            problem has no name.
        UnknownNameError, OptionError, ProblemError: as for `find_problem`, without making the problem.

    Example:
        import eigencore

        def measure(*files):
            members = eigencore.checkpoints("my_model.py:make", files)
            return eigencore.study(members, k=3, analyses="trace", jobs=2).to_pandas()
    """
    paths = [Path(file) for file in files]
    _refuse_unusable(paths)
    at = _named(problem, keywords) if isinstance(problem, str) else _given(problem, keywords)
    named = Counter(path.name for path in paths)
    numbers = _numbers(paths)
    if numbers is not None:
        folders = list(dict.fromkeys(path.parent for path in paths))
        paths.sort(key=lambda path: (folders.index(path.parent), numbers[path]))
    return tuple(
        Member(
            path.name if named[path.name] == 1 else str(path),
            at(path.absolute()),
            {**({} if numbers is None else {NUMBER: numbers[path]}), DIGEST: _digest(path)},
            group=str(path.parent),
        )
        for path in paths
    )


def _named(name: str, keywords: Mapping[str, Any]) -> Any:
    """What makes the problem with this name at the weights of a file."""
    if "checkpoint" in keywords:
        raise UsageError(
            "problem.checkpoint is set, and checkpoints are given, too", hint="Leave problem.checkpoint out."
        )
    check_keywords(find_factory(name), {**keywords, "checkpoint": ""})
    file, colon, attribute = name.rpartition(":")
    # A worker may have another working directory.
    place = f"{Path(file).absolute()}:{attribute}" if colon and file.endswith(".py") else name
    return lambda path: partial(_made, name, place, {**keywords, "checkpoint": str(path)})


def _made(name: str, place: str, keywords: Mapping[str, Any]) -> Problem:
    """The problem at this place, by the name that it was given by."""
    problem = find_problem(place, keywords)
    return replace(problem, name=name) if problem.name == place else problem


def _given(problem: Any, keywords: Mapping[str, Any]) -> Any:
    if keywords:
        raise UsageError("keywords are given for a problem that has no name, and so no factory")
    one: Problem = as_problem(problem)
    return lambda path: replace(one, checkpoint=path)


def _refuse_unusable(paths: list[Path]) -> None:
    if not paths:
        raise UsageError("there is no checkpoint; expected at least one file of weights")
    for path, count in Counter(paths).items():
        if not os.path.isfile(path):
            what = "is a folder; expected a file of weights" if os.path.isdir(path) else "does not exist"
            raise UsageError(f"the checkpoint {path} {what}")
        if count > 1:
            raise UsageError(f"the checkpoint {path} is given {count} times", hint="Give each file once.")


def _numbers(paths: list[Path]) -> dict[Path, int] | None:
    """The last whole number in the name of each file; None unless it tells the files of a folder apart."""
    found = {}
    for path in paths:
        every = _WHOLE_NUMBER.findall(path.stem)
        if not every:
            return None
        found[path] = int(every[-1])
    distinct = {(path.parent, number) for path, number in found.items()}
    return found if len(distinct) == len(found) else None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
