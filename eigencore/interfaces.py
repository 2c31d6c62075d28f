"""What plugins implement or fill in: the entries they register, and the protocols behind them.

Shapes: a vector is flat `(n,)`, a block is `(n, b)`, a column a vector; a batch of samples is `(b, d)`, a row
a sample. `Array` stands for an array of any library of the Python array API; numbers on the host are NumPy
float64.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from eigencore.request import Request
    from eigencore.results import AnalysisResult, AttackResult, EigenResult

    Floats: TypeAlias = npt.NDArray[np.float64]

Array: TypeAlias = Any


# -- operators ---------------------------------------------------------------------------------------------


class Space(Protocol):
    """Where arrays live: their library, data type and device."""

    @property
    def xp(self) -> Any:
        """The array-API namespace."""

    @property
    def dtype(self) -> Any: ...
    @property
    def device(self) -> Any: ...


class LinearOperator(Space, Protocol):
    """A symmetric linear map on the flat vectors of a space."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def matvec(self, v: Array, /) -> Array:
        """A v, for v of shape (n,). The cost unit: one product."""

    def matmat(self, V: Array, /) -> Array:
        """A V, for V of shape (n, b): b products."""


@runtime_checkable
class MinibatchOperator(LinearOperator, Protocol):
    """An operator that is a mean over data, and can be had from a sample of it."""

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """An unbiased operator from `batches` random batches, and their share of the data (0 to 1)."""


# -- solvers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """What a solver has after one more product: at most k Ritz pairs, in the request's order.

    `residuals` are the solver's own estimates of ||A v - theta v||. `vectors` forms the (n, len(values))
    block when called; it is good until the solver is asked for its next snapshot. `norm` is the largest
    |Ritz value| seen, a lower bound of ||A||. `settled` is False while the solver still looks for what it
    may have missed. `notes` are facts to tell. `state` is what the solver can later go on from.
    """

    values: Floats
    residuals: Floats
    vectors: Callable[[], Array]
    norm: float
    settled: bool = True
    notes: tuple[str, ...] = ()
    restarts: int = 0
    state: object = None


class Solver(Protocol):
    """Yields a Snapshot after every product and again after every restart, before the next product.

    It goes on for as long as it is asked, and returns only when there is nothing left to find. It prints
    nothing, counts nothing, keeps no clock and knows no budget: the core does, and closes the generator.
    """

    def __call__(
        self, operator: LinearOperator, request: Request, options: Any, *, state: Any = None
    ) -> Generator[Snapshot, None, None]: ...


# -- problems and backends ---------------------------------------------------------------------------------


class Capability(StrEnum):
    """What a bound problem may offer, and an entry may need."""

    PRODUCTS = "products"
    MINIBATCHES = "minibatches"
    WEIGHT_LOSS = "weight_loss"
    LOGITS = "logits"
    INPUT_GRADIENT = "input_gradient"
    INPUT_PRODUCTS = "input_products"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is studied: a model with its data and loss, or an operator as it is.

    `data` can be iterated again and again. A pair batch (x, y) means loss(model(x), y); any other batch
    means loss(model, batch). The operator is that of the loss over all data at once.

    Attributes:
        validation: data like `data`, not used for the operator.
        bounds: the lowest and highest value that an input may take.
        reduction: "mean" or "sum" over a batch, or "infer": measured.
        weight: batch -> float, for losses that are neither.
        checkpoint: a file of weights that stand for the model's own; the model itself is left as it is.
        operator: a matrix, or anything `as_operator` takes; then model, data and loss stay out.
        spectrum: the exact eigenvalues, where they are known.
        backend: the backend that this problem is written for, where it is written for one.
        description: a line for people: the model, its size, the data.
    """

    model: Any = None
    data: Any = None
    loss: Any = None
    validation: Any = None
    bounds: tuple[float, float] | None = None
    name: str | None = None
    reduction: str = "infer"
    weight: Callable[[Any], float] | None = None
    checkpoint: str | Path | None = None
    operator: Any = None
    spectrum: Floats | None = None
    backend: str | None = None
    description: str = ""


class Objective(Protocol):
    """A number for each sample, of its logits (b, c) and label (b,); `eigencore.objectives` has some.

    It is written in array-API functions, so that a backend may differentiate through `value` or use the
    derivatives with respect to the logits that it gives itself.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        """(b,)"""

    def grad(self, logits: Array, y: Array, /) -> Array:
        """(b, c)"""

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(b, c), each sample's Hessian times its row of v (b, c)."""


