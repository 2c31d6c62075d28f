"""Checks of the products that an operator returns: of their shape, finiteness and symmetry."""

from __future__ import annotations

import math
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
from eigencore.operators.conversion import is_inexact
from eigencore.solving.budget import Halt
from eigencore.solving.certificate import LARGEST_FLOOR

if TYPE_CHECKING:
    from eigencore.interfaces import Approximation, LinearOperator
    from eigencore.space import Array


class ProductChecks:
    """Requires that every product is finite, and that the first few agree with a symmetric operator.

    To test a product for finite numbers takes a transfer to the host, which waits for the device. It is not
    made for products from which other numbers are transferred anyway, because these show it: those of the
    core itself, and of solvers that declare `SolverEntry.refuses_non_finite`. They raise NotFiniteError, and
    `diagnosis` says which product it was.

    For symmetric A, u'Av = v'Au. Rounding violates this by up to 4e-8 of ||A|| in products that are computed
    in float32, even if they are returned as float64; asymmetric and random operators violate it by far more
    than the tolerance here, which for inexact operators is that of the largest floor. Products that are
    rounding errors themselves, of vectors that A maps to zero, are not compared.

    Args:
        operator: the operator whose products are checked.
        refused_by_solver: whether the solver refuses products that are not finite.
        approximation: what the operator is, if it is an approximation: it may be as asymmetric as an inexact
            operator.

    Attributes:
        norm: the largest ||A v|| / ||v|| that is known, a lower bound of ||A||.
    """

    COMPARISONS = 3
    norm = 0.0

    def __init__(
        self,
        operator: LinearOperator,
        *,
        refused_by_solver: bool = False,
        approximation: Approximation | None = None,
    ):
        self._space, self._eps = operator, arrays.eps(operator)
        self._tolerance = min(max(1e-4, 1000 * self._eps), 0.1)
        self._approximation = approximation
        self._inexact = approximation is not None or is_inexact(operator)
        if self._inexact:
            self._tolerance = max(self._tolerance, LARGEST_FLOOR)
        self._refused_by_solver = refused_by_solver
        self._reference: tuple[Array, Array] | None = None
        self._compared = 0
        self._products = 0
        self._untested: Array | None = None  # the vector of the last product, if that was not tested

    def after_sample(self, V: Array, AV: Array) -> None:
        """Checks the product of a minibatch, which belongs to another operator and is not compared."""
        with _operator_is_the_culprit():
            self._refuse_malformed(V, AV, test=not self._refused_by_solver)

    def after(self, V: Array, AV: Array) -> None:
        """Checks a product of the solver on the full data."""
        with _operator_is_the_culprit():
            self._refuse_malformed(V, AV, test=not self._refused_by_solver)
            self._refuse_asymmetric(V, AV)

    def after_own(self, V: Array, AV: Array) -> None:
        """Checks a product of the core itself, which refuses one that is not finite."""
        with _operator_is_the_culprit():
            self._refuse_malformed(V, AV, test=False)
            self._refuse_asymmetric(V, AV)

    def diagnosis(self) -> EigencoreError | None:
        """The error for the last product, which was found not to be finite; None if it is finite.

        Its culprit is the operator, or the solver if that had requested the product of such a vector.
        """
        if self._untested is None:
            return None
        return blame(self._not_finite(self._untested), Culprit.OPERATOR, OperatorError, "")

    def _refuse_malformed(self, V: Array, AV: Array, *, test: bool) -> None:
        self._products += 1 if V.ndim == 1 else V.shape[1]
        self._untested = None if test else V
        shape = getattr(AV, "shape", None)
        if shape != V.shape:
            found = f"is a {type(AV).__name__}" if shape is None else f"has shape {tuple(shape)}"
            raise OperatorError(f"a product {found}; expected an array of shape {tuple(V.shape)}")
        if not arrays.namespace(AV).isdtype(AV.dtype, "numeric"):
            raise OperatorError(f"a product can't be used: it contains {AV.dtype}; expected numbers")
        if test and not arrays.is_finite(AV, self._space):
            raise self._not_finite(V)

    def _refuse_asymmetric(self, V: Array, AV: Array) -> None:
        if self._compared < self.COMPARISONS:
            columns = (V,) if V.ndim == 1 else tuple(V[:, i] for i in range(V.shape[1]))
            images = (AV,) if V.ndim == 1 else tuple(AV[:, i] for i in range(V.shape[1]))
            for v, Av in zip(columns, images, strict=True):
                self._compare(v, Av)

    def _compare(self, v: Array, Av: Array) -> None:
        if self._reference is None:
            copy = self._space.xp.asarray
            self._reference = copy(v, copy=True), copy(Av, copy=True)
            return
        if self._compared == self.COMPARISONS:
            return
        u, Au = self._reference
        vectors = (u, Au, v, Av)
        quick = [arrays.quick_norm(one, self._space) for one in vectors]
        products = [arrays.total(one @ other, self._space) for one, other in ((u, Av), (v, Au))]
        numbers = [float(one) for one in arrays.to_host_at_once(*quick, *products)]
        sizes = [arrays.safe_norm(*one, self._space) for one in zip(numbers[:4], vectors, strict=True)]
        if not math.isfinite(sizes[3]):
            raise self._not_finite(v)
        self.norm = max(self.norm, sizes[1] / (sizes[0] or 1.0), sizes[3] / (sizes[2] or 1.0))
        defect = abs(numbers[4] - numbers[5])
        size = sizes[0] * sizes[3] + sizes[2] * sizes[1]
        rounding = 1000 * self._eps * self.norm * sizes[0] * sizes[2]
        if defect > max(self._tolerance * size, rounding):
            hint = (
                "The solvers need a symmetric operator. A loss that changes from product to product "
                "(dropout, a shuffling or augmenting data loader) has the same effect."
            )
            if self._inexact:
                hint += " So have products with a large error: take exact ones, or compute in float64."
            raise NotSymmetricError(
                f"the operator is not symmetric: relative asymmetry {defect / size:.1e} of u'Av and v'Au",
                hint=hint,
            )
        self._compared += 1
        if self._compared == self.COMPARISONS:
            self._reference = None

    def _not_finite(self, V: Array) -> EigencoreError:
        if not arrays.is_finite(V, self._space):
            return PluginError(
                f"the solver requested product {self._products} of a vector that is not finite",
                hint='Its vectors overflowed: try solver="lanczos", or dtype="float64".',
                culprit=Culprit.SOLVER,
            )
        if self._approximation is not None:
            return NotFiniteError(
                f"product {self._products} is not finite",
                hint=f"The {self._approximation.name} may overflow: {self._approximation.remedy}.",
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
