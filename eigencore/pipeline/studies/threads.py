"""The number of threads that a row is computed with, so that it is the same on every start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# A library reads them when it is loaded; threadpoolctl changes those that are loaded already.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Numerical libraries use so many threads inside; sums are then always evaluated in the same order.

    With None, nothing is changed.
    """
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ |= dict.fromkeys(VARIABLES, str(threads))
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
