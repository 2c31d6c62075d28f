"""A Lanczos basis with its pending directions: expansion, rotation, new directions.

Every method keeps the invariant A V' = V' T + P' C', with [V P] orthonormal. V, P, T and C are those of
`lanczos.py`:

    rows, on the device          T            C            on the host
    0      +-----------+         +-------+    +---+
           |     V     |         | x x   |    | 0 |        after an expansion, only the last vector is
           |           |         | x x x |    | 0 |        coupled to the pending direction; after a
    j      +-----------+         |   x x |    | x |        restart, T is diagonal and C is full
           |     P     |         +-------+    +---+
    j + p  +-----------+           j x j      j x p
           |  unused   |
           +-----------+
                 n

An expansion moves the first row of P to V, and its column of C to T. From its image w under A, the known
couplings are subtracted first, then one full Gram-Schmidt pass over V and P is made. If little of w remains,
it is repeated: "twice is enough". The criterion is from J. Daniel, W. Gragg, L. Kaufman and G. Stewart,
Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR factorization, Math. Comp. 30
(1976) 772-795; the proof from L. Giraud, J. Langou, M. Rozloznik and J. van den Eshof, Rounding error
analysis of the classical Gram-Schmidt orthogonalization process, Numer. Math. 101 (2005) 87-100.

The host decides on numbers that are brought over once per product: all overlaps and the norm together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import NotFiniteError
from eigencore.interfaces import LinearOperator
from eigencore.space import Array

if TYPE_CHECKING:
    from eigencore.space import Floats


# NumPy warns of infinity minus infinity; the norm that is tested afterwards shows it.
_NOT_FINITE_SHOWS_LATER = partial(np.errstate, over="ignore", invalid="ignore")


@dataclass
class Basis:
    """An orthonormal basis with the projected operator and the couplings to directions outside the basis.

    Attributes:
        operator: A, of shape (n, n).
        rows: V, then the pending directions P, then unused rows (capacity, n); on the device. Where vectors
            are shards, it has those columns of n that this process holds.
        T: V A V' (j, j), on the host.
        C: couplings of V to the pending directions (j, p).
        norm: the largest |Ritz value| so far, a lower bound of ||A||.
        restarts: the number of restarts so far.
        drawn: the number of random vectors so far.
        one_chain: whether all vectors come from one start vector by one recurrence.
        missed: directions (n,) that the core found, and that wait to be added.
        lent: whether a state refers to `rows`, which are then copied before they are changed.
    """

    operator: LinearOperator
    rows: Array
    T: Floats
    C: Floats
    norm: float = 0.0
    restarts: int = 0
    drawn: int = 0
    one_chain: bool = False
    missed: list[Array] = field(default_factory=list)
    lent: bool = False

    def __post_init__(self) -> None:
        # If not, every write copies all rows, and every new shape may be compiled: then all rows take part in
        # products, of which the unused ones are zero.
        self._in_place = arrays.writeable(self.operator)

    @property
    def size(self) -> int:
        return int(self.T.shape[0])

    @property
    def pending(self) -> int:
        return int(self.C.shape[1])

    @classmethod
    def from_start(cls, operator: LinearOperator, start: Array, m: int) -> Basis:
        """Returns an empty basis with room for m vectors; the start vectors are pending.

        Args:
            operator: A, of shape (n, n).
            start: a vector (n,) or a block (n, b).
            m: the size of a full basis.
        """
        n = operator.shape[0]
        columns = [start] if start.ndim == 1 else [start[:, i] for i in range(start.shape[1])]
        rows = arrays.zeros((min(n, m + len(columns)), arrays.local_rows(operator)), operator)
        empty = np.zeros((0, 0))
        basis = cls(operator, rows, empty, empty, one_chain=len(columns) == 1)
        for x in columns:
            basis.add(x)
        return basis

    def expand(self, apply: Callable[[Array], Array], index: int) -> float:
        """Multiplies one pending direction, at the cost of one product.

        The direction joins V. The part of its image that is orthogonal to V and P becomes pending.

        Args:
            apply: v -> A v.
            index: which pending direction to multiply.

        Returns:
            The norm of the new pending direction before it is normalised; 0.0 if there is none.

        Raises:
            NotFiniteError: the image is not finite. The basis is still that from before.
        """
        j, p = self.size, self.pending
        self._move_to_front(index)
        v = self.rows[j, :]
        w = apply(v)
        known = self.C[:, 0]
        # The first basis vector that is coupled to v: usually the previous one, but after a restart all are.
        first = int(np.flatnonzero(known)[0]) if np.any(known) else j
        first, end = (first, j + p) if self._in_place else (0, self.rows.shape[0])
        couplings = np.zeros(end - first)
        couplings[: j - first] = known[first:]
        with _NOT_FINITE_SHOWS_LATER():
            local = self._total(self.rows[j : j + p, :] @ w)
            coefficients = arrays.write(self._to_device(couplings), slice(j - first, j - first + p), local)
            # This makes a new array, because the operator may return an array that it keeps using. From here
            # on, w is changed in place.
            w = w - coefficients @ self.rows[first:end, :]
            w, overlaps = self._outside(w)
        # The only transfer to the host in an expansion, unless the pass is repeated.
        shared, removed, remaining = self._measured(w, local, overlaps)
        own = shared + removed[j : j + p]
        # If little of w remains, this remainder may still lie in the basis.
        while 0 < remaining < 10 * float(np.linalg.norm(removed)):
            w, overlaps = self._outside(w)
            before = remaining
            removed, remaining = self._measured(w, overlaps)
            if remaining < before / 2:
                continue
            break

        T = np.block([[self.T, known[:, None]], [known[None, :], own[:1, None]]])
        C = np.vstack([self.C[:, 1:], own[None, 1:]])
        self.norm = max(self.norm, abs(float(own[0])), float(np.max(np.abs(known), initial=0.0)))
        # If no more than this remains, it is rounding error: the space is invariant, and there is no new
        # direction.
        coupling = 0.0
        if remaining > 10 * arrays.eps(self.operator) * self.norm and j + p < self.operator.shape[0]:
            w /= remaining
            self._append(w)
            C = np.hstack([C, np.zeros((j + 1, 1))])
            C[j, -1] = coupling = remaining
        self.T, self.C = T, C
        return coupling

    def add(self, x: Array) -> float:
        """Adds a pending direction with zero couplings: the part of x that is orthogonal to V and P.

        Returns:
            The norm of that part for x of unit length; 0.0 if nothing remains, in which case nothing is
            added.
        """
        if self.size + self.pending == self.operator.shape[0]:
            return 0.0
        x, new, _ = self._new_part(x)
        if new:
            self._append(x)
            self.C = np.hstack([self.C, np.zeros((self.size, 1))])
        return new

    def add_missed(self, x: Array) -> int:
        """Adds a direction along a missed eigenvector, and returns the index of the one to multiply for it.

        That is the pending direction with the largest part of x: an earlier one may have most of it already,
        if rounding has led the recurrence to what was missed.
        """
        self.one_chain = False
        j, p = self.size, self.pending
        shared = np.abs(arrays.to_host(self._total(self.rows[j : j + p, :] @ x)))
        new = self.add(x) * arrays.norm(x, self.operator)
        parts = np.append(shared, new) if new else shared
        return int(np.argmax(parts)) if len(parts) else 0

    def add_random(self, seed: int) -> None:
        """Adds a random pending direction, a different one each time."""
        rng = arrays.generator(seed, "lanczos", self.drawn)
        self.one_chain = False
        self.drawn += 1
        self.add(arrays.random_normal(rng, self.operator.shape[:1], self.operator))

    def recover(self, apply: Callable[[Array], Array], index: int) -> int:
        """Computes a pending direction that is still zero from its couplings, at the cost of one product.

        Args:
            apply: v -> A v.
            index: the first pending direction that is zero; from its couplings on, the columns of C are
                orthogonal.

        Returns:
            The index of the next such direction: `index` again if only rounding error remained, in which
            case the direction is removed.

        Raises:
            NotFiniteError: the product is not finite.
        """
        j, column = self.size, self.C[:, index]
        size = float(np.linalg.norm(column))
        w = apply(self._to_device(column / size) @ self.rows[:j, :])
        x, new, length = self._new_part(w)
        if not new:
            self.C = np.delete(self.C, index, axis=1)
            return index
        self._write((j + index, slice(None)), x)
        self.C[:, index] *= new * length / size
        return index + 1

    def rotate(self, rotation: Floats, values: Floats) -> None:
        """Replaces V by S'V: in place where arrays can be written, and on a processor in chunks of columns.

        Args:
            rotation: S, eigenvectors of T, one per column (j, number of kept vectors).
            values: the eigenvalues that belong to them.
        """
        size, keep = rotation.shape
        p, n = self.pending, self.rows.shape[1]
        if self._in_place:
            S = self._to_device(rotation.T)
            width = arrays.CHUNK if arrays.on_processor(self.rows) else max(n, 1)
            for a in range(0, n, width):
                chunk = slice(a, min(n, a + width))
                self._write((slice(0, keep), chunk), S @ self.rows[:size, chunk])
            pending = self.operator.xp.asarray(self.rows[size : size + p, :], copy=True)
            self._write((slice(keep, keep + p), slice(None)), pending)
        else:
            whole = np.zeros((self.rows.shape[0], self.rows.shape[0]))
            whole[:keep, :size] = rotation.T
            whole[keep : keep + p, size : size + p] = np.eye(p)
            self.rows = self._to_device(whole) @ self.rows
        self.T = np.diag(values)
        self.C = rotation.T @ self.C
        self.restarts += 1

    def combine(self, coefficients: Floats) -> Callable[[], Array]:
        """Returns a function that forms V' S (n, k) for S (j, k); valid until the basis is rotated."""
        rows, size = self.rows, self.size
        if self._in_place:
            rows = rows[:size, :]
        padded = np.zeros((rows.shape[0], coefficients.shape[1]))
        padded[:size] = coefficients
        return lambda: rows.T @ self._to_device(padded)

    def _move_to_front(self, index: int) -> None:
        """Exchanges a pending direction and its couplings with the first ones."""
        if index == 0:
            return
        j = self.size
        first = self.operator.xp.asarray(self.rows[j, :], copy=True)
        self._write((j, slice(None)), self.rows[j + index, :])
        self._write((j + index, slice(None)), first)
        self.C[:, [0, index]] = self.C[:, [index, 0]]

    def _new_part(self, x: Array) -> tuple[Array, float, float]:
        """The part of x orthogonal to V and P, of unit length; its norm for x of unit length, or 0.0; ||x||.

        Raises:
            NotFiniteError: x is not finite.
        """
        used, length, new = self.size + self.pending, arrays.norm(x, self.operator), 1.0
        if not math.isfinite(length):
            raise NotFiniteError("a product is not finite")
        if length == 0:
            return x, 0.0, length
        x = x / length
        for _ in range(3 if used else 1):
            x, _ = self._outside(x)
            (remaining,) = self._measured(x)
            new *= remaining
            if new < 10 * arrays.eps(self.operator):
                return x, 0.0, length
            x = x / remaining
        return x, new, length

    def _outside(self, x: Array) -> tuple[Array, Array]:
        """x less its parts along the rows of V and P, and those parts. x is changed in place."""
        rows = self.rows[: self.size + self.pending, :] if self._in_place else self.rows
        parts = self._total(rows @ x)
        x -= parts @ rows
        return x, parts

    def _measured(self, w: Array, *parts: Array) -> tuple[Any, ...]:
        """Small arrays, and the norm of w, on the host, in one transfer.

        Raises:
            NotFiniteError: w is not finite.
        """
        *found, quick = arrays.to_host_at_once(*parts, arrays.quick_norm(w, self.operator))
        length = arrays.safe_norm(float(quick), w, self.operator)
        if not math.isfinite(length):
            raise NotFiniteError("a product is not finite")
        return *found, length

    def _total(self, x: Array) -> Array:
        return arrays.total(x, self.operator)

    def _append(self, x: Array) -> None:
        """Writes x after the last used row; allocates more rows if all are used."""
        used = self.size + self.pending
        if used == self.rows.shape[0]:
            room = arrays.zeros((4, self.rows.shape[1]), self.operator)
            self.rows = self.operator.xp.concat([self.rows, room], axis=0)
        self._write((used, slice(None)), x)

    def _write(self, index: Any, value: Array) -> None:
        if self.lent:
            self.rows, self.lent = self.operator.xp.asarray(self.rows, copy=True), False
        self.rows = arrays.write(self.rows, index, value)

    def _to_device(self, x: Floats) -> Array:
        return arrays.from_host(x, self.operator)
