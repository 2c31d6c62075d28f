"""Adversarial attacks that follow input gradients: PGD and FGSM, APGD, and DDN for the smallest L2 norm."""

from __future__ import annotations

from eigencore.entries import AttackEntry, Capability
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_attacks() -> list[AttackEntry]:
    needs = frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT})
    return [
        AttackEntry(
            name="pgd",
            summary="projected gradient descent from random starts: the workhorse at a fixed eps",
            load="eigencore_attacks.pgd:pgd",
            options="eigencore_attacks.pgd:PGDOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="fgsm",
            summary="one gradient step of the whole eps: cheap and weak, no measure of robustness",
            load="eigencore_attacks.pgd:fgsm",
            options="eigencore_attacks.pgd:FGSMOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="apgd",
            summary="PGD with momentum that halves its steps where they stop paying: no step size to choose",
            load="eigencore_attacks.apgd:apgd",
            options="eigencore_attacks.apgd:APGDOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="ddn",
            summary="the smallest L2 perturbation, by decoupling its direction from its norm",
            load="eigencore_attacks.ddn:ddn",
            options="eigencore_attacks.ddn:DDNOptions",
            needs=needs,
            goal="min_norm",
            norms=("L2",),
        ),
    ]
