"""The options of the analysis `robustness`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eigencore.errors import OptionError
from eigencore.options import option

# Fractions of the input range. The largest allows every input to become grey, so no sample survives an attack
# that works.
RADII = (0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class RobustnessOptions:
    """The options of the analysis `robustness`."""

    images: int | None = option(
        500,
        low=2,
        help="number of samples, from the start of the validation data; none: all of them",
        when="lower it for a quick look; small effects need 200 samples or more",
    )
    eps: str | float | tuple[float, ...] | list[float] = option(
        "auto",
        help="Linf radii of the attack, as in 0.1,0.2; auto: .05 .1 .2 .5 of the input range",
        when="set it to the radii of your threat model, and add a largest radius that no sample can survive",
    )
    distances: Any = option(
        None,
        help="your own distances, one per sample: an array or a .npy file; inf if no perturbation was found",
        when="set it if you ran another attack on the same samples in the same order",
    )
    batch: int = option(
        256,
        low=1,
        help="number of samples that pass through the network at once",
        when="lower it if the device runs out of memory",
    )

    def __post_init__(self) -> None:
        radii(self.eps, 1.0)
        if isinstance(self.distances, str | Path) and not Path(self.distances).is_file():
            raise OptionError(f"robustness.distances: there is no file {self.distances}")


@dataclass(frozen=True)
class NetworkOptions:
    """The options of the analysis `network`."""

    images: int | None = option(
        200,
        low=2,
        help="number of samples, from the start of the validation data; none: all of them",
        when="raise it if the networks of a study differ by less than the intervals of their accuracies",
    )
    eps: float | Literal["auto"] = option(
        "auto",
        low=0,
        help="Linf radius of the attack and of the robust loss; auto: .1 of the input range",
        when="set it so that about half of the samples of a typical network withstand the attack: accuracies "
        "near 0 or 1 separate no networks",
    )
    batch: int = option(
        256,
        low=1,
        help="number of samples that pass through the network at once",
        when="lower it if the device runs out of memory",
    )


@dataclass(frozen=True)
class RanksOptions:
    """The options of the analysis `ranks`."""

    images: int | None = option(
        500,
        low=2,
        help="number of samples, from the start of the validation data; none: all of them",
        when="lower it for a quick look; small effects need 200 samples or more",
    )
    batch: int = option(
        256,
        low=1,
        help="number of samples that pass through the network at once",
        when="lower it if the device runs out of memory",
    )


def radii(given: Any, input_range: float) -> list[float]:
    """Returns the radii of the option `eps` of `robustness` in increasing order.

    Args:
        given: the value of the option.
        input_range: the range of the inputs, which "auto" refers to.

    Raises:
        OptionError: a radius is not a positive number.
    """
    if given == "auto":
        return [fraction * input_range for fraction in RADII]
    parts = given.split(",") if isinstance(given, str) else np.atleast_1d(given)
    try:
        numbers = sorted({float(part) for part in parts})
    except (TypeError, ValueError):
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise OptionError(f"robustness.eps is {given!r}; expected auto, or radii above 0 such as 0.1,0.2")
    return numbers
