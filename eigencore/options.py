"""Options of solvers, backends and analyses, declared once.

    @dataclass(frozen=True)
    class Options:
        basis: int | None = option(None, low=3, help="vectors kept", when="raise it where gaps are small")

Validation, `--set ENTRY.OPTION=VALUE`, Python keywords and the listings all read this declaration.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from eigencore.errors import OptionError, UnknownNameError

T = TypeVar("T")
_METADATA = "eigencore"


@dataclass(frozen=True)
class OptionSpec:
    """One option as it was declared. `types` are those a value may have; `choices` are literal values."""

    name: str
    types: tuple[type, ...]
    choices: tuple[object, ...]
    default: object
    low: float | None = None
    high: float | None = None
    help: str = ""
    when: str = ""
    required: bool = False

    @property
    def range(self) -> str:
        """What a value may be, in words: "a whole number of at least 3, or none"."""
        words = [_TYPE_WORDS.get(kind, kind.__name__) + self._bounds(kind) for kind in self.types]
        words += [_word(choice) for choice in self.choices]
        return ", or ".join(words) or "any value"

    def _bounds(self, kind: type) -> str:
        if kind not in (int, float):
            return ""
        if self.low is not None and self.high is not None:
            return f" from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f" of at least {self.low:g}"
        return f" of at most {self.high:g}" if self.high is not None else ""


_TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def option(
    default: Any,
    *,
    help: str,
    when: str,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of an options dataclass.

    Args:
        default: what it is where nobody says otherwise.
        help: what it is, in a few words.
        when: when to change it.
        low, high: inclusive bounds of a number.
    """
    return dataclasses.field(
        default=default, metadata={_METADATA: {"help": help, "when": when, "low": low, "high": high}}
    )


def describe(options: type) -> tuple[OptionSpec, ...]:
    """The options that a dataclass declares, in its order."""
    hints = typing.get_type_hints(options)
    specs = []
    for field in dataclasses.fields(options):
        kinds, choices = _allowed(hints[field.name])
        required = field.default is MISSING and field.default_factory is MISSING
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        declared = field.metadata.get(_METADATA, {})
        specs.append(
            OptionSpec(
                field.name, kinds, choices, None if required else default, required=required, **declared
            )
        )
    return tuple(specs)


def describe_keywords(factory: Callable[..., object]) -> tuple[OptionSpec, ...]:
    """The keywords that a problem's factory takes, read from its signature."""
    try:
        hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (TypeError, NameError):  # a callable object, or names that only a type checker can see
        hints = {}
    specs = []
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            continue
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        kinds, choices = _allowed(hints.get(parameter.name, Any if default is None else type(default)))
        specs.append(OptionSpec(parameter.name, kinds, choices, default, required=required))
    return tuple(specs)


def resolve(options: type[T], given: Mapping[str, object], *, entry: str) -> T:
    """An instance of `options` with the given values, which may be text from the command line.

    Raises:
        OptionError, UnknownNameError: names the option, the value, what it may be, the nearest right name.
    """
    return options(**check(describe(options), given, entry=entry))


def check(specs: tuple[OptionSpec, ...], given: Mapping[str, object], *, entry: str) -> dict[str, Any]:
    """The given values, each parsed and checked against its spec."""
    known = {spec.name: spec for spec in specs}
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of {entry}", name, known)
    missing = [spec.name for spec in specs if spec.required and spec.name not in given]
    if missing:
        raise OptionError(
            f"{entry} needs {', '.join(missing)}",
            hint=f"Give --set {entry}.{missing[0]}=VALUE, or the keyword.",
        )
    return {name: _coerce(known[name], value, entry) for name, value in given.items()}


def _coerce(spec: OptionSpec, value: object, entry: str) -> object:
    candidates = _parses(spec, value) if isinstance(value, str) else [value]
    for candidate in candidates:
        if any(type(candidate) is type(choice) and candidate == choice for choice in spec.choices):
            return candidate
        for kind in spec.types:
            fitted = _fit(candidate, kind)
            if fitted is not None and _within(spec, fitted):
                return fitted
    if not spec.types and not spec.choices:
        return value
    raise OptionError(f"{entry}.{spec.name} is {_word(value)}; expected {spec.range}")


def _parses(spec: OptionSpec, text: str) -> list[object]:
    """What a text may mean, the most special reading first."""
    readings: list[object] = []
    lowered = text.strip().lower()
    if lowered in ("none", "null"):
        readings.append(None)
    if lowered in ("true", "yes", "on", "false", "no", "off") and bool in spec.types:
        readings.append(lowered in ("true", "yes", "on"))
    for number in (int, float):
        try:
            readings.append(number(text))
        except ValueError:
            continue
    return [*readings, text]


def _fit(value: object, kind: type) -> object:
    """The value as that type, or None where it is of another."""
    if kind in (int, float) and isinstance(value, bool):
        return None
    try:
        if kind is int:
            return operator.index(value)  # type: ignore[arg-type]
        if kind is float:
            return float(value) if isinstance(value, numbers.Real) else None
    except (TypeError, OverflowError):
        return None
    if isinstance(value, str) and issubclass(kind, PurePath):
        return kind(value)
    return value if isinstance(value, kind) else None


def _within(spec: OptionSpec, value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    return (
        (isinstance(value, int) or math.isfinite(value))
        and (spec.low is None or value >= spec.low)
        and (spec.high is None or value <= spec.high)
    )


def _allowed(hint: Any) -> tuple[tuple[type, ...], tuple[object, ...]]:
    """The plain types and the literal values that an annotation allows; none of either: anything goes."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [_allowed(part) for part in get_args(hint)]
        return sum((kinds for kinds, _ in parts), ()), sum((choices for _, choices in parts), ())
    if get_origin(hint) is Literal:
        return (), get_args(hint)
    if hint is type(None):
        return (), (None,)
    if hint is Any or hint is object:
        return (), ()
    origin = get_origin(hint) or hint
    return ((origin,), ()) if isinstance(origin, type) else ((), ())


def _word(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
