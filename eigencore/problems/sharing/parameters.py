"""The parameters that a pattern selects, and their positions in a flat vector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from eigencore.errors import UnknownNameError, UsageError
from eigencore.registry import qualified_name

if TYPE_CHECKING:
    from eigencore.interfaces import Params, Pattern


_REGEX = "re:"


def select_names(names: Iterable[str], params: Params = None) -> list[str]:
    """The selected parameter names, each once and in their given order.

    Args:
        names: names of parameters; dots separate the names of nested modules, as in "encoder.0.weight".
        params: a pattern, several globs as "encoder.*,head.weight", or a list of patterns; None selects all
            names. A pattern is a glob such as "encoder.*"; a regular expression after "re:", which may match
            anywhere in a name; or a function of a name that returns True or False.

    Raises:
        UnknownNameError: no name matches one of the patterns; the hint suggests the nearest names.
        UsageError: `params` is none of these, a regular expression is invalid, a function fails or returns
            something else than True or False, or selects nothing.

    Example:
        from eigencore.problems.sharing import select_names

        names = ["0.weight", "0.bias", "2.weight"]
        print(select_names(names, "0.*"), select_names(names, ["2.weight", "*.bias"]))
        print(select_names(names, "re:^[0-9]+.weight$"), select_names(names, lambda name: "bias" in name))
    """
    names = list(names)
    if params is None:
        return names
    selected: set[str] = set()
    for pattern in patterns_of(params, names):
        matching = matching_names(names, pattern)
        if not matching:
            raise _without_match(pattern, names)
        selected.update(matching)
    return [name for name in names if name in selected]


def patterns_of(
    params: str | Callable[[str], bool] | Sequence[Pattern], names: Sequence[str]
) -> list[Pattern]:
    """The patterns that `params` consists of.

    Text is split at its commas, unless it matches a name as it is: names and sets of characters such as
    "[0,2]" may contain commas. Nor is a regular expression split, which extends to the end of the text, and
    the items of a list.

    Raises:
        UsageError: `params` is neither a pattern nor a list of patterns, or is an empty list.
    """
    if isinstance(params, str):
        regex = re.search(rf"(?:^|,)\s*({_REGEX}.*)", params, re.DOTALL)
        if regex is None:
            whole = bool(matching_names(names, params))
            return [params] if whole else [glob.strip() for glob in params.split(",")]
        globs = params[: regex.start()].split(",") if regex.start() else []
        return [*(glob.strip() for glob in globs), regex[1]]
    given = params if isinstance(params, list | tuple) else [params]
    if not given or not all(isinstance(one, str) or callable(one) for one in given):
        raise UsageError(
            f"params is {params!r:.60}; expected a pattern of parameter names, or a list of patterns",
            hint="Write, for example, params='head.*', params=['head.*', 'embed.weight'], "
            "params='re:[02].weight' or a function of a name; leave params out to select all parameters.",
        )
    return list(given)


def matching_names(names: Iterable[str], pattern: Pattern) -> list[str]:
    """The name that the pattern is, if there is one; otherwise the names that match it, possibly none.

    Raises:
        UsageError: a regular expression is invalid, or a function fails or returns something else than True
            or False.
    """
    names = list(names)
    if callable(pattern):
        return [name for name in names if _decision(pattern, name)]
    if pattern in names:
        return [pattern]
    if not pattern.startswith(_REGEX):
        return [name for name in names if fnmatchcase(name, pattern)]
    expression = pattern.removeprefix(_REGEX)
    try:
        found = re.compile(expression)
    except re.error as error:
        raise UsageError(
            f"params has the regular expression {expression!r}, which is invalid: {error.msg} at position "
            f"{error.pos}",
            hint="Its syntax is that of Python's module re. Globs are written without re:.",
        ) from error
    return [name for name in names if found.search(name)]


def _without_match(pattern: Pattern, names: Sequence[str]) -> UsageError:
    if isinstance(pattern, str):
        return UnknownNameError("parameter", pattern, _patterns_for(names))
    shown = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    return UsageError(
        f"the function {qualified_name(pattern)} selects none of the {len(names)} parameters",
        hint=f"It was called with each of their names: {shown}.",
    )


def params_text(params: Params) -> str | None:
    """`params` as text for a person: patterns separated by commas, functions by their names; None for None.

    Example:
        from eigencore.problems.sharing import params_text

        print(params_text(["head.*", "re:bias$"]), params_text(len))
    """
    if params is None or isinstance(params, str):
        return params
    given = params if isinstance(params, list | tuple) else [params]
    return ", ".join(one if isinstance(one, str) else qualified_name(one) for one in given)


def _decision(function: Callable[[str], bool], name: str) -> bool:
    import numpy as np

    try:
        decision = function(name)
    except Exception as error:
        raise UsageError(
            f"the function {qualified_name(function)} fails for the parameter {name!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(decision, bool | np.bool_):
        raise UsageError(
            f"the function {qualified_name(function)} returns {decision!r:.40} for the parameter {name!r}; "
            "expected True or False"
        )
    return bool(decision)


def flat_slices(sizes: Iterable[int]) -> tuple[slice, ...]:
    """The slices of parameters of these sizes, stored one after the other in a flat vector."""
    return tuple(slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0)))


def _patterns_for(names: Iterable[str]) -> set[str]:
    """Patterns worth suggesting: each parameter, and each module with all of its parameters."""
    patterns = set()
    for name in names:
        parts = name.split(".")
        patterns.add(name)
        patterns.update(".".join(parts[:depth]) + ".*" for depth in range(1, len(parts)))
    return patterns
