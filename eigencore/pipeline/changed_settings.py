"""What differs between the settings that a run or a study was begun with, and those it is continued with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], compared: Callable[[str], bool] = lambda name: True
) -> list[str]:
    """Each setting that differs, as a clause, in the order of their names; a missing one is none.

    Args:
        before, now: settings as plain data.
        compared: whether the setting of this name is compared.

    Example:
        from eigencore.pipeline.changed_settings import changed_settings

        print(changed_settings({"k": 3}, {"k": 3, "options": {"lanczos": {"basis": 9}}}))
    """
    then, today = _flat(before), _flat(now)
    return [
        f"{name} was {_shown(then.get(name))} and is now {_shown(today.get(name))}"
        for name in sorted({*then, *today})
        if compared(name) and then.get(name) != today.get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings, by names such as "options.lanczos.basis"."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _shown(value: object) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or None
    return "none" if value is None else f"{value:.60}" if isinstance(value, str) else f"{value}"
