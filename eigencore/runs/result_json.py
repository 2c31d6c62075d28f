"""A Run as one JSON object: what `--json` prints, and what `result.json` holds.

NaN and infinity become null. Of the per-sample columns of an analysis the object holds only the names, and of
images in figures only where they are; the arrays themselves are in `arrays.npz`. When a result is read,
msgspec validates the object against `ResultDocument`, whose JSON schema `schema()` returns.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from eigencore import arrays
from eigencore.errors import ResultError
from eigencore.figures import Figure, Table
from eigencore.registry import qualified_name
from eigencore.results import (
    AnalysisResult,
    Certificate,
    EigenResult,
    Run,
    Sampling,
    Status,
    Step,
)
from eigencore.runs.stored_arrays import with_images, without_arrays

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

SCHEMA = 1

# -- the object --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperatorDocument:
    """The operator: its size, data type and device, and for a run of `analyze` its kind and parameters."""

    n: int
    dtype: str
    device: str
    kind: str | None = None
    params: str | None = None


@dataclass(frozen=True)
class AnalysisDocument:
    """An AnalysisResult; `columns` are the names of its arrays."""

    verdict: str
    title: str
    numbers: dict[str, Any]
    tables: dict[str, Table]
    figures: list[Figure]
    warnings: list[str]
    columns: list[str]
    remarks: list[str] = field(default_factory=list)
    shown: list[str] | None = None
    matvecs: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class ArgumentsDocument:
    """The arguments of `analyze`, which include the options as they were given."""

    options: dict[str, dict[str, Any]] | None = None


@dataclass(frozen=True)
class RunDocument:
    """The manifest. `options` are the resolved options of each entry.

    `finished`: whether all pairs have converged and all analyses have finished. `unasked`: the analyses that
    ran because they run by default.
    """

    options: dict[str, dict[str, Any] | None]
    arguments: ArgumentsDocument = field(default_factory=ArgumentsDocument)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)
    finished: bool = False
    problem_description: str | None = None
    backend_description: str | None = None


@dataclass(frozen=True)
class StepDocument(Step):
    """A Step whose values may contain null."""

    values: tuple[float | None, ...]  # type: ignore[assignment]


@dataclass(frozen=True)
class EigenDocument:
    """The eigenpairs, as keys of the whole object."""

    eigenvalues: list[float | None]
    solver: str
    k: int
    which: str
    tol: float
    seed: int
    status: Status
    advice: str
    residuals: list[float | None]
    converged: list[bool]
    matvecs: float
    seconds: float
    certificate: Certificate
    notes: list[str]
    history: list[StepDocument]
    sampling: Sampling | None


@dataclass(frozen=True)
class WholeDocument:
    """What is in the object with eigenpairs or without."""

    schema: int
    problem: str | None
    backend: str | None
    operator: OperatorDocument
    exact: list[float | None] | None
    analyses: dict[str, AnalysisDocument]
    run: RunDocument


@dataclass(frozen=True)
class AnalysesDocument(WholeDocument):
    """The object of a run without eigenpairs: `eigenvalues` is null, and the keys of a solve are left out."""

    eigenvalues: None


@dataclass(frozen=True)
class ResultDocument(EigenDocument, WholeDocument):
    """The whole object. Numbers that are not finite are null."""


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `result.json`.

    Example:
        from eigencore.runs.result_json import schema

        print(sorted(schema()["$defs"]))
    """
    (with_pairs, without), definitions = msgspec.json.schema_components(
        (ResultDocument, AnalysesDocument), ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "result.json of eigencore",
        "anyOf": [with_pairs, without],
        "$defs": definitions,
    }


# -- writing -----------------------------------------------------------------------------------------------

# The keys of the first level that come from the manifest; the rest of the manifest is under "run".
FROM_MANIFEST = ("problem", "backend", "operator", "exact")
FROM_RESULT = (
    *("solver", "k", "which", "tol", "seed", "status", "advice", "residuals", "converged"),
    *("matvecs", "seconds", "certificate", "notes", "history", "sampling"),
)


