"""Options of solvers, backends, attacks and analyses, declared once as a frozen dataclass.

Validation, `--set ENTRY.OPTION=VALUE`, Python keywords and the listings all read this declaration.

Example:
    from dataclasses import dataclass

    from eigencore.options import option, resolve

    @dataclass(frozen=True)
    class Options:
        basis: int | None = option(None, low=3, help="vectors kept", when="raise it if gaps are small")

    print(resolve(Options, {"basis": "20"}, entry="lanczos").basis)
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
    """The declaration of one option.

    Attributes:
        types: the types that a value may have.
        choices: literal values that are also accepted, such as None or "auto".
        default: the value of an option that is not set; None for a required option.
        low, high: inclusive bounds of a number.
        help: what the option is.
        when: when to change it.
        required: whether the option has no default.
    """

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
        """The accepted values, such as "a whole number of at least 3, or none"."""
        kinds = [_TYPE_NAMES.get(kind, kind.__name__) + self._bounds(kind) for kind in self.types]
        accepted = kinds + [_as_text(choice) for choice in self.choices]
        if len(accepted) < 2:
            return "".join(accepted) or "any value"
        # Without the comma, the bounds of a number would seem to apply to the choices after it as well.
        last = ", or " if kinds else " or "
        return ", ".join(accepted[:-1]) + last + accepted[-1]

    def _bounds(self, kind: type) -> str:
        if kind not in (int, float):
            return ""
        if self.low is not None and self.high is not None:
            return f" from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f" of at least {self.low:g}"
        return f" of at most {self.high:g}" if self.high is not None else ""


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def option(
    default: Any,
    *,
    help: str,
    when: str,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of an options dataclass, for use as its default value.

    Args:
        default: the value of an option that is not set.
        help: what the option is, as a short phrase.
        when: when to change it.
        low, high: inclusive bounds of a number.

    Example:
        from dataclasses import dataclass

        from eigencore.options import option

        @dataclass(frozen=True)
        class Options:
            momentum: float = option(
                0.9, low=0, high=1, help="weight of the previous step", when="lower it if values oscillate"
            )
    """
    return dataclasses.field(
        default=default, metadata={_METADATA: {"help": help, "when": when, "low": low, "high": high}}
    )


def describe(options: type) -> tuple[OptionSpec, ...]:
    """The options that a dataclass declares, in the order of its fields."""
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
    """The keywords of a problem's factory, read from its signature."""
    try:
        hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (TypeError, NameError):  # a callable object, or annotations that only type checkers can resolve
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
    """An instance of the dataclass `options` with the given values.

    Args:
        options: a dataclass whose fields are declared by `option`.
        given: values by option name; a string is parsed according to the type of the option.
        entry: the name of the entry that the options belong to, for error messages.

    Raises:
        OptionError: a value is not accepted, or a required option is missing; the message names the option,
            the value and what is accepted.
        UnknownNameError: there is no such option; the hint suggests the nearest names.

    Example:
        from dataclasses import dataclass

        from eigencore.options import option, resolve

        @dataclass(frozen=True)
        class Options:
            basis: int = option(20, low=3, help="vectors kept", when="raise it if gaps are small")

        print(resolve(Options, {"basis": "40"}, entry="lanczos"))
    """
    return options(**check(describe(options), given, entry=entry))


def check(specs: tuple[OptionSpec, ...], given: Mapping[str, object], *, entry: str) -> dict[str, Any]:
    """The given values, parsed and validated against their declarations. Raises the errors of `resolve`."""
    known = {spec.name: spec for spec in specs}
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of {entry}", name, known)
    missing = [spec.name for spec in specs if spec.required and spec.name not in given]
    if missing:
        raise OptionError(
            f"{entry} needs a value for {', '.join(missing)}",
            hint=f"Set it with --set {entry}.{missing[0]}=VALUE, or with a keyword in Python.",
        )
    return {name: _validated(known[name], value, entry) for name, value in given.items()}


def _validated(spec: OptionSpec, value: object, entry: str) -> object:
    candidates = _readings(spec, value) if isinstance(value, str) else [value]
    for candidate in candidates:
        if any(type(candidate) is type(choice) and candidate == choice for choice in spec.choices):
            return candidate
        for kind in spec.types:
            converted = _converted(candidate, kind)
            if converted is not None and _in_range(spec, converted):
                return converted
    if not spec.types and not spec.choices:
        means_none = candidates[0] is None and spec.default is None and not spec.required
        return None if means_none else value
    raise OptionError(f"{entry}.{spec.name} is {_as_text(value)}; expected {spec.range}")


def _readings(spec: OptionSpec, text: str) -> list[object]:
    """The values that a string may stand for, most specific first."""
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


def _converted(value: object, kind: type) -> object:
    """The value as an instance of a type, or None if it is of another type."""
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


def _in_range(spec: OptionSpec, value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    return (
        (isinstance(value, int) or math.isfinite(value))
        and (spec.low is None or value >= spec.low)
        and (spec.high is None or value <= spec.high)
    )


def _allowed(hint: Any) -> tuple[tuple[type, ...], tuple[object, ...]]:
    """The types and the literal values that an annotation allows; both are empty if it allows any value."""
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


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
