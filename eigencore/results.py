"""Results: eigenpairs with their certificate, and a whole run.

What analyses and attacks find is defined in `eigencore.findings`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from eigencore.display import Reported, Tabular
from eigencore.errors import ResultError
from eigencore.figures import Figure as Figure
from eigencore.figures import Reference as Reference
from eigencore.figures import Table as Table
from eigencore.findings import AnalysisFailure as AnalysisFailure
from eigencore.findings import AnalysisResult as AnalysisResult
from eigencore.findings import AttackResult as AttackResult

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from eigencore.space import Array, Floats


REPR_LINES, REPR_WIDTH, LISTED = 6, 110, 8  # of repr(run): lines, characters of a line, eigenvalues


class Status(StrEnum):
    """How a solve ended.

    Attributes:
        CONVERGED: all k pairs have converged.
        BUDGET: max_matvecs or max_seconds was reached.
        INTERRUPTED: Ctrl-C was pressed.
        STAGNATED: the residuals no longer decrease, or fresh products contradict the solver's estimates.
        BREAKDOWN: the solver returned, or something failed, before all pairs had converged.
    """

    CONVERGED = "converged"
    BUDGET = "budget"
    INTERRUPTED = "interrupted"
    STAGNATED = "stagnated"
    BREAKDOWN = "breakdown"


@dataclass(frozen=True)
class Step:
    """One row of a solve's history, which is also passed to the progress callback.

    There is one for every snapshot, and for every product in search of missed eigenvalues.

    Attributes:
        matvecs: products so far, in full-data units.
        seconds: the time since the solve began.
        values: the current Ritz values, in the order of the request.
        converged: how many of them have converged, judged by their estimated residuals.
        value, residual: the first Ritz value that has not converged and its estimated residual; None when all
            have converged.
        restarts: the number of restarts so far.
        worst: the largest ratio of an estimated residual to its threshold among the k pairs; None while
            there are fewer than k.
    """

    matvecs: float
    seconds: float
    values: tuple[float, ...]
    converged: int
    value: float | None
    residual: float | None
    restarts: int
    worst: float | None = None

    def __str__(self) -> str:
        parts = [
            f"{self.matvecs:,.0f} product{'s' * (self.matvecs != 1)}",
            f"{self.converged} converged",
            *([f"worst estimated residual {self.worst:.2g} x threshold"] if (self.worst or 0) > 1 else []),
            f"{self.seconds:.0f} s",
        ]
        return " · ".join(parts)


@dataclass(frozen=True)
class Certificate:
    """What is proved about eigenpairs, by fresh products that are independent of the solver.

    Attributes:
        level: the kind of certificate, "full", "sketch" or "none".
        matvecs: the number of products that it took.
        exact: whether the residuals are exact norms from fresh products, not the solver's estimates.
        bound: the values match as many eigenvalues, counted with multiplicity, one to one within
            this distance; None if not certified. It is at least the floor.
        confidence: the probability with which the bound holds (1.0 for a full certificate).
        orthogonality: the largest entry of |V'V - I|.
        floor: the precision floor, the largest residual norm that counts as zero in this precision.
        floor_measured: whether the floor was measured, at the first of the vectors; otherwise it is
            4 eps ||A||.
        floor_decided: whether some pair counts as converged only because of the floor.
        contradicted: whether the sketch contradicted the solver's estimates, so that exact residuals were
            computed.
        complete: whether nothing was missed beyond the k-th value, repeated eigenvalues included and up to
            twice the tolerance; None if that was not examined.
        complete_confidence: the probability of that, over the random start vectors; None if not examined.
        complete_above: the smallest value above which no eigenvalue was missed (LA and the upper end of BE),
            or the smallest magnitude (LM); None if it is not known.
        complete_below: the largest value below which none was missed (SA and the lower end of BE), likewise.
        complete_matvecs: the number of products that were made only to find out what was missed.
        not_proved: what the certificate does not prove, as in "that no larger eigenvalue was missed"; empty
            if there is nothing else to prove.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3, certify="full")
        print(result.certificate.bound, result.certificate.not_proved)
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
    complete: bool | None = None
    complete_confidence: float | None = None
    complete_above: float | None = None
    complete_below: float | None = None
    complete_matvecs: float = 0.0
    not_proved: str = ""