def to_json(run: Run) -> str:
    """The run as JSON in ASCII, one line per key of the object."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in _document(run).items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _document(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    result = {"operator": {}, "eigenvalues": None} if run.pairs is None else eigen_to_json(run.pairs)
    used = {} if run.pairs is None else {run.pairs.solver: run.pairs.options}
    return {
        "schema": SCHEMA,
        "problem": manifest.get("problem"),
        "backend": manifest.get("backend"),
        "operator": plain({**(manifest.get("operator") or {}), **result.pop("operator")}),
        **result,
        "exact": plain(manifest.get("exact")),
        "analyses": {
            name: {**plain(without_arrays(name, analysis)), "columns": list(analysis.columns)}
            for name, analysis in run.analyses.items()
        },
        "run": {
            **{name: plain(value) for name, value in manifest.items() if name not in FROM_MANIFEST},
            "options": plain({**manifest.get("options", {}), **used}),
        },
    }


def eigen_to_json(eigen: EigenResult) -> dict[str, Any]:
    """The eigenpairs without their vectors, as plain data."""
    return {
        "operator": {"n": eigen.n, "dtype": eigen.dtype, "device": eigen.device},
        "eigenvalues": plain(eigen.values),
        **{name: plain(getattr(eigen, name)) for name in FROM_RESULT},
    }


def plain(value: Any) -> Any:
    """The value as plain data that JSON can hold.

    Options and arguments may be anything, so this covers more than msgspec's encoder: keys become text,
    and an object that JSON cannot hold becomes its name if it is a function, or the name of its type.
    """
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
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(item) for item in (value if isinstance(value, Sequence) else sorted(value, key=str))]
    if isinstance(value, PurePath):
        return str(value)
    return f"<{qualified_name(value)}>"


def host(x: Any) -> Any:
    """An array on the host: a NumPy array unchanged, others in float64.

    Raises:
        ResultError: it holds Python objects, which only pickle could save.
    """
    foreign = arrays.is_array(x) and not isinstance(x, np.ndarray)
    array = arrays.to_host(x) if foreign else np.asarray(x)
    if array.dtype.hasobject:
        raise ResultError(f"an array holds Python objects; expected numbers or text: {x!r:.60}")
    return array


# -- reading -----------------------------------------------------------------------------------------------


def from_json(text: str, vectors: Array | None, columns: Mapping[str, Any]) -> Run:
    """The run that `to_json` wrote, with the vectors of its eigenpairs and the columns of its analyses.

    Args:
        vectors: None if it has no eigenpairs.
        columns: the arrays of the analyses, by their names in `arrays.npz`.

    Raises:
        ResultError: the text is not a result, is damaged, or has another schema.
    """
    read = parse(text)
    try:
        if read["eigenvalues"] is None:
            alone = msgspec.convert(read, AnalysesDocument)
            return Run(None, _analyses(alone, columns), _manifest(read))
        return _run(msgspec.convert(read, ResultDocument), read, vectors, columns)
    except msgspec.ValidationError as error:
        raise ResultError(f"the result is damaged: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultError(f"the result is incomplete: {type(error).__name__}: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a result. Raises ResultError if the text is not one."""
    try:
        read = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ResultError(f"the result is not JSON: {error}") from error
    if not isinstance(read, dict) or "schema" not in read or "eigenvalues" not in read:
        raise ResultError("the JSON is not a result of eigencore")
    if read["schema"] != SCHEMA:
        raise ResultError(
            f"the result has schema {read['schema']!r}; this version of eigencore reads schema {SCHEMA}",
            hint="Read it with the version of eigencore that wrote it, or a later one.",
        )
    return read


def _run(
    document: ResultDocument, read: dict[str, Any], vectors: Array | None, columns: Mapping[str, Any]
) -> Run:
    manifest = _manifest(read)
    options = document.run.options[document.solver]
    if options is None:
        raise ValueError(f"the options of {document.solver} are missing")
    eigen = EigenResult(
        values=_floats(document.eigenvalues),
        vectors=vectors,
        residuals=_floats(document.residuals),
        converged=np.array(document.converged, dtype=bool),
        status=document.status,
        advice=document.advice,
        matvecs=document.matvecs,
        seconds=document.seconds,
        certificate=document.certificate,
        solver=document.solver,
        k=document.k,
        which=document.which,
        tol=document.tol,
        seed=document.seed,
        n=document.operator.n,
        dtype=document.operator.dtype,
        device=document.operator.device,
        history=tuple(_step(row) for row in document.history),
        notes=tuple(document.notes),
        options=options,
        sampling=document.sampling,
    )
    sizes = {len(x) for x in (eigen.values, eigen.residuals, eigen.converged)}
    if document.exact is not None:
        manifest["exact"] = _floats(document.exact).tolist()
        sizes.add(min(len(document.exact), len(eigen.values)))
    if len(sizes) > 1:
        raise ValueError("eigenvalues, residuals, converged or exact values differ in length")
    return Run(eigen, _analyses(document, columns), manifest)


def _manifest(read: dict[str, Any]) -> dict[str, Any]:
    return {**{name: read[name] for name in FROM_MANIFEST}, **read["run"]}


def _analyses(document: WholeDocument, columns: Mapping[str, Any]) -> dict[str, AnalysisResult]:
    return {
        name: _analysis(result, {column: columns[f"{name}/{column}"] for column in result.columns}, columns)
        for name, result in document.analyses.items()
    }


def _step(document: StepDocument) -> Step:
    return Step(**{**vars(document), "values": tuple(_floats(document.values).tolist())})


def _analysis(
    document: AnalysisDocument, columns: Mapping[str, Any], stored: Mapping[str, Any]
) -> AnalysisResult:
    if any(len(row) != len(table.columns) for table in document.tables.values() for row in table.rows):
        raise ValueError("the rows of a table differ in length")
    return AnalysisResult(
        verdict=document.verdict,
        title=document.title,
        numbers=document.numbers,
        tables=document.tables,
        columns=columns,
        figures=tuple(
            with_images(one, stored) if one.kind == "images" else _figure(one) for one in document.figures
        ),
        warnings=tuple(document.warnings),
        remarks=tuple(document.remarks),
        shown=None if document.shown is None else tuple(document.shown),
        matvecs=document.matvecs,
        seconds=document.seconds,
    )


def _figure(read: Figure) -> Figure:
    return dataclasses.replace(
        read,
        series={name: _series(x) for name, x in read.series.items()},
        bands={name: (_series(low), _series(high)) for name, (low, high) in read.bands.items()},
        atoms={name: (_series(at), _series(height)) for name, (at, height) in read.atoms.items()},
    )


def _series(read: Any) -> Any:
    series = np.asarray(read)
    return np.asarray(read, dtype=np.float64) if series.dtype.hasobject else series  # null was NaN


def _floats(numbers: Sequence[float | None]) -> Floats:
    return np.array([math.nan if x is None else x for x in numbers], dtype=np.float64)
