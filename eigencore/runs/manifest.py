"""The manifest of a run as plain data: its arguments, its problem, and the versions it was made with."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import is_dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.entries import DEFAULT_KIND
from eigencore.problems.contained_arrays import arrays_in
from eigencore.problems.sharing import params_text
from eigencore.registry import qualified_name, registry
from eigencore.runs.result_json import plain

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, LinearOperator, Params, Problem
    from eigencore.request import Request

BLOCK = 1 << 24  # bytes that are hashed at once


def about(
    problem: Problem | None,
    backend: str | None,
    bound: Bound,
    operator: LinearOperator,
    request: Request | None,
    kind: str,
    params: Params,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The problem, backend and operator of a run, and its exact eigenvalues in the request's order, if known.

    Exact eigenvalues belong to the default kind of operator with its default options, over all parameters.

    Args:
        request: what the solver was asked for; None: no eigenpairs were computed.
        options: the resolved options, by the name of their entry.
    """
    of_kind = options.get(kind)
    by_default = kind == DEFAULT_KIND and (of_kind is None or of_kind == type(of_kind)())
    spectrum = None if problem is None or params is not None or not by_default else problem.spectrum
    return {
        "problem": None if problem is None else problem.name,
        "backend": backend,
        "operator": {
            "kind": kind,
            "params": params_text(params),
            "n": operator.shape[0],
            "dtype": str(operator.dtype),
            "device": str(operator.device),
        },
        "exact": None if spectrum is None or request is None else plain(spectrum[request.order(spectrum)]),
        "problem_description": "" if problem is None else problem.description,
        "backend_description": bound.description,
    }


def arguments_as_data(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `analyze` as plain data; a problem that is not given by name becomes its type.

    So do eigenpairs, which are an argument only if they were given.
    """
    left_out = ("out", "progress", "resume", "save_every")
    arguments = {name: value for name, value in given.items() if name not in left_out}
    if arguments["eigen"] is None:
        del arguments["eigen"]
    for name in arguments.keys() & {"problem", "solver", "eigen"}:
        value = arguments[name]
        if not isinstance(value, str):
            arguments[name] = f"<{qualified_name(value)}>"
    return {name: plain(value) for name, value in arguments.items()}


def digest(problem: Problem) -> str | None:
    """The SHA-256 of the parts of a problem that can be read without running it; equal for equal problems.

    These are the arrays in the model and the data, those of an operator that is a matrix, and the bytes of
    the checkpoint. A model is read if it is a dataclass, a mapping, a list or a tuple of arrays, or of these
    in turn, or has a method `state_dict()` that returns such; data if they are a list or tuple of arrays,
    rather than a loader. None if the problem has none of these. Functions, settings and attributes of other
    classes do not count: a model whose weights can't be read has the digest of its data alone, and a saved
    run does not show that its weights have changed. Arrays are read in their own data type, in blocks that
    are hashed at the same time by several threads; sparse tensors of PyTorch are not read.

    Example:
        import numpy as np
        from eigencore import Problem
        from eigencore.runs import digest

        one, other = ({"w": np.zeros(3), "b": np.full(1, b)} for b in (0.0, 1.0))
        print(digest(Problem(one)) == digest(Problem(other)), digest(Problem(len)))
    """
    return digests(problem)[0]


def digests(problem: Problem) -> tuple[str | None, dict[str, str]]:
    """As `digest`, and the digest of each part that can be read: operator, model, data, checkpoint."""
    read, parts = hashlib.sha256(), {}
    empty = read.hexdigest()
    for name in ("operator", "model", "data"):
        own, part = hashlib.sha256(), getattr(problem, name)
        # What an operator of a class of its own computes with its arrays is not known.
        readable = name != "operator" or not is_dataclass(part)
        for path, array in arrays_in(part, name) if readable else ():
            for one in (f"{path} {array.dtype} {array.shape}\n".encode(), _digest_of_array(array)):
                read.update(one)
                own.update(one)
        parts[name] = own.hexdigest()
    if problem.checkpoint is not None:
        with open(problem.checkpoint, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        read.update(content)
        parts["checkpoint"] = content.hex()
    whole = read.hexdigest() if read.hexdigest() != empty else None
    return whole, {name: own for name, own in parts.items() if own != empty}


def _digest_of_array(array: Any) -> bytes:
    return _digest_of_bytes(arrays.native_bytes(array))


def _digest_of_bytes(data: memoryview) -> bytes:
    """The SHA-256 of the SHA-256 of each block."""
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    if len(blocks) <= 1:
        digests = [_sha256(block) for block in blocks]
    else:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            digests = list(threads.map(_sha256, blocks))
    return _sha256(b"".join(digests))


def _sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def environment(operator: LinearOperator) -> dict[str, Any]:
    """The versions, plugins, device, data type and number of threads of a run."""
    library = arrays.library(operator.xp)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("eigencore", "numpy", "scipy", library)},
        },
        "plugins": [plain(record) for record in registry().records],
        "device": str(operator.device),
        "dtype": str(operator.dtype),
        "threads": int(threads) if threads.isdecimal() else os.cpu_count(),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
