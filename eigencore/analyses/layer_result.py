"""What `layers` returns: the blocks, their table, and what the block-diagonal view misses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.analyses.layer_figures import couplings_figure, eigenvalues_figure, traces_figure
from eigencore.display import Reported, Tabular
from eigencore.figures import Table
from eigencore.findings import AnalysisResult, Report
from eigencore.runs.eigen_findings import eigenvalues

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.analyses.block_estimates import Estimate
    from eigencore.results import EigenResult
    from eigencore.space import Floats


@dataclass(frozen=True)
class LayerBlock:
    """A diagonal block of the operator.

    Attributes:
        name: the parameter, module or group.
        parameters: the names of its parameters.
        n: the number of its weights.
        weight_norm: the norm of its weights.
        eigen: its top eigenpairs; vectors (n, k) have the block's weights in the order of its parameters.
        trace, frobenius: estimates of its trace and of its Frobenius norm; None if there were no probes.
    """

    name: str
    parameters: tuple[str, ...]
    n: int
    weight_norm: float
    eigen: EigenResult
    trace: Estimate | None
    frobenius: Estimate | None


@dataclass(frozen=True)
class LayersResult(Tabular, Reported):
    """The diagonal blocks of an operator, and how they are coupled along its first eigenvector.

    Attributes:
        blocks: the blocks, in the order of the parameters.
        whole: the top eigenpairs of the whole operator; None if they were not requested.
        couplings: v_i'A_ij v_j (B, B) along the first eigenvector v of the whole operator, whose sum is its
            eigenvalue; None without a converged eigenvector.
        passes: the number of passes over the data for the blocks.

    Example:
        import eigencore

        result = eigencore.layers("demo:digits-numpy")
        print(result.verdict)
        print(result.values[:, 0], result.couplings.round(3))
    """

    blocks: tuple[LayerBlock, ...]
    whole: EigenResult | None
    couplings: Floats | None = field(repr=False)
    passes: int

    @property
    def values(self) -> Floats:
        """The eigenvalues (B, k) of the blocks; NaN where a block has fewer."""
        found = np.full((len(self.blocks), max(block.eigen.k for block in self.blocks)), np.nan)
        for row, block in zip(found, self.blocks, strict=True):
            row[: len(block.eigen.values)] = block.eigen.values
        return found

    @property
    def unconverged(self) -> tuple[str, ...]:
        """The names of the blocks of which an eigenpair has not converged."""
        return tuple(
            block.name
            for block in self.blocks
            if len(block.eigen.values) < block.eigen.k or not block.eigen.converged.all()
        )

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Name, size, eigenvalues, trace, norms and couplings of each block: the columns of `to_pandas`."""
        k = self.values.shape[1]
        found: dict[str, list[Any]] = {
            "block": [block.name for block in self.blocks],
            "weights": [block.n for block in self.blocks],
        }
        for i, values in enumerate(self.values.T):
            found["eigenvalue" if k == 1 else f"eigenvalue {i + 1}"] = values.tolist()
        for name, estimates in (
            ("trace", [block.trace for block in self.blocks]),
            ("Frobenius norm", [block.frobenius for block in self.blocks]),
        ):
            known = [one for one in estimates if one is not None]
            if known:
                found[name] = [one.value for one in known]
                found[f"{name} +-"] = [one.half_width for one in known]
        found["norm of weights"] = [block.weight_norm for block in self.blocks]
        if self.couplings is not None:
            own = np.diag(self.couplings)
            found["own part of lambda_1"] = own.tolist()
            found["coupled part"] = (self.couplings.sum(axis=1) - own).tolist()
        return {name: np.array(column) for name, column in found.items()}

    def as_data(self) -> dict[str, Any]:
        """The result as plain data, as `eigen layers --json` prints it; vectors are left out."""
        return {
            "blocks": [
                {
                    "name": block.name,
                    "parameters": list(block.parameters),
                    "n": block.n,
                    "weight_norm": block.weight_norm,
                    "trace": None if block.trace is None else asdict(block.trace),
                    "frobenius": None if block.frobenius is None else asdict(block.frobenius),
                    **_eigenpairs(block.eigen),
                }
                for block in self.blocks
            ],
            "whole": None if self.whole is None else _eigenpairs(self.whole),
            "couplings": None if self.couplings is None else self.couplings.tolist(),
            "passes": self.passes,
            "verdict": self.verdict,
        }

    @property
    def verdict(self) -> str:
        """What the block-diagonal view misses, in a few sentences."""
        finite = np.nan_to_num(self.values[:, 0])
        largest = int(np.argmax(np.abs(finite)))
        first = f"The largest eigenvalue of a block is {finite[largest]:.4g}, in {self.blocks[largest].name}"
        text = f"{first}."
        if self.whole is not None and len(self.whole.values):
            text = f"{first}; that of the whole operator is {self.whole.values[0]:.4g}."
        if self.couplings is not None:
            whole = float(self.couplings.sum())
            inside = float(np.trace(self.couplings))
            text += (
                f" Along its eigenvector, {inside:.4g} is within the blocks and {whole - inside:.4g} is "
                f"coupling between them ({100 * (1 - inside / whole):.0f} %)."
            )
        if self.unconverged:
            text += f" Not converged: {', '.join(self.unconverged)}."
        incomplete = [
            block.name
            for block in self.blocks
            if block.eigen.complete is False and block.name not in self.unconverged
        ]
        if incomplete:
            text += f" A larger eigenvalue may have been missed in: {', '.join(incomplete)}."
        return text

    @property
    def table(self) -> Table:
        """The columns to four digits, as they are printed."""
        cells = [[_digits(cell) for cell in column.tolist()] for column in self.columns.values()]
        return Table(tuple(self.columns), tuple(zip(*cells, strict=True)))

    def report(self) -> Report:
        """The report of the blocks, and of the eigenpairs of the whole operator.

        Example:
            import eigencore

            report = eigencore.layers("demo:digits-numpy").report()
            print(report.title, [figure.title for figure in report.figures])
        """
        columns = self.columns
        names = tuple(block.name for block in self.blocks)
        traces = [block.trace for block in self.blocks if block.trace is not None]
        whole = self.whole
        first = None if whole is None or not whole.converged[:1].any() else float(whole.values[0])
        figures = (
            eigenvalues_figure(names, self.values, self._converged, first),
            traces_figure(names, traces) if len(traces) == len(names) else None,
            None if self.couplings is None else couplings_figure(names, self.couplings),
        )
        found = AnalysisResult(
            verdict=self.verdict,
            tables={"blocks": self.table},
            columns=columns,
            figures=tuple(figure for figure in figures if figure is not None),
        )
        parts = {"layers": found}
        if whole is not None:
            parts["whole operator"] = eigenvalues(whole)
        weights = sum(block.n for block in self.blocks)
        count = f"{len(names)} block{'s' * (len(names) != 1)}"
        return Report(f"{count} of an operator over {weights:,} weights", (), parts)

    @property
    def _converged(self) -> npt.NDArray[np.bool_]:
        """Which of `values` have converged (B, k)."""
        found = np.zeros(self.values.shape, dtype=bool)
        for row, block in zip(found, self.blocks, strict=True):
            row[: len(block.eigen.converged)] = block.eigen.converged
        return found


def _digits(cell: object) -> object:
    return f"{cell:.4g}" if isinstance(cell, float) else cell


def _eigenpairs(eigen: EigenResult) -> dict[str, Any]:
    return {
        "eigenvalues": eigen.values.tolist(),
        "residuals": eigen.residuals.tolist(),
        "converged": eigen.converged.tolist(),
        "complete": eigen.complete,
        "status": str(eigen.status),
        "matvecs": eigen.matvecs,
    }