class Classifier(Space, Protocol):
    """A network from inputs to logits, in evaluation mode. Inputs are rows, whatever their shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input; d is its size."""

    @property
    def classes(self) -> int: ...
    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and highest value that an input may take, where the problem says."""

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        """The first `most` samples, inputs (N, d) and labels (N,); validation data if there are any."""

    def logits(self, x: Array, /) -> Array:
        """(b, c), for inputs (b, d)."""

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        """The Hessians of the samples' objectives over their inputs, all at once, as a map of rows (b, d).

        What its products share is kept for as long as the map is.
        """


class Parameter(NamedTuple):
    """One parameter in the flat vector of weights: where it lies, and the norm of its weights."""

    name: str
    where: slice
    norm: float


class Bound(Protocol):
    """A problem on a backend. Every call leaves model, gradients, buffers and random state as they were.

    What is not among its capabilities raises CapabilityError. `params` is a glob of the parameters that a
    direction is over; None: all that are trainable.
    """

    @property
    def capabilities(self) -> frozenset[Capability]: ...
    @property
    def description(self) -> str:
        """For people: the library with its version, device and data type."""

    def operator(self, kind: str = "hessian", params: str | None = None) -> LinearOperator:
        """The operator of a kind, over the parameters whose names match the glob `params`."""

    def classifier(self, dtype: str | None = None) -> Classifier:
        """The model as a classifier (LOGITS, INPUT_GRADIENT, INPUT_PRODUCTS); dtype: of a copy."""

    def loss(self, direction: Array | None = None, params: str | None = None) -> float:
        """The loss over all data at weights + direction (n,) (WEIGHT_LOSS)."""

    def sample_curvature(
        self, objective: Objective, direction: Array, x: Array, y: Array, params: str | None = None
    ) -> Array:
        """v'H_s v (b,) of each sample's objective over the weights, along the direction v (WEIGHT_LOSS)."""

    def layout(self, params: str | None = None) -> tuple[Parameter, ...]:
        """What lies where in a direction (WEIGHT_LOSS)."""


class Backend(Protocol):
    def __call__(
        self, problem: Problem, options: Any, *, device: str | None = None, dtype: str | None = None
    ) -> Bound: ...


# -- attacks -----------------------------------------------------------------------------------------------


class Attack(Protocol):
    """Looks for inputs near x that are classified as something other than y.

    It grades nothing and counts nothing: the core counts passes, and evaluates what comes back.
    """

    def __call__(
        self, classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        """Inputs like x (b, d), inside the classifier's bounds.

        Args:
            x, y: correctly classified inputs and their labels (b,).
            eps: the radius of the ball around each row of x; None for an attack of goal "min_norm".
        """


# -- analyses ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnalysisContext:
    """What an analysis may use of everything else.

    `kind` and `params` are those of the operator whose eigenpairs `eigen` holds. `attack` is the core's own,
    on `bound`; so are `solve` and `load`. `folder` is where the run is written, if it is; `progress` takes
    a line of text.
    """

    problem: Problem
    bound: Bound
    eigen: EigenResult
    kind: str
    params: str | None
    attack: Callable[..., AttackResult]
    solve: Callable[..., EigenResult]
    load: Callable[[Path], Any]
    seed: int
    progress: Callable[[str], None]
    folder: Path | None = None


class Analysis(Protocol):
    """Yields results, each more complete than the one before; the last one counts.

    `context.eigen` may hold fewer than k pairs, and pairs that did not converge.
    """

    def __call__(
        self, context: AnalysisContext, options: Any, /
    ) -> Generator[AnalysisResult, None, None]: ...


# -- entries: what a plugin's hooks return -----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A light record of one thing a plugin brings; nothing is imported until it is used.

    Attributes:
        name: unique across kinds; what `--solver` and `--set NAME.OPTION=VALUE` take.
        summary: one line for the listings.
        load: import string "module:attribute" of the thing itself.
        options: import string of its options, a frozen dataclass (see `eigencore.options`).
        needs: what the bound problem must offer.
        extra: the pip extra that brings what it imports, as in "eigencore[torch]".
    """

    name: str
    summary: str
    load: str
    options: str | None = None
    needs: frozenset[Capability] = field(default_factory=frozenset)
    extra: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProblemEntry(Entry):
    """`load` is a factory: keywords -> Problem."""


@dataclass(frozen=True, kw_only=True)
class BackendEntry(Entry):
    """`load` is a Backend.

    Attributes:
        kinds: the operators it makes.
        checkpoints: it reads a problem's checkpoint.
    """

    kinds: tuple[str, ...]
    checkpoints: bool = False


@dataclass(frozen=True, kw_only=True)
class SolverEntry(Entry):
    """`load` is a Solver.

    Attributes:
        which: the ends of the spectrum it can find.
        warm_start: it uses a block of start vectors.
        partial: it yields as it goes; otherwise once, at the end.
        on_device: it runs where the operator's arrays live; otherwise on the host.
    """

    which: tuple[str, ...] = ("LM", "LA", "SA", "BE")
    warm_start: bool = True
    partial: bool = True
    on_device: bool = True


@dataclass(frozen=True, kw_only=True)
class AttackEntry(Entry):
    """`load` is an Attack.

    Attributes:
        goal: "fixed_eps" or "min_norm".
        norms: those it can bound, "Linf" and "L2"; its option `norm` chooses where there are two.
    """

    goal: str
    norms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnalysisEntry(Entry):
    """`load` is an Analysis."""


@dataclass(frozen=True, kw_only=True)
class CommandEntry(Entry):
    """`load` is a click command."""
