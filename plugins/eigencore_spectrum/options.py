"""The options of the analyses of the whole spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eigencore.options import option

CONFIDENCE_HELP = "confidence of the intervals"
CONFIDENCE_WHEN = "raise it if the conclusion must not rest on one interval in twenty"


@dataclass(frozen=True)
class DensityOptions:
    """The options of the analysis `density`."""

    probes: int = option(
        10,
        low=2,
        help="number of random vectors, from each of which Lanczos quadrature takes `steps` products",
        when="raise it if the error band is too wide",
    )
    steps: int = option(
        40,
        low=2,
        help="number of products from each random vector",
        when="raise it for a finer resolution, lower it if products are expensive",
    )
    block: int | Literal["auto"] = option(
        "auto",
        low=1,
        help="number of random vectors that take their steps together, in products with a block; auto: 1 on "
        "a processor, 8 on an accelerator",
        when="lower it if memory runs out: the basis takes block * steps vectors",
    )
    points: int = option(
        256,
        low=8,
        help="number of points of the grid",
        when="raise it for a smooth figure of a wide spectrum",
    )
    width: float | Literal["auto"] = option(
        "auto",
        low=0,
        help="standard deviation of the Gaussian that smooths the density, along the axis; auto: the mean "
        "distance of the nodes",
        when="set it to compare densities at the same resolution",
    )
    axis: Literal["auto", "linear", "log"] = option(
        "auto",
        help="axis of the eigenvalues: linear; log, which is linear near zero; or auto, log if a linear one "
        "would show nine tenths of the eigenvalues within a twentieth of its length",
        when="set it to compare figures",
    )
    near_zero: float = option(
        1e-3,
        low=0,
        high=1,
        help="largest magnitude of an eigenvalue that counts as near zero, relative to the largest one",
        when="set it to the precision in which eigenvalues matter",
    )
    outlying: float = option(
        0.1,
        low=0,
        high=1,
        help="magnitude above which an eigenvalue counts as outlying, relative to the largest one",
        when="set it to where the bulk ends",
    )
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)
