"""The installed plugins, read from the metadata of distributions without importing any of them."""

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
    """A plugin and its status.

    Attributes:
        name: the name of its entry point; two distributions may use the same one.
        distribution: the installed package that the plugin is part of.
        version: the version of the distribution.
        status: "loaded"; "disabled": not imported; "broken": it failed to load, for the reason in `error`;
            "shadowed": not imported, because a copy of the same distribution that is earlier on sys.path has
            an entry point of the same name (`error` says where).
        error: the reason why the plugin is broken or shadowed, in one line, or None.
    """

    name: str
    distribution: str
    version: str
    status: str = "loaded"
    error: str | None = None

    @property
    def full_name(self) -> str:
        """The name that is unambiguous even if distributions use the same one: "name@distribution"."""
        return f"{self.name}@{self.distribution}"


def discover() -> Iterator[tuple[metadata.EntryPoint | None, PluginRecord]]:
    """The entry point and the record of every installed plugin.

    The entry point is None if it must not be loaded, because its metadata are damaged or it is shadowed.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for distribution in metadata.distributions():
        text = ""
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{ENTRY_POINT_GROUP}]" not in text:
                continue
            points = distribution.entry_points.select(group=ENTRY_POINT_GROUP)
        except Exception as error:  # damaged metadata; reported only if the distribution has a plugin
            if f"[{ENTRY_POINT_GROUP}]" in text:
                reason = f"its entry points can't be read ({type(error).__name__}: {error})"
                record = _record(_metadata_field(distribution, "Name"), distribution)
                yield None, replace(record, status="broken", error=reason)
            continue
        for point in points:
            record = _record(point.name, distribution)
            copy = (os.path.realpath(str(distribution.locate_file(""))), point.value)
            earlier = first.setdefault((point.name, normalised(record.distribution)), copy)
            if earlier is copy:
                yield point, record
            elif earlier != copy:  # the same folder may be on sys.path twice, which is not a second copy
                reason = f"{earlier[1]} in {earlier[0]} is earlier on sys.path"
                yield None, replace(record, status="shadowed", error=reason)


def missing_packages(distribution: str, extra: str) -> tuple[str, ...]:
    """The packages that an extra of a distribution installs and that are not installed yet, in any version.

    A requirement with a further condition, such as the operating system, is ignored.

    Example:
        from eigencore.registry import missing_packages

        print(missing_packages("eigencore", "torch"))
    """
    names: set[str] = set()
    for requirement in _requirements(distribution):
        match = _REQUIREMENT_OF_EXTRA.match(requirement)
        if match is None or match["extra"] != extra:
            continue
        if normalised(match["name"]) == normalised(distribution):  # an extra that consists of other extras
            for other in re.findall(r"[\w.-]+", match["extras"] or ""):
                names.update(missing_packages(distribution, other))
        elif not _is_installed(match["name"]):
            names.add(match["name"])
    return tuple(sorted(names))


# Such as "torch>=2.4; extra == 'torch'", with nothing else in the marker.
_REQUIREMENT_OF_EXTRA = re.compile(
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


def normalised(distribution: str) -> str:
    """The name of a distribution in the normalised form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _record(name: str, distribution: metadata.Distribution) -> PluginRecord:
    return PluginRecord(name, _metadata_field(distribution, "Name"), _metadata_field(distribution, "Version"))


def _metadata_field(distribution: metadata.Distribution, key: str) -> str:
    fields = distribution.metadata
    return str(fields[key]) if fields is not None and key in fields else "unknown"
