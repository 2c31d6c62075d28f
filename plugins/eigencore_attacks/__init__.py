"""Gradient-based adversarial attacks: PGD and FGSM, APGD, and DDN for the smallest L2 perturbation."""

from __future__ import annotations

from eigencore.entries import AttackEntry, Capability
from eigencore.hookspecs import hookimpl


@hookimpl
def eigen_attacks() -> list[AttackEntry]:
    needs = frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT})
    return [
        AttackEntry(
            name="pgd",
            summary="projected gradient descent from random starts: the standard attack at a fixed eps",
            load="eigencore_attacks.pgd:pgd",
            options="eigencore_attacks.pgd:PGDOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="fgsm",
            summary="a single gradient step of length eps: cheap and weak, not a measure of robustness",
            load="eigencore_attacks.pgd:fgsm",
            options="eigencore_attacks.pgd:FGSMOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="apgd",
            summary="PGD with momentum and automatic halving of its steps: no step size to choose",
            load="eigencore_attacks.apgd:apgd",
            options="eigencore_attacks.apgd:APGDOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="ddn",
            summary="smallest L2 perturbation, found by decoupling its direction from its norm",
            load="eigencore_attacks.ddn:ddn",
            options="eigencore_attacks.ddn:DDNOptions",
            needs=needs,
            goal="min_norm",
            norms=("L2",),
        ),
    ]
