"""What watches a solve from outside the solver: budget, clock, Ctrl-C, and the products themselves."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.errors import NotFiniteError, NotSymmetricError, OperatorError

if TYPE_CHECKING:
    from eigencore.interfaces import Array, LinearOperator


class Ending(Enum):
    """Why the core stopped listening to a solver."""

    PASSED = "every pair passed"
    PRODUCTS = "max_matvecs"
    TIME = "max_seconds"
    INTERRUPTED = "interrupted"
    STALLED = "no progress"
    RETURNED = "the solver returned"


class Halt(BaseException):
    """Stops a solver from inside a product. Not an Exception, so that `except Exception` lets it pass."""

    def __init__(self, ending: Ending | None = None, error: OperatorError | None = None):
        super().__init__(ending or error)
        self.ending, self.error = ending, error


@dataclass
class Interruption:
    """Whether Ctrl-C was pressed."""

    pressed: bool = False


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Turns the first Ctrl-C into a flag, so that no solver is torn in the middle of a restart.

    A second one acts as it did before. The handler that was there is put back. Outside the main thread
    Python delivers no signals, and this does nothing.
    """
    flag = Interruption()
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield flag
        return

    def note(signum: int, frame: object) -> None:
        flag.pressed = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)


@dataclass
class Watch:
    """Budget, clock and Ctrl-C. `held_back` products are kept for the certificate."""

    max_matvecs: float | None
    max_seconds: float | None
    held_back: int
    flag: Interruption
    began: float = field(default_factory=time.monotonic)
    spent: float = 0.0

    def __post_init__(self) -> None:
        # A budget that the certificate alone would use up goes to the solver: an answer first.
        if self.max_matvecs is not None and self.max_matvecs <= self.held_back:
            self.held_back = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def over(self, columns: float = 1.0) -> Ending | None:
        """What forbids the solver that many further products, if anything does."""
        if self.flag.pressed:
            return Ending.INTERRUPTED
        if self.max_matvecs is not None and self.spent + columns > self.max_matvecs - self.held_back + 1e-9:
            return Ending.PRODUCTS
        if self.max_seconds is not None:
            held_back = self.held_back * self.seconds / max(self.spent, 1.0)
            if self.seconds + held_back > self.max_seconds:
                return Ending.TIME
        return None

    def before(self, columns: float) -> None:
        """The backstop within a product, for solvers that don't yield between products."""
        ending = self.over(columns)
        if ending is not None:
            raise Halt(ending)
        self.spent += columns

    def before_certificate(self, columns: float) -> None:
        if self.flag.pressed:
            raise Halt(Ending.INTERRUPTED)
        self.spent += columns

    def left(self) -> float:
        """Products that remain for the certificate."""
        return float("inf") if self.max_matvecs is None else self.max_matvecs - self.spent


class ProductGuard:
    """Looks at products: each must be finite, and the first few must fit a symmetric operator.

    For symmetric A, u'Av = v'Au. Rounding breaks this by up to 4e-8 of ||A|| in float32 products, also where
    they are dressed as float64; asymmetric and random operators by far more than what is allowed here.
    """

    COMPARISONS = 3

    def __init__(self, operator: LinearOperator):
        self._tolerance = min(max(1e-4, 1000 * arrays.eps(operator)), 0.1)
        self._copy = operator.xp.asarray
        self._reference: tuple[Array, Array] | None = None
        self._compared = 0
        self._products = 0

    def after_sample(self, V: Array, AV: Array) -> None:
        """For a minibatch's product too, which is another operator's."""
        self._products += 1 if V.ndim == 1 else V.shape[1]
        shape = getattr(AV, "shape", None)
        if shape != V.shape:
            told = f"is a {type(AV).__name__}" if shape is None else f"has shape {tuple(shape)}"
            raise Halt(error=OperatorError(f"a product {told}; expected an array {tuple(V.shape)}"))
        if not arrays.is_finite(AV):
            raise Halt(error=self._not_finite(V))

    def after(self, V: Array, AV: Array) -> None:
        self.after_sample(V, AV)
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
        defect = abs(arrays.scalar(u @ Av) - arrays.scalar(v @ Au))
        size = arrays.norm(u) * arrays.norm(Av) + arrays.norm(v) * arrays.norm(Au)
        if defect > self._tolerance * size:
            raise Halt(
                error=NotSymmetricError(
                    f"the operator is not symmetric: u'Av and v'Au differ by {defect / size:.1e} of it",
                    hint="Only symmetric operators have the eigenvalues meant here. A loss that changes from "
                    "product to product (dropout, a shuffling or augmenting loader) looks the same.",
                )
            )
        self._compared += 1
        if self._compared == self.COMPARISONS:
            self._reference = None

    def _not_finite(self, V: Array) -> NotFiniteError:
        if not arrays.is_finite(V):
            return NotFiniteError(
                f"product {self._products} was asked of a vector that is not finite",
                hint="The solver lost its numbers; try the solver lanczos, or float64.",
            )
        return NotFiniteError(
            f"product {self._products} is not finite",
            hint="Look for NaN or infinity in the weights or the data, or an overflow: try float64.",
        )
