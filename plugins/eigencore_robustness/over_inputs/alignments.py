"""The share of the smallest perturbations along eigenvectors and gradients, against chance.

The share of a perturbation delta along orthonormal directions V is ||V' delta||^2 / ||delta||^2: 1 if it lies
in their span, and the squared cosine for a single direction. A share alone shows little, since perturbations
of one data set resemble one another. It is therefore compared with three levels of chance:

- random directions, by the exact distribution of their share;
- the perturbations of other samples, along the directions of this one;
- the same, of other samples with the same label that were moved to the same class. If their share is as
  large, then the direction is that of a boundary between two classes, and not of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from eigencore import arrays
from eigencore.objectives import but, one_hot
from eigencore_robustness.over_inputs.input_eigenpairs import TILT
from eigencore_robustness.samples import batches
from eigencore_robustness.statistics.intervals import EMPTY, RESAMPLES, Interval, bootstrap_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Floats
    from eigencore_robustness.over_inputs.input_eigenpairs import LargestEigenpairs

    Indices = npt.NDArray[np.intp]

SPANS = (1, 3)  # numbers of first eigenvectors
SHARES = (*(f"share_v{k}" for k in SPANS), "share_gradient", "share_margin_gradient")
# The perturbations that are compared: that of the sample itself, and two placebos.
OWN, OTHERS, SAME_CLASSES = "", "_of_others", "_of_same_classes"
RANK = "_rank"


@dataclass(frozen=True)
class Perturbations:
    """The perturbations of n samples, one row each, and those of their partners; NaN where there is none.

    Attributes:
        moved: the perturbed inputs (n, d); the sample itself where there is none.
        own: (n, d), each from the sample to its perturbed input.
        of_others: (n, d), each the perturbation of another sample, drawn at random.
        of_same_classes: (n, d), the same among samples of one label that were moved to the same class.
        reached: the classes (n,) of the perturbed inputs: those of the largest logit other than the label's,
            since an input on a boundary may be classified differently in another precision.
    """

    moved: Array
    own: Array
    of_others: Array
    of_same_classes: Array
    reached: Array

    def batch(self, at: int, size: int) -> dict[str, Array]:
        """Returns the rows of one batch, under the suffix of their columns."""
        rows = slice(at, at + size)
        return {
            OWN: self.own[rows, :],
            OTHERS: self.of_others[rows, :],
            SAME_CLASSES: self.of_same_classes[rows, :],
        }


def perturbations(
    classifier: Classifier, x: Array, y: Array, moved: Array, batch: int, seed: int
) -> Perturbations:
    """Returns the perturbations from x to moved (n, d), and those of partners.

    Args:
        y: the labels (n,).
        moved: misclassified inputs; the sample itself where none was found.
    """
    xp = classifier.xp
    reached = xp.concat(
        [_nearest_other(classifier, rows, labels) for _, rows, labels in batches(moved, y, batch)]
    )
    delta = moved - x
    usable = arrays.to_host(xp.linalg.vector_norm(delta, axis=1)) > 0
    labels, classes = arrays.to_host(y), arrays.to_host(reached)
    rng = arrays.generator(seed, "perturbations of other samples")
    others = partners(np.where(usable, 0, -1), rng)
    same = partners(np.where(usable, labels * classifier.classes + classes, -1).astype(int), rng)
    itself = np.where(usable, np.arange(len(usable)), -1)
    own, of_others, of_same = (_rows(delta, chosen, classifier) for chosen in (itself, others, same))
    return Perturbations(moved, own, of_others, of_same, reached)


def partners(groups: npt.NDArray[np.integer], rng: np.random.Generator) -> Indices:
    """Returns for each of n samples another one of its group, drawn at random; -1 where there is none.

    Each sample is the partner of one other sample. Samples in a negative group have no partner.
    """
    chosen = np.full(len(groups), -1)
    for group in np.unique(groups[groups >= 0]):
        members = rng.permutation(np.flatnonzero(groups == group))
        if len(members) > 1:
            chosen[members] = np.roll(members, 1)
    return chosen


def share(delta: Array, basis: Array) -> Floats:
    """Returns the shares (b,) of rows delta (b, d) along the orthonormal rows of basis (b, k, d).

    Rows of zeros in a basis count for nothing. The share is NaN where delta is NaN or the whole basis zero.
    """
    xp = arrays.namespace(delta)
    along = xp.matmul(basis, delta[:, :, None])
    inside, whole = xp.sum(along * along, axis=(1, 2)), xp.sum(delta * delta, axis=1)
    defined = arrays.to_host(xp.linalg.vector_norm(basis, axis=(1, 2))) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = arrays.to_host(inside) / arrays.to_host(whole)
    return np.where(defined, shares, np.nan)


def share_columns(
    rows: Mapping[str, Array], pairs: LargestEigenpairs, gradient: Array, margin_gradient: Array
) -> dict[str, Floats]:
    """Returns the shares (b,) of perturbations (b, d) along each direction, and the ranks of the spans.

    A share is NaN where the eigenvectors are not determined: where their span may be tilted by more than
    TILT, because products were too few or the next eigenvalue is as large; and where a gradient is zero.

    Args:
        rows: perturbations by the suffix of their columns.
        pairs: the largest eigenpairs of the loss, at least one more than the largest of SPANS.
        gradient, margin_gradient: those of the loss and the margin (b, d).
    """
    columns = {}
    for suffix, delta in rows.items():
        for k in SPANS:
            own = share(delta, pairs.span(k))
            columns[f"share_v{k}{suffix}"] = np.where(pairs.tilts(k) <= TILT, own, np.nan)
        for name, along in (("gradient", gradient), ("margin_gradient", margin_gradient)):
            columns[f"share_{name}{suffix}"] = share(delta, unit_rows(along)[:, None, :])
    return columns | {f"share_v{k}{RANK}": pairs.ranks(k).astype(np.float64) for k in SPANS}


@dataclass(frozen=True)
class Alignment:
    """Median shares of perturbations along one direction or span.

    Attributes:
        name: the column.
        own: that of the samples' own perturbations.
        of_others, of_same_classes: those of the perturbations of other samples, any or of the same classes.
        random: that of random directions.
    """

    name: str
    own: Interval
    of_others: Interval
    of_same_classes: Interval
    random: float | None


def alignments(columns: Mapping[str, Floats], d: int, seed: int) -> tuple[Alignment, ...]:
    """Returns the median shares along each direction, from the columns of `share_columns` (n,).

    Args:
        d: the dimension of the inputs.
    """
    found = []
    for name in SHARES:
        ranks = columns.get(name + RANK, np.ones(len(columns[name])))
        known = np.isfinite(columns[name])
        chance = float(np.median(random_share(ranks[known], d))) if known.any() else None
        own, of_others, of_same = (
            _median(columns[name + suffix], seed) for suffix in (OWN, OTHERS, SAME_CLASSES)
        )
        found.append(Alignment(name, own, of_others, of_same, chance))
    return tuple(found)


def random_share(rank: Floats, d: int) -> Floats:
    """Returns the median share of a random direction in d dimensions along spans of these ranks.

    The share has a beta distribution with parameters rank / 2 and (d - rank) / 2. Its mean is rank / d; the
    median of its root for rank 1 is about .6745 / sqrt(d).
    """
    return np.where(rank < d, stats.beta.median(rank / 2, np.maximum(d - rank, 0.5) / 2), 1.0)


def without_placebos(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Returns the columns that describe the samples themselves."""
    return {
        name: column for name, column in columns.items() if not name.endswith((OTHERS, SAME_CLASSES, RANK))
    }


