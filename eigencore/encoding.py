"""A Run as one JSON object: what `--json` prints and what result.json holds; `decoding` reads it.

NaN and infinity become null, arrays of the analyses only their names: those lie beside it in arrays.npz.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eigencore import arrays
from eigencore.errors import ResultError
from eigencore.results import AnalysisResult, EigenResult, Run

if TYPE_CHECKING:
    pass

T = TypeVar("T")
SCHEMA = 1
# What the manifest knows and the object tells on its first level; the rest of the manifest is under "run".
TOLD_FIRST = ("problem", "backend", "operator", "exact")

_AS_THEY_ARE = (
    *("solver", "k", "which", "tol", "seed", "status", "advice", "residuals", "converged"),
    *("matvecs", "seconds", "certificate", "notes", "history"),
)


def to_json(run: Run) -> str:
    """The run as JSON, a line for each key of the object, in ASCII."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in _told(run).items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def plain(value: Any) -> Any:
    """The value in JSON's terms. What JSON has no word for is told by its type."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if arrays.is_array(value):
        return plain(host(value).tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(item) for item in (value if isinstance(value, Sequence) else sorted(value, key=str))]
    if isinstance(value, PurePath):
        return str(value)
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def host(x: Any) -> Any:
    """An array on the host: one of NumPy as it is, others in float64.

    Raises:
        ResultError: it holds Python objects, which only pickle could save.
    """
    foreign = arrays.is_array(x) and not isinstance(x, np.ndarray)
    array = arrays.to_host(x) if foreign else np.asarray(x)
    if array.dtype.hasobject:
        raise ResultError(f"an array holds Python objects; expected numbers or text: {x!r:.60}")
    return array


def _told(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    result = told_result(run.eigen)
    return {
        "schema": SCHEMA,
        "problem": manifest.get("problem"),
        "backend": manifest.get("backend"),
        "operator": plain({**(manifest.get("operator") or {}), **result.pop("operator")}),
        **result,
        "exact": plain(manifest.get("exact")),
        "analyses": {name: _analysis(analysis) for name, analysis in run.analyses.items()},
        "run": {
            **{name: plain(value) for name, value in manifest.items() if name not in TOLD_FIRST},
            "options": plain({**manifest.get("options", {}), run.eigen.solver: run.eigen.options}),
        },
    }


def told_result(eigen: EigenResult) -> dict[str, Any]:
    """The eigenpairs without their vectors, in JSON's terms."""
    return {
        "operator": {"n": eigen.n, "dtype": eigen.dtype, "device": eigen.device},
        "eigenvalues": plain(eigen.values),
        **{name: plain(getattr(eigen, name)) for name in _AS_THEY_ARE},
    }


def _analysis(result: AnalysisResult) -> dict[str, Any]:
    return {**plain(dataclasses.replace(result, columns={})), "columns": list(result.columns)}
