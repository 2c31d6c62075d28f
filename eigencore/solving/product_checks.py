"""Checks of the products that an operator returns: of their shape, finiteness and symmetry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.errors import (
    Culprit,
    EigencoreError,
    NotFiniteError,
    NotSymmetricError,
    OperatorError,
    PluginError,
    blame,
)
from eigencore.solving.budget import Halt

if TYPE_CHECKING:
    from eigencore.interfaces import LinearOperator
    from eigencore.space import Array


class ProductChecks:
    """Requires that every product is finite, and that the first few agree with a symmetric operator.

    For symmetric A, u'Av = v'Au. Rounding violates this by up to 4e-8 of ||A|| in products that are computed
    in float32, even if they are returned as float64; asymmetric and random operators violate it by far more
    than the tolerance here. Products that are rounding errors themselves, of vectors that A maps to zero, are
    not compared.

    Attributes:
        norm: the largest ||A v|| / ||v|| that is known, a lower bound of ||A||.
    """

    COMPARISONS = 3
    norm = 0.0

    def __init__(self, operator: LinearOperator):
        self._eps = arrays.eps(operator)
        self._tolerance = min(max(1e-4, 1000 * self._eps), 0.1)
        self._copy = operator.xp.asarray
        self._reference: tuple[Array, Array] | None = None
        self._compared = 0
        self._products = 0

    def after_sample(self, V: Array, AV: Array) -> None:
        """Checks the product of a minibatch, which belongs to another operator and is not compared."""
        with _operator_is_the_culprit():
            self._refuse_malformed(V, AV)

    def after(self, V: Array, AV: Array) -> None:
        """Checks a product on the full data."""
        with _operator_is_the_culprit():
            self._refuse_malformed(V, AV)
            self._refuse_asymmetric(V, AV)

    def _refuse_malformed(self, V: Array, AV: Array) -> None:
        self._products += 1 if V.ndim == 1 else V.shape[1]
        shape = getattr(AV, "shape", None)
        if shape != V.shape:
            found = f"is a {type(AV).__name__}" if shape is None else f"has shape {tuple(shape)}"
            raise OperatorError(f"a product {found}; expected an array of shape {tuple(V.shape)}")
        if not arrays.is_finite(AV):
            raise self._not_finite(V)

    def _refuse_asymmetric(self, V: Array, AV: Array) -> None:
        if self._compared < self.COMPARISONS:
            columns = (V,) if V.ndim == 1 else tuple(V[:, i] for i in range(V.shape[1]))
            images = (AV,) if V.ndim == 1 else tuple(AV[:, i] for i in range(V.shape[1]))
            for v, Av in zip(columns, images, strict=True):
                self._compare(v, Av)

    def _compare(self, v: Array, Av: Array) -> None:
        if self._reference is None:
            self._reference = self._copy(v, copy=True), self._copy(Av, copy=True)
            return
        if self._compared == self.COMPARISONS:
            return
        u, Au = self._reference
        sizes = arrays.norm(u), arrays.norm(Au), arrays.norm(v), arrays.norm(Av)
        self.norm = max(self.norm, sizes[1] / (sizes[0] or 1.0), sizes[3] / (sizes[2] or 1.0))
        defect = abs(arrays.scalar(u @ Av) - arrays.scalar(v @ Au))
        size = sizes[0] * sizes[3] + sizes[2] * sizes[1]
        rounding = 1000 * self._eps * self.norm * sizes[0] * sizes[2]
        if defect > max(self._tolerance * size, rounding):
            raise NotSymmetricError(
                f"the operator is not symmetric: relative asymmetry {defect / size:.1e} of u'Av and v'Au",
                hint="The solvers need a symmetric operator. A loss that changes from product to product "
                "(dropout, a shuffling or augmenting data loader) has the same effect.",
            )
        self._compared += 1
        if self._compared == self.COMPARISONS:
            self._reference = None

    def _not_finite(self, V: Array) -> EigencoreError:
        if not arrays.is_finite(V):
            return PluginError(
                f"the solver requested product {self._products} of a vector that is not finite",
                hint='Its vectors overflowed: try solver="lanczos", or dtype="float64".',
                culprit=Culprit.SOLVER,
            )
        return NotFiniteError(
            f"product {self._products} is not finite",
            hint="Look for NaN or infinity in the weights or the data, for an overflow (try float64), or for "
            "an operation without a second derivative at zero, such as a norm.",
        )


@contextmanager
def _operator_is_the_culprit() -> Iterator[None]:
    """Halts the solver with the error of the enclosed checks; the solver must not be blamed for it."""
    try:
        yield
    except Exception as error:
        # Other exceptions than ours come from arrays of another library, or of objects.
        failure = blame(error, Culprit.OPERATOR, OperatorError, "a product can't be used")
        raise Halt(error=failure) from None
