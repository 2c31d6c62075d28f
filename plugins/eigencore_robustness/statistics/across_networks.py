"""Rank correlations across networks: permutation tests, corrected for their number.

Metrics, such as the top eigenvalue or the median first-order margin, are tested against outcomes, such as the
accuracy under attack. All of them are ranked; ranks of controls are taken out of both by least squares, and
Spearman's partial correlation is that of the rests. The rests of the outcomes are permuted, the same way for
all, and the ranks of the controls are taken out again (Freedman and Lane 1983). The largest statistic of all
pairs in each permutation corrects for their number (Westfall and Young 1993), which costs less power than
Bonferroni's method where metrics are correlated.

Without controls, the statistic is |rho|, and the tests are exact. With controls, |rho| would claim too much:
the rests of two columns that depend on a control are larger at the same networks, although they are unrelated
(14 % claims at 5 %, with 20 networks and a control that explains .96 of the variance of both). The statistic
is then sum x y / sqrt(sum x^2 y^2) of the rests x and y, whose distribution does not depend on that to first
order (DiCiccio and Romano 2017): 4 to 7 % claims in six families of studies, and 8 % in that one.

Networks of a group, such as the checkpoints of one training run, are not independent. A group counts as one
unit, with the mean ranks of its networks.

Networks are too few for the bootstrap of the other modules, and SciPy's `permutation_test` has no controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.figures import Table
from eigencore_robustness.statistics.intervals import CONSTANT, stack_columns
from eigencore_robustness.statistics.rank_correlation import (
    NEGLIGIBLE,
    is_constant,
    minimum_detectable_correlation,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats

FEWEST_UNITS = 8  # with 7, a two-sided p-value below .05 takes |rho| of .79
PERMUTATIONS = 10_000
AT_ONCE = 500  # permutations, which bounds the memory
TOLERANCE = 1e-9  # of a correlation: one that a permutation repeats counts as repeated despite rounding
DETERMINED = "the controls determine it"


@dataclass(frozen=True)
class RankAssociation:
    """The rank correlation of a metric with an outcome across networks.

    Attributes:
        rho: Spearman's correlation, partial if there are controls; None if it is undefined.
        p: the two-sided p-value of this pair alone; None without inference.
        family_p: that for all pairs together: with no association anywhere, the probability that any of them
            has such a large |rho|.
        reason: why rho or the p-values are missing.
    """

    metric: str
    outcome: str
    rho: float | None
    p: float | None = None
    family_p: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class NetworkInference:
    """What rank correlations across networks show.

    Attributes:
        associations: one for each metric and outcome.
        networks: the number of networks with all values.
        units: the number of independent units: the groups, or the networks without groups.
        left_out: the number of networks that were left out because a value is missing (NaN).
        detectable: the smallest |rho| that a single test at .05 detects in four of five studies of this size.
        reason: why there is no inference; empty if there is.
    """

    associations: tuple[RankAssociation, ...]
    networks: int
    units: int
    left_out: int
    detectable: float
    reason: str = ""

    @property
    def table(self) -> Table:
        """The associations as rows, the strongest first."""
        ordered = sorted(self.associations, key=lambda one: -abs(one.rho or 0.0))
        rows = tuple((one.metric, one.outcome, one.rho, one.p, one.family_p) for one in ordered)
        return Table(("metric", "outcome", "rho", "p", "p of all"), rows)

    @property
    def verdict(self) -> str:
        """What may be said, in a sentence or two."""
        if self.reason:
            return f"No inference: {self.reason}."
        found = [one for one in self.associations if one.family_p is not None and one.family_p < 0.05]
        named = "; ".join(f"{one.metric} with {one.outcome} (rho {one.rho:.2f})" for one in found)
        units = f"{self.units} independent units" if self.units < self.networks else f"{self.units} networks"
        return (
            f"Across {units}, " + (f"associated: {named}." if found else "no association is significant.")
        ) + f" A |rho| below about {self.detectable:.2f} would mostly go unnoticed."


def infer(
    metrics: Mapping[str, npt.ArrayLike],
    outcomes: Mapping[str, npt.ArrayLike],
    *,
    controls: Mapping[str, npt.ArrayLike] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> NetworkInference:
    """Returns which metrics are associated with which outcomes across networks.

    Args:
        metrics, outcomes: columns (n,) by name, with a value for each network. A value may be infinite, as
            the distance of a network that no attack broke; a network with a NaN is left out.
        controls: columns (n,) whose ranks are taken out, such as the training loss, or 0 and 1 for ordinary
            and adversarial training.
        groups: the group (n,) of each network; None: all networks are independent. None as the group of a
            network: it is one of its own.
        seed: seed of the permutations.
        permutations: their number; the smallest p-value is 1 / (permutations + 1).

    Raises:
        UsageError: there is no metric, outcome or network, or columns differ in length.

    Example:
        import numpy as np
        from eigencore_robustness import infer

        rng = np.random.default_rng(0)
        margin, sharpness = rng.standard_normal((2, 24))
        accuracy = margin + 0.3 * rng.standard_normal(24)
        found = infer({"margin": margin, "sharpness": sharpness}, {"accuracy": accuracy})
        print(found.verdict)
    """
    controls = dict(controls or {})
    if not metrics or not outcomes:
        raise UsageError(f"{'outcomes' if metrics else 'metrics'} is empty; expected at least one column")
    if permutations < 1:
        raise UsageError(f"permutations is {permutations}; expected at least 1")
    rows = stack_columns(*metrics.values(), *outcomes.values(), *controls.values())
    kept = ~np.isnan(rows).any(axis=0)
    members = _members(groups, rows.shape[1])[kept]
    rows = rows[:, kept]
    networks, units = int(kept.sum()), len(np.unique(members))
    if not networks:
        raise UsageError("every network lacks a value (NaN), so that nothing is left to compare")
    free, reason = units - len(controls), ""
    if free < FEWEST_UNITS:
        needed = f"{FEWEST_UNITS + len(controls)} independent networks or groups"
        reason = f"there are {units}, and with {len(controls)} controls at least {needed} are needed"
    ranks = _unit_ranks(rows, members)
    split, count = len(metrics), len(metrics) + len(outcomes)
    basis = _orthonormal(np.vstack([np.ones((1, units)), ranks[count:]]))
    x, y = (_rests(part, basis) for part in (ranks[:split], ranks[split:count]))
    rho = x @ y.T
    p = family = np.full(rho.shape, math.nan)
    if not reason and np.isfinite(rho).any():
        statistic = _studentised if controls else _correlations
        p, family = _permuted(x, y, basis, statistic, seed, permutations)
    why = [_why_undefined(row, rest) for row, rest in zip(rows[:count], np.vstack([x, y]), strict=True)]
    associations = tuple(
        RankAssociation(
            metric,
            outcome,
            _number(rho[i, j]),
            _number(p[i, j]),
            _number(family[i, j]),
            _said(metric, why[i]) or _said(outcome, why[split + j]) or reason,
        )
        for i, metric in enumerate(metrics)
        for j, outcome in enumerate(outcomes)
    )
    return NetworkInference(
        associations,
        networks,
        units,
        int((~kept).sum()),
        minimum_detectable_correlation(free),
        reason,
    )


def _members(groups: Sequence[Hashable] | None, n: int) -> npt.NDArray[np.intp]:
    """The number of the unit (n,) that each network belongs to."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise UsageError(f"groups has {len(groups)} entries, and there are {n} networks")
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(("alone", i) if group is None else ("group", group), len(numbers))
            for i, group in enumerate(groups)
        ],
        dtype=np.intp,
    )


