"""Which plugins are installed, read from the metadata of distributions; nothing of them is imported."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_POINT_GROUP = "eigencore"


@dataclass(frozen=True)
class PluginRecord:
    """What became of one entry point.

    Attributes:
        name: of the entry point; two distributions may use the same one.
        distribution: the package that brings it.
        status: "loaded"; "disabled": switched off, never imported; "broken": it failed, and `error` says
            how in one line; "shadowed": never imported, since another copy of the same distribution that
            comes earlier on sys.path has an entry point of this name too (`error` says where).
    """

    name: str
    distribution: str
    version: str
    status: str = "loaded"
    error: str | None = None

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.distribution}"


def discover() -> Iterator[tuple[metadata.EntryPoint | None, PluginRecord]]:
    """Every plugin that is installed; None for the entry point of one that is not to be loaded."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for distribution in metadata.distributions():
        text = ""
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{ENTRY_POINT_GROUP}]" not in text:
                continue
            points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except Exception as error:  # damaged metadata; of interest only where the plugin is one of ours
            if f"[{ENTRY_POINT_GROUP}]" in text:
                reason = f"its entry points can't be read ({type(error).__name__}: {error})"
                record = _record(_told(distribution, "Name"), distribution)
                yield None, replace(record, status="broken", error=reason)
            continue
        for point in points:
            record = _record(point.name, distribution)
            copy = (os.path.realpath(str(distribution.locate_file(""))), point.value)
            earlier = first.setdefault((point.name, normal(record.distribution)), copy)
            if earlier is copy:
                yield point, record
            elif earlier != copy:  # one folder may stand on sys.path twice, which is no second copy
                yield (
                    None,
                    replace(record, status="shadowed", error=f"hidden by {earlier[1]} in {earlier[0]}"),
                )


def missing_packages(distribution: str, extra: str) -> tuple[str, ...]:
    """The packages that an extra of a distribution brings and that are not installed, in any version.

    A requirement that hangs on more than the extra, such as the system, is not looked at.
    """
    names: set[str] = set()
    for requirement in _requirements(distribution):
        asked = _OF_AN_EXTRA.match(requirement)
        if asked is None or asked["extra"] != extra:
            continue
        if normal(asked["name"]) == normal(distribution):  # an extra of other extras
            for other in re.findall(r"[\w.-]+", asked["extras"] or ""):
                names.update(missing_packages(distribution, other))
        elif not _is_installed(asked["name"]):
            names.add(asked["name"])
    return tuple(sorted(names))


# "torch>=2.4; extra == 'torch'", with nothing else in the marker.
_OF_AN_EXTRA = re.compile(
    r"""(?P<name>[\w.-]+)\s*(\[(?P<extras>[^\]]*)\])?[^;]*;\s*extra\s*==\s*['"](?P<extra>[\w.-]+)['"]\s*$"""
)


def _requirements(distribution: str) -> list[str]:
    try:
        return metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def normal(distribution: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _record(name: str, distribution: metadata.Distribution) -> PluginRecord:
    return PluginRecord(name, _told(distribution, "Name"), _told(distribution, "Version"))


def _told(distribution: metadata.Distribution, key: str) -> str:
    told = distribution.metadata
    return str(told[key]) if told is not None and key in told else "unknown"
