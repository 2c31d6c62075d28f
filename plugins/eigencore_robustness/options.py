"""What can be asked of the analysis `robustness`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eigencore.errors import OptionError
from eigencore.options import option

# Parts of the inputs' range. At the largest every input can become grey: an attack that works leaves nothing.
RADII = (0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class RobustnessOptions:
    images: int | None = option(
        500,
        low=2,
        help="samples to look at, the first of the validation data; none: all",
        when="lower it for a quick look; 200 or more are needed before small effects can show",
    )
    eps: str | float | tuple[float, ...] | list[float] = option(
        "auto",
        help="Linf radii to attack at, as in 0.1,0.2; auto: .05 .1 .2 .5 of the inputs' range",
        when="set it to those that your threat model names; end with one at which nothing can survive",
    )
    distances: Any = option(
        None,
        help="distances of your own, one for each sample: an array or a .npy file, inf where none was found",
        when="give it where another attack was run on the same samples in the same order",
    )
    batch: int = option(
        256,
        low=1,
        help="samples that go through the network at once",
        when="lower it where the device runs out of memory",
    )

    def __post_init__(self) -> None:
        radii(self.eps, 1.0)
        if isinstance(self.distances, str | Path) and not Path(self.distances).is_file():
            raise OptionError(f"robustness.distances: there is no file {self.distances}")


def radii(given: Any, spread: float) -> list[float]:
    """The radii of the option `eps`, rising; `spread` is the range of the inputs.

    Raises:
        OptionError: one is no positive number.
    """
    if given == "auto":
        return [part * spread for part in RADII]
    parts = given.split(",") if isinstance(given, str) else np.atleast_1d(given)
    try:
        numbers = sorted({float(part) for part in parts})
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise OptionError(f"robustness.eps is {given!r}; expected auto, or radii above 0 such as 0.1,0.2")
    return numbers
