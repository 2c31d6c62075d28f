"""Symmetric matrices in files of NumPy, SciPy and Matrix Market. Nothing is pickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eigencore.errors import NotFiniteError, NotSymmetricError, ProblemError, UnknownNameError, UsageError

SUFFIXES = (".npy", ".npz", ".mtx")
# Sums in float32 that differ in their order make matrices asymmetric by far less.
_TOLERANCE = 1e-6
_ROWS = 1024  # compared at once: a copy of a whole matrix may not fit into memory


def read_matrix(path: str | Path, name: str = "") -> Any:
    """The symmetric matrix in a file: a NumPy array, or a sparse array of SciPy.

    Args:
        path: `.npy`; `.npz` by `scipy.sparse.save_npz` or `np.savez`; or `.mtx` (Matrix Market).
        name: the name of an array in an `.npz` file, which is needed if there are several.

    Raises:
        UsageError: there is no such file, or the matrix is not square, empty or not of real numbers.
        UnknownNameError: the `.npz` file has no array of that name.
        ProblemError: the file can't be read.
        NotFiniteError, NotSymmetricError: the matrix contains NaN or infinity, or is not symmetric.

    Example:
        import numpy as np
        from eigencore.problems import read_matrix

        np.save("matrix.npy", np.diag([3.0, 2.0, 1.0]))
        print(read_matrix("matrix.npy").shape)
    """
    path = Path(path)
    if not os.path.isfile(path):  # not path.is_file(), which fails on a name that is too long
        what = f"{path} is a folder" if os.path.isdir(path) else f"there is no file {path}"
        raise UsageError(what, hint=f"Relative paths start at {Path.cwd()}.")
    return _checked(_read(path, name), f"{path}:{name}" if name else str(path))


def _read(path: Path, name: str) -> Any:
    import scipy.io
    import scipy.sparse
    from numpy.lib import format as npy

    if name and path.suffix.lower() != ".npz":
        raise UsageError(f"{path} holds a single matrix; expected no name after it, but found {name!r}")
    try:
        match path.suffix.lower():
            case ".npy":
                with open(path, "rb") as file:
                    return npy.read_array(file, allow_pickle=False)
            case ".mtx":
                matrix = scipy.io.mmread(path)
                return scipy.sparse.csr_array(matrix) if scipy.sparse.issparse(matrix) else matrix
            case _:
                return _read_npz(path, name)
    except (UsageError, MemoryError):
        raise
    except Exception as error:
        if "Object arrays" in str(error):
            raise _of_objects(path) from error
        raise ProblemError(
            f"{path} can't be read as a matrix: {error}",
            hint="Save it by np.save, np.savez, scipy.sparse.save_npz or scipy.io.mmwrite.",
        ) from error


def _read_npz(path: Path, name: str) -> Any:
    import numpy as np
    import scipy.sparse

    # Opened here, because NumPy does not close a file that it can't read.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        names = archive.files
        if {"format", "shape", "data"} <= set(names):
            return scipy.sparse.csr_array(scipy.sparse.load_npz(path))
        if name and name not in names:
            raise UnknownNameError(f"array in {path}", name, names)
        if not name and len(names) != 1:
            raise UsageError(
                f"{path} holds {len(names)} arrays; expected one, or what scipy.sparse.save_npz writes",
                hint=f"Write {path}:NAME, where NAME is one of {', '.join(names)}." if names else None,
            )
        return np.asarray(archive[name or names[0]])


def _checked(matrix: Any, source: str) -> Any:
    """The matrix in the machine's byte order, and in float64 if it holds integers."""
    import numpy as np

    if np.iscomplexobj(matrix):
        raise UsageError(f"{source} is complex; eigencore works on real symmetric matrices")
    if matrix.dtype.hasobject:
        raise _of_objects(source)
    if matrix.dtype.kind not in "biuf":
        raise UsageError(f"{source} contains {matrix.dtype}; expected real numbers")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        hint = "For the singular values of A, save A.T @ A: their squares are its eigenvalues."
        raise UsageError(
            f"{source} has shape {tuple(matrix.shape)}; expected a square matrix (n, n)",
            hint=hint if matrix.ndim == 2 else None,
        )
    if not matrix.shape[0]:
        raise UsageError(f"{source} is empty; expected at least one row")
    own = matrix.dtype.newbyteorder("=")
    matrix = matrix.astype(np.float64 if own.kind in "biu" else own, copy=False)
    numbers = matrix.data if hasattr(matrix, "nnz") else matrix
    wrong = int(np.size(numbers) - np.count_nonzero(np.isfinite(numbers)))
    if wrong:
        raise NotFiniteError(f"{source} contains NaN or infinity in {wrong:,} of its entries")
    _refuse_asymmetric(matrix, source)
    return matrix


def _refuse_asymmetric(matrix: Any, source: str) -> None:
    gap, i, j = _asymmetry(matrix)
    largest = float(abs(matrix).max()) if hasattr(matrix, "nnz") else max(matrix.max(), -matrix.min())
    if gap > _TOLERANCE * largest:
        raise NotSymmetricError(
            f"{source} is not symmetric: the entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:g} and "
            f"{matrix[j, i]:g}, a relative asymmetry of {gap / largest:.1e}",
            hint="If the matrix should be symmetric, save (A + A.T) / 2 instead. The eigenvalues of other "
            "matrices are not computed.",
        )


def _asymmetry(matrix: Any) -> tuple[float, int, int]:
    """The largest |a_ij - a_ji|, with i and j."""
    if hasattr(matrix, "nnz"):
        gaps = (matrix - matrix.T).tocoo()
        if not gaps.nnz:
            return 0.0, 0, 0
        where = int(abs(gaps.data).argmax())
        return float(abs(gaps.data[where])), int(gaps.row[where]), int(gaps.col[where])
    largest = 0.0, 0, 0
    for start in range(0, len(matrix), _ROWS):
        rows = slice(start, start + _ROWS)
        gaps = abs(matrix[rows].astype(float) - matrix[:, rows].T)
        i, j = divmod(int(gaps.argmax()), len(matrix))
        largest = max(largest, (float(gaps[i, j]), start + i, j), key=lambda one: one[0])
    return largest


def _of_objects(source: str | Path) -> UsageError:
    return UsageError(
        f"{source} contains Python objects; expected real numbers",
        hint="Save A.astype(float): files with objects can run code when they are read.",
    )
