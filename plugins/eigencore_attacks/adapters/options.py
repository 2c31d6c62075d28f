"""Options of the attacks of foolbox and of AutoAttack, importable without these libraries."""

from __future__ import annotations

from dataclasses import dataclass

from eigencore.options import option
from eigencore_attacks.norm_ball import Norm


@dataclass(frozen=True)
class FoolboxPGDOptions:
    """Options of the attack `foolbox_pgd`."""

    norm: Norm = option("Linf", help="norm of the ball", when="use L2 to compare with attacks in L2 balls")
    steps: int = option(40, low=1, help="gradient steps", when="raise it while the accuracy still falls")
    step: float = option(
        1 / 16,
        low=1e-6,
        high=2,
        help="step size as a fraction of eps",
        when="keep steps * step well above 1, or the attack cannot cross the ball",
    )


@dataclass(frozen=True)
class FoolboxDDNOptions:
    """Options of the attack `foolbox_ddn`."""

    steps: int = option(100, low=1, help="gradient steps", when="use 1000 on adversarially trained networks")


@dataclass(frozen=True)
class FoolboxMinimalOptions:
    """Options of the attacks `foolbox_deepfool` and `foolbox_fmn`."""

    norm: Norm = option(
        "L2", help="norm of the perturbation", when="use Linf to compare with attacks in Linf balls"
    )
    steps: int = option(100, low=1, help="gradient steps", when="raise it if some samples are not fooled")


@dataclass(frozen=True)
class FoolboxCWOptions:
    """Options of the attack `foolbox_cw`."""

    steps: int = option(
        200, low=1, help="gradient steps of each search", when="raise it for smaller distances"
    )
    searches: int = option(
        5,
        low=1,
        help="binary search steps for the constant",
        when="use 9, as in the paper, for the best result",
    )


@dataclass(frozen=True)
class AutoAttackOptions:
    """Options of the attacks `autoattack_apgd_ce`, `autoattack_apgd_t` and `autoattack_fab_t`."""

    norm: Norm = option("Linf", help="norm of the ball", when="use L2 to compare with attacks in L2 balls")
    steps: int = option(
        100, low=1, help="gradient steps", when="leave it, if the result is to be AutoAttack's"
    )


@dataclass(frozen=True)
class AutoAttackSquareOptions:
    """Options of the attack `autoattack_square`."""

    norm: Norm = option("Linf", help="norm of the ball", when="use L2 to compare with attacks in L2 balls")
    queries: int = option(
        5000, low=2, help="forward passes", when="lower it for a quick look; 5000 is AutoAttack's"
    )
