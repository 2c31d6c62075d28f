"""Random vectors, one key (seed, purpose, number) each, so that a longer run continues a shorter one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array, Floats, Space

ON_ACCELERATOR = 8  # where a product with a block costs little more than with one vector
Distribution = Literal["rademacher", "gaussian", "sphere"]


def probes(
    operator: LinearOperator, numbers: Iterable[int], seed: int, purpose: str, distribution: Distribution
) -> Array:
    """Independent random vectors as the columns of a block (n, b), in the space of the operator.

    Args:
        numbers: the number of each vector, which together with the seed and the purpose determines it.
        purpose: what they are for; vectors for different purposes are independent.
        distribution: "rademacher": entries of -1 and 1; "gaussian": standard normal entries; "sphere":
            uniform on the sphere of radius sqrt(n).

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore_spectrum.probes import probes

        operator = as_operator(np.eye(4))
        both = probes(operator, range(2), 0, "example", "gaussian")
        assert np.array_equal(both[:, 1:], probes(operator, [1], 0, "example", "gaussian"))
    """
    n, drawn = int(operator.shape[0]), []
    for number in numbers:
        rng = arrays.generator(seed, purpose, number)
        if distribution == "rademacher":
            drawn.append(rng.choice([-1.0, 1.0], n))
            continue
        normal = rng.standard_normal(n)
        length = math.sqrt(n) / float(np.linalg.norm(normal)) if distribution == "sphere" else 1.0
        drawn.append(length * normal)
    return arrays.from_host(arrays.shard(np.stack(drawn, axis=1), operator), operator)


def tested(Z: Array, BZ: Array, space: Space) -> Floats:
    """z'Bz, |Bz - rho z|^2 with rho = z'Bz / |z|^2, and |Bz|^2 of each column z of Z (n, b): (3, b)."""
    xp = space.xp
    values, squares = xp.sum(Z * BZ, axis=0), xp.sum(Z * Z, axis=0)
    sums = arrays.total(xp.stack([values, squares, xp.sum(BZ * BZ, axis=0)]), space)
    rest = BZ - (sums[0, :] / sums[1, :]) * Z
    outside = arrays.total(xp.sum(rest * rest, axis=0), space)
    found, residuals = arrays.to_host_at_once(sums, outside)
    return np.stack([found[0], residuals, found[2]])


def at_once(block: int | Literal["auto"], space: Space) -> int:
    """How many vectors are multiplied at once; "auto": 1 on a processor, 8 on an accelerator."""
    if block != "auto":
        return block
    return 1 if arrays.on_processor(arrays.zeros((1,), space)) else ON_ACCELERATOR


def numbered(analysis: str, batch: range, count: int) -> str:
    """What is worked on, for the news: the random vectors of a batch, counted from 1.

    Example:
        from eigencore_spectrum.probes import numbered

        print(numbered("density", range(2, 4), 8))  # density, random vectors 3 to 4 of 8
    """
    several = f"s {batch.start + 1} to {batch.stop}" if len(batch) > 1 else f" {batch.stop}"
    return f"{analysis}, random vector{several} of {count}"


def batches(count: int, block: int) -> Iterator[range]:
    """The numbers 0 to count - 1 in batches of 1, 2, 4 and so on, up to `block`.

    The first batches are small, so that a run with a small budget has a result.

    Example:
        from eigencore_spectrum.probes import batches

        print([len(batch) for batch in batches(12, 5)])  # [1, 2, 4, 5]
    """
    begin, size = 0, 1
    while begin < count:
        end = min(begin + min(size, block), count)
        yield range(begin, end)
        begin, size = end, 2 * size
