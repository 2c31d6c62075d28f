"""Where the runs of a study are saved: a folder for each network, beside the rows of a sweep."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from eigencore.errors import UsageError
from eigencore.pipeline.studies.members import Member
from eigencore.runs import check_folder, make_folder
from eigencore.runs.folder import RESULT

SWEEP_ROWS = "rows.jsonl"  # the rows of a sweep, in its folder
_NOT_IN_FOLDERS = re.compile(r"[^\w.,=+@-]+")


def run_folders(members: Iterable[Member], folder: Path) -> dict[str, Path]:
    """A folder for the run of each member, by its name; nothing is written.

    Raises:
        UsageError: a folder can't be used, or two names differ only in signs that no name of a folder has.
    """
    found: dict[str, Path] = {}
    for member in members:
        place = folder / (_NOT_IN_FOLDERS.sub("-", member.name).strip("-.") or "-")
        if place in found.values():
            raise UsageError(
                f"the run of {member.name} would be saved in {place}, as that of another member",
                hint="Give every member a name that differs in letters or digits.",
            )
        found[member.name] = check_folder(place)
    return found


def sweep_places(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The file for the rows of a sweep, and the folder for its runs; the folder is created.

    Raises:
        UsageError: the folder holds the run of one network, or can't be used.
    """
    place = Path(folder)
    if (place / RESULT).exists():
        raise UsageError(
            f"the folder {place} holds a run, and can't hold those of several checkpoints, too",
            hint="Choose another folder.",
        )
    make_folder(place)
    return place / SWEEP_ROWS, place
