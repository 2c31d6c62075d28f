"""The options of the analyses of the whole spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eigencore.options import option

CONFIDENCE_HELP = "confidence of the intervals"
CONFIDENCE_WHEN = "raise it if the conclusion must not rest on one interval in twenty"
SAMPLES_HELP = "number of samples of the data that are drawn to estimate from; none: all data are used"
SAMPLES_WHEN = "set it if there is much data"
TOGETHER_HELP = (
    "number of random vectors that take their steps together, in products with a block; auto: 1 on a "
    "processor, 8 on an accelerator"
)
TOGETHER_WHEN = "lower it if memory runs out: the basis takes block * steps vectors"


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
    block: int | Literal["auto"] = option("auto", low=1, help=TOGETHER_HELP, when=TOGETHER_WHEN)
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
    samples: int | None = option(None, low=2, help=SAMPLES_HELP, when=SAMPLES_WHEN)
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)


@dataclass(frozen=True)
class BatchSharpnessOptions:
    """The options of the analysis `batch_sharpness`."""

    draws: int = option(
        20, low=2, help="number of random minibatches", when="raise it if the intervals are too wide"
    )
    batches: int = option(
        1, low=1, help="number of batches in a minibatch", when="set it to study larger minibatches"
    )
    largest: bool = option(
        True,
        help="compute the largest eigenvalue of every minibatch, which takes about ten products with it",
        when="turn it off if only the curvature along the gradients matters",
    )
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)


PRODUCTS_WHEN = "raise it for a narrower interval; with at least n of them, the answer is exact"
RTOL_HELP = (
    "half width of the interval, relative to |trace|, at which to stop; a number also chooses between a "
    "sample and all data by their costs; auto: 0.01, with all data; none: use all products"
)
BLOCK_HELP = "maximum number of vectors that are multiplied at once"
BLOCK_WHEN = "raise it if the operator multiplies several vectors faster than one by one"


@dataclass(frozen=True)
class TraceOptions:
    """The options of the analysis `trace`."""

    method: Literal["adaptive", "xtrace", "xnystrace", "hutch++", "hutchinson"] = option(
        "adaptive",
        help="xtrace: every random vector tests the sketch of all others; adaptive: xtrace, until a larger "
        "sketch pays no more, and then tests alone; xnystrace: xtrace with half the products per vector, for "
        "positive semidefinite operators; hutch++: a third of the products test a sketch; hutchinson: the "
        "mean over random vectors, without a sketch",
        when="choose xnystrace for a semidefinite kind, such as ggn; hutchinson if memory is short: the "
        "others keep up to 2 vectors per product",
    )
    products: int = option(100, low=1, help="maximum number of products", when=PRODUCTS_WHEN)
    samples: int | None = option(None, low=2, help=SAMPLES_HELP, when=SAMPLES_WHEN)
    rtol: float | Literal["auto"] | None = option(
        "auto", low=0, help=RTOL_HELP, when="set it to the accuracy that is needed"
    )
    block: int = option(5, low=1, help=BLOCK_HELP, when=BLOCK_WHEN)
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)


@dataclass(frozen=True)
class DiagonalOptions:
    """The options of the analysis `diagonal`."""

    method: Literal["xdiag", "hutchinson"] = option(
        "xdiag",
        help="xdiag: every random vector tests the sketch of all others; hutchinson: the mean over random "
        "vectors, without a sketch",
        when="choose hutchinson if memory is short: xdiag keeps up to 3 vectors for each 2 products",
    )
    products: int = option(100, low=1, help="maximum number of products", when=PRODUCTS_WHEN)
    block: int = option(5, low=1, help=BLOCK_HELP, when=BLOCK_WHEN)
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)


@dataclass(frozen=True)
class NormsOptions:
    """The options of the analysis `norms`."""

    probes: int = option(
        8,
        low=1,
        help="number of random vectors, from each of which Lanczos quadrature takes `steps` products",
        when="raise it for narrower intervals",
    )
    steps: int = option(
        30,
        low=3,
        help="number of products from each random vector",
        when="raise it if the damping is small, lower it if products are expensive",
    )
    damping: float | Literal["auto"] = option(
        "auto",
        low=0,
        help="what is added to |lambda| in the effective dimension, and to A in the log-determinant; auto: "
        "1 % of the largest |lambda|",
        when="set it to the weight decay, or to the prior precision of a Laplace approximation",
    )
    block: int | Literal["auto"] = option("auto", low=1, help=TOGETHER_HELP, when=TOGETHER_WHEN)
    confidence: float = option(0.95, low=0.5, high=0.999, help=CONFIDENCE_HELP, when=CONFIDENCE_WHEN)
