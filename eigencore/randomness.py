"""Random numbers: an independent stream for every seed, purpose and count."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, purpose: str, *count: int) -> np.random.Generator:
    """A generator whose stream depends on all arguments, and is independent of that of any other arguments.

    Streams must not repeat each other: a random vector that checks an answer proves nothing if it is the one
    that the answer was computed from. Keys such as `default_rng([seed, count])` are unsafe, because
    `default_rng([seed, 0])` is `default_rng(seed)`: trailing zeros are padding. Spawn keys are not padded.

    Args:
        seed: the seed of the run, at least 0.
        purpose: what the numbers are for, as in "start vector".
        count: how many streams were drawn for this purpose before.

    Example:
        from eigencore.randomness import generator

        first, second = (generator(0, "noise", count).standard_normal() for count in (0, 1))
        assert first != second
    """
    key = (crc32(purpose.encode()), *count)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
