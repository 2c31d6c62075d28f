"""A run as a folder: result.json, vectors.npy and, if an analysis has per-sample columns, arrays.npz.

Files are written under temporary names and renamed, result.json last, so that a folder with a result.json is
complete. Nothing is pickled.
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
    """The path of a folder that a run can be saved in, whether or not it exists; nothing is written.

    Raises:
        UsageError: the path is or lies below a file, cannot be written to, or contains anything but a run.
    """
    if not isinstance(out, str | os.PathLike) or not os.fspath(out):
        raise UsageError(f"out is {out!r}; expected the name of a folder")
    folder = Path(out)
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not existing.is_dir():
        raise UsageError(f"{folder} can't be a folder: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"the folder {existing} can't be written to")
    if os.path.isdir(folder):  # not folder.is_dir(), which fails on a name that is too long
        _refuse_foreign(folder)
    return folder


def make_folder(folder: Path) -> None:
    """Creates the folder and its parents; raises UsageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"the folder {folder} can't be created: {_reason(error)}") from error


def save(run: Run, out: str | os.PathLike[str]) -> None:
    """Saves a run in a folder; an earlier run in that folder is replaced.

    The vectors (n, k) are written in float64 if that is the operator's type, otherwise in float32. If a file
    cannot be written, the earlier run remains.

    Args:
        run: the run to save.
        out: the folder, which is created if necessary.

    Raises:
        UsageError: the folder cannot be used, as in `check_folder`.
        ResultError: a file cannot be written.
    """
    try:
        folder = check_folder(out)
    except UsageError as error:  # the folder changed during the solve, whose result must not be lost
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
        # The earlier result is removed first and the new one comes last: no folder holds parts of two runs.
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
    """The run that was saved in a folder.

    Its vectors (n, k) are memory-mapped from the file: they are read when they are used.

    Args:
        folder: the folder that `analyze(out=...)` or `eigen analyze --out` wrote.

    Raises:
        ResultError: there is no run in the folder, or it is damaged or has another schema.

    Example:
        import eigencore

        eigencore.analyze("demo:quadratic", k=2, out="my-run")
        run = eigencore.load("my-run")
        print(run.eigen.values, run.eigen.advice)
    """
    place = Path(folder)
    # The functions of os.path accept names that no file can have: with a zero byte, or too long.
    if not os.path.isfile(place / RESULT):
        what = f"there is no {RESULT} in {place}" if os.path.isdir(place) else f"there is no folder {place}"
        raise ResultError(what, hint="Name a folder that `eigen analyze --out` or analyze(out=...) wrote.")
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
    # NumPy raises an OSError without strerror if fewer bytes were written than requested.
    if isinstance(error, OSError) and error.strerror is None:
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
            f"{result} exists, and is not a result of this version of eigencore",
            hint="Choose another folder, or move that file away.",
        ) from None
    names = {path.name for path in folder.iterdir() if not path.name.startswith(_TEMPORARY)}
    if names - {VECTORS, ARRAYS}:
        raise UsageError(
            f"the folder {folder} contains {min(names)}, which is not part of a run",
            hint="Choose a folder that is new, empty, or holds an earlier run.",
        )


def _contents(run: Run) -> dict[str, Callable[[IO[bytes]], Any]]:
    """For each file of the folder, by name, the function that writes it."""
    text = to_json(run).encode("ascii")
    vectors = _vectors_on_host(run.eigen.vectors)
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


def _vectors_on_host(vectors: Array) -> Any:
    """The vectors on the host, in float64 if that is the operator's type, otherwise in float32."""
    wide = arrays.namespace(vectors).finfo(vectors.dtype).bits > 32
    return arrays.to_host(vectors).astype(np.float64 if wide else np.float32, copy=False)


def _read_columns(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