@dataclass(frozen=True)
class EigenvalueInterval:
    """An eigenvalue of all data, or a sum of several, as estimated from a sample.

    Attributes:
        first, last: eigenvalues number `first` to `last`, in the order of the request and counted from 1.
        estimate: the estimate, without the bias of the sample.
        low, high: the ends of the interval; None if it is refused.
        refused: why there is no interval; empty if there is one.
        needed: about how many draws an interval needs, if it was refused and that is known.
    """

    first: int
    last: int
    estimate: float
    low: float | None = None
    high: float | None = None
    refused: str = ""
    needed: int | None = None


@dataclass(frozen=True)
class SamplingCost:
    """The draws and products that intervals of +-`accuracy` take, by the cheaper method of `Sampling`.

    It is predicted from a pilot sample. `draws` and `matvecs` are None if no sample is enough.
    """

    accuracy: float
    method: str
    draws: int | None
    matvecs: float | None


@dataclass(frozen=True)
class Sampling:
    """What a sample shows of the eigenvalues of the mean over all of the data, but not of their distribution.

    Attributes:
        method: "sample"; "polish" if all data were multiplied with the vectors of the sample: the values are
            then above `low`, certainly, and below `high`, by experience; or "full" if all data were solved.
        draws, samples: the number of samples that were drawn, repetitions included, and that there are.
        groups: the number of groups that the draws were put into.
        weighted: whether samples were drawn by their scores, with replacement; otherwise uniformly without.
        confidence: the probability at which an interval holds its value; None for "polish" and "full".
        intervals: one for each eigenvalue; none for "full".
        sums: one for each run of eigenvalues that the sample does not tell apart, and for the sum of all.
        costs: the cost of 10, 5 and 1 %, and of the accuracy requested; empty without a pilot.
        full: the predicted cost of a solve on all data in products; None without a pilot.
    """

    method: str
    draws: int
    samples: int
    groups: int
    weighted: bool
    confidence: float | None
    intervals: tuple[EigenvalueInterval, ...] = ()
    sums: tuple[EigenvalueInterval, ...] = ()
    costs: tuple[SamplingCost, ...] = ()
    full: float | None = None


@dataclass(frozen=True)
class EigenResult(Tabular, Reported):
    """Eigenpairs with their certificate, in the order of the request.

    Fewer than k pairs are returned if a solve ended before there were k.

    Attributes:
        values: Ritz values (k,), float64 on the host.
        vectors: the Ritz vectors (n, k), one per column, in the operator's array library.
        residuals: the residual norms ||A v - theta v|| (k,): exact if `certificate.exact`, otherwise
            estimated by the solver. Those below the precision floor `certificate.floor`, which the products
            cannot show, are given as the floor.
        converged: whether each pair has converged (k,).
        status: how the solve ended.
        advice: a sentence that explains the status and, unless all pairs have converged, another one that
            says what to do next.
        matvecs: products in full-data units, including those of the certificate.
        seconds: wall-clock time.
        certificate: what is proved about the pairs.
        history: one Step per snapshot, and per product in search of missed eigenvalues.
        notes: facts reported by the solver, the operator or the core.
        options: the solver's options, resolved.
        state: a value from which `solve(..., state=...)` can resume any number of times, also in another
            process; None if the solver has none, or there are no pairs. Once all pairs have converged, it
            refers to the array `vectors` and holds no other array of that size. Otherwise it also holds
            what the solver needs to continue: `lanczos` its whole basis. After a solve by an approximation of
            the operator, it holds the vectors of that one.
        sampling: intervals for the eigenvalues of all data, if `samples` or `rtol` was given. Unless its
            method is "full", everything else in the result is that of the operator of the sample.

    A result holds no operator. It can be pickled if its arrays and options can. `converged` is a matter of
    residuals; whether an eigenvalue was missed is another question, which `complete` answers.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)
        print(result.values, result.residuals, result.converged)
        print(result.status, result.advice)
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
    sampling: Sampling | None = None

    @property
    def complete(self) -> bool | None:
        """Whether these are the wanted eigenvalues and none was missed (see `Certificate.complete`)."""
        return self.certificate.complete

    @property
    def columns(self) -> dict[str, Any]:
        """Each eigenvalue, residual and `converged`; of a sample also estimate, low and high for all data."""
        own = {"eigenvalue": self.values, "residual": self.residuals, "converged": self.converged}
        if self.sampling is None or not self.sampling.intervals:
            return own
        import numpy as np

        ends = [(one.estimate, one.low, one.high) for one in self.sampling.intervals]
        return own | dict(zip(("estimate", "low", "high"), np.array(ends, dtype=np.float64).T, strict=True))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Saves the eigenpairs in a folder, as a run without analyses; the state is not saved.

        Args:
            folder: as for `Run.save`, which raises the same errors.

        Returns:
            The folder that they are in; `eigencore.load` reads it.

        Example:
            import numpy as np
            import eigencore

            result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)
            folder = result.save("my-result")
            print(eigencore.load(folder).eigen.values)
        """
        return Run(self).save(folder)


