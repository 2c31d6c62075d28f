"""A Problem bound to a backend, and the operators of a bound problem."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn

from eigencore.entries import DEFAULT_BACKEND, DEFAULT_KIND, BackendEntry, Capability
from eigencore.errors import CapabilityError, ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import MinibatchOperator, Problem
from eigencore.problems.lookup import find_problem
from eigencore.registry import load, registry, resolve_options

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, LinearOperator, Objective
    from eigencore.space import Array


def bind(
    problem: Problem | str,
    *,
    backend: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **backend_options: Any,
) -> Bound:
    """The problem, or that of a name, on a backend: the named one, else its own, else the default.

    A Problem(operator=...) needs none: its operator is taken as it is.

    Raises:
        UsageError: a backend, device, data type or option that can't be asked for.
        ProblemError: the problem lacks what a backend needs.
    """
    if isinstance(problem, str):
        problem = find_problem(problem)
    if not isinstance(problem, Problem):
        raise UsageError(
            f"the problem is a {type(problem).__name__}; expected a Problem or the name of one",
            hint="Make one: Problem(model=..., data=..., loss=...).",
        )
    entry = backend_of(problem, backend)
    if entry is None:
        asked = {"device": device, "dtype": dtype, **backend_options}
        _refuse_beside_operator(problem, [name for name, value in asked.items() if value is not None])
        return OperatorBound(problem)
    options = resolve_options(entry, backend_options)
    bound: Bound = load(entry)(problem, options, device=device, dtype=dtype)
    return bound


def operator(
    model: Any,
    data: Any,
    loss: Any,
    *,
    backend: str | None = None,
    kind: str = DEFAULT_KIND,
    params: str | None = None,
    **as_for_bind: Any,
) -> LinearOperator:
    """The operator of a model's loss over its data: `bind(Problem(...)).operator(kind, params)`."""
    problem = Problem(model=model, data=data, loss=loss)
    refuse_unknown_kind(backend_of(problem, backend), kind)
    return bind(problem, backend=backend, **as_for_bind).operator(kind, params)


def backend_of(problem: Problem, backend: str | None = None) -> BackendEntry | None:
    """The entry of the backend that the problem is bound on; None for an operator as it is.

    Raises:
        UnknownNameError, UsageError: no such backend, or one for an operator, which takes none; a checkpoint
            for an operator, or for a backend that reads none.
        ProblemError: the problem has not all of model, data and loss, or has an operator beside them.
    """
    parts = {"model": problem.model, "data": problem.data, "loss": problem.loss}
    given = [name for name, value in parts.items() if value is not None]
    if problem.operator is not None:
        if given:
            raise ProblemError(
                f"the problem has an operator and also {', '.join(given)}; expected one or the other"
            )
        asked = ["backend"] * (backend is not None) + ["checkpoint"] * (problem.checkpoint is not None)
        _refuse_beside_operator(problem, asked)
        return None
    if len(given) < len(parts):
        missing = ", ".join(name for name in parts if name not in given)
        raise ProblemError(
            f"the problem lacks {missing}", hint="Give model, data and loss, or a matrix as operator."
        )
    entry = registry().find(BackendEntry, backend or problem.backend or DEFAULT_BACKEND)
    if problem.checkpoint is not None and not entry.checkpoints:
        raise UsageError(
            f"the backend {entry.name} reads no checkpoints; the problem has {problem.checkpoint}",
            hint="Let the problem's factory take the keyword checkpoint, and load it.",
        )
    return entry


def refuse_unknown_kind(entry: BackendEntry | None, kind: str) -> None:
    """Raises UnknownNameError for a kind of operator that the backend does not make."""
    if entry is not None and kind not in entry.kinds:
        raise UnknownNameError(f"kind of operator on the backend {entry.name}", kind, entry.kinds)


class OperatorBound:
    """A Problem(operator=...) as a bound problem: products, and minibatches where its operator has them."""

    def __init__(self, problem: Problem):
        from eigencore.operators import as_operator

        self._problem = problem
        self._operator = as_operator(problem.operator)

    @property
    def capabilities(self) -> frozenset[Capability]:
        if isinstance(self._operator, MinibatchOperator):
            return frozenset({Capability.PRODUCTS, Capability.MINIBATCHES})
        return frozenset({Capability.PRODUCTS})

    @property
    def description(self) -> str:
        library = self._operator.xp.__name__.removeprefix("array_api_compat.").partition(".")[0]
        dtype = str(self._operator.dtype).rpartition(".")[2]
        return f"{library} {metadata.version(library)} {self._operator.device} {dtype}"

    def operator(self, kind: str = DEFAULT_KIND, params: str | None = None) -> LinearOperator:
        asked = ["kind"] * (kind != DEFAULT_KIND) + ["params"] * (params is not None)
        _refuse_beside_operator(self._problem, asked)
        return self._operator

    def classifier(self, dtype: str | None = None) -> NoReturn:
        self._refuse("inputs")

    def loss(self, direction: Array | None = None, params: str | None = None) -> NoReturn:
        self._refuse("loss")

    def sample_curvature(
        self, objective: Objective, direction: Array, x: Array, y: Array, params: str | None = None
    ) -> NoReturn:
        self._refuse("samples")

    def layout(self, params: str | None = None) -> NoReturn:
        self._refuse("parameters")

    def _refuse(self, what: str) -> NoReturn:
        raise CapabilityError(
            f"{self._problem.name or 'the problem'} is an operator as it is: it has no {what}"
        )


def _refuse_beside_operator(problem: Problem, asked: list[str]) -> None:
    if asked:
        raise UsageError(
            f"{problem.name or 'the problem'} is an operator as it is: {asked[0]} has no meaning for it",
            hint=f"Leave {asked[0]} out.",
        )
