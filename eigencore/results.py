"""What comes back: eigenpairs with their certificate, what analyses found, a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from eigencore.errors import EigencoreError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from eigencore.space import Array, Floats


class Status(StrEnum):
    """How a solve ended."""

    CONVERGED = "converged"
    BUDGET = "budget"
    INTERRUPTED = "interrupted"
    STAGNATED = "stagnated"
    BREAKDOWN = "breakdown"


@dataclass(frozen=True)
class Step:
    """One row of a solve's history, and what a progress callback gets.

    Attributes:
        matvecs: products so far, in full-data units.
        seconds: since the solve began.
        values: Ritz values so far, the first wanted first.
        converged: how many of them pass.
        value, residual: the first that doesn't, and its estimated residual norm (None when all pass).
        restarts: of the solver.
        worst: the largest residual of the k pairs, over what passes (None until there are k).
    """

    matvecs: float
    seconds: float
    values: tuple[float, ...]
    converged: int
    value: float | None
    residual: float | None
    restarts: int
    worst: float | None = None


@dataclass(frozen=True)
class Certificate:
    """What an answer is worth, from products that the solver never saw.

    Attributes:
        level: "full", "sketch" or "none": what was done.
        matvecs: what it cost.
        exact: the residuals told are exact norms from fresh products, not the solver's estimates.
        bound: together the values are within this of as many eigenvalues (None: not certified).
        confidence: at which probability (1.0 for a full certificate).
        orthogonality: largest entry of |V'V - I|.
        floor: the largest residual that counts as zero in this precision.
        floor_measured: it was measured on these vectors; otherwise it is 4 eps ||A||.
        floor_decided: some pair counts as converged only by the floor.
        contradicted: the sketch contradicted the solver's estimates, so that exact residuals were taken.
        not_proved: what this does not prove, in words.
    """

    level: str
    matvecs: float = 0.0
    exact: bool = False
    bound: float | None = None
    confidence: float | None = None
    orthogonality: float | None = None
    floor: float | None = None
    floor_measured: bool = False
    floor_decided: bool = False
    contradicted: bool = False
    not_proved: str = ""


@dataclass(frozen=True)
class EigenResult:
    """Eigenpairs, in the order that was asked for.

    Attributes:
        values: Ritz values (k,), float64 on the host.
        vectors: their vectors (n, k), arrays of the operator, a column a vector.
        residuals: ||A v - theta v|| (k,): exact where `certificate.exact`, else the solver's estimates.
        converged: (k,) bool.
        status: how it ended; `advice` says it in a sentence with what to do.
        matvecs: products in full-data units, the certificate's included.
        seconds: wall-clock time.
        history: a Step per snapshot.
        notes: facts the solver or the core tells.
        state: what `solve(..., state=...)` can go on from, or None.
    """

    values: Floats
    vectors: Array = field(repr=False)
    residuals: Floats
    converged: npt.NDArray[np.bool_]
    status: Status
    advice: str
    matvecs: float
    seconds: float
    certificate: Certificate
    solver: str
    k: int
    which: str
    tol: float
    seed: int
    n: int
    dtype: str
    device: str
    history: tuple[Step, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    state: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class AttackResult:
    """Adversarial inputs, each evaluated by the core as it is.

    Attributes:
        inputs: (N, *shape), arrays of the backend. A sample that was misclassified already is as it was.
        labels: (N,) int64.
        correct: (N,) bool: the sample itself is classified as its label.
        success: (N,) bool: its adversarial input is not.
        distance: (N,) float64: the norm of the change; infinite for a sample that was not broken.
        norm: "Linf" or "L2": of `distance` and eps.
        eps: the radius that was allowed; None where the smallest was looked for.
        forward, backward: passes through the network, in samples.
        seconds: wall-clock time.
        options: of the attack, resolved.
    """

    attack: str
    inputs: Array = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    correct: npt.NDArray[np.bool_] = field(repr=False)
    success: npt.NDArray[np.bool_] = field(repr=False)
    distance: Floats = field(repr=False)
    norm: str
    eps: float | None
    seed: int
    forward: int
    backward: int
    seconds: float
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The share of samples that are still classified as their labels."""
        return 1.0 - float(self.success.mean())


@dataclass(frozen=True)
class Table:
    """Rows under named columns, as they are printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A picture as plain data, to be drawn by whoever shows it.

    `kind` is scatter, line, bar or images; `series` are named arrays: x and y of equal length, or a stack
    of images.
    """

    kind: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Any]


@dataclass(frozen=True)
class AnalysisResult:
    """What an analysis found, each thing once: the terminal, the JSON and a page are all drawn from it.

    Attributes:
        verdict: a few sentences that claim no more than the numbers do.
        title: what was looked at, in a line.
        numbers: single values by name.
        tables: small tables by name.
        columns: per-sample arrays by name, all of one length.
        figures: pictures as plain data.
        warnings: what the reader must know before believing the verdict.
    """

    verdict: str
    title: str = ""
    numbers: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_pandas(self) -> Any:
        """The columns as a pandas DataFrame, a row a sample.

        Raises:
            EigencoreError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise EigencoreError("pandas is not installed", hint="pip install pandas") from error
        return DataFrame(dict(self.columns))


@dataclass(frozen=True)
class Run:
    """One `analyze`: the eigenpairs, what the analyses found, and how it was run.

    `manifest` holds the arguments, resolved options, seed, versions, plugins, device, dtype, threads and a
    digest of the problem.
    """

    eigen: EigenResult
    analyses: Mapping[str, AnalysisResult] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False)
