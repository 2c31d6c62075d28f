"""A Run as one JSON object, and back: what `--json` prints and what result.json holds.

NaN and infinity become null, arrays of the analyses only their names: those lie beside it in arrays.npz.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import ResultError
from eigencore.results import AnalysisResult, Certificate, EigenResult, Figure, Run, Status, Step, Table

if TYPE_CHECKING:
    from eigencore.interfaces import Array, Floats

SCHEMA = 1
# What the manifest knows and the object tells on its first level; the rest of the manifest is under "run".
_TOLD_FIRST = ("problem", "backend", "operator", "exact")

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


def from_json(text: str, vectors: Array, columns: Mapping[str, Any]) -> Run:
    """The run that `to_json` told, with its arrays: columns by "analysis/name".

    Raises:
        ResultError: the text is no result, or one of a later schema.
    """
    told = parse(text)
    try:
        return _run(told, vectors, columns)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultError(f"the result is incomplete: {type(error).__name__}: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a result. Raises ResultError where it is none."""
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ResultError(f"the result is no JSON: {error}") from error
    if not isinstance(told, dict) or "schema" not in told or "eigenvalues" not in told:
        raise ResultError("the JSON is no result of eigencore")
    if told["schema"] != SCHEMA:
        raise ResultError(
            f"the result has schema {told['schema']!r}; this eigencore reads {SCHEMA}",
            hint="Read it with the eigencore that wrote it, or a newer one.",
        )
    return told


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


# -- to plain ----------------------------------------------------------------------------------------------


def _told(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    result = told_result(run.eigen)
    return {
        "schema": SCHEMA,
        "problem": manifest.get("problem"),
        "backend": manifest.get("backend"),
        "operator": {**(manifest.get("operator") or {}), **result.pop("operator")},
        **result,
        "exact": plain(manifest.get("exact")),
        "analyses": {name: _analysis(analysis) for name, analysis in run.analyses.items()},
        "run": {
            **{name: plain(value) for name, value in manifest.items() if name not in _TOLD_FIRST},
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


# -- and back ----------------------------------------------------------------------------------------------


def _run(told: dict[str, Any], vectors: Array, columns: Mapping[str, Any]) -> Run:
    manifest = {**{name: told[name] for name in _TOLD_FIRST}, **told["run"]}
    operator = told["operator"]
    eigen = EigenResult(
        values=_floats(told["eigenvalues"]),
        vectors=vectors,
        residuals=_floats(told["residuals"]),
        converged=np.array(told["converged"], dtype=bool),
        status=Status(told["status"]),
        certificate=Certificate(**told["certificate"]),
        history=tuple(Step(**{**row, "values": tuple(_floats(row["values"]))}) for row in told["history"]),
        notes=tuple(told["notes"]),
        options=manifest["options"][told["solver"]],
        **{
            name: told[name]
            for name in ("solver", "k", "which", "tol", "seed", "advice", "matvecs", "seconds")
        },
        **{name: operator[name] for name in ("n", "dtype", "device")},
    )
    analyses = {
        name: _read_analysis(result, {column: columns[f"{name}/{column}"] for column in result["columns"]})
        for name, result in told["analyses"].items()
    }
    return Run(eigen, analyses, manifest)


def _read_analysis(told: dict[str, Any], columns: Mapping[str, Any]) -> AnalysisResult:
    tables = {
        name: Table(tuple(table["columns"]), tuple(tuple(row) for row in table["rows"]))
        for name, table in told["tables"].items()
    }
    figures = tuple(
        Figure(**{**figure, "series": {name: np.asarray(x) for name, x in figure["series"].items()}})
        for figure in told["figures"]
    )
    return AnalysisResult(
        verdict=told["verdict"],
        title=told["title"],
        numbers=told["numbers"],
        tables=tables,
        columns=columns,
        figures=figures,
        warnings=tuple(told["warnings"]),
    )


def _floats(numbers: list[float | None]) -> Floats:
    return np.array([math.nan if x is None else x for x in numbers], dtype=np.float64)
