"""The rows of a study in a file of JSON lines, which a study that was killed continues from.

The first line holds the settings, every other line a row, which is written as soon as it is done. At the end,
the rows are put into the order of the members, so that the file is the same however the study was stopped and
started, but for `seconds`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from eigencore.errors import ResultError, UsageError
from eigencore.pipeline.changed_settings import changed_settings
from eigencore.pipeline.studies.members import Member
from eigencore.pipeline.studies.rows import StudyRow

FORMAT, VERSION = "eigencore study", 1
BEGINNING = f'{{"{FORMAT}":'.encode("ascii")
ANOTHER = "Give the study another file, or move this one away."


class StudyFile:
    """A file that rows are appended to; `rows` are those that it holds, by name.

    Raises:
        UsageError: the file belongs to other settings, or another process writes to it.
        ResultError: it is not the file of a study, or can't be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path, self._settings = path, settings
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected a file for the rows of the study")
        with _explained(path):
            self._file = open(path, "a+b")  # noqa: SIM115 - open until `close`
            try:
                _lock(self._file, path)
                self.rows = self._read()
            except BaseException:
                self._file.close()
                raise

    def _read(self) -> dict[str, StudyRow]:
        """The rows of the file, without a last line that a killed process did not finish."""
        self._file.seek(0)
        text = self._file.read()
        end = text.rfind(b"\n") + 1
        if end:
            settings, rows = parse(text[:end], self.path)
            _refuse_other_settings(settings, self._settings, self.path)
            self._file.truncate(end)
            return rows
        if not (text.startswith(BEGINNING) or BEGINNING.startswith(text)):
            raise _not_a_study(self.path)
        self._file.truncate(0)
        self._write([_line({FORMAT: VERSION, "settings": self._settings})])
        return {}

    def refuse_other_members(self, members: Iterable[Member], *, retry: bool) -> None:
        """Raises UsageError if a row belongs to no member, or to one with other covariates or group.

        Args:
            retry: whether rows without a result are computed again, and so may be those of other members.
        """
        known = {member.name: member for member in members}
        for name, row in self.rows.items():
            if retry and row.error is not None:
                continue
            if name not in known:
                raise UsageError(
                    f"{self.path} has a row for {name}, which is not a member of this study", hint=ANOTHER
                )
            one = known[name]
            for what, before, now in (
                ("covariates", dict(row.covariates), dict(one.covariates)),
                ("group", row.group, one.group),
            ):
                if before != now:
                    raise UsageError(
                        f"the {what} of {name} were {before} when its row was computed, and are now {now}",
                        hint=f"{ANOTHER} Rows that failed are replaced with retry, or --retry.",
                    )

    def append(self, row: StudyRow) -> None:
        """Writes a row that is done; it is on the disk afterwards."""
        self.rows[row.name] = row
        with _explained(self.path):
            self._write([_line(row.as_data())])

    def finish(self, members: Iterable[Member]) -> None:
        """Puts the rows into the order of the members, in a new file that replaces this one at once."""
        lines = [_line({FORMAT: VERSION, "settings": self._settings})]
        lines += [_line(self.rows[member.name].as_data()) for member in members]
        with _explained(self.path):
            self._file.seek(0)
            if self._file.read() == b"".join(lines):
                return
            temporary = self.path.with_name(f".{self.path.name}.sorted")
            with open(temporary, "wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()  # Windows replaces no open file
            os.replace(temporary, self.path)

    def close(self) -> None:
        self._file.close()

    def _write(self, lines: list[bytes]) -> None:
        self._file.writelines(lines)
        self._file.flush()
        os.fsync(self._file.fileno())


def parse(text: bytes, path: Path) -> tuple[dict[str, Any], dict[str, StudyRow]]:
    """The settings and the rows of a file, by name; of two rows of a name, the later one counts.

    Raises:
        ResultError: it is not the file of a study.
    """
    first, *lines = text.splitlines()
    settings, rows = _parse_settings(first, path), {}
    for number, line in enumerate(lines, 2):
        try:
            row = msgspec.json.decode(line, type=StudyRow)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ResultError(f"{path}, line {number}, is not a row: {error}", hint=ANOTHER) from error
        rows[row.name] = row
    return settings, rows


def read(path: Path) -> bytes:
    """The lines of a file, without a last one that is unfinished. Raises ResultError if there are none."""
    with _explained(path):
        text = path.read_bytes()
    lines = text[: text.rfind(b"\n") + 1]
    if not lines:
        raise _not_a_study(path)
    return lines


def _parse_settings(line: bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        raise _not_a_study(path) from None
    if not isinstance(data, dict) or FORMAT not in data or not isinstance(data.get("settings"), dict):
        raise _not_a_study(path)
    if data[FORMAT] != VERSION:
        raise ResultError(
            f"{path} has version {data[FORMAT]} of the format; expected version {VERSION}", hint=ANOTHER
        )
    settings: dict[str, Any] = data["settings"]
    return settings


def _not_a_study(path: Path) -> ResultError:
    return ResultError(
        f"{path} is not the file of a study: its first line does not hold the settings of one", hint=ANOTHER
    )


def _refuse_other_settings(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    then, today = ({**settings.get("arguments", {}), **settings} for settings in (before, now))
    differences = changed_settings(then, today, lambda name: not name.startswith("arguments."))
    if differences:
        raise UsageError(
            f"{path} was begun with other settings: {'; '.join(differences)}",
            hint="Rows would not be comparable: start with the settings of the file, or give another file.",
        )


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, allow_nan=False).encode("ascii") + b"\n"


def _lock(file: IO[bytes], path: Path) -> None:
    """Two studies that write to one file would compute every row twice. Not on Windows."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another process is writing to {path}", hint="Wait for it, or give the study another file."
        ) from None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultError(f"{path} can't be used for the rows: {error.strerror or error}") from error
