"""The smallest perturbation known for each sample: the least of several attacks, or supplied by the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import OptionError
from eigencore_robustness.samples import evenly_spaced
from eigencore_robustness.under_attack import distance_gates
from eigencore_robustness.under_attack.attack_evaluation import FIXED
from eigencore_robustness.under_attack.attack_gates import SLACK
from eigencore_robustness.under_attack.smallest_perturbations import ATTACKS, smallest_perturbations

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Floats
    from eigencore_robustness.under_attack.attacker import Attacker
    from eigencore_robustness.under_attack.gates import Gate
    from eigencore_robustness.under_attack.smallest_perturbations import SmallestPerturbations

NORM = "L2"
QUARTILES = (0.25, 0.5, 0.75)
SEARCHED_AGAIN = 100  # samples


@dataclass(frozen=True)
class Distances:
    """Upper bounds of the true distances, and where they come from.

    Attributes:
        values: the distances (N,), infinite if no perturbation was found.
        source: one line on where they come from.
        smallest: what the attacks found, with the inputs; None if the distances were supplied.
        gates: the gates of the attacks.
    """

    values: Floats
    source: str
    smallest: SmallestPerturbations | None = None
    gates: tuple[Gate, ...] = ()


def attack_distances(attacker: Attacker, correct: npt.NDArray[np.bool_]) -> Distances:
    """Returns the least distances that several attacks find, and what shows that there are no lesser ones.

    Args:
        correct: whether each sample (N,) is classified correctly without a perturbation.
    """
    found = smallest_perturbations(attacker, NORM, inputs=True)
    distance, broken = found.distance, correct & np.isfinite(found.distance)
    gates = [distance_gates.all_are_fooled(int(correct.sum() - broken.sum()), int(correct.sum()), NORM)]
    if broken.any():
        gates += [_search_again(attacker, found, broken), _attack_within(attacker, distance, broken)]
    names = " and ".join(one.attack for one in found.attacks)
    source = f"smallest {NORM} perturbation by {names}"
    return Distances(distance, source, found, tuple(gates))


def _search_again(attacker: Attacker, found: SmallestPerturbations, broken: npt.NDArray[np.bool_]) -> Gate:
    """Searches from some samples for twice as long, and evaluates how much shorter perturbations are."""
    rows = evenly_spaced(np.flatnonzero(broken), SEARCHED_AGAIN)
    again = [
        attacker.run(one.attack, rows, norm=NORM, **{more: 2 * one.options[more]}).distance
        for one in found.attacks
        for more in [ATTACKS[one.attack]]
    ]
    before = found.distance[rows]
    after = np.minimum(before, np.min(again, axis=0))
    shorter = -float(np.expm1(np.mean(np.log(after / before))))
    return distance_gates.longer_search_finds_no_shorter(shorter, len(rows))


def _attack_within(attacker: Attacker, distance: Floats, broken: npt.NDArray[np.bool_]) -> Gate:
    """Attacks samples by PGD within radii that are smaller than their distances."""
    missed, tried = {}, {}
    for eps in np.quantile(distance[broken], QUARTILES):
        beyond = evenly_spaced(np.flatnonzero(broken & (distance > SLACK * eps)), SEARCHED_AGAIN)
        eps, tried[eps] = float(eps), len(beyond)
        result = attacker.run(FIXED, beyond, eps=eps, norm=NORM) if len(beyond) else None
        missed[eps] = int(result.success.sum()) if result is not None else 0
    return distance_gates.balls_of_smaller_radius_hold(missed, tried, NORM)


def supplied_distances(given: Any, samples: int) -> Distances:
    """Returns the user's own distances: an array (samples,), or the name of a .npy file that holds one.

    Raises:
        OptionError: they cannot be read, are not one per sample, or are not distances.
    """
    if isinstance(given, str | Path):
        try:
            given = np.load(given, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"robustness.distances: {given} cannot be read as a .npy file: {error}"
            ) from error
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"robustness.distances is a {type(given).__name__}; expected numbers") from error
    if values.shape != (samples,):
        raise OptionError(
            f"robustness.distances has shape {values.shape}; expected ({samples},), one distance per sample",
            hint="Give the distances of the same samples in the same order, with inf if no perturbation "
            "was found. The option robustness.images sets the number of samples.",
        )
    if np.isnan(values).any() or (values < 0).any():
        raise OptionError(
            "robustness.distances contains NaN or negative numbers; expected distances of at least 0, or inf"
        )
    return Distances(values, "distances supplied by the user")
