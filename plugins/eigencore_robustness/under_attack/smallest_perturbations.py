"""The smallest perturbation that any of several attacks finds for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.results import AttackResult
    from eigencore.space import Array, Floats
    from eigencore_robustness.under_attack.attacker import Attacker

# The attacks, and the option of each that makes it search longer. The mean excess of their least over the
# best of eight runs in L2 is .03, .1 and 2.1 % on demo:digits, demo:mnist and demo:mnist-robust; that of DDN
# is 2, .8 and 14 %, and that of all three .03, .1 and 2.1 % (benchmarks/smallest_perturbations.py).
ATTACKS = {"deepfool": "steps", "fmn": "restarts"}


@dataclass(frozen=True)
class SmallestPerturbations:
    """The least of several attacks.

    Attributes:
        norm: the norm of the distances.
        distance: for each sample (N,), zero if it is misclassified without a perturbation, and infinite if no
            attack fooled the network.
        found_by: the position (N,) of the attack that found it, -1 if there is none.
        inputs: the nearest misclassified inputs (N, d); a sample that has none is returned unchanged. None if
            they were not asked for.
        attacks: the results of the attacks, without their inputs.
    """

    norm: str
    distance: Floats
    found_by: npt.NDArray[np.int64]
    inputs: Array | None
    attacks: tuple[AttackResult, ...]

    @property
    def names(self) -> npt.NDArray[np.str_]:
        """The name of the attack that found each perturbation (N,), empty if there is none."""
        names = np.array([*(one.attack for one in self.attacks), ""])
        return names[self.found_by]


def smallest_perturbations(attacker: Attacker, norm: str, *, inputs: bool = False) -> SmallestPerturbations:
    """Runs the attacks in a norm, "L2" or "Linf", and returns the least for each sample.

    Args:
        inputs: whether the result keeps the adversarial inputs, which take the most memory.
    """
    results = [attacker.run(name, inputs=inputs, norm=norm) for name in ATTACKS]
    distances = np.stack([one.distance for one in results])
    least, first = np.min(distances, axis=0), np.argmin(distances, axis=0)
    found_by = np.where((least > 0) & np.isfinite(least), first, -1)
    nearest = _nearest(attacker.x, [one.inputs for one in results], found_by) if inputs else None
    return SmallestPerturbations(
        norm, least, found_by, nearest, tuple(replace(one, inputs=None) for one in results)
    )


def _nearest(x: Array, inputs: Sequence[Array], found_by: npt.NDArray[np.int64]) -> Array:
    """Returns for each row of x (N, d) that of the inputs (N, *shape) at a position; x itself for -1."""
    xp, count = arrays.namespace(x), len(found_by)
    blocks = xp.concat([*(xp.reshape(one, x.shape) for one in inputs), x])
    # An attack that does not succeed may return any input, so such a sample takes its row of the last block.
    rows = np.where(found_by < 0, len(inputs), found_by) * count + np.arange(count)
    return arrays.rows(blocks, rows)