def _unit_ranks(rows: Floats, members: npt.NDArray[np.intp]) -> Floats:
    """The mean ranks (m, units) of the networks of each unit, for m columns (m, n)."""
    ranks = stats.rankdata(rows, axis=1)
    _, number = np.unique(members, return_inverse=True)
    sums = np.stack([np.bincount(number, weights=row) for row in ranks])
    return np.asarray(sums / np.bincount(number))


def _orthonormal(columns: Floats) -> Floats:
    """An orthonormal basis (q, units) of the span of some columns (m, units)."""
    scaled = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1.0)
    _, sizes, basis = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(basis[sizes > 1e-9 * sizes[0]])


def _rests(rows: Floats, basis: Floats) -> Floats:
    """What is left of rows (..., units) outside a basis, of length 1; NaN where nothing is left."""
    whole = np.linalg.norm(rows - rows.mean(axis=-1, keepdims=True), axis=-1, keepdims=True)
    rests = rows - (rows @ basis.T) @ basis
    lengths = np.linalg.norm(rests, axis=-1, keepdims=True)
    defined = lengths**2 > NEGLIGIBLE * np.maximum(whole**2, NEGLIGIBLE)
    return np.where(defined, rests / np.where(defined, lengths, 1.0), math.nan)


def _correlations(x: Floats, y: Floats) -> Floats:
    """|rho| (..., metrics, outcomes) of rests of length 1: x (metrics, units), y (..., outcomes, units)."""
    return np.asarray(np.abs(np.einsum("mu,...ou->...mo", x, y)))


def _studentised(x: Floats, y: Floats) -> Floats:
    """|sum x y| / sqrt(sum x^2 y^2) (..., metrics, outcomes); at most sqrt(units)."""
    return np.asarray(_correlations(x, y) / np.sqrt(np.einsum("mu,...ou->...mo", x**2, y**2)))


def _permuted(
    x: Floats,
    y: Floats,
    basis: Floats,
    statistic: Callable[[Floats, Floats], Floats],
    seed: int,
    permutations: int,
) -> tuple[Floats, Floats]:
    """The p-values of each pair, and those for all pairs (metrics, outcomes)."""
    rng, least = arrays.generator(seed, "across networks"), statistic(x, y) - TOLERANCE
    single, family = np.ones(least.shape), np.ones(least.shape)
    for begin in range(0, permutations, AT_ONCE):
        count = min(AT_ONCE, permutations - begin)
        order = rng.permuted(np.tile(np.arange(y.shape[1]), (count, 1)), axis=1)
        permuted = _rests(np.moveaxis(y[:, order], 0, 1), basis)  # (count, outcomes, units)
        found = statistic(x, permuted)
        single += np.sum(found >= least, axis=0)
        largest = np.max(np.nan_to_num(found, nan=0.0), axis=(1, 2))
        family += np.sum(largest[:, None, None] >= least, axis=0)
    undefined = np.isnan(least)
    single[undefined] = family[undefined] = math.nan
    return single / (permutations + 1), family / (permutations + 1)


def _why_undefined(row: Floats, rest: Floats) -> str:
    if is_constant(row):
        return CONSTANT.replace("samples", "networks")
    return DETERMINED if np.isnan(rest).any() else ""


def _said(name: str, why: str) -> str:
    return f"{name}: {why}" if why else ""


def _number(x: float) -> float | None:
    return None if math.isnan(x) else float(x)
