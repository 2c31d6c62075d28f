"""What a study keeps of one member: a row of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eigencore.errors import described
from eigencore.pipeline.studies.members import Member
from eigencore.results import Run
from eigencore.runs import plain


@dataclass(frozen=True)
class StudyRow:
    """The results of one member of a study.

    Attributes:
        name, group, covariates: those of the member.
        seed: the seed of the run.
        eigenvalues, converged: the eigenvalues of the operator (k,), and which of them converged.
        numbers: the numbers of each analysis, by its name.
        failed: the messages of analyses that failed, by name.
        error: why there are no results, or None.
        backend: the library, device and data type of the computation, and the threads of the worker.
        seconds: wall-clock time, training included; the only number that differs when a row is repeated.

    Example:
        import numpy as np
        import eigencore

        study = eigencore.study([eigencore.Member("a", np.diag([3.0, 1.0]))], analyses="none", jobs=1)
        print(study.rows[0].eigenvalues, study.rows[0].error)
    """

    name: str
    group: str | None
    covariates: Mapping[str, float | int | str | bool | None]
    seed: int
    eigenvalues: tuple[float, ...] = ()
    converged: tuple[bool, ...] = ()
    numbers: Mapping[str, Mapping[str, float | int | str | bool | None]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    backend: str = ""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing failed."""
        return self.error is None and not self.failed

    def as_data(self) -> dict[str, Any]:
        """The row as plain data: one line of the file."""
        data: dict[str, Any] = plain(self)
        return data


def row_of(member: Member, run: Run, seconds: float) -> StudyRow:
    """The row of a member whose run is over."""
    pairs, manifest = run.pairs, run.manifest
    threads = f"{manifest['threads']} thread{'s' * (manifest['threads'] != 1)}"
    return StudyRow(
        name=member.name,
        group=member.group,
        covariates=member.covariates,
        seed=manifest["arguments"]["seed"],
        eigenvalues=() if pairs is None else tuple(map(float, pairs.values)),
        converged=() if pairs is None else tuple(map(bool, pairs.converged)),
        numbers={name: dict(result.numbers) for name, result in run.analyses.items()},
        failed={name: failure.message for name, failure in run.failed.items()},
        backend=", ".join(filter(None, (manifest["backend_description"], threads))),
        seconds=seconds,
    )


def failed_row(member: Member, seed: int, error: BaseException, seconds: float) -> StudyRow:
    """The row of a member that has no results."""
    return StudyRow(
        member.name, member.group, member.covariates, seed, error=described(error), seconds=seconds
    )
