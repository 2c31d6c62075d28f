"""Several solves whose products are computed together, such as those of the diagonal blocks of an operator.

Each solve runs in a thread of its own until it needs a product. When all of them wait for one, the calling
thread computes all products in one call, and they go on. A solve gives the same answer as on its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from eigencore.operators import FunctionOperator

if TYPE_CHECKING:
    from eigencore.space import Array, LinearOperator, Space

T = TypeVar("T")


def in_lockstep(
    solves: Sequence[Callable[[LinearOperator], T]],
    sizes: Sequence[int],
    space: Space,
    products: Callable[[Mapping[int, Array]], Mapping[int, Array]],
) -> list[T]:
    """What the solves return, in their order.

    Args:
        solves: each is called with an operator, from whose products it computes its result.
        sizes: the number of rows of each operator.
        space: the array library, data type and device of all operators.
        products: maps the blocks (n_i, b_i) that some of the solves wait for, by the number of the solve, to
            their products. It is called by the calling thread.

    Raises:
        BaseException: the first exception that a solve or `products` raised; the other solves are ended.

    Example:
        import numpy as np
        from eigencore import as_operator, solve
        from eigencore.solving.lockstep import in_lockstep

        matrices = [np.diag([3.0, 1.0]), np.diag([5.0, 4.0, 2.0])]
        results = in_lockstep(
            [lambda operator: solve(operator, k=1)] * 2,
            [2, 3],
            as_operator(matrices[0]),
            lambda wanted: {i: matrices[i] @ V for i, V in wanted.items()},
        )
        print([result.values for result in results])
    """
    return _Lockstep(solves, sizes, space).run(products)


class EndedError(Exception):
    """Another solve failed, so that this one is ended."""


class _Lockstep(Generic[T]):
    def __init__(self, solves: Sequence[Callable[[LinearOperator], T]], sizes: Sequence[int], space: Space):
        self._solves, self._sizes, self._space = solves, sizes, space
        self._changed = threading.Condition()
        self._wanted: dict[int, Array] = {}
        self._found: dict[int, Array] = {}
        self._results: dict[int, T] = {}
        self._failure: BaseException | None = None

    def run(self, products: Callable[[Mapping[int, Array]], Mapping[int, Array]]) -> list[T]:
        threads = [
            threading.Thread(target=self._solve, args=(i,), daemon=True) for i in range(len(self._solves))
        ]
        for thread in threads:
            thread.start()
        try:
            while wanted := self._next():
                found = products(wanted)
                with self._changed:
                    self._found.update(found)
                    self._changed.notify_all()
        except BaseException as error:  # Ctrl-C, too
            self._fail(error)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return [self._results[i] for i in range(len(self._solves))]

    def _next(self) -> dict[int, Array]:
        """The blocks that all unfinished solves wait for; empty once all have finished, or one has failed."""
        with self._changed:
            while self._failure is None and len(self._wanted) + len(self._results) < len(self._solves):
                self._changed.wait()
            wanted, self._wanted = self._wanted, {}
            # In an order that does not depend on which thread was first: several processes may compute them.
            return dict(sorted(wanted.items())) if self._failure is None else {}

    def _solve(self, i: int) -> None:
        n, space = self._sizes[i], self._space
        operator = FunctionOperator(
            lambda v: self._product(i, v[:, None])[:, 0],
            n,
            xp=space.xp,
            dtype=space.dtype,
            device=space.device,
            matmat=lambda V: self._product(i, V),
        )
        try:
            result = self._solves[i](operator)
        except BaseException as error:
            self._fail(error)
            return
        with self._changed:
            self._results[i] = result
            self._changed.notify_all()

    def _product(self, i: int, V: Array) -> Array:
        with self._changed:
            self._wanted[i] = V
            self._changed.notify_all()
            while i not in self._found:
                if self._failure is not None:
                    raise EndedError
                self._changed.wait()
            return self._found.pop(i)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._failure is None:
                self._failure = error
            self._changed.notify_all()