@dataclass(frozen=True, repr=False)
class Run(Reported):
    """The result of one `analyze`, or of an analysis alone: eigenpairs, findings, and how it was run.

    Attributes:
        pairs: the eigenpairs; None in a run without any, of analyses alone. `eigen` is the same, for others.
        analyses: the result of each analysis, by its name.
        manifest: the arguments with the seed, resolved options, versions, plugins, device, dtype, threads
            and, if the run was saved, a digest of the problem. Empty for eigenpairs that were saved alone.
        failed: the failures of analyses, by name. They are not saved: in a loaded run, `manifest["failed"]`
            has their messages.
        folder: the folder that `analyze` saved the run in, or that it was loaded from; None if there is none.

    Example:
        import eigencore

        run = eigencore.analyze("demo:quadratic", k=3, options={"problem": {"n": 60}})
        print(run.eigen.values, run.manifest["versions"])
    """

    pairs: EigenResult | None
    analyses: Mapping[str, AnalysisResult] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False)
    failed: Mapping[str, AnalysisFailure] = field(default_factory=dict)
    folder: Path | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """At most six lines: what was computed, the eigenvalues, how the solve ended, and each verdict."""
        import eigencore

        report = eigencore.report(self)
        lines = [f"Run of {report.title}", *report.setting]
        if self.pairs is not None:
            lines.append(f"eigenvalues: {', '.join(f'{value:.6g}' for value in self.pairs.values[:LISTED])}")
            lines.append(self.pairs.advice)
        found = [f"{name}: {one.verdict}" for name, one in self.analyses.items()]
        found += [f"{name} failed" for name in self.manifest.get("failed", {}) if name not in self.analyses]
        room = REPR_LINES - len(lines)
        lines += found if len(found) <= room else [f"analyses: {', '.join(self.analyses)}"]
        return "\n".join(
            textwrap.shorten(line, REPR_WIDTH, placeholder=" ...") for line in lines[:REPR_LINES]
        )

    @property
    def eigen(self) -> EigenResult:
        """The eigenpairs. Raises ResultError if there are none, because k was 0."""
        if self.pairs is None:
            raise ResultError("this run has no eigenpairs: k was 0", hint="Use run.analyses, or k=1 or more.")
        return self.pairs

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Saves the run in a folder, as `analyze(out=...)` does.

        Args:
            folder: a folder that is new, empty, or holds an earlier run, which is replaced. A finished run is
                only replaced by a finished one: an unfinished run is then saved in NAME-unfinished beside it.

        Returns:
            The folder that the run is in; `eigencore.load` reads it.

        Raises:
            UsageError: the folder cannot be used.
            ResultError: a file cannot be written.

        Example:
            import eigencore

            run = eigencore.analyze("demo:quadratic", k=3, options={"problem": {"n": 60}})
            print(run.save("my-run"))
        """
        # The folder of a run is written by a package above this module, which the public name leads to.
        import eigencore

        return eigencore.save(self, folder)
