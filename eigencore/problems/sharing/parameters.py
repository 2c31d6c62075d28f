"""The parameters that a pattern selects, and their positions in a flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from eigencore.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from eigencore.interfaces import Params


def select_names(names: Iterable[str], params: Params = None) -> list[str]:
    """The selected parameter names, each once and in their given order.

    Args:
        names: names of parameters; dots separate the names of nested modules, as in "encoder.0.weight".
        params: a glob such as "encoder.*", several globs as "encoder.*,head.weight" or as a list; None
            selects all names.

    Raises:
        UnknownNameError: no name matches one of the globs; the hint suggests the nearest names.
        UsageError: `params` is neither text nor a list of texts.

    Example:
        from eigencore.problems.sharing import select_names

        print(select_names(["0.weight", "0.bias", "2.weight"], "0.*"))
        print(select_names(["0.weight", "0.bias", "2.weight"], ["2.weight", "*.bias"]))
    """
    names = list(names)
    if params is None:
        return names
    selected: set[str] = set()
    for glob in globs_of(params, names):
        matching = matching_names(names, glob)
        if not matching:
            raise UnknownNameError("parameter", glob, _patterns_for(names))
        selected.update(matching)
    return [name for name in names if name in selected]


def globs_of(params: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """The globs that `params` consists of.

    Text is split at its commas, unless it matches a name as it is: names and sets of characters such as
    "[0,2]" may contain commas. The items of a list are not split.

    Raises:
        UsageError: `params` is neither text nor a list of texts, or is an empty list.
    """
    if isinstance(params, str):
        return [params] if matching_names(names, params) else [glob.strip() for glob in params.split(",")]
    if not isinstance(params, list | tuple) or not params or not all(isinstance(x, str) for x in params):
        raise UsageError(
            f"params is {params!r:.60}; expected a glob of parameter names, or a list of globs",
            hint="Write, for example, params='head.*' or params=['head.*', 'embed.weight']; leave params out "
            "to select all parameters.",
        )
    return list(params)


def matching_names(names: Iterable[str], glob: str) -> list[str]:
    """The name that the glob is, if there is one; otherwise the names that match it, possibly none."""
    names = list(names)
    return [glob] if glob in names else [name for name in names if fnmatchcase(name, glob)]


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
