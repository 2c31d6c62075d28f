"""What plugins implement: operators, solvers, backends, classifiers, attacks and analyses.

Shapes: a vector is flat `(n,)`; a block is `(n, b)`, one vector per column; a batch of samples is `(b, d)`,
one sample per row. An `Array` is of any library with the Python array API; host numbers are NumPy float64."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.entries import AnalysisEntry as AnalysisEntry
from eigencore.entries import AttackEntry as AttackEntry
from eigencore.entries import BackendEntry as BackendEntry
from eigencore.entries import Capability as Capability
from eigencore.entries import CommandEntry as CommandEntry
from eigencore.entries import Entry as Entry
from eigencore.entries import KindEntry as KindEntry
from eigencore.entries import ProblemEntry as ProblemEntry
from eigencore.entries import RendererEntry as RendererEntry
from eigencore.entries import SolverEntry as SolverEntry
from eigencore.findings import Renderer as Renderer
from eigencore.processes import Processes as Processes
from eigencore.space import ApproximatedOperator as ApproximatedOperator
from eigencore.space import Approximation as Approximation
from eigencore.space import Array as Array
from eigencore.space import BlockedOperator as BlockedOperator
from eigencore.space import CachingOperator as CachingOperator
from eigencore.space import InexactOperator as InexactOperator
from eigencore.space import LinearOperator as LinearOperator
from eigencore.space import MeanOperator as MeanOperator
from eigencore.space import MinibatchOperator as MinibatchOperator
from eigencore.space import NotedOperator as NotedOperator
from eigencore.space import Parameter as Parameter
from eigencore.space import Params as Params
from eigencore.space import Pattern as Pattern
from eigencore.space import SampleMean as SampleMean
from eigencore.space import ShardedSpace as ShardedSpace
from eigencore.space import Space as Space

if TYPE_CHECKING:
    from pathlib import Path

    from eigencore.news import Progress
    from eigencore.request import Request
    from eigencore.results import AnalysisResult, AttackResult, EigenResult
    from eigencore.space import Floats as Floats

# -- solvers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What a Krylov solver's basis shows about eigenvalues that it may have missed; the core evaluates it.

    Let u be an eigenvector of A with eigenvalue t, and v_0, v_1, ... the Lanczos vectors of a run from v_0,
    with thick restarts or without. Then u'v_j = p(t) u'v_0, and |p(t)| is the product of |t - z| over the
    Ritz values z, in the basis or dropped by restarts, divided by the product of the couplings. Since |u'v_j|
    <= 1, an eigenvector with a large |p(t)| is nearly orthogonal to the random start, which is improbable.

    Attributes:
        ritz: all Ritz values (j,) of the basis, wanted or not. If there are n, none can be missed.
        coupling: the norm of the new direction that an expansion found, before it was normalised; 0.0 if
            none was left, 1.0 without an expansion since the previous snapshot. None if the basis does not,
            or no longer, consist of the vectors of one recurrence from `request.start`, resumed or not.
        dropped: the Ritz values that a restart has dropped since the previous snapshot.
    """

    ritz: Floats
    coupling: float | None = None
    dropped: Floats | tuple[()] = ()


@dataclass(frozen=True)
class Snapshot:
    """What a solver has computed after a product: at most k Ritz pairs, in the order of the request.

    Attributes:
        values: Ritz values (m,), m <= k.
        residuals: the estimated residuals (m,), which are the solver's estimates of ||A v - theta v||.
        vectors: forms the block of Ritz vectors (n, m); valid until the next snapshot is requested.
        norm: the largest |Ritz value| seen so far, a lower bound on ||A||.
        evidence: what shows which eigenvalues may have been missed; None: the core finds out by products.
        notes: facts to report to the user.
        restarts: the number of restarts so far.
        state: forms a value from which the solver can resume, or None. It gets the block that `vectors`
            formed, and may refer to it; like `vectors`, it is valid until the next snapshot is requested. The
            core calls it once, for the last snapshot of a solve.

    A state holds arrays, numbers and small matrices, but no operator, array library or function: it can be
    pickled, and resuming from it twice gives the same run twice. The solver never writes into its arrays.
    Once all pairs have converged, a state refers to the block of vectors and holds no other array of that
    size, so that a list of results takes the memory of their vectors.

    Example:
        import numpy as np
        import eigencore

        def dense(operator, request, options, *, state=None):
            values, vectors = np.linalg.eigh(operator.matmat(np.eye(operator.shape[0])))
            first, norm = request.order(values), float(np.max(np.abs(values)))
            yield eigencore.Snapshot(values[first], np.zeros(request.k), lambda: vectors[:, first], norm)

        eigencore.solve(np.diag([3.0, 1.0]), k=1, solver=dense)
    """

    values: Floats
    residuals: Floats
    vectors: Callable[[], Array]
    norm: float
    evidence: Evidence | None = None
    notes: tuple[str, ...] = ()
    restarts: int = 0
    state: Callable[[Array], object] | None = None


