"""Adversarial attacks at a fixed radius, and attacks that search for the smallest perturbation."""

from __future__ import annotations

from eigencore.entries import AttackEntry, Capability
from eigencore.hookspecs import hookimpl

ADAPTERS = "eigencore_attacks.adapters"
BOTH = ("Linf", "L2")


@hookimpl
def eigen_attacks() -> list[AttackEntry]:
    return [*own_attacks(), *attacks_of_foolbox(), *attacks_of_autoattack()]


def own_attacks() -> list[AttackEntry]:
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
            name="apgd_t",
            summary="APGD towards each of several classes: expensive, and usually the strongest",
            load="eigencore_attacks.apgd:apgd_t",
            options="eigencore_attacks.apgd:TargetedAPGDOptions",
            needs=needs,
            goal="fixed_eps",
            norms=("Linf", "L2"),
        ),
        AttackEntry(
            name="square",
            summary="random search without gradients, which masked gradients do not weaken",
            load="eigencore_attacks.square:square",
            options="eigencore_attacks.square:SquareOptions",
            needs=frozenset({Capability.LOGITS}),
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
        AttackEntry(
            name="fmn",
            summary="smallest L2 or Linf perturbation, by steps in a ball whose radius adapts",
            load="eigencore_attacks.fmn:fmn",
            options="eigencore_attacks.fmn:FMNOptions",
            needs=needs,
            goal="min_norm",
            norms=("L2", "Linf"),
        ),
        AttackEntry(
            name="deepfool",
            summary="smallest L2 or Linf perturbation, by projections onto linearised boundaries: fast",
            load="eigencore_attacks.deepfool:deepfool",
            options="eigencore_attacks.deepfool:DeepFoolOptions",
            needs=needs,
            goal="min_norm",
            norms=("L2", "Linf"),
        ),
    ]


def attacks_of_foolbox() -> list[AttackEntry]:
    """The attacks of foolbox, which work when it is installed."""
    found = [
        ("pgd", "projected gradient descent", "FoolboxPGDOptions", "fixed_eps", BOTH),
        ("ddn", "DDN: the smallest L2 perturbation", "FoolboxDDNOptions", "min_norm", ("L2",)),
        ("deepfool", "DeepFool: a small perturbation", "FoolboxMinimalOptions", "min_norm", BOTH[::-1]),
        ("fmn", "FMN: a small perturbation", "FoolboxMinimalOptions", "min_norm", BOTH[::-1]),
        ("cw", "Carlini and Wagner: a small L2 perturbation", "FoolboxCWOptions", "min_norm", ("L2",)),
    ]
    return [
        AttackEntry(
            name=f"foolbox_{name}",
            summary=f"{summary}, by foolbox",
            load=f"{ADAPTERS}.foolbox_attacks:{name}",
            options=f"{ADAPTERS}.options:{options}",
            needs=frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT}),
            extra="foolbox",
            goal=goal,
            norms=norms,
        )
        for name, summary, options, goal, norms in found
    ]


def attacks_of_autoattack() -> list[AttackEntry]:
    """The four attacks of AutoAttack, which work when pyautoattack is installed."""
    found = {
        "apgd_ce": "Auto-PGD on the cross-entropy",
        "apgd_t": "Auto-PGD towards nine classes",
        "fab_t": "FAB towards nine classes",
        "square": "random search without gradients",
    }
    return [
        AttackEntry(
            name=f"autoattack_{name}",
            summary=f"{summary}, by AutoAttack",
            load=f"{ADAPTERS}.autoattack:{name}",
            options=f"{ADAPTERS}.options:AutoAttack{'Square' if name == 'square' else ''}Options",
            needs=frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT}),
            extra="autoattack",
            goal="fixed_eps",
            norms=BOTH,
        )
        for name, summary in found.items()
    ]
