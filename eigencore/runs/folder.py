"""A run's folder: result.json, vectors.npy and, where an analysis has per-sample columns, arrays.npz.

Files are written under temporary names and renamed, result.json the last: a folder that has one is whole.
Nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import ResultError, UsageError
from eigencore.runs.result_json import from_json, host, parse, to_json

if TYPE_CHECKING:
    from eigencore.results import Run
    from eigencore.space import Array

RESULT, VECTORS, ARRAYS = "result.json", "vectors.npy", "arrays.npz"
_TEMPORARY = ".eigencore-"


def check_folder(out: str | os.PathLike[str]) -> Path:
    """The folder that a run may be saved in, whether it is there yet or not; nothing is written.

    Raises:
        UsageError: it is a file or under one, can't be written to, or holds what is no run.
    """
    if not isinstance(out, str | os.PathLike) or not os.fspath(out):
        raise UsageError(f"out is {out!r}; expected the name of a folder")
    folder = Path(out)
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not there.is_dir():
        raise UsageError(f"{folder} can't be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {there} can't be written to")
    if os.path.isdir(folder):  # not folder.is_dir(), which fails on a name that is too long
        _refuse_foreign(folder)
    return folder


def make_folder(folder: Path) -> None:
    """Raises UsageError where it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"the folder {folder} can't be made: {_reason(error)}") from error


def save(run: Run, out: str | os.PathLike[str]) -> None:
    """Writes the run to its folder, in place of an earlier run there.

    Raises:
        UsageError: as `check_folder`.
        ResultError: it can't be written.
    """
    try:
        folder = check_folder(out)
    except UsageError as error:  # since the solve began: its result must not be lost with it
        error.partial = run.eigen
        raise
    written: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in _contents(run).items():
            written[name] = folder / f"{_TEMPORARY}{os.getpid()}-{name}"
            with open(written[name], "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        # The earlier result goes first and the new one comes last: no folder holds parts of two runs.
        for name in (RESULT, VECTORS, ARRAYS):
            (folder / name).unlink(missing_ok=True)
        for name in (VECTORS, ARRAYS, RESULT):
            if name in written:
                written[name].replace(folder / name)
    except OSError as error:
        raise ResultError(
            f"the run can't be saved in {folder}: {_reason(error)}", partial=run.eigen
        ) from error
    finally:
        for path in written.values():
            path.unlink(missing_ok=True)


def load(folder: str | os.PathLike[str]) -> Run:
    """The run that was saved in a folder; its vectors are mapped from the file, not read.

    Raises:
        ResultError: there is none, or it is damaged or foreign.
    """
    place = Path(folder)
    # os.path's, which take any name for one: of bytes that no file may have, or too long.
    if not os.path.isfile(place / RESULT):
        what = f"there is no {RESULT} in {place}" if os.path.isdir(place) else f"there is no folder {place}"
        raise ResultError(what, hint="Name a folder that `eigen analyze --out` or save wrote.")
    try:
        text = (place / RESULT).read_text(encoding="utf-8")
        vectors = np.load(place / VECTORS, mmap_mode="r", allow_pickle=False)
        columns = _read_columns(place / ARRAYS) if (place / ARRAYS).exists() else {}
        run = from_json(text, vectors, columns)
    except ResultError as error:
        raise ResultError(f"{place}: {error.message}", hint=error.hint) from error
    except Exception as error:  # on damaged files NumPy and zipfile raise almost anything
        raise ResultError(f"{place} can't be read: {type(error).__name__}: {error}") from error
    expected = (run.eigen.n, len(run.eigen.values))
    if vectors.shape != expected or vectors.dtype.kind != "f":
        raise ResultError(
            f"{place / VECTORS} holds {vectors.dtype} of shape {vectors.shape}; expected floats of {expected}"
        )
    return run


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror is None:  # NumPy's, where less was written than asked
        return f"is the disk full? {error}"
    return getattr(error, "strerror", None) or str(error)


def _refuse_foreign(folder: Path) -> None:
    result = folder / RESULT
    try:
        if result.exists():
            parse(result.read_text(encoding="utf-8"))
            return
    except (ResultError, OSError, UnicodeDecodeError):
        raise UsageError(
            f"{result} is there already, and no result of this eigencore",
            hint="Name another folder, or move that file away.",
        ) from None
    names = {path.name for path in folder.iterdir() if not path.name.startswith(_TEMPORARY)}
    if names - {VECTORS, ARRAYS}:
        raise UsageError(
            f"the folder {folder} holds something else: {min(names)}",
            hint="Name a folder that is new, empty, or of an earlier run.",
        )


def _contents(run: Run) -> dict[str, Callable[[IO[bytes]], Any]]:
    """What each file of the folder is written by."""
    text = to_json(run).encode("ascii")
    vectors = _in_own_precision(run.eigen.vectors)
    columns = {
        f"{analysis}/{name}": host(column)
        for analysis, result in run.analyses.items()
        for name, column in result.columns.items()
    }
    contents: dict[str, Callable[[IO[bytes]], Any]] = {
        RESULT: lambda file: file.write(text),
        VECTORS: lambda file: np.save(file, vectors, allow_pickle=False),
    }
    if columns:
        contents[ARRAYS] = lambda file: np.savez(file, **columns)
    return contents


def _in_own_precision(vectors: Array) -> Any:
    """On the host, in float64 where that is the operator's type, else in float32."""
    wide = arrays.namespace(vectors).finfo(vectors.dtype).bits > 32
    return arrays.to_host(vectors).astype(np.float64 if wide else np.float32, copy=False)


def _read_columns(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
