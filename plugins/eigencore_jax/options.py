"""The options of the JAX backend."""

from __future__ import annotations

from dataclasses import dataclass

from eigencore.options import option


@dataclass(frozen=True)
class JaxOptions:
    """The options of the JAX backend.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-jax", microbatch=64)
        print(bound.operator().shape)
    """

    check: bool = option(
        True,
        help="compare the derivatives with differences of the loss, and the loss of a batch with the losses "
        "of its samples, before the first product",
        when="turn it off if the problem is known to be sound and compiling it once more takes too long",
    )
    microbatch: int | None = option(
        None,
        low=1,
        help="number of samples that are computed at once; the last ones are padded, which does not change "
        "the operator; none: those of the largest batch, and at least 256",
        when="set it lower if the derivatives of a batch do not fit into the device's memory",
    )
    linearize: bool = option(
        True,
        help="keep the linearisation of the gradient that all products share, if it takes at most half of "
        "the free memory; otherwise each product computes it again",
        when="turn it off if other programs need the memory",
    )
