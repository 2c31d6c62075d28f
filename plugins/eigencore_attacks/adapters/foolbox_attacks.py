"""Attacks of foolbox 3 (Rauber et al. 2020, doi:10.21105/joss.02607) as attacks of eigencore, unmodified.

foolbox assumes one lower and one upper bound of the inputs, and so do these. Their gradients take two forward
passes and a backward pass; `foolbox` itself takes one of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of imports that foolbox makes
    import foolbox

from eigencore_attacks.adapters.torch_model import LogitsModule, UnitImages, back_in_the_ball, seeded

if TYPE_CHECKING:
    from eigencore.interfaces import Attack, Classifier
    from eigencore.space import Array
    from eigencore_attacks.norm_ball import Norm


def adapted(make: Callable[[Any], Any]) -> Attack:
    """Returns the attack of eigencore for one of foolbox, which `make` makes from the options."""

    def run(
        classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        unit = UnitImages(classifier, "foolbox")
        norm: Norm = getattr(options, "norm", "L2")
        # Nothing of the module is on a device, so foolbox cannot find it out.
        model = foolbox.PyTorchModel(
            LogitsModule(unit).eval(), bounds=(0, 1), device=unit.as_tensor(x).device
        )
        radius = None if eps is None else eps / unit.width
        with seeded(seed, unit.as_tensor(x).device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw, _, success = make(options)(
                model, unit.images(x), unit.as_tensor(y).to(torch.int64), epsilons=radius
            )
        if eps is None:
            found = success.reshape(-1, *[1] * (raw.ndim - 1))
            raw = torch.where(found, raw, unit.images(x))
        return back_in_the_ball(raw, unit, x, eps, norm, classifier.bounds)

    return run


def _of_norm(options: Any, name: str) -> Any:
    return getattr(foolbox.attacks, f"{options.norm}{name}")


pgd = adapted(lambda o: _of_norm(o, "PGD")(steps=o.steps, rel_stepsize=o.step))
ddn = adapted(lambda o: foolbox.attacks.DDNAttack(steps=o.steps))
deepfool = adapted(lambda o: _of_norm(o, "DeepFoolAttack")(steps=o.steps))
fmn = adapted(
    lambda o: (foolbox.attacks.L2FMNAttack if o.norm == "L2" else foolbox.attacks.LInfFMNAttack)(
        steps=o.steps
    )
)
cw = adapted(lambda o: foolbox.attacks.L2CarliniWagnerAttack(steps=o.steps, binary_search_steps=o.searches))
