"""How messages and listings refer to entries and to Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eigencore.entries import Entry


def entry_kind(entry: Entry | type[Entry]) -> str:
    """The kind of an entry, or of a class of entries, as a word.

    Example:
        from eigencore import SolverEntry
        from eigencore.registry import entry_kind

        print(entry_kind(SolverEntry))  # solver
    """
    kind = entry if isinstance(entry, type) else type(entry)
    return kind.__name__.removesuffix("Entry").lower() or "entry"


def qualified_name(value: object) -> str:
    """The module and name of a function or class, or of the type of any other value.

    Example:
        from eigencore.registry import qualified_name

        print(qualified_name(len), qualified_name(3))  # builtins.len builtins.int
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else named.__qualname__


def with_article(noun: str) -> str:
    """A noun with its indefinite article: "a solver", "an attack"."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def type_of(value: object) -> str:
    """The type of a value, with an indefinite article: "a dict", "an AttackEntry", "None"."""
    return "None" if value is None else with_article(type(value).__name__)
