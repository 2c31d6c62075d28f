"""Files, modules, factories and checkpoints."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from rows import NO_ANALYSES, Row, made, nothing

import eigencore
from eigencore.errors import (
    EigencoreError,
    NotFiniteError,
    NotSymmetricError,
    OptionError,
    ProblemError,
    UnknownNameError,
    UsageError,
)

LONG = "x" * 300


def files(**texts: str) -> Callable[[Path], None]:
    """Makes NAME.py of each text."""

    def prepare(folder: Path) -> None:
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text)

    return prepare


def named(
    problem: str,
    *words: str,
    error: type[EigencoreError] = UsageError,
    given: str = "",
    prepare: Callable[[Path], object] = nothing,
) -> Row:
    return Row(
        given or problem[:40],
        error,
        words,
        lambda: eigencore.analyze(problem, analyses="none"),
        ("analyze", problem, *NO_ANALYSES),
        prepare=prepare,
    )


def checkpoint(given: str, *words: str, error: type[EigencoreError] = ProblemError, **more: object) -> Row:
    """A file weights.pt for the valid network."""
    return Row(
        given,
        error,
        words,
        lambda: eigencore.analyze(
            "made.py:sound", analyses="none", options={"problem": {"checkpoint": "weights.pt"}}
        ),
        ("analyze", "made.py:sound", *NO_ANALYSES, "--set", "problem.checkpoint=weights.pt"),
        **more,  # type: ignore[arg-type]
    )


def write(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "weights.pt").write_bytes(content)


def torch_save(what: Callable[[], object]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        import torch

        torch.save(what(), folder / "weights.pt")

    return prepare


def _network(**changed: object) -> dict[str, object]:
    from eigencore.problems import find_factory

    return {**find_factory("made.py:network")().state_dict(), **changed}


def _nan() -> dict[str, object]:
    import torch

    return _network(**{"head.bias": torch.full((3,), torch.nan)})


def _other_shape() -> dict[str, object]:
    import torch

    return _network(**{"head.bias": torch.zeros(4)})


def _misspelt() -> dict[str, object]:
    weights = _network()
    weights["tail.bias"] = weights.pop("head.bias")
    return weights


def _two_networks() -> dict[str, object]:
    return {f"{who}.{name}": value for who in ("student", "teacher") for name, value in _network().items()}


def _larger_network() -> dict[str, object]:
    import torch

    return _network(**{"tail.weight": torch.zeros(3)})


def _whole_model() -> object:
    from eigencore.problems import find_factory

    return find_factory("made.py:network")()


HEADER = b"%%%%MatrixMarket matrix coordinate %s\n"


def matrix_file(
    name: str, *words: str, write: bytes, error: type[EigencoreError] = UsageError, problem: str = ""
) -> Row:
    """A file of these bytes, given as the problem."""
    return named(
        problem or name, *words, error=error, prepare=lambda folder: (folder / name).write_bytes(write)
    )


def array_file(
    file: str, *words: str, of: Callable[[], Any], error: type[EigencoreError] = UsageError, name: str = ""
) -> Row:
    """A file with one array or sparse matrix, or with several arrays by name."""
    made = of()
    with io.BytesIO() as written:
        if scipy.sparse.issparse(made):
            scipy.sparse.save_npz(written, made)
        elif isinstance(made, dict):
            np.savez(written, **made)
        else:
            (np.save if file.endswith(".npy") else np.savez)(written, made)
        content = written.getvalue()
    return matrix_file(file, *words, write=content, error=error, problem=f"{file}{name}")


made_of = partial(made, file="matrices.py")

ROWS = [
    # -- files and modules
    named("nowhere.py:make", "no file nowhere.py", "Relative paths start at"),
    named("made.py", "no factory", "made.py:FACTORY"),
    named("made.py:", "unknown factory in made.py: ", error=UnknownNameError),
    named("made.py:sond", "'sond'", "Did you mean", error=UnknownNameError),
    named(".py:make", "no file .py"),
    named("folder.py:make", "no file folder.py", prepare=lambda folder: (folder / "folder.py").mkdir()),
    named(f"{LONG}.py:make", "no file xxx", given="a name too long for a file"),
    named("a\0b.py:make", "no file a", given="a name with a zero byte"),
    named("matrices.py:answer", "of type int", "expected a factory"),
    named("syntax.py:make", "SyntaxError", error=ProblemError, prepare=files(syntax="def (")),
    named("fails.py:make", "ZeroDivisionError", error=ProblemError, prepare=files(fails="1 / 0")),
    named(
        "leaves.py:make", "SystemExit", error=ProblemError, prepare=files(leaves="import sys; sys.exit(0)")
    ),
    named(
        "lacks.py:make", "no_such_package", error=ProblemError, prepare=files(lacks="import no_such_package")
    ),
    named(
        "binary.py:make",
        "binary.py can't be imported",
        error=ProblemError,
        prepare=lambda folder: (folder / "binary.py").write_bytes(b"\xff\xfe\x00"),
    ),
    named("no_such_module:make", "no_such_module", error=UnknownNameError),
    named(
        "fails_too:make",
        "write fails_too.py:make",
        error=UnknownNameError,
        prepare=files(fails_too="1 / 0"),
    ),
    named("weights.pt", "a file of weights", "--set problem.checkpoint=weights.pt"),
    named("json:dumpz", "unknown factory in json: ", "dumps", error=UnknownNameError),
    # -- matrices
    named("nowhere.npy", "there is no file nowhere.npy", "Relative paths start at"),
    named("folder.npz", "folder.npz is a folder", prepare=lambda folder: (folder / "folder.npz").mkdir()),
    named(f"{LONG}.mtx", "no file xxx", given="a name of a matrix too long for a file"),
    *(
        matrix_file(f"bytes.{suffix}", "can't be read", words, error=ProblemError, write=content)
        for suffix, content, words in (
            ("npy", b"", "EOF"),
            ("npz", b"", "No data left in file"),
            ("mtx", b"", "Missing banner"),
        )
    ),
    matrix_file("text.npy", "the magic string is not correct", error=ProblemError, write=b"1 2\n2 1\n"),
    matrix_file("text.npz", "can't be read", error=ProblemError, write=b"PK\x03\x04 a picture"),
    matrix_file("text.mtx", "Missing banner", "scipy.io.mmwrite", error=ProblemError, write=b"1 2\n2 1\n"),
    matrix_file(
        "cut.mtx", "Truncated file", error=ProblemError, write=HEADER % b"real general" + b"2 2 3\n1 1 1\n"
    ),
    matrix_file(
        "skew.mtx",
        "not symmetric",
        error=NotSymmetricError,
        write=HEADER % b"real skew-symmetric" + b"2 2 1\n2 1 3\n",
    ),
    matrix_file("none.mtx", "none.mtx is empty", write=HEADER % b"real general" + b"0 0 0\n"),
    matrix_file(
        "complex.mtx", "complex.mtx is complex", write=HEADER % b"complex general" + b"2 2 1\n1 1 1 2\n"
    ),
    matrix_file("wide.mtx", "shape (2, 3)", "A.T @ A", write=HEADER % b"real general" + b"2 3 1\n1 1 1\n"),
    array_file("empty.npy", "empty.npy is empty", of=lambda: np.zeros((0, 0))),
    array_file("wide.npy", "shape (2, 3); expected a square matrix", "A.T @ A", of=lambda: np.ones((2, 3))),
    array_file("flat.npy", "shape (4,)", of=lambda: np.ones(4)),
    array_file("complex.npy", "complex.npy is complex", of=lambda: np.eye(2) * 1j),
    array_file("objects.npy", "Python objects", "A.astype(float)", of=lambda: np.array([[None]])),
    array_file("words.npy", "contains <U1; expected real numbers", of=lambda: np.array([["a"]])),
    array_file("records.npy", "expected real numbers", of=lambda: np.zeros((2, 2), "f8,i4")),
    array_file(
        "infinite.npy",
        "NaN or infinity in 3 of its entries",
        error=NotFiniteError,
        of=lambda: np.array([[np.nan, np.inf], [-np.inf, 1.0]]),
    ),
    array_file(
        "asymmetric.npy",
        "(0, 1) and (1, 0) are 2 and 3",
        "a relative asymmetry of 2.5e-01",
        "(A + A.T) / 2",
        error=NotSymmetricError,
        of=lambda: np.array([[4.0, 2.0], [3.0, 1.0]]),
    ),
    array_file("objects.npz", "Python objects", of=lambda: np.array([[None]])),
    array_file("two.npz", "two.npz holds 2 arrays", "two.npz:NAME", "b, a", of=lambda: {"b": 1, "a": 2}),
    array_file("no.npz", "no.npz holds 0 arrays; expected one", of=dict),
    array_file(
        "mis.npz",
        "unknown array in mis.npz: 'frist'",
        "first",
        name=":frist",
        error=UnknownNameError,
        of=lambda: {"first": 1, "b": 2},
    ),
    array_file(
        "named.npy", "holds a single matrix; expected no name after it", name=":x", of=lambda: np.eye(2)
    ),
    array_file(
        "sparse.npz",
        "sparse.npz is not symmetric",
        "(0, 2) and (2, 0) are 0 and 1",
        error=NotSymmetricError,
        of=lambda: scipy.sparse.csr_array(([1.0], ([2], [0])), shape=(3, 3)),
    ),
    array_file(
        "sparse-nan.npz",
        "NaN or infinity in 1 of",
        error=NotFiniteError,
        of=lambda: scipy.sparse.csr_array([[np.nan]]),
    ),
    array_file("sparse-complex.npz", "is complex", of=lambda: scipy.sparse.csr_array([[1j]])),
    # -- factories
    made_of("returns_none", "of type NoneType: None", "expected a Problem"),
    named(
        "matrices.py:returns_text",
        "returned a value of type str: 'hessian'",
        "expected a Problem",
        error=ProblemError,
    ),
    made_of("returns_a_pair", "a tuple of length 2"),
    made_of("returns_a_list", "of type list: [1, 2]"),
    made_of("returns_a_class", "of type type: <class"),
    named(
        "matrices.py:raises", "matrices.py:raises failed", "RuntimeError: no data here", error=ProblemError
    ),
    named("matrices.py:exits", "matrices.py:exits failed", "SystemExit", error=ProblemError),
    named(
        "matrices.py:needs_a_path", "problem needs a value for path", "--set problem.path=", error=OptionError
    ),
    made_of("lacks_a_loss", "the problem lacks loss"),
    made_of("lacks_everything", "lacks model, data, loss"),
    made_of("operator_and_model", "an operator and also model"),
    made_of("operator_and_checkpoint", "checkpoint can't be used", error=UsageError),
    made_of("on_an_unknown_backend", "tensorflow", "torch", error=UnknownNameError),
    # -- checkpoints
    checkpoint("no checkpoint", "the checkpoint file weights.pt does not exist", error=UsageError),
    checkpoint(
        "a folder for a checkpoint",
        "weights.pt is a folder; expected a checkpoint file",
        error=UsageError,
        prepare=lambda folder: (folder / "weights.pt").mkdir(),
    ),
    checkpoint("an empty checkpoint", "weights.pt is not a checkpoint", prepare=write(b"")),
    checkpoint(
        "a foreign checkpoint", "weights.pt is not a checkpoint", prepare=write(b"PK\x03\x04 a picture")
    ),
    checkpoint("a checkpoint of a list", "weights.pt contains a list", prepare=torch_save(lambda: [1, 2])),
    checkpoint(
        "a checkpoint of a whole model", "Python objects", "state_dict", prepare=torch_save(_whole_model)
    ),
    checkpoint(
        "a checkpoint of other shapes", "head.bias has shape (4,)", "(3,)", prepare=torch_save(_other_shape)
    ),
    checkpoint("a checkpoint of other names", "head.bias", "tail.bias", prepare=torch_save(_misspelt)),
    checkpoint(
        "a checkpoint of two networks",
        "2 sets of weights that match the model, under student., teacher.",
        "in a file of its own",
        prepare=torch_save(_two_networks),
    ),
    checkpoint(
        "a checkpoint with an entry too many", "has tail.weight, which", prepare=torch_save(_larger_network)
    ),
    checkpoint("a checkpoint with NaN", "head.bias contains NaN", prepare=torch_save(_nan)),
]
