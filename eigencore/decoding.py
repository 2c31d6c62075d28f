"""A Run from the JSON object that `encoding` writes; every part is looked at before it is believed."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from eigencore.encoding import SCHEMA, TOLD_FIRST
from eigencore.errors import OptionError, ResultError
from eigencore.options import resolve
from eigencore.results import AnalysisResult, Certificate, EigenResult, Figure, Run, Status, Step, Table

if TYPE_CHECKING:
    from eigencore.interfaces import Array, Floats

T = TypeVar("T")


def from_json(text: str, vectors: Array, columns: Mapping[str, Any]) -> Run:
    """The run that `to_json` told, with its arrays: columns by "analysis/name".

    Raises:
        ResultError: the text is no result, or one of a later schema.
    """
    told = parse(text)
    try:
        return _run(told, vectors, columns)
    except OptionError as error:
        raise ResultError(f"the result is damaged: {error.message}") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultError(f"the result is incomplete: {type(error).__name__}: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a result. Raises ResultError where it is none."""
    try:
        told = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"the result is no JSON: {error}") from error
    if not isinstance(told, dict) or "schema" not in told or "eigenvalues" not in told:
        raise ResultError("the JSON is no result of eigencore")
    if told["schema"] != SCHEMA:
        raise ResultError(
            f"the result has schema {told['schema']!r}; this eigencore reads {SCHEMA}",
            hint="Read it with the eigencore that wrote it, or a newer one.",
        )
    return told


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


@dataclass(frozen=True)
class _Scalars:
    solver: str
    k: int
    which: str
    tol: float
    seed: int
    advice: str
    matvecs: float
    seconds: float
    n: int
    dtype: str
    device: str


@dataclass(frozen=True)
class _Setting:
    problem: str | None
    backend: str | None
    operator: dict[str, Any]
    exact: list[Any] | None
    options: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] = field(default_factory=dict)
    problem_description: str | None = None
    backend_description: str | None = None


@dataclass(frozen=True)
class _Analysis:
    verdict: str
    title: str
    numbers: dict[str, Any]
    tables: dict[str, Any]
    columns: list[Any]
    figures: list[Any]
    warnings: list[Any]


def _typed(shape: type[T], told: Any) -> T:
    """What the shape names, each of its type. Raises OptionError, TypeError where something is not."""
    if not isinstance(told, dict):
        raise TypeError(f"{shape.__name__.lstrip('_').lower()} is {told!r:.40}; expected an object")
    names = [spec.name for spec in dataclasses.fields(shape)]  # type: ignore[arg-type]
    return resolve(shape, {name: told[name] for name in names if name in told}, entry="result")


def _run(told: dict[str, Any], vectors: Array, columns: Mapping[str, Any]) -> Run:
    manifest = {**{name: told[name] for name in TOLD_FIRST}, **told["run"]}
    setting = _typed(_Setting, manifest)
    scalars = _typed(_Scalars, {**setting.operator, **told})
    eigen = EigenResult(
        values=_floats(told["eigenvalues"]),
        vectors=vectors,
        residuals=_floats(told["residuals"]),
        converged=np.array(told["converged"], dtype=bool),
        status=Status(told["status"]),
        certificate=_typed(Certificate, told["certificate"]),
        history=tuple(
            _typed(Step, {**row, "values": tuple(_floats(row["values"]).tolist())}) for row in told["history"]
        ),
        notes=_texts(told["notes"]),
        options=_mapping(setting.options[scalars.solver]),
        **vars(scalars),
    )
    _mapping(_mapping(setting.arguments.get("options") or {}).get(scalars.solver, {}))
    sizes = {len(x) for x in (eigen.values, eigen.residuals, eigen.converged)}
    if setting.exact is not None:
        manifest["exact"] = _floats(setting.exact).tolist()
        sizes.add(min(len(setting.exact), len(eigen.values)))
    if len(sizes) > 1:
        raise ValueError("eigenvalues, residuals, converged or exact values differ in length")
    analyses = {
        name: _read_analysis(result, {column: columns[f"{name}/{column}"] for column in result["columns"]})
        for name, result in told["analyses"].items()
    }
    return Run(eigen, analyses, manifest)


def _read_analysis(told: dict[str, Any], columns: Mapping[str, Any]) -> AnalysisResult:
    typed = _typed(_Analysis, told)
    tables = {
        name: Table(_texts(table["columns"]), tuple(tuple(row) for row in table["rows"]))
        for name, table in typed.tables.items()
    }
    if any(len(row) != len(table.columns) for table in tables.values() for row in table.rows):
        raise ValueError("the rows of a table differ in length")
    figures = tuple(
        Figure(**{**figure, "series": {name: _series(x) for name, x in figure["series"].items()}})
        for figure in typed.figures
    )
    return AnalysisResult(
        verdict=typed.verdict,
        title=typed.title,
        numbers=typed.numbers,
        tables=tables,
        columns=columns,
        figures=figures,
        warnings=_texts(typed.warnings),
    )


def _series(told: Any) -> Any:
    series = np.asarray(told)
    return np.asarray(told, dtype=np.float64) if series.dtype.hasobject else series  # null was NaN


def _texts(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(text, str) for text in told):
        raise TypeError(f"expected a list of texts, not {told!r:.40}")
    return tuple(told)


def _mapping(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise TypeError(f"expected an object, not {told!r:.40}")
    return told


def _floats(numbers: list[float | None]) -> Floats:
    return np.array([math.nan if x is None else x for x in numbers], dtype=np.float64)
