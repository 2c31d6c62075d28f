"""The four attacks of AutoAttack (Croce and Hein 2020, arXiv:2003.01690) as attacks of eigencore, unmodified.

The package is pyautoattack. AutoAttack assumes inputs between 0 and 1, so inputs within other bounds are
mapped there. The accuracy of the ensemble is that of the samples that withstand all four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack

from eigencore_attacks.adapters.torch_model import LogitsModule, UnitImages, back_in_the_ball, seeded

if TYPE_CHECKING:
    from eigencore.interfaces import Attack, Classifier
    from eigencore.space import Array


MOST_TARGETS = 9  # as in AutoAttack


def adapted(make: Callable[..., Any]) -> Attack:
    """Returns the attack of eigencore for one of AutoAttack: `make(model, options, targets, **keywords)`."""

    def run(
        classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        assert eps is not None
        unit = UnitImages(classifier, "AutoAttack")
        images, labels = unit.images(x), unit.as_tensor(y).to(torch.int64)
        keywords = {"norm": options.norm, "eps": eps / unit.width, "seed": seed, "device": images.device}
        with seeded(seed, images.device):
            targets = min(MOST_TARGETS, classifier.classes - 1)
            found = make(LogitsModule(unit).eval(), options, targets, **keywords).perturb(images, labels)
        return back_in_the_ball(found, unit, x, eps, options.norm, classifier.bounds)

    return run


apgd_ce = adapted(lambda model, o, targets, **k: APGDAttack(model, n_iter=o.steps, loss="ce", **k))
apgd_t = adapted(
    lambda model, o, targets, **k: APGDAttack_targeted(model, n_iter=o.steps, n_target_classes=targets, **k)
)
fab_t = adapted(
    lambda model, o, targets, **k: FABAttack_PT(
        model, n_iter=o.steps, targeted=True, n_target_classes=targets, **k
    )
)
square = adapted(lambda model, o, targets, **k: SquareAttack(model, n_queries=o.queries, p_init=0.8, **k))
