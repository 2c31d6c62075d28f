"""A Lanczos basis with its pending directions: expanding, rotating, adding, putting aside.

The invariant, kept by every method: A V' = V' T + P' C' + Q' D', with [V P] orthonormal. Q is what lies
outside V of the directions put aside while a fresh chain is followed: that chain may run into them, and what
they couple stays known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.interfaces import LinearOperator
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.space import Floats


@dataclass
class Basis:
    """V, P, T, C as in `lanczos.py`; `aside` and `D` as above. `norm` is the largest |Ritz value| seen."""

    operator: LinearOperator
    rows: Array
    T: Floats
    C: Floats
    aside: tuple[Array, ...]
    D: Floats
    norm: float = 0.0
    restarts: int = 0

    @property
    def size(self) -> int:
        return int(self.T.shape[0])

    @property
    def pending(self) -> int:
        return int(self.C.shape[1])

    @property
    def couplings(self) -> Floats:
        return np.hstack([self.C, self.D])

    @classmethod
    def begin(cls, operator: LinearOperator, start: Array | None, rng: np.random.Generator, m: int) -> Basis:
        """An empty basis with room for m vectors; the start vectors (random: one) are pending."""
        n = operator.shape[0]
        start = arrays.random_normal(rng, (n,), operator) if start is None else start
        block = [start] if start.ndim == 1 else [start[:, i] for i in range(start.shape[1])]
        rows = arrays.zeros((min(n, m + len(block)), n), operator)
        empty = np.zeros((0, 0))
        basis = cls(operator, rows, empty, empty, (), empty)
        for x in block:
            basis.add(x)
        return basis

    def resume(self, operator: LinearOperator) -> Basis:
        """The same basis for the same operator, asked through another wrapper.

        Raises:
            UsageError: it comes from vectors of another length or data type.
        """
        if operator.shape[0] != self.rows.shape[1] or operator.dtype != self.rows.dtype:
            raise UsageError("this state comes from an operator of another size or data type")
        self.operator = operator
        return self

    def expand(self, apply: Callable[[Array], Array], chosen: int) -> None:
        """One product: the chosen pending direction joins V, and what is new of its image is pending."""
        j, p = self.size, self.pending
        self._bring_forward(chosen)
        v = self.rows[j, :]
        w = apply(v)
        known = self.C[:, 0]
        if self.aside:
            known = known + self.D @ np.array([arrays.scalar(q @ v) for q in self.aside])
        local = self.rows[j : j + p, :] @ w
        # The first basis vector that is coupled: the one before, but after a restart all are.
        first = int(np.flatnonzero(known)[0]) if np.any(known) else j
        near = self.operator.xp.concat([self._host(known[first:]), local])
        # In place from here on: w is ours now, and was not before (an operator may hand out its own array).
        w = w - near @ self.rows[first : j + p, :]
        everything = self.rows[: j + p, :]
        full = everything @ w
        w -= full @ everything
        seen, rest = arrays.to_host(full), arrays.norm(w)
        own = arrays.to_host(local) + seen[j:]
        # Where little is left, that little may lie in the basis still.
        while 0 < rest < 10 * float(np.linalg.norm(seen)):
            full = everything @ w
            w -= full @ everything
            seen, before = arrays.to_host(full), rest
            rest = arrays.norm(w)
            if rest < before / 2:
                continue
            break

        self.T = np.block([[self.T, known[:, None]], [known[None, :], own[:1, None]]])
        self.norm = max(self.norm, abs(float(own[0])), float(np.max(np.abs(known), initial=0.0)))
        self.C = np.vstack([self.C[:, 1:], own[None, 1:]])
        self.D = np.vstack([self.D, np.zeros((1, len(self.aside)))])
        # Rounding leaves about this much of nothing: the space is invariant, and there is no new direction.
        if rest > 10 * arrays.eps(self.operator) * self.norm and j + p < self.rows.shape[1]:
            w /= rest
            self._append(w)
            self.C = np.hstack([self.C, np.zeros((j + 1, 1))])
            self.C[j, -1] = rest

    def add(self, x: Array) -> float:
        """A further pending direction, coupled to nothing: x, less what lies in [V P].

        Returns the part of a unit x that was new; 0.0 where there was none and nothing was added.
        """
        used = self.size + self.pending
        length = arrays.norm(x)
        if length == 0 or used == self.rows.shape[1]:
            return 0.0
        x, new = x / length, 1.0
        for _ in range(3):
            x = x - (self.rows[:used, :] @ x) @ self.rows[:used, :]
            rest = arrays.norm(x)
            new *= rest
            if new < 10 * arrays.eps(self.operator):
                return 0.0
            x = x / rest
        self._append(x)
        self.C = np.hstack([self.C, np.zeros((self.size, 1))])
        return new

    def rotate(self, rotation: Floats, values: Floats) -> None:
        """V := S'V for eigenvectors S of T, in place, a chunk of columns at a time."""
        size, keep = rotation.shape
        p, n = self.pending, self.rows.shape[1]
        turn = self._host(rotation.T)
        for a in range(0, n, arrays.CHUNK):
            chunk = slice(a, min(n, a + arrays.CHUNK))
            self.rows = arrays.write(self.rows, (slice(0, keep), chunk), turn @ self.rows[:size, chunk])
        for i in range(p):
            self.rows = arrays.write(self.rows, (keep + i, slice(None)), self.rows[size + i, :])
        self.T = np.diag(values)
        self.C, self.D = rotation.T @ self.C, rotation.T @ self.D
        self.restarts += 1

    def put_aside(self) -> None:
        """Pending directions step out: a fresh chain must be free to run into them.

        Orthogonal to them it could miss a copy, of which rounding leaves a part there.
        """
        size, p = self.size, self.pending
        copy = self.operator.xp.asarray
        self.aside += tuple(copy(self.rows[size + i, :], copy=True) for i in range(p))
        self.D = np.hstack([self.D, self.C])
        self.C = np.zeros((size, 0))

    def take_back(self) -> None:
        """Directions put aside are pending again, less what V and P have of them by now."""
        aside, D = self.aside, self.D
        self.aside, self.D = (), np.zeros((self.size, 0))
        for q, coupling in zip(aside, D.T, strict=True):
            shared = arrays.to_host(self.rows[self.size : self.size + self.pending, :] @ q)
            self.C = self.C + np.outer(coupling, shared)
            new = self.add(q)
            if new:
                self.C[:, -1] = new * coupling

    def _bring_forward(self, chosen: int) -> None:
        if chosen == 0:
            return
        j = self.size
        first = self.operator.xp.asarray(self.rows[j, :], copy=True)
        self.rows = arrays.write(self.rows, (j, slice(None)), self.rows[j + chosen, :])
        self.rows = arrays.write(self.rows, (j + chosen, slice(None)), first)
        self.C[:, [0, chosen]] = self.C[:, [chosen, 0]]

    def _append(self, x: Array) -> None:
        used = self.size + self.pending
        if used == self.rows.shape[0]:
            room = arrays.zeros((4, self.rows.shape[1]), self.operator)
            self.rows = self.operator.xp.concat([self.rows, room], axis=0)
        self.rows = arrays.write(self.rows, (used, slice(None)), x)

    def _host(self, x: Floats) -> Array:
        return arrays.from_host(x, self.operator)