class Solver(Protocol):
    """A generator function that yields a Snapshot after every product, and after every restart.

    It continues while snapshots are requested, and returns only when there is nothing left to compute. It
    does not print, count products, measure time or draw a start vector, and it knows no budget: the core
    counts, times, draws `request.start`, and closes the generator when it needs no further snapshot.

    Once all pairs have converged, the core may find that an eigenvalue was missed. It then sends a block
    (n, b) of vectors of norm 1 into the generator, `missed = yield snapshot`: directions, orthogonal to the
    pairs, with a large part along missed eigenvectors. The solver continues with these directions in
    addition. If it makes no use of them, the result says that an eigenvalue was missed.

    Example:
        import numpy as np
        import eigencore

        def power(operator, request, options, *, state=None):
            xp = operator.xp
            v = xp.ones(operator.shape[0], dtype=operator.dtype)
            while True:
                v = v / xp.linalg.vector_norm(v)
                w = operator.matvec(v)
                theta = float(v @ w)
                residual = float(xp.linalg.vector_norm(w - theta * v))
                yield eigencore.Snapshot(
                    np.array([theta]), np.array([residual]), lambda v=v: v[:, None], abs(theta)
                )
                v = w

        eigencore.solve(np.diag([3.0, 1.0]), k=1, solver=power)
    """

    def __call__(
        self, operator: LinearOperator, request: Request, options: Any, *, state: Any = None
    ) -> Generator[Snapshot, Array | None, None]: ...


# -- problems and backends ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is studied: a model with its data and loss, or an operator that is given directly.

    `data` can be iterated over again and again. A batch (x, y) means loss(model(x), y), any other one
    loss(model, batch). The operator is that of the loss over all data at once.

    Attributes:
        loss: the loss function; on PyTorch also "model", for the model's own, model(**batch).loss.
        call: "loss(model(x), y)" or "loss(model, batch)", how the loss is called; None: as above.
        validation: further data in the same form as `data`, on which the operator does not depend.
        bounds: the lowest and the highest value of an input: two numbers, or two arrays that broadcast to
            one input or have one number for each of its channels.
        channels: "first" or "last", the axis of an input that counts its channels; None: as its shape shows.
        reduction: "mean" or "sum" over the samples of a batch, or "infer", from losses and gradients.
        weight: batch -> float, the weight of a batch whose loss is a mean over other things than samples.
        checkpoint: a file of weights that replace the model's own; the model itself is not changed.
        optimizer: the optimizer that trains the model, for kinds of operator that depend on its state.
        operator: a matrix, or anything that `as_operator` accepts; model, data and loss are then omitted.
        spectrum: the exact eigenvalues (n,), if they are known.
        backend: the name of the backend that this problem is written for, if any.
        description: one line that describes the model, its size and the data.

    Example:
        import numpy as np
        import eigencore

        problem = eigencore.Problem(operator=np.diag([3.0, 2.0, 1.0]), name="three values")
        run = eigencore.analyze(problem, k=1)
    """

    model: Any = None
    data: Any = None
    loss: Any = None
    _: KW_ONLY
    call: str | None = None
    validation: Any = None
    bounds: tuple[Any, Any] | None = None
    channels: str | None = None
    name: str | None = None
    reduction: str = "infer"
    weight: Callable[[Any], float] | None = None
    checkpoint: str | Path | None = None
    optimizer: Any = None
    operator: Any = None
    spectrum: Floats | None = None
    backend: str | None = None
    description: str = ""


class Objective(Protocol):
    """A number per sample, as a function of its logits (b, c) and labels (b,).

    `eigencore.objectives` has the usual ones. It is written in array-API functions, so that a backend can
    either differentiate through `value` or use `grad` and `hvp`.
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        """The objective of each sample (b,)."""

    def grad(self, logits: Array, y: Array, /) -> Array:
        """Its gradient with respect to the logits (b, c)."""

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """Each sample's Hessian with respect to the logits times its row of v (b, c)."""


class Classifier(Space, Protocol):
    """A network from inputs to logits, in evaluation mode. Inputs are rows, whatever their original shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input; d is the number of its elements."""

    @property
    def channel_axis(self) -> int | None:
        """The axis of `shape` that counts the channels, or None; read by `problems.sharing.channel_axis`."""

    @property
    def classes(self) -> int: ...
    @property
    def bounds(self) -> tuple[Array, Array] | None:
        """The lowest and the highest value of each entry of a row, arrays (d,), if the problem has bounds."""

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        """The first `most` (None: all) samples of the validation data, or else the data: (N, d) and (N,)."""

    def logits(self, x: Array, /) -> Array:
        """The logits (b, c) of inputs (b, d)."""

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        """Each sample's objective (b,), and its gradient with respect to that sample's input (b, d)."""

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        """A function that multiplies rows (b, d), one per sample, by the Hessian of that sample's objective.

        What the products share is kept for as long as the function exists."""


