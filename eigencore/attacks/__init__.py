"""Attacks: adversarial inputs for the samples of a classifier.

- `attack`: the function `eigencore.attack`, which runs an attack and evaluates what it found.
- `radius_report`: `attack_report`, one report of an attack at several radii.
- `perturbation_checks`: an attack must stay within its ball and bounds.
- `counting`: a classifier that counts the passes through it.

The function `attack` is not exported from here, because the module of the same name would hide it: import it
from `eigencore`, or from `eigencore.attacks.attack`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
