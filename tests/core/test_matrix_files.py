"""Matrices in files of every format give the eigenvalues of the matrix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import eigencore
from eigencore.cli import main
from eigencore.errors import NotSymmetricError
from eigencore.problems import read_matrix

N = 30


def symmetric(n: int = N) -> np.ndarray:
    A = np.random.default_rng(0).standard_normal((n, n))
    A = np.where(np.abs(A + A.T) > 2, A + A.T, 0)
    return A + np.diag(np.arange(n) / 10)


def largest(A: np.ndarray, k: int = 3) -> np.ndarray:
    values = np.linalg.eigvalsh(A.astype(float))
    return values[np.argsort(-np.abs(values))][:k]


def write_npz(path: Path, A: np.ndarray) -> None:
    np.savez_compressed(path, A)


FORMATS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "dense.npy": np.save,
    "DENSE.NPY": lambda path, A: np.save(path.open("wb"), A),
    "fortran.npy": lambda path, A: np.save(path, np.asfortranarray(A)),
    "big-endian.npy": lambda path, A: np.save(path, A.astype(">f8")),
    "single.npz": write_npz,
    "csr.npz": lambda path, A: scipy.sparse.save_npz(path, scipy.sparse.csr_array(A)),
    "coo-matrix.npz": lambda path, A: scipy.sparse.save_npz(path, scipy.sparse.coo_matrix(A)),
    "bsr.npz": lambda path, A: scipy.sparse.save_npz(path, scipy.sparse.bsr_array(A)),
    "general.mtx": lambda path, A: scipy.io.mmwrite(path, scipy.sparse.coo_array(A), symmetry="general"),
    "symmetric.mtx": lambda path, A: scipy.io.mmwrite(path, scipy.sparse.coo_array(A), symmetry="symmetric"),
    "array.mtx": scipy.io.mmwrite,
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_every_format_gives_the_eigenvalues(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    FORMATS[name](tmp_path / name, symmetric())
    for python in (eigencore.solve(name, 3, tol=1e-8), eigencore.analyze(name, 3, tol=1e-8).eigen):
        np.testing.assert_allclose(python.values, largest(symmetric()), rtol=1e-7)
        assert (python.dtype, python.n) == ("float64", N)
    assert main(["analyze", name, "-k", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["problem"] == name
    np.testing.assert_allclose(document["eigenvalues"], largest(symmetric()), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("save", [np.save, write_npz], ids=[".npy", ".npz"])
def test_real_numbers_of_every_type(dtype, save, tmp_path):
    A = np.round(symmetric()).astype(dtype)
    A = np.minimum(A, A.T)
    name = tmp_path / ("matrix.npy" if save is np.save else "matrix.npz")
    save(name, A)
    result = eigencore.solve(str(name), k=1, tol=1e-3)
    assert result.dtype == ("float32" if dtype in ("float16", "float32") else "float64")
    np.testing.assert_allclose(result.values, largest(A, 1), rtol=1e-2)


def test_one_of_several_arrays_is_named(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, first=np.eye(3), second=symmetric())
    assert eigencore.solve(f"{path}:first", k=1).values == pytest.approx([1])
    np.testing.assert_array_equal(read_matrix(path, "second"), symmetric())


def test_the_digest_is_that_of_the_matrix(tmp_path):
    np.save(tmp_path / "a.npy", symmetric())
    runs = [
        eigencore.analyze(given, 1, out=tmp_path / f"run-{i}")
        for i, given in enumerate((str(tmp_path / "a.npy"), symmetric()))
    ]
    assert runs[0].manifest["digest"] == runs[1].manifest["digest"] is not None


def test_asymmetry_within_rounding_is_accepted_and_more_is_not(tmp_path):
    A = np.full((2000, 2000), 1e-3) + np.diag(np.arange(2000.0))
    path = tmp_path / "a.npy"
    for change, accepted in ((1e-4, True), (1e-2, False)):
        A[1500, 1200] = 1e-3 + change
        np.save(path, A)
        if accepted:
            assert read_matrix(path).shape == (2000, 2000)
            continue
        with pytest.raises(NotSymmetricError) as raised:
            read_matrix(path)
        assert "(1200, 1500) and (1500, 1200) are 0.001 and 0.011" in str(raised.value)
        assert "a relative asymmetry of 5.0e-06" in str(raised.value)
