"""What analyses and attacks find: numbers, tables, columns and figures; reports of it; and failures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.display import Reported, Tabular
from eigencore.errors import Culprit, EigencoreError
from eigencore.figures import Figure, Table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from eigencore.space import Array, Floats


@dataclass(frozen=True)
class AnalysisResult(Tabular, Reported):
    """The findings of an analysis, each stated once; the screen, the JSON and the report are made from them.

    Attributes:
        verdict: a few sentences that claim no more than the numbers show.
        title: one line that says what was analysed.
        numbers: single values by name.
        tables: small tables by name.
        columns: per-sample arrays by name, all of the same length.
        figures: figures as plain data.
        warnings: what the reader must know before relying on the verdict.
        remarks: further sentences, which the screen shows on request.
        shown: the names of the tables that the screen shows first, the others on request; None: all.
        matvecs: the products with the operator of the context that it took, in full-data units; like
            `seconds`, filled in by the core.
        seconds: wall-clock time.

    Example:
        import numpy as np
        from eigencore import AnalysisResult

        result = AnalysisResult(
            verdict="The margins are small.",
            numbers={"median margin": 0.2},
            columns={"margin": np.array([0.1, 0.2, 0.4])},
        )
        print(result.verdict, result.numbers)
    """

    verdict: str
    title: str = ""
    numbers: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    figures: tuple[Figure, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    shown: tuple[str, ...] | None = None
    matvecs: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Report(Reported):
    """What is known of a result, as plain data.

    Attributes:
        title: what was analysed.
        setting: lines that say what was computed of it, and with what.
        parts: the findings by name, in the order in which they are read: eigenvalues, then each analysis.
        details: how the result was made, by name: the command, versions, the seed. Values may have several
            lines.
        notes: what was not done, and why.

    Example:
        import numpy as np
        import eigencore

        report = eigencore.report(eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3))
        print(report.title, report.parts["eigenvalues"].tables["eigenvalues"].rows)
    """

    title: str
    setting: tuple[str, ...]
    parts: Mapping[str, AnalysisResult]
    details: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures of all parts, in their order."""
        return tuple(figure for part in self.parts.values() for figure in part.figures)


class Renderer(Protocol):
    """Renders a report: as figures of a plotting library, or as the text of a page."""

    def __call__(self, report: Report, file: Path | None, options: Any, /) -> Any:
        """What was rendered, which is also written if there is a file.

        Args:
            file: a file with one of the suffixes that the renderer's entry lists, in a folder that exists.

        Raises:
            OSError: the file can't be written; the core reports it.
            UsageError: the report has nothing that this renderer can draw.
        """


@dataclass(frozen=True)
class AttackResult(Tabular, Reported):
    """The adversarial inputs that an attack found, each evaluated by the core.

    Attributes:
        inputs: the adversarial inputs (N, *shape), in the backend's array library. A sample that is
            misclassified without a perturbation is returned unchanged.
        labels: the labels (N,), int64.
        correct: whether each unperturbed sample is classified as its label (N,).
        success: whether each adversarial input is classified differently from its label (N,).
        distance: the norm of each perturbation (N,), float64; infinite where the attack did not succeed.
        norm: the norm of `distance` and `eps`, "Linf" or "L2".
        eps: the radius of the ball around each sample; None for an attack that minimises the distance.
        forward, backward: the number of samples passed through the network, forward and backward.
        seconds: wall-clock time.
        options: the attack's options, resolved.

    Example:
        import eigencore

        result = eigencore.attack(eigencore.bind("demo:digits-numpy"), "fgsm", eps=0.1, images=50)
        print(result.accuracy, result.distance[result.success].max())
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
        """The adversarial accuracy: the fraction of samples that are still classified as their labels."""
        return 1.0 - float(self.success.mean())

    @property
    def columns(self) -> dict[str, Any]:
        """Each sample's label, correctness, success and distance: the columns of `to_pandas`."""
        return {
            "label": self.labels,
            "correct": self.correct,
            "success": self.success,
            "distance": self.distance,
        }

    def as_data(self) -> dict[str, Any]:
        """The result as plain data, as `eigen attack --json` prints it; the inputs are left out.

        An infinite distance is None.
        """
        columns = {name: column.tolist() for name, column in self.columns.items()}
        columns["distance"] = [one if math.isfinite(one) else None for one in columns["distance"]]
        return {
            "eps": self.eps,
            "norm": self.norm,
            "seed": self.seed,
            "options": dict(self.options),
            "accuracy": self.accuracy,
            "forward": self.forward,
            "backward": self.backward,
            "seconds": self.seconds,
            "samples": columns,
        }


@dataclass(frozen=True)
class AnalysisFailure:
    """Why an analysis failed.

    Attributes:
        message: the type and the text of its exception, as in "ValueError: x is 0".
        culprit: the part that failed: "analysis", or what a solve in the analysis reported.
        exit_code: the exit code of the command for it.
        traceback: the traceback as text.
        error: the exception if it is one of ours, otherwise a PluginError in its place; without a traceback,
            which would keep the arrays of the analysis alive.
    """

    message: str
    culprit: Culprit
    exit_code: int
    traceback: str = field(default="", repr=False)
    error: EigencoreError | None = field(default=None, repr=False)