def _median(column: Floats, seed: int) -> Interval:
    """Returns the median of the values that are not NaN, with its BCa interval."""
    values = column[~np.isnan(column)]
    n, left_out = len(values), int(np.isnan(column).sum())
    if n == 0:
        return Interval(None, None, None, 0, left_out, EMPTY)
    return bootstrap_interval(
        lambda chosen: np.median(values[chosen], axis=-1),
        n,
        known=n,
        left_out=left_out,
        seed=seed,
        resamples=RESAMPLES,
    )


def _nearest_other(classifier: Classifier, x: Array, y: Array) -> Array:
    """Returns the class (b,) with the largest logit other than that of the label."""
    logits = classifier.logits(x)
    return classifier.xp.argmax(but(logits, one_hot(logits, y)), axis=1)


def unit_rows(rows: Array) -> Array:
    """Returns rows of norm 1; rows of zeros stay zero."""
    xp = arrays.namespace(rows)
    norm = xp.linalg.vector_norm(rows, axis=1, keepdims=True)
    return rows / xp.where(norm > 0, norm, xp.ones_like(norm))


def _rows(x: Array, chosen: Indices, classifier: Classifier) -> Array:
    """Returns the chosen rows (n, d) of x, NaN for -1."""
    xp = classifier.xp
    taken = arrays.rows(x, np.maximum(chosen, 0))
    present = xp.asarray(chosen >= 0, device=classifier.device)[:, None]
    return xp.where(present, taken, xp.full_like(taken, float("nan")))
