"""The budget of a solve: products, seconds and Ctrl-C, and why the core stopped listening to a solver."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum

from eigencore.errors import OperatorError
from eigencore.solving.interrupt import Interruption


class Ending(Enum):
    """Why the core stopped listening to a solver."""

    PASSED = "every pair passed"
    PRODUCTS = "max_matvecs"
    TIME = "max_seconds"
    INTERRUPTED = "interrupted"
    STALLED = "no progress"
    RETURNED = "the solver returned"


class Halt(BaseException):
    """Stops a solver from inside a product. It is not an Exception, so that no solver catches it."""

    def __init__(self, ending: Ending | None = None, error: OperatorError | None = None):
        super().__init__(ending or error)
        self.ending, self.error = ending, error


@dataclass
class Budget:
    """Products, seconds and Ctrl-C.

    Attributes:
        max_matvecs: products at most, those of the certificate included; None: no limit.
        max_seconds: seconds at most; None: no limit.
        reserved: products that are reserved for the certificate.
        flag: whether Ctrl-C was pressed.
        spent: products so far, in full-data units.
    """

    max_matvecs: float | None
    max_seconds: float | None
    reserved: int
    flag: Interruption
    began: float = field(default_factory=time.monotonic)
    spent: float = 0.0

    def __post_init__(self) -> None:
        # A budget that the certificate alone would use up goes to the solver: an answer comes first.
        if self.max_matvecs is not None and self.max_matvecs <= self.reserved:
            self.reserved = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def refusal(self, columns: float = 1.0) -> Ending | None:
        """What forbids the solver that many further products, or None."""
        if self.flag.pressed:
            return Ending.INTERRUPTED
        if self.max_matvecs is not None and self.spent + columns > self.max_matvecs - self.reserved + 1e-9:
            return Ending.PRODUCTS
        if self.max_seconds is not None:
            reserved = self.reserved * self.seconds / max(self.spent, 1.0)
            if self.seconds + reserved > self.max_seconds:
                return Ending.TIME
        return None

    def before_product(self, columns: float) -> None:
        """Charges a product of the solver, or raises Halt: the backstop for solvers that yield rarely."""
        ending = self.refusal(columns)
        if ending is not None:
            raise Halt(ending)
        self.spent += columns

    def before_certificate(self, columns: float) -> None:
        """Charges a product of the certificate; only Ctrl-C forbids it."""
        if self.flag.pressed:
            raise Halt(Ending.INTERRUPTED)
        self.spent += columns

    def left(self) -> float:
        """Products that remain for the certificate."""
        return float("inf") if self.max_matvecs is None else self.max_matvecs - self.spent
