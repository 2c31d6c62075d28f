"""Gates of the smallest perturbations, on which the correlations rest."""

from __future__ import annotations

from collections.abc import Mapping

from eigencore_robustness.under_attack.gates import Gate, judged


def all_are_fooled(unbroken: int, n: int, norm: str) -> Gate:
    """Whether a smallest perturbation was found for every one of n samples, but for so many."""
    return judged(
        "fooled",
        unbroken / n,
        (0.0, 0.01),
        f"no {norm} perturbation fools {unbroken} of {n} samples",
        "the attacks are too weak for this network, or gradients are masked",
        passed=f"a perturbation was found for each of {n} samples",
    )


def longer_search_finds_no_shorter(shorter: float, n: int) -> Gate:
    """Whether a search for twice as long shortens the smallest perturbations of n samples by little."""
    return judged(
        "search",
        shorter,
        (0.02, 0.05),
        f"a search for twice as long shortens the perturbations of {n} samples by {100 * shorter:.1f} %",
        "it has not converged: raise fmn.restarts and deepfool.steps",
    )


def balls_of_smaller_radius_hold(missed: Mapping[float, int], tried: Mapping[float, int], norm: str) -> Gate:
    """Whether PGD fools hardly any sample within a radius that its smallest perturbation exceeds.

    Args:
        missed: the number of samples that it fooled, by eps.
        tried: the number of samples whose smallest perturbation exceeds eps, by eps.
    """
    fooled, n = sum(missed.values()), sum(tried.values())
    listed = ", ".join(f"{eps:.3g}" for eps in missed)
    return judged(
        "balls",
        fooled,
        (max(1.0, 0.03 * n), max(2.0, 0.1 * n)),
        f"PGD fools {fooled} of {n} below their smallest perturbation, within {norm} eps {listed}",
        "the distances are too large",
    )
