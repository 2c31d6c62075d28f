"""The largest eigenpairs of each sample's Hessian over its input, for all samples of a batch at once.

A block Lanczos process (Golub and Underwood 1977) runs on all samples: each row is a sample, one product
multiplies the Hessian of each sample with that sample's vector, and each row has its own recurrence, fully
reorthogonalised. A row whose Krylov space is exhausted continues at zero while the others go on. A block of k
vectors finds eigenvalues that occur up to k times; the process of a single vector finds one copy of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats, Space

TOL = 1e-3  # residual over eigenvalue; the relative error of the eigenvalue is then about its square
TILT = 0.05  # the largest sine of the angle between a span and that of the eigenvectors
MAX_PRODUCTS = 200
MAX_PRODUCTS_FOR_SPANS = 100  # equal eigenvalues, which leave a span undetermined, would take all products
CHECK_INTERVAL = 4  # products
ROOM = 16  # vectors that a basis has room for at first; then twice as many, and so on


@dataclass(frozen=True)
class LargestEigenpairs:
    """The largest eigenvalues of each row, in decreasing order.

    In a space of fewer than k dimensions, the last values are minus infinity and their vectors zero.

    Attributes:
        values, residuals: the Ritz values (b, k), and ||H v - theta v|| of their vectors, on the host.
        vectors: the Ritz vectors (b, k, d), as rows.
        zero: up to this number (b,), an eigenvalue counts as zero: rounding, relative to the largest product.
        products: the number of products.
    """

    values: Floats
    residuals: Floats
    vectors: Array
    zero: Floats
    products: int

    def ranks(self, k: int) -> npt.NDArray[np.intp]:
        """Returns how many of the first k eigenvalues of each row are positive (b,)."""
        return np.asarray(_ranks(self.values, self.zero, k))

    def span(self, k: int) -> Array:
        """Returns the first k eigenvectors (b, k, d), zero where the eigenvalue is not positive."""
        kept = np.arange(k)[None, :] < self.ranks(k)[:, None]
        xp = arrays.namespace(self.vectors)
        vectors = self.vectors[:, :k, :]
        mask = xp.asarray(kept, device=arrays.device_of(vectors))
        return xp.where(mask[:, :, None], vectors, xp.zeros_like(vectors))

    def tilts(self, k: int) -> Floats:
        """Returns a bound (b,) on the sine of the largest angle between `span(k)` and the exact one.

        k is below the number of pairs.
        It is the norm of the residuals over the distance to the next eigenvalue (Davis and Kahan 1970, the
        sin theta theorem). It is large or infinite where that eigenvalue equals the last one of the span, so
        that the vectors of the span are arbitrary.
        """
        return _tilts(self.values, self.residuals, self.zero, self.ranks(k))


def largest_eigenpairs(
    product: Callable[[Array], Array],
    shape: tuple[int, int],
    space: Space,
    seed: int,
    *,
    k: int = 1,
    spans: Sequence[int] = (),
) -> LargestEigenpairs:
    """Returns the k largest eigenpairs of each row's symmetric map.

    The process ends once the residual of the first pair is at most TOL times its eigenvalue, and the tilt of
    each span at most TILT. Both count as reached at the level of rounding, relative to the largest product
    seen in the row, and after as many products as there are dimensions or MAX_PRODUCTS; a span is given up
    after MAX_PRODUCTS_FOR_SPANS.

    Args:
        product: multiplies every row of an array of this shape with the matrix of its sample.
        shape: (samples, d).
        space: the array library, data type and device.
        seed: seed of the start vectors.
        k: the size of a block, which is the number of pairs.
        spans: numbers of first eigenvectors, below k, whose span is to be determined.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore_robustness.over_inputs.input_eigenpairs import largest_eigenpairs

        H = np.diag([3.0, 3.0, 1.0, -5.0])
        space = as_operator(H)
        pairs = largest_eigenpairs(lambda v: v @ H, (2, 4), space, seed=0, k=3, spans=(2,))
        print(pairs.values, pairs.tilts(2), pairs.span(2).shape)
    """
    (samples, d), xp = shape, space.xp
    rng = arrays.generator(seed, "input curvature")
    rest = xp.stack([arrays.random_normal(rng, shape, space) for _ in range(k)], axis=1)
    basis, rounding = _RowBases(space, samples, d), 10 * arrays.eps(space) * d**0.5
    size = np.zeros(samples)
    floor = rounding * arrays.to_host(xp.linalg.vector_norm(rest[:, 0, :], axis=1))
    T, present = np.zeros((samples, 0, 0)), np.zeros((samples, 0), dtype=bool)
    limit = min(d, MAX_PRODUCTS)
    while True:
        norms = basis.extend(rest, arrays.from_host(floor, space))
        present = np.concatenate([present, norms > 0], axis=1)
        m, rows = basis.size, basis.rows
        images = xp.stack([product(rows[:, j, :]) for j in range(m - k, m)], axis=1)
        size = np.maximum(size, np.max(arrays.to_host(xp.linalg.vector_norm(images, axis=2)), axis=1))
        floor = rounding * size
        couplings = xp.matmul(rows, xp.permute_dims(images, (0, 2, 1)))
        rest = images - xp.matmul(xp.permute_dims(couplings, (0, 2, 1)), rows)
        T = _bordered(T, arrays.to_host(couplings)[:, :m, :])
        last = m >= limit or not norms.any()
        if not last and m // CHECK_INTERVAL == (m - k) // CHECK_INTERVAL:
            continue
        values, S = _ritz(T, present, k)
        of_rest = arrays.from_host(np.ascontiguousarray(S[:, -k:, :].transpose(0, 2, 1)), space)
        residuals = arrays.to_host(xp.linalg.vector_norm(xp.matmul(of_rest, rest), axis=2))
        sought = spans if m < MAX_PRODUCTS_FOR_SPANS else ()
        if last or _converged(values, residuals, floor, sought):
            return LargestEigenpairs(values, residuals, basis.combine(S), floor, m)


class _RowBases:
    """The orthonormal vectors of each row, in an array with room for more.

    Attributes:
        size: the number m of vectors of a row.
    """

    def __init__(self, space: Space, samples: int, d: int):
        self._space, self.size = space, 0
        self._memory = arrays.zeros((samples, min(ROOM, d), d), space)
        self._in_place = arrays.writeable(space)

    @property
    def rows(self) -> Array:
        """The vectors (b, m, d); with further ones, which are zero, where every shape would be compiled."""
        return self._memory[:, : self.size, :] if self._in_place else self._memory

    def extend(self, rest: Array, floor: Array) -> Floats:
        """Adds the rest (b, k, d), orthonormalised, and returns the norms (b, k) that it had before.

        A vector whose norm is at most the floor (b,) becomes zero, and so does its norm.
        """
        xp, norms = self._space.xp, []
        for j in range(rest.shape[1]):
            w, rows = rest[:, j : j + 1, :], self.rows
            for _ in range(2):  # a single pass leaves rounding errors
                w = w - xp.matmul(xp.matmul(w, xp.permute_dims(rows, (0, 2, 1))), rows)
            norm = xp.linalg.vector_norm(w, axis=2)
            zero = norm <= floor[:, None]
            divisor = xp.where(zero, xp.ones_like(norm), norm)
            w = xp.where(zero[:, :, None], xp.zeros_like(w), w / divisor[:, :, None])
            self._append(w[:, 0, :])
            norms.append(arrays.to_host(xp.where(zero, xp.zeros_like(norm), norm)))
        return np.concatenate(norms, axis=1)

    def combine(self, S: Floats) -> Array:
        """The combinations (b, k, d) of the vectors with coefficients S (b, m, k)."""
        rows = self.rows
        coefficients = np.zeros((S.shape[0], S.shape[2], rows.shape[1]))
        coefficients[:, :, : self.size] = S.transpose(0, 2, 1)
        return self._space.xp.matmul(arrays.from_host(coefficients, self._space), rows)

    def _append(self, w: Array) -> None:
        if self.size == self._memory.shape[1]:
            more = arrays.zeros(self._memory.shape, self._space)
            self._memory = self._space.xp.concat([self._memory, more], axis=1)
        self._memory = arrays.write(self._memory, (slice(None), self.size, slice(None)), w)
        self.size += 1


def _bordered(T: Floats, couplings: Floats) -> Floats:
    """Returns the projected matrices (b, m, m).

    Args:
        T: those without the last k vectors (b, m - k, m - k).
        couplings: the products with the last k vectors, projected (b, m, k).
    """
    (samples, m, _), old = couplings.shape, T.shape[1]
    bordered = np.zeros((samples, m, m))
    bordered[:, :old, :old] = T
    bordered[:, :, old:] = couplings
    bordered[:, old:, :] = couplings.transpose(0, 2, 1)
    corner = couplings[:, old:, :]
    bordered[:, old:, old:] = (corner + corner.transpose(0, 2, 1)) / 2
    return bordered


def _ritz(T: Floats, present: npt.NDArray[np.bool_], k: int) -> tuple[Floats, Floats]:
    """Returns the k largest Ritz values (b, k), and their vectors (b, m, k) over the basis.

    Args:
        T: the projected matrices (b, m, m).
        present: which vectors of the basis are not zero (b, m). The others have no Ritz value.
    """
    T = T.copy()
    rows, absent = np.nonzero(~present)
    # Below all Ritz values, so that they come last.
    T[rows, absent, absent] = -1 - 2 * np.abs(T).sum(axis=(1, 2))[rows]
    values, S = np.linalg.eigh(T)
    values, S = values[:, ::-1][:, :k], S[:, :, ::-1][:, :, :k]
    missing = np.arange(k)[None, :] >= present.sum(axis=1)[:, None]
    return np.where(missing, -np.inf, values), np.where(missing[:, None, :], 0.0, S)


def _converged(values: Floats, residuals: Floats, zero: Floats, spans: Sequence[int]) -> bool:
    if not np.all(residuals[:, 0] <= np.maximum(TOL * np.abs(values[:, 0]), zero)):
        return False
    for k in spans:
        exact = np.max(residuals[:, :k], axis=1) <= zero
        if not np.all(exact | (_tilts(values, residuals, zero, _ranks(values, zero, k)) <= TILT)):
            return False
    return True


def _ranks(values: Floats, zero: Floats, k: int) -> npt.NDArray[np.intp]:
    return np.asarray(np.sum(values[:, :k] > zero[:, None], axis=1))


def _tilts(values: Floats, residuals: Floats, zero: Floats, ranks: npt.NDArray[np.intp]) -> Floats:
    rows = np.arange(len(values))
    inside = np.arange(values.shape[1])[None, :] < ranks[:, None]
    # Residuals are known up to rounding, so that eigenvalues closer than that are equal.
    norm = np.maximum(np.sqrt(np.sum(np.where(inside, residuals, 0.0) ** 2, axis=1)), zero)
    # A Ritz value is at most its eigenvalue; the residual bounds by how much an eigenvalue near it is larger.
    following = values[rows, ranks] + residuals[rows, ranks]
    gap = values[rows, np.maximum(ranks - 1, 0)] - following
    tilt = np.divide(norm, gap, out=np.full(len(values), np.inf), where=gap > 0)
    return np.where(ranks == 0, 0.0, tilt)
