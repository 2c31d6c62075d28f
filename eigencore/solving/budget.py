"""What can stop a solve: its limits on products and time, and Ctrl-C; and the ways in which it can end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from eigencore.processes import ALONE, Processes
from eigencore.solving.clock import Clock, clock
from eigencore.solving.interrupt import Interruption

TIMED = 9  # the number of latest products whose median time is the time of a product


class Ending(Enum):
    """Why the core requested no further snapshots."""

    PASSED = "every pair passed"
    PRODUCTS = "max_matvecs"
    TIME = "max_seconds"
    INTERRUPTED = "interrupted"
    STALLED = "no progress"
    RETURNED = "the solver returned"
    FAILED = "something failed"
    IMPRECISE = "the error of approximate products"


class Halt(BaseException):
    """Stops a solver from inside a product, or an analysis from inside the caller's progress function.

    It is not an Exception, so that no solver catches it. `error` is the reason, if something failed.
    """

    def __init__(self, ending: Ending | None = None, error: BaseException | None = None):
        super().__init__(ending or error)
        self.ending, self.error = ending, error


@dataclass
class Budget:
    """What a solve may spend, and what it has spent.

    Attributes:
        max_matvecs: the maximum number of products, including those of the certificate; None: no limit.
        max_seconds: the maximum time; None: no limit.
        reserved: the products that are reserved for the certificate.
        flag: set when Ctrl-C is pressed.
        per_reserved: the time of each of them, if it is known and not that of the solver's products.
        began: the time at which the solve began, on the clock of the run.
        spent: the products so far, in full-data units.
        processes: those that stop together, as the clock of the first one and Ctrl-C in any of them decide.
        clock: the clock of the run (see `clock`).
    """

    max_matvecs: float | None
    max_seconds: float | None
    reserved: int
    flag: Interruption
    began: float = field(default_factory=lambda: clock()())
    spent: float = 0.0
    per_reserved: float = 0.0
    processes: Processes = ALONE
    clock: Clock = field(default_factory=clock)
    _product: tuple[float, float] | None = None  # the cost of the product being made, and when it began
    _timed: int = 0
    _times: dict[bool, deque[float]] = field(
        default_factory=lambda: {False: deque(maxlen=TIMED), True: deque(maxlen=TIMED)}
    )

    def __post_init__(self) -> None:
        # A budget that the certificate alone would use up goes to the solver: without an answer there is
        # nothing to certify.
        if self.max_matvecs is not None and self.max_matvecs <= self.reserved:
            self.reserved = 0

    @property
    def seconds(self) -> float:
        """The time since the solve began."""
        return self.clock() - self.began

    @property
    def seconds_per_product(self) -> float:
        """The measured time of one product; 0 as long as none but the first has been made.

        It is the median over the latest products with all data, or with minibatches if there are no others;
        a block of b columns counts as b products. The first product is left out, because it may include work
        that is done once, such as building the graphs that the others reuse.
        """
        times = self._times[False] or self._times[True]
        return median(times) if times else 0.0

    @property
    def seconds_reserved(self) -> float:
        """The time that is reserved for the certificate."""
        return self.reserved * (self.per_reserved or self.seconds_per_product)

    def refusal(self, columns: float = 1.0) -> Ending | None:
        """Why the solver may not make `columns` more products, or None if it may."""
        if self.processes.any(self.flag.pressed):
            return Ending.INTERRUPTED
        if self.max_matvecs is not None and self.spent + columns > self.max_matvecs - self.reserved + 1e-9:
            return Ending.PRODUCTS
        if self.max_seconds is not None:
            ahead = columns * self.seconds_per_product + self.seconds_reserved
            if self.processes.from_first(self.seconds + ahead) > self.max_seconds:
                return Ending.TIME
        return None

    def before_product(self, columns: float) -> None:
        """Charges products of the solver, or raises Halt, which also stops solvers that rarely yield."""
        ending = self.refusal(columns)
        if ending is not None:
            raise Halt(ending)
        self.spent += columns
        self._product = columns, self.clock()

    def after_product(self, *, sample: bool = False) -> None:
        """Measures the time of the product that `before_product` charged.

        Args:
            sample: whether it is one with a minibatch.
        """
        if self._product is None:
            return
        columns, began = self._product
        self._product = None
        self._timed += 1
        if self._timed > 1:
            self._times[sample].append((self.clock() - began) / columns)

    def before_certificate(self, columns: float) -> None:
        """Charges products of the certificate, which only Ctrl-C stops."""
        if self.processes.any(self.flag.pressed):
            raise Halt(Ending.INTERRUPTED)
        self.spent += columns

    def allows(self, columns: float) -> bool:
        """Whether the limits allow so many more products like the solver's, if no more are reserved."""
        ahead = columns * self.seconds_per_product
        end = 0.0 if self.max_seconds is None else self.processes.from_first(self.seconds + ahead)
        in_time = self.max_seconds is None or end <= self.max_seconds
        return in_time and columns <= self.left()

    def left(self) -> float:
        """The number of products that remain for the certificate."""
        return float("inf") if self.max_matvecs is None else self.max_matvecs - self.spent
