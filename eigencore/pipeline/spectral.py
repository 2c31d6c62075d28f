"""The functions `density`, `trace`, `diagonal` and `norms`: each runs the analysis of that name alone.

The analyses are entries of plugins; the bundled plugin `eigencore_spectrum` provides all four. What they
return is defined here: views of an AnalysisResult, whose columns, numbers and tables hold the values.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, TypeVar

from eigencore.analyses import NO_RESULT
from eigencore.entries import AnalysisEntry
from eigencore.errors import EigencoreError, Interrupted, UnknownNameError, UsageError
from eigencore.figures import Table
from eigencore.findings import AnalysisResult
from eigencore.options import describe
from eigencore.pipeline.run import RunInterrupted, analyze
from eigencore.registry import load_options, registry

if TYPE_CHECKING:
    from eigencore.results import EigenResult
    from eigencore.space import Floats

R = TypeVar("R", bound=AnalysisResult)


class DensityResult(AnalysisResult):
    """The spectral density of an operator, normalised to 1: a smooth part, and atoms of known eigenvalues."""

    @property
    def grid(self) -> Floats:
        """The points (g,) that the following are evaluated at, in increasing order."""
        return self.columns["grid"]  # type: ignore[no-any-return]

    @property
    def density(self) -> Floats:
        """The smoothed density (g,) of all eigenvalues but the atoms."""
        return self.columns["density"]  # type: ignore[no-any-return]

    @property
    def cdf(self) -> Floats:
        """The estimated share (g,) of eigenvalues up to each point, atoms included."""
        return self.columns["cdf"]  # type: ignore[no-any-return]

    @property
    def low(self) -> Floats:
        """The lower end (g,) of the error band of `cdf`."""
        return self.columns["low"]  # type: ignore[no-any-return]

    @property
    def high(self) -> Floats:
        """The upper end (g,) of the error band of `cdf`."""
        return self.columns["high"]  # type: ignore[no-any-return]

    @property
    def atoms(self) -> Table:
        """The known eigenvalues, and the weight of each, 1/n."""
        return self.tables["atoms"]


class TraceResult(AnalysisResult):
    """The trace of an operator: an estimate, and an interval that holds it at the stated confidence."""

    @property
    def estimate(self) -> float:
        """The estimate of the trace."""
        return self.numbers["trace"]  # type: ignore[return-value]

    @property
    def low(self) -> float | None:
        """The lower end of the interval; None if a sample of the data is too small for one."""
        return self.numbers["low"]  # type: ignore[return-value]

    @property
    def high(self) -> float | None:
        """The upper end of the interval; None if a sample of the data is too small for one."""
        return self.numbers["high"]  # type: ignore[return-value]


class DiagonalResult(AnalysisResult):
    """The diagonal of an operator: an estimate of each entry, and an interval."""

    @property
    def estimate(self) -> Floats:
        """The estimates (n,) of the entries."""
        return self.columns["diagonal"]  # type: ignore[no-any-return]

    @property
    def low(self) -> Floats:
        """The lower ends (n,) of the intervals."""
        return self.columns["low"]  # type: ignore[no-any-return]

    @property
    def high(self) -> Floats:
        """The upper ends (n,) of the intervals."""
        return self.columns["high"]  # type: ignore[no-any-return]


class NormsResult(AnalysisResult):
    """Norms and functions of the whole spectrum: in `tables["norms"]`, one row each with its interval."""

    def _row(self, name: str) -> tuple[float, float, float]:
        for row in self.tables["norms"].rows:
            if row[0] == name:
                estimate, low, high = (math.nan if cell is None else cell for cell in row[1:])
                return estimate, low, high
        raise KeyError(name)

    @property
    def frobenius(self) -> tuple[float, float, float]:
        """The Frobenius norm: estimate, and the lower and the upper end of its interval."""
        return self._row("Frobenius norm")

    @property
    def stable_rank(self) -> tuple[float, float, float]:
        """||A||_F^2 / ||A||_2^2, likewise."""
        return self._row("stable rank")

    @property
    def effective_dimension(self) -> tuple[float, float, float]:
        """The sum of |lambda| / (|lambda| + damping), likewise."""
        return self._row("effective dimension")

    @property
    def log_determinant(self) -> tuple[float, float, float]:
        """log det(A + damping), likewise; NaN if A + damping is not positive definite."""
        return self._row("log-determinant")


def density(A: Any, *, k: int = 10, eigen: EigenResult | None = None, **keywords: Any) -> DensityResult:
    """The spectral density of a symmetric operator, with an error band.

    Args:
        A: a problem as for `analyze`, a bound one, a matrix or an operator.
        k: the number of top eigenpairs that are computed first; each that converges is an atom, and the rest
            is estimated in their complement.
        eigen: eigenpairs of A from an earlier solve, in place of these.
        **keywords: those of `analyze` (kind, params, backend, device, dtype, seed, max_matvecs, max_seconds,
            tol, options, progress and so on), and options of the analysis `density`, which
            `eigen analyses density` lists. With `samples`, the density, its band and the atoms are those of
            the operator of a sample of so many draws; the table "moments of all data" has intervals for all.

    Returns:
        The density, its distribution function with a band, and the atoms. A stopped run has a wider band.
        `matvecs` and `seconds` include the eigenpairs, unless these were given.

    Raises:
        UsageError: an argument is invalid, or no plugin provides the analysis.
        EigencoreError: as for `analyze`.
        Interrupted: Ctrl-C was pressed; `.result` holds the result so far, or None.

    Example:
        import numpy as np
        import eigencore

        found = eigencore.density(np.diag(np.linspace(-1.0, 1.0, 200)), k=2, seed=1)
        print(found.verdict, found.grid[found.density.argmax()])
    """
    return _alone("density", DensityResult, A, k, eigen, keywords)


def trace(A: Any, *, k: int = 0, eigen: EigenResult | None = None, **keywords: Any) -> TraceResult:
    """The trace of a symmetric operator, with an interval.

    Args:
        A, k, eigen, **keywords: as for `density`, with the options of the analysis `trace`. With the keyword
            `samples`, the trace of all data is estimated from a sample of so many draws, as the k eigenpairs
            are. `rtol` is the half width of the interval, relative to the trace, that is asked for: where the
            data can be sampled, a pilot finds out whether a sample or all data are cheaper.

    Raises:
        UsageError, EigencoreError, Interrupted: as for `density`.

    Example:
        import numpy as np
        import eigencore

        found = eigencore.trace(np.diag(np.linspace(0.0, 1.0, 200)), rtol=0.05)
        print(found.low, found.estimate, found.high)
    """
    return _alone("trace", TraceResult, A, k, eigen, keywords)


def diagonal(A: Any, *, k: int = 0, eigen: EigenResult | None = None, **keywords: Any) -> DiagonalResult:
    """The diagonal of a symmetric operator, with an interval for each entry.

    Args:
        A, k, eigen, **keywords: as for `density`, with the options of the analysis `diagonal`.

    Raises:
        UsageError, EigencoreError, Interrupted: as for `density`.

    Example:
        import numpy as np
        import eigencore

        found = eigencore.diagonal(np.diag(np.linspace(0.0, 1.0, 200)))
        print(found.estimate[:3])
    """
    return _alone("diagonal", DiagonalResult, A, k, eigen, keywords)


def norms(A: Any, *, k: int = 5, eigen: EigenResult | None = None, **keywords: Any) -> NormsResult:
    """The Frobenius norm, stable rank, effective dimension and log-determinant of a symmetric operator.

    Args:
        A, k, eigen, **keywords: as for `density`, with the options of the analysis `norms`.

    Raises:
        UsageError, EigencoreError, Interrupted: as for `density`.

    Example:
        import numpy as np
        import eigencore

        found = eigencore.norms(np.diag(np.linspace(0.1, 1.0, 200)), damping=0.1)
        print(found.frobenius, found.log_determinant)
    """
    return _alone("norms", NormsResult, A, k, eigen, keywords)


def _alone(
    name: str, view: type[R], A: Any, k: int, eigen: EigenResult | None, keywords: dict[str, Any]
) -> R:
    """The last result of the analysis, as a view of this type."""
    try:
        declared = load_options(registry().find(AnalysisEntry, name))
    except UnknownNameError as error:
        raise UsageError(
            f"no plugin provides the analysis {name}",
            hint=f"The plugin spectrum of the package eigencore does. {error.hint or ''}".strip(),
        ) from None
    known = inspect.signature(analyze).parameters.keys() - {"data", "loss", "analyses"}
    known -= {option.name for option in describe(declared)} - {"samples"} if declared is not None else set()
    own = {option: value for option, value in keywords.items() if option not in known}
    rest = {keyword: value for keyword, value in keywords.items() if keyword in known}
    options = dict(rest.pop("options", None) or {})
    if own:
        options[name] = {**options.get(name, {}), **own}
    try:
        run = analyze(A, k=k, eigen=eigen, analyses=[name], options=options, **rest)
    except RunInterrupted as interrupted:
        found = interrupted.run.analyses.get(name)
        solved = interrupted.run.pairs if eigen is None else None
        raise Interrupted(None if found is None else _as(view, found, solved)) from None
    failure, solved = run.failed.get(name), run.pairs if eigen is None else None
    if failure is not None and failure.error is not None:
        if name in run.analyses:
            failure.error.partial = _as(view, run.analyses[name], solved)
        raise failure.error
    if run.analyses[name].verdict == NO_RESULT:
        raise EigencoreError(
            f"{name} has no result: it was {run.analyses[name].warnings[0]}", partial=run.pairs
        )
    return _as(view, run.analyses[name], solved)


def _as(view: type[R], result: AnalysisResult, solved: EigenResult | None) -> R:
    """The result as this view, including the products and the time of a solve before it."""
    spent = (0.0, 0.0) if solved is None else (solved.matvecs, solved.seconds)
    total = {"matvecs": result.matvecs + spent[0], "seconds": result.seconds + spent[1]}
    return view(**{**vars(result), **total})
