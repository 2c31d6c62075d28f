"""Gates of the attacks at fixed radii: whether the network is robust, or the attacks are weak or blind.

After the checklist of Carlini et al. 2019 (arXiv:1902.06705): a network looks robust if the attack is too
weak or the gradients are masked, and correlations with its distances are then meaningless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from eigencore_robustness.under_attack.gates import HALF_A_POINT, Gate, GateOutcome, judged

if TYPE_CHECKING:
    from eigencore.results import AttackResult
    from eigencore_robustness.under_attack.smallest_perturbations import SmallestPerturbations

# A perturbation that is found within a radius is smaller than a smallest one beyond this multiple of it.
SLACK = 1.03


def gradients_are_nonzero(zero_share: float) -> Gate:
    """Whether the gradients that PGD followed, those of its own loss in its own precision, are nonzero."""
    return judged(
        "gradients",
        zero_share,
        (0.0, 0.01),
        f"{100 * zero_share:.1f} % of the gradients that PGD followed are exactly zero",
        "they are masked and give gradient-based attacks no direction",
        passed="none of the gradients that PGD followed is exactly zero",
    )


def margins_are_integrals(error: float, eps: float) -> Gate:
    """Whether changes of the margin are the integrals of its gradient, up to this share of themselves."""
    return judged(
        "integrals",
        error,
        (0.07, 0.15),
        f"changes of the margin within eps {eps:g} differ from the integrals of its gradients by "
        f"{100 * error:.1f} %",
        "the network rounds, jumps or oscillates, or its gradients are not its own",
    )


def more_steps_fool_few(gains: Mapping[float, int], n: int) -> Gate:
    """Whether twice the steps of PGD fool hardly any more of n samples.

    Args:
        gains: the number of samples that they fool in addition, by eps.
    """
    eps = max(gains, key=lambda one: gains[one])
    return judged(
        "steps",
        gains[eps],
        (_half_a_point(n), 4 * _half_a_point(n)),
        f"PGD with twice the steps fools {gains[eps]} more of {n} at eps {eps:g}",
        "the attacks have not converged",
    )


def smallest_agree_with_fixed(smallest: SmallestPerturbations, fixed: Sequence[AttackResult]) -> Gate:
    """Whether PGD fools hardly any sample at a radius that the smallest perturbation of it exceeds."""
    n = len(smallest.distance)
    missed = {
        one.eps or 0.0: int((one.success & (smallest.distance > SLACK * (one.eps or 0.0))).sum())
        for one in fixed
    }
    eps = max(missed, key=lambda one: missed[one])
    names = ", ".join(one.attack for one in smallest.attacks)
    return judged(
        f"{smallest.norm} search",
        missed[eps],
        (4 * _half_a_point(n), 10 * _half_a_point(n)),
        f"PGD fools {missed[eps]} of {n} within eps {eps:g} for which {names} find only longer perturbations",
        "the search for the smallest perturbation is too weak",
    )


def gradients_are_not_needed(fooled: int, tried: int, left: int, n: int, eps: float) -> Gate:
    """Whether an attack without gradients fools hardly any of the samples that all others left.

    Args:
        fooled, tried: the number of samples that it fooled, and that it was run on.
        left, n: the number of samples that the others left, of all samples.
        eps: the radius.
    """
    more = left * fooled / max(tried, 1)
    return judged(
        "no gradients",
        more,
        (2 * _half_a_point(n), 4 * _half_a_point(n)),
        f"without gradients, Square fools {fooled} of {tried} that the other attacks left at eps {eps:g}",
        "the gradients mislead the attacks",
    )


def accuracy_falls_with_eps(fixed: Sequence[AttackResult], least: float, constant_accuracy: float) -> Gate:
    """Whether the accuracy falls as eps increases, and down to zero at the largest eps.

    Args:
        fixed: the results of PGD in the order of increasing eps.
        least: the share that withstood all attacks at the largest eps.
        constant_accuracy: the accuracy of a constant prediction.
    """
    name, accuracies, largest = "falls with eps", [one.accuracy for one in fixed], fixed[-1].eps
    if any(after > before + HALF_A_POINT for before, after in pairwise(accuracies)):
        listed = ", ".join(f"{100 * accuracy:.1f} %" for accuracy in accuracies)
        return Gate(name, GateOutcome.FAIL, f"the accuracy under PGD rises with eps: {listed}")
    return judged(
        name,
        least,
        (HALF_A_POINT, constant_accuracy),
        f"the accuracy is still {100 * least:.1f} % at eps {largest:g}",
        "the attacks are too weak, or the largest eps is too small to show that they work",
        passed=f"the accuracy falls to {100 * least:.1f} % at eps {largest:g}",
    )


def _half_a_point(n: int) -> float:
    return max(1.0, HALF_A_POINT * n)
