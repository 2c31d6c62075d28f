"""The smallest perturbation known for each sample: found by an attack, or supplied by the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eigencore.results import AttackResult
    from eigencore.space import Array, Floats

ATTACK, NORM = "ddn", "L2"


@dataclass(frozen=True)
class Distances:
    """Upper bounds of the true distances (N,), infinite if no perturbation was found, and their source.

    Attributes:
        inputs: the perturbed input (N, d) of each sample, the sample itself where there is none; None for
            distances that the user supplied.
    """

    values: Floats
    source: str
    inputs: Array | None = None


def attack_distances(
    attack: Callable[..., AttackResult], samples: tuple[Array, Array], batch: int, seed: int, **more: Any
) -> Distances:
    """Returns the distances found by the attack DDN."""
    result = attack(ATTACK, samples=samples, batch=batch, seed=seed, **more)
    steps = result.options["steps"]
    x = samples[0]
    xp = arrays.namespace(x)
    success = xp.asarray(result.success, device=arrays.device_of(x))[:, None]
    # Without success, an attack may return any input that is still classified correctly.
    inputs = xp.where(success, xp.reshape(result.inputs, x.shape), x)
    return Distances(result.distance, f"smallest {NORM} perturbation found by DDN, {steps} steps", inputs)


def supplied_distances(given: Any, samples: int) -> Distances:
    """Returns the user's own distances: an array (samples,), or the name of a .npy file that holds one.

    Raises:
        OptionError: they cannot be read, are not one per sample, or are not distances.
    """
    if isinstance(given, str | Path):
        try:
            given = np.load(given, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"robustness.distances: {given} cannot be read as a .npy file: {error}"
            ) from error
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"robustness.distances is a {type(given).__name__}; expected numbers") from error
    if values.shape != (samples,):
        raise OptionError(
            f"robustness.distances has shape {values.shape}; expected ({samples},), one distance per sample",
            hint="Give the distances of the same samples in the same order, with inf if no perturbation "
            "was found. The option robustness.images sets the number of samples.",
        )
    if np.isnan(values).any() or (values < 0).any():
        raise OptionError(
            "robustness.distances contains NaN or negative numbers; expected distances of at least 0, or inf"
        )
    return Distances(values, "distances supplied by the user")
