"""A run as a folder: result.json, vectors.npy if it has eigenpairs, arrays.npz if an analysis has columns.

Files are written under temporary names and renamed, result.json last, so that a folder with a result.json is
complete. Nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import ResultError, UsageError
from eigencore.results import Status
from eigencore.runs.journal_file import is_journal
from eigencore.runs.result_json import from_json, host, parse, to_json
from eigencore.runs.stored_arrays import stored_arrays

if TYPE_CHECKING:
    from eigencore.results import Run
    from eigencore.space import Array

RESULT, VECTORS, ARRAYS = "result.json", "vectors.npy", "arrays.npz"
CONFIG, JOURNAL = "run.toml", "journal"  # of a run in progress
TEMPORARY = ".eigencore-"


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


def save(run: Run, folder: str | os.PathLike[str]) -> Path:
    """Saves a run in a folder. An earlier run in that folder is replaced, unless only that one is finished.

    A run is finished if all pairs have converged and all analyses have finished. If NAME holds a finished
    run, an unfinished one is saved beside it: in NAME-unfinished, NAME-unfinished-2 and so on, whichever is
    the first to hold neither a finished run nor anything else.

    The vectors (n, k) are written in float64 if that is the operator's type, otherwise in float32. If a file
    cannot be written, the earlier run remains.

    Args:
        run: the run to save.
        folder: the folder, which is created if necessary.

    Returns:
        The folder that the run is in.

    Raises:
        UsageError: the folder cannot be used, as in `check_folder`.
        ResultError: a file cannot be written.

    Example:
        import eigencore

        run = eigencore.analyze("demo:quadratic", k=2)
        print(eigencore.save(run, "my-run"))
    """
    try:
        place = check_folder(folder)
        contents = _contents(run)
        if not is_finished(run):
            place = _not_finished(place)
    except UsageError as error:  # the folder changed during the solve, whose result must not be lost
        error.partial = run.pairs
        raise
    written: dict[str, Path] = {}
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, write in contents.items():
            written[name] = place / f"{TEMPORARY}{os.getpid()}-{name}"
            with open(written[name], "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        # The earlier result is removed first and the new one comes last: no folder holds parts of two runs.
        for name in (RESULT, VECTORS, ARRAYS):
            (place / name).unlink(missing_ok=True)
        for name in (VECTORS, ARRAYS, RESULT):
            if name in written:
                written[name].replace(place / name)
    except OSError as error:
        raise ResultError(
            f"the run can't be saved in {place}: {_reason(error)}", partial=run.pairs
        ) from error
    finally:
        for path in written.values():
            path.unlink(missing_ok=True)
    return place


def is_finished(run: Run) -> bool:
    """Whether all pairs have converged and all analyses have finished."""
    return _says_finished(Status.CONVERGED if run.pairs is None else run.pairs.status, run.manifest)


def load(folder: str | os.PathLike[str]) -> Run:
    """The run that was saved in a folder.

    A result that `EigenResult.save` wrote is a run without analyses: it is `.eigen` of what is returned. The
    vectors (n, k) are memory-mapped from the file: they are read when they are used. Writing to arrays of the
    run does not change the files.

    Args:
        folder: the folder that `analyze(out=...)`, `eigen analyze --out` or a method `save` wrote.

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
        hint = "Name a folder that `eigen analyze --out` or analyze(out=...) wrote."
        if os.path.isfile(place / JOURNAL):
            hint = f"It holds an unfinished run: `eigen analyze --resume {place}` continues it."
        raise ResultError(what, hint=hint)
    try:
        text = (place / RESULT).read_text(encoding="utf-8")
        has_vectors = (place / VECTORS).exists() or parse(text)["eigenvalues"] is not None
        vectors = np.load(place / VECTORS, mmap_mode="c", allow_pickle=False) if has_vectors else None
        columns = _read_columns(place / ARRAYS) if (place / ARRAYS).exists() else {}
        run = replace(from_json(text, vectors, columns), folder=place)
    except ResultError as error:
        raise ResultError(f"{place}: {error.message}", hint=error.hint) from error
    except Exception as error:  # on damaged files NumPy and zipfile raise almost anything
        raise ResultError(f"{place} can't be read: {type(error).__name__}: {error}") from error
    if run.pairs is None or vectors is None:
        return run
    expected = (run.pairs.n, len(run.pairs.values))
    if vectors.shape != expected or vectors.dtype.kind != "f":
        raise ResultError(
            f"{place / VECTORS} holds {vectors.dtype} of shape {vectors.shape}; expected floats of {expected}"
        )
    return run


def _says_finished(status: Any, manifest: Mapping[str, Any]) -> bool:
    converged = status == Status.CONVERGED
    return converged and bool(manifest.get("finished", not manifest.get("failed")))


def _holds_finished(folder: Path) -> bool:
    if not os.path.isfile(folder / RESULT):
        return False
    result = parse((folder / RESULT).read_text(encoding="utf-8"))
    manifest = result.get("run")
    status = result.get("status", Status.CONVERGED)
    return _says_finished(status, manifest if isinstance(manifest, dict) else {})


def _not_finished(folder: Path) -> Path:
    """The folder itself or, if it holds a finished run, a folder beside it for an unfinished one."""
    if not _holds_finished(folder):
        return folder
    named = folder if folder.name not in ("", "..") else folder.resolve()
    for number in count(1):
        other = named.with_name(f"{named.name}-unfinished{'' if number == 1 else f'-{number}'}")
        try:
            if not _holds_finished(check_folder(other)):
                return other
        except UsageError:
            if not os.path.lexists(other):
                raise  # it can't be created
    raise AssertionError


def _reason(error: OSError | ValueError) -> str:
    # NumPy raises an OSError without strerror if fewer bytes were written than requested.
    if isinstance(error, OSError) and error.strerror is None:
        return f"is the disk full? {error}"
    return getattr(error, "strerror", None) or str(error)


def _refuse_foreign(folder: Path) -> None:
    result, journal = folder / RESULT, folder / JOURNAL
    if journal.exists() and not is_journal(journal):
        raise UsageError(
            f"{journal} exists, and is not the journal of a run",
            hint="Choose another folder, or move that file away.",
        )
    try:
        if result.exists():
            parse(result.read_text(encoding="utf-8"))
            return
    except (ResultError, OSError, UnicodeDecodeError):
        raise UsageError(
            f"{result} exists, and is not a result of this version of eigencore",
            hint="Choose another folder, or move that file away.",
        ) from None
    names = {path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY)}
    foreign = names - {VECTORS, ARRAYS, *((JOURNAL, CONFIG) if journal.exists() else ())}
    if foreign:
        raise UsageError(
            f"the folder {folder} contains {min(foreign)}, which is not part of a run",
            hint="Choose a folder that is new, empty, or holds an earlier run.",
        )


def _contents(run: Run) -> dict[str, Callable[[IO[bytes]], Any]]:
    """For each file of the folder, by name, the function that writes it."""
    text = to_json(run).encode("ascii")
    columns = {
        place: host(array)
        for name, result in run.analyses.items()
        for place, array in stored_arrays(name, result).items()
    }
    contents: dict[str, Callable[[IO[bytes]], Any]] = {RESULT: lambda file: file.write(text)}
    if run.pairs is not None:
        vectors = _vectors_on_host(run.pairs.vectors)
        contents[VECTORS] = lambda file: np.save(file, vectors, allow_pickle=False)
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
