"""The file of a journal: records that are only ever appended, each with checksums.

    the line "eigencore journal 1", then records of
        header: what it is, digest of its inputs, data type and shape, length, seconds of the run so far,
                checksum of the content, checksum of the header
        content: the bytes of an array in its own data type, or text

A process that is killed leaves at most its last record half written. When a file is opened, everything from
the first record that is not whole is cut off. The content of a record is tested when it is read. Nothing is
pickled.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from eigencore.errors import ResultError

MAGIC = b"eigencore journal 1\n"
_MARK = b"rec\n"
# mark, what, digest, data type, dimensions, column-major, rows, columns, length, seconds, checksum of content
_HEADER = struct.Struct("<4s24s32s16sBBQQQdI")
_CHECKSUM = struct.Struct("<I")


class DamagedRecordError(ResultError):
    """The content of a record does not have its checksum."""


@dataclass(frozen=True)
class JournalRecord:
    """One record, without its content.

    Attributes:
        what: the kind of record, in at most 24 ASCII characters.
        digest: 32 bytes that identify what the content was computed from.
        dtype: the name of the data type; empty for text.
        shape: of at most two dimensions; () for text.
        column_major: whether the columns of a matrix are contiguous.
        length: the number of bytes of the content.
        seconds: the time of the run when the record was written.
        checksum: CRC-32 of the content.
        offset: where the content is in the file.
    """

    what: str
    digest: bytes
    dtype: str = ""
    shape: tuple[int, ...] = ()
    column_major: bool = False
    length: int = 0
    seconds: float = 0.0
    checksum: int = 0
    offset: int = 0

    @property
    def start(self) -> int:
        """Where the record begins in the file."""
        return self.offset - _HEADER.size - _CHECKSUM.size

    @property
    def end(self) -> int:
        return self.offset + self.length

    def header(self) -> bytes:
        rows, columns = (*self.shape, 0, 0)[:2]
        packed = _HEADER.pack(
            *(_MARK, self.what.encode("ascii"), self.digest, self.dtype.encode("ascii")),
            *(len(self.shape), self.column_major, rows, columns),
            *(self.length, self.seconds, self.checksum),
        )
        return packed + _CHECKSUM.pack(zlib.crc32(packed))


def create_journal(path: Path) -> None:
    """Writes a journal without records. Raises OSError."""
    with open(path, "wb") as file:
        file.write(MAGIC)


def is_journal(path: Path) -> bool:
    """Whether a file begins as a journal, or was killed before it had begun."""
    try:
        with open(path, "rb") as file:
            return MAGIC.startswith(file.read(len(MAGIC)))
    except OSError:
        return False


def read_records(file: IO[bytes]) -> list[JournalRecord]:
    """The records of a journal up to the first that is not whole; the file may grow meanwhile."""
    size, start, records = os.fstat(file.fileno()).st_size, len(MAGIC), []
    while (found := _read_header(file, start, size)) is not None:
        records.append(found)
        start = found.end
    return records


def _read_header(file: IO[bytes], start: int, size: int) -> JournalRecord | None:
    """The record that starts there; None if there is none that is whole."""
    offset = start + _HEADER.size + _CHECKSUM.size
    if offset > size:
        return None
    file.seek(start)
    packed = file.read(_HEADER.size + _CHECKSUM.size)
    header, (checksum,) = packed[: _HEADER.size], _CHECKSUM.unpack(packed[_HEADER.size :])
    mark, what, digest, dtype, dimensions, column_major, rows, columns, length, seconds, own = _HEADER.unpack(
        header
    )
    if zlib.crc32(header) != checksum or mark != _MARK or offset + length > size:
        return None
    return JournalRecord(
        what=what.rstrip(b"\0").decode("ascii"),
        digest=digest,
        dtype=dtype.rstrip(b"\0").decode("ascii"),
        shape=(rows, columns)[:dimensions],
        column_major=bool(column_major),
        length=length,
        seconds=seconds,
        checksum=own,
        offset=offset,
    )


class JournalFile:
    """An open journal. Its methods raise OSError where the file can't be read or written.

    Example:
        from pathlib import Path
        from eigencore.runs.journal_file import JournalFile, JournalRecord, create_journal

        create_journal(Path("journal"))
        with JournalFile(Path("journal")) as file:
            file.append(JournalRecord("note", bytes(32)), b"text")
        with JournalFile(Path("journal")) as file:
            print(file.content(file.records[0]))

    Attributes:
        records: those that are whole, in the order in which they were written.
        lost: the number of bytes after them that were cut off.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - `close` closes it
        self.records = read_records(self._file)
        size = os.fstat(self._file.fileno()).st_size
        self._end = self.records[-1].end if self.records else len(MAGIC)
        self.lost = max(size - self._end, 0)
        if size < len(MAGIC):
            self._write(0, MAGIC)
        elif self.lost:
            self._file.truncate(self._end)

    def __enter__(self) -> JournalFile:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """The number of bytes of the file."""
        return self._end

    def content(self, record: JournalRecord) -> bytearray:
        """The content of a record, which the caller may keep. Raises DamagedRecordError."""
        content, done = bytearray(record.length), 0
        self._file.seek(record.offset)
        while done < record.length:
            read = self._file.readinto(memoryview(content)[done:])
            if not read:
                break
            done += read
        if done < record.length or zlib.crc32(content) != record.checksum:
            raise DamagedRecordError(f"the record at byte {record.start} of {self.path} is damaged")
        return content

    def append(self, record: JournalRecord, content: bytes | bytearray | memoryview) -> None:
        """Writes a record to the file; `length`, `checksum` and `offset` are those of the content.

        The operating system has it from then on, and keeps it if this process is killed. If the computer
        fails, only what `sync` has written remains.
        """
        offset = self._end + _HEADER.size + _CHECKSUM.size
        whole = replace(record, length=len(content), checksum=zlib.crc32(content), offset=offset)
        try:
            self._write(self._end, whole.header())
            self._write(offset, content)
        except OSError:
            self._file.truncate(self._end)  # half a record takes space, and is of no use
            raise
        self.records.append(whole)
        self._end = whole.end

    def cut(self, number: int) -> None:
        """Removes all records from this one on."""
        if number < len(self.records):
            self._end = self.records[number].start
            del self.records[number:]
            self._file.truncate(self._end)

    def sync(self) -> None:
        """Returns once everything is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _write(self, offset: int, content: bytes | bytearray | memoryview) -> None:
        self._file.seek(offset)
        left = memoryview(content)
        while len(left):
            left = left[self._file.write(left) :]