class Bound(Protocol):
    """A problem on a backend. Every call leaves model, gradients, buffers and random state unchanged.

    A method whose capability is not offered raises CapabilityError. `params` selects the parameters of
    a direction by patterns of their names: "head.*", "embed.weight,head.*", "re:bias$", a function such as
    `lambda name: "norm" not in name`, or a list of these. None: all trainable ones.
    """

    @property
    def capabilities(self) -> frozenset[Capability]: ...
    @property
    def description(self) -> str:
        """One line that names the library with its version, the device and the data type."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """The data types in which the problem can be computed: "float32" or "float64" or both."""

    def operator(self, kind: str = "hessian", params: Params = None, **options: Any) -> LinearOperator:
        """The operator of the given kind, over the parameters that `params` selects: `operator_of_kind`."""

    def classifier(
        self, dtype: str | None = None, *, direction: Array | None = None, params: Params = None
    ) -> Classifier:
        """The model as a classifier (LOGITS, INPUT_GRADIENT, INPUT_PRODUCTS), a copy if arguments are given.

        Args:
            dtype: one of `precisions`; None: the data type of the operator.
            direction: (n,), in the data type of the operator: the model at weights + direction (WEIGHT_LOSS).
        """

    def loss(self, direction: Array | None = None, params: Params = None) -> float:
        """The loss over all data, at the weights or at weights + direction (n,) (WEIGHT_LOSS)."""

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> Array:
        """The gradient (n,) of the loss over all data (WEIGHT_LOSS), or over a minibatch (MINIBATCHES).

        `minibatch` has step, seed and number of batches, for which `operator.minibatch` draws the same ones.
        """

    def sample_curvature(
        self,
        objective: Objective,
        direction: Array,
        x: Array,
        y: Array,
        params: Params = None,
        dtype: str | None = None,
    ) -> Array:
        """v'H_s v (b,) as the classifier's arrays: the curvature of samples along weights (WEIGHT_LOSS).

        Args:
            direction: v (n,), in the data type of the operator.
            x, y: inputs (b, d) of any floating-point type, and labels (b,).
            dtype: one of `precisions`, to compute in; None: the data type of the operator.
        """

    def layout(self, params: Params = None) -> tuple[Parameter, ...]:
        """The parameters that make up a direction, in the order of the flat vector (WEIGHT_LOSS)."""


class Kind(Protocol):
    """Makes an operator of one kind from a problem bound to the backend of its KindEntry.

    `bound` and `layout`, the selected parameters or None, are of the backend's own classes."""

    def __call__(self, bound: Any, layout: Any, options: Any, /) -> LinearOperator: ...


class Backend(Protocol):
    """Binds a problem: checks its model, data and loss, and places them on a device."""

    def __call__(
        self, problem: Problem, options: Any, *, device: str | None = None, dtype: str | None = None
    ) -> Bound: ...


# -- attacks and analyses ----------------------------------------------------------------------------------


class Attack(Protocol):
    """Searches for inputs near x that are classified differently from y.

    It evaluates and counts nothing: the core counts the passes, and evaluates the inputs that are returned.
    """

    def __call__(
        self, classifier: Classifier, x: Array, y: Array, options: Any, /, *, eps: float | None, seed: int
    ) -> Array:
        """Perturbed inputs, of the shape of x (b, d) and within the classifier's bounds.

        Args:
            x, y: correctly classified inputs and their labels (b,).
            eps: the radius of the ball around each row of x; None for an attack whose goal is "min_norm".
        """


@dataclass(frozen=True)
class AnalysisContext:
    """The parts of a run that an analysis can use.

    Attributes:
        operator: the operator, a MeanOperator if samples can be taken. Its products are counted, checked, and
            end with the run's budget: they raise what no analysis catches, and its last result counts.
        pairs: its eigenpairs; there may be fewer than k, and some may not have converged. None in a run
            without any, for analyses that need none; for all others, `eigen` is the same.
        bound: the problem bound to a backend; None if it is given directly as an operator.
        problem: the problem; None if a bound one was given.
        kind, params, kind_options: what `bound.operator` was given for the operator.
        attack, solve, load: `eigencore.attack` applied to `bound`, `eigencore.solve` and `eigencore.load`.
        bind: binds a variant of `problem`, as replace(problem, data=...), like the run's own.
        seed, folder, progress: those of the run; `progress` reports a line of text, or a WorkDone.
    """

    operator: LinearOperator
    pairs: EigenResult | None
    bound: Bound | None
    problem: Problem | None
    kind: str
    params: Params
    attack: Callable[..., AttackResult]
    solve: Callable[..., EigenResult]
    load: Callable[[Path], Any]
    bind: Callable[[Problem], Bound]
    seed: int
    progress: Progress
    folder: Path | None = None
    kind_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def eigen(self) -> EigenResult:
        """The eigenpairs, for an analysis whose entry needs some."""
        assert self.pairs is not None, "an analysis that may run without eigenpairs uses `pairs`"
        return self.pairs


class Analysis(Protocol):
    """A generator function that yields results, each more complete than the one before; the last one counts.

    It yields whenever it has something that is worth keeping: the run may end at any product.
    """

    def __call__(
        self, context: AnalysisContext, options: Any, /
    ) -> Generator[AnalysisResult, None, None]: ...
