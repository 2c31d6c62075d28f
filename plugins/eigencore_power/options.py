"""The options of `deflated_power` and of `accel_power`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eigencore.options import option


@dataclass(frozen=True)
class DeflatedPowerOptions:
    """The options of `deflated_power`."""

    block: bool = option(
        True,
        help="iterate all k pairs together; otherwise one at a time, orthogonal to those found",
        when="turn it off to get the first pairs early if the wanted eigenvalues are far apart",
    )


@dataclass(frozen=True)
class AccelPowerOptions:
    """The options of `accel_power`."""

    momentum: Literal["auto"] | float = option(
        "auto",
        low=0.0,
        help="beta in w+ = A w - beta w_before, in squared units of the eigenvalues; auto: found during the "
        "run, and reported in a note",
        when="set it to repeat an experiment, or if the (k+1)-th |eigenvalue| l is known: (l/2)^2 is best; "
        "0 is plain power iteration; from (l_k/2)^2 upwards, with l_k the k-th, it does not converge",
    )
    batches: int | None = option(
        None,
        low=1,
        help="number of data batches, drawn at random, in a minibatch product; none: all of the data",
        when="set it if a product on all of the data takes long and the batches are similar to one another",
    )
    variance_reduction: bool = option(
        True,
        help="use minibatches only for the change since the last product on all of the data; needs batches",
        when="turn it off to save memory: the residuals then decrease only to a noise floor",
    )
    epoch: int | None = option(
        None,
        low=2,
        help="number of steps from one product on all of the data to the next, with batches; none: as many "
        "as cost one such product, but at most 10",
        when="raise it if a minibatch is a tiny part of the data; lower it if minibatches are noisy",
    )
