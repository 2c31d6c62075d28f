"""The smallest perturbation found for each sample: by an attack, or handed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eigencore.results import AttackResult
    from eigencore.space import Array, Floats

ATTACK, NORM = "ddn", "L2"


@dataclass(frozen=True)
class Distances:
    """Upper bounds of the true distances (N,), infinite where none was found; `whence` says where from."""

    values: Floats
    whence: str


def found_by_attack(
    attack: Callable[..., AttackResult], samples: tuple[Array, Array], batch: int, seed: int, **more: Any
) -> Distances:
    result = attack(ATTACK, samples=samples, batch=batch, seed=seed, **more)
    return Distances(result.distance, f"smallest {NORM} perturbation by DDN, {result.options['steps']} steps")


def handed_in(given: Any, samples: int) -> Distances:
    """Distances of the user's own: an array (samples,), or the name of a .npy file that holds one.

    Raises:
        OptionError: they can't be read, are not one for each sample, or no distances.
    """
    if isinstance(given, str | Path):
        try:
            given = np.load(given, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OptionError(f"robustness.distances: {given} can't be read as .npy: {error}") from error
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"robustness.distances is a {type(given).__name__}; expected numbers") from error
    if values.shape != (samples,):
        raise OptionError(
            f"robustness.distances has shape {values.shape}; expected ({samples},), one for each sample",
            hint="Give them for the same samples in the same order, inf where no perturbation was found; "
            "`images` says how many are looked at.",
        )
    if np.isnan(values).any() or (values < 0).any():
        raise OptionError("robustness.distances has NaN or negative numbers; expected distances, or inf")
    return Distances(values, "distances as they were handed in")
