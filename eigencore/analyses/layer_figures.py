"""Figures of the diagonal blocks of an operator: eigenvalues, traces and couplings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eigencore.analyses.block_estimates import CONFIDENCE, Estimate
from eigencore.figures import Figure, Reference

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

MOST = 30  # bars, or rows of a matrix, whose labels can be read


def eigenvalues_figure(
    names: Sequence[str], values: Floats, converged: npt.NDArray[np.bool_], whole: float | None
) -> Figure:
    """The first eigenvalues of the blocks as bars; those that did not converge are left out.

    Args:
        names: the names of the blocks.
        values: the eigenvalues (B, k); NaN where a block has fewer.
        converged: which eigenvalues have converged (B, k); False where a block has fewer.
        whole: the first eigenvalue of the whole operator, which is a reference line; None if it is not known.
    """
    shown = np.where(converged, values, np.nan)
    kept = _largest(shown[:, 0])
    k = shown.shape[1]
    text = f"The first {f'{k} eigenvalues' if k > 1 else 'eigenvalue'} of {_of_blocks(kept, names)}"
    if whole is not None:
        text += ", and the first one of the whole operator as a line"
    missing = int((~np.isnan(values) & ~converged).sum())
    if missing:
        text += f"; {missing} that did not converge {'is' if missing == 1 else 'are'} left out"
    return Figure(
        "bar",
        "Eigenvalues by block",
        "eigenvalue",
        "",
        {"eigenvalue" if k == 1 else f"eigenvalue {i + 1}": shown[kept, i] for i in range(k)},
        references=() if whole is None else (Reference("x", whole, "whole operator"),),
        labels=tuple(names[i] for i in kept),
        caption=f"{text}.",
    )


def traces_figure(names: Sequence[str], traces: Sequence[Estimate]) -> Figure:
    """The traces of the blocks as bars, with their confidence intervals."""
    values, half = (np.array([getattr(one, name) for one in traces]) for name in ("value", "half_width"))
    kept = _largest(values)
    low, high = values[kept] - half[kept], values[kept] + half[kept]
    return Figure(
        "bar",
        "Traces by block",
        "trace",
        "",
        {"trace": values[kept]},
        bands={"trace": (low, high)},
        labels=tuple(names[i] for i in kept),
        caption=f"The traces of {_of_blocks(kept, names)}; error bars are {100 * CONFIDENCE:g} % intervals, "
        "and have no length where a trace is exact.",
    )


def couplings_figure(names: Sequence[str], couplings: Floats) -> Figure | None:
    """The couplings (B, B) of the blocks along the first eigenvector; None for too many to be labelled."""
    if len(names) > MOST:
        return None
    return Figure(
        "matrix",
        "Couplings of the blocks",
        "block",
        "block",
        {"coupling": couplings},
        labels=tuple(names),
        caption=f"What each pair of {len(names)} blocks contributes to the first eigenvalue of the whole "
        f"operator, along its eigenvector: all entries add up to {couplings.sum():.4g}, and those of the "
        f"diagonal to {np.trace(couplings):.4g}.",
    )


def _largest(numbers: Floats) -> npt.NDArray[np.intp]:
    """The places of the MOST numbers of the largest magnitude, in their order; NaN counts as zero."""
    order = np.argsort(-np.abs(np.nan_to_num(numbers)), kind="stable")
    return np.sort(order[:MOST])


def _of_blocks(kept: npt.NDArray[np.intp], names: Sequence[str]) -> str:
    if len(kept) == len(names):
        return f"{len(names)} block{'s' * (len(names) != 1)}"
    return f"the {len(kept)} blocks of {len(names)} with the largest one"
