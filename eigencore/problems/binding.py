"""Binds a Problem to a backend, which provides its operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

from eigencore.entries import DEFAULT_KIND, BackendEntry, Capability, KindEntry
from eigencore.errors import CapabilityError, EigencoreError, ProblemError, UsageError
from eigencore.interfaces import MinibatchOperator, Problem
from eigencore.news import report
from eigencore.problems.lookup import as_problem, find_problem
from eigencore.problems.model_backend import backend_of_model
from eigencore.registry import load, registry, resolve_options

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, LinearOperator, Objective, Params
    from eigencore.space import Array


def bind(
    problem: Problem | str | tuple[Any, Any, Any],
    *,
    backend: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **backend_options: Any,
) -> Bound:
    """A problem bound to a backend, which provides its operators, loss, classifier and parameters.

    A Problem(operator=...) needs no backend: its operator is used directly.

    Args:
        problem: a Problem, the name of one (see `find_problem`), or a tuple (model, data, loss).
        backend: the name of a backend; None: the backend that the problem names, or the one that declares
            models of this type, or the default, "torch".
        device: the device to compute on, such as "cpu" or "cuda"; None: the backend decides.
        dtype: the data type to compute in, such as "float64"; None: that of the weights.
        **backend_options: options of the backend; `eigen backends NAME` lists them.

    Raises:
        UsageError: the backend, the device, the data type or an option is invalid.
        ProblemError: the problem lacks something that the backend needs.
        PluginError: the backend can't be loaded.

    Example:
        import numpy as np
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        hessian = bound.operator()
        print(bound.description, (hessian @ np.ones(hessian.shape[0])).shape)
    """
    problem = find_problem(problem) if isinstance(problem, str) else as_problem(problem)
    entry = backend_of(problem, backend)
    if entry is None:
        given = {"device": device, "dtype": dtype, **backend_options}
        _refuse_for_operator(problem, [name for name, value in given.items() if value is not None])
        return OperatorBound(problem)
    options = resolve_options(entry, backend_options)
    report(f"binding {problem.name or 'the problem'} to {entry.name}")
    bound: Bound = load(entry)(problem, options, device=device, dtype=dtype)
    return bound


def bind_with(
    problem: Problem,
    options: Mapping[str, Any],
    *,
    backend: str | None,
    device: str | None,
    dtype: str | None,
) -> Bound:
    """`bind` with the options of the backend as a mapping, whose keys a user wrote.

    Raises:
        UsageError: as for `bind`, and if an option has the name of an argument.
    """
    for name in ("backend", "device", "dtype"):
        if name in options:
            raise UsageError(
                f"{name} is not an option of the backend, but an argument",
                hint=f"Give {name}={options[name]}.",
            )
    return bind(problem, backend=backend, device=device, dtype=dtype, **options)


def bound_of(problem: Any) -> Bound:
    """A bound problem unchanged; a Problem, the name of one, or a tuple (model, data, loss), bound here.

    Raises:
        UsageError, ProblemError, PluginError: as for `bind`.
    """
    return problem if is_bound(problem) else bind(problem)


def is_bound(problem: object) -> TypeGuard[Bound]:
    """Whether this is a bound problem; its properties, which may read the data, are not evaluated."""
    return {"capabilities", "classifier"} <= set(dir(problem))


def operator(
    model: Any,
    data: Any,
    loss: Any,
    *,
    backend: str | None = None,
    kind: str = DEFAULT_KIND,
    params: Params = None,
    kind_options: Mapping[str, Any] | None = None,
    **bind_keywords: Any,
) -> LinearOperator:
    """The operator of a model's loss over its data; short for `bind(Problem(...)).operator(kind, params)`.

    Operators of the bundled backends have `A @ v` and `A.to_scipy()`, as all `eigencore.operators.MatrixLike`
    have; those of other backends have at least `matvec` and `matmat`.

    Args:
        model: the model, in the form that the backend expects; a torch.nn.Module for "torch".
        data: batches that can be iterated over repeatedly.
        loss: a function of the model's outputs and the targets.
        backend: as for `bind`.
        kind: the kind of operator, such as "hessian"; `eigen kinds` lists the kinds of every backend.
        params: the parameters, by a glob of their names, a regular expression after "re:", a function that
            takes a name and returns True or False, several globs as "A,B", or a list of these; None: all
            trainable parameters.
        kind_options: options of the kind, such as {"damping": 1e-3}; `eigen kinds NAME` lists them.
        **bind_keywords: further keywords of `bind`.

    Raises:
        UnknownNameError: the backend does not provide this kind of operator, or no parameter matches.
        UsageError, ProblemError, PluginError: as for `bind`.

    Example:
        import torch
        import eigencore

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        hessian = eigencore.operator(model, data, torch.nn.CrossEntropyLoss())
        print(eigencore.solve(hessian, k=2).values, hessian @ torch.ones(15))
    """
    problem = Problem(model=model, data=data, loss=loss)
    find_kind(backend_of(problem, backend), kind)
    bound = bind(problem, backend=backend, **bind_keywords)
    return bound.operator(kind, params, **(kind_options or {}))


def backend_of(problem: Problem, backend: str | None = None) -> BackendEntry | None:
    """The entry of the backend that a problem is bound to; None for a Problem(operator=...).

    Raises:
        UnknownNameError: there is no backend of that name.
        UsageError: a backend or a checkpoint is given for a Problem(operator=...), or a checkpoint for a
            backend that can't load one, or several backends take the model and none is named.
        ProblemError: model, data or loss is missing, or the problem has an operator as well.
    """
    parts = {"model": problem.model, "data": problem.data, "loss": problem.loss}
    given = [name for name, value in parts.items() if value is not None]
    if problem.operator is not None:
        if given:
            raise ProblemError(
                f"the problem has an operator and also {', '.join(given)}; expected only one of the two"
            )
        unusable = ["backend"] * (backend is not None) + ["checkpoint"] * (problem.checkpoint is not None)
        _refuse_for_operator(problem, unusable)
        return None
    if len(given) < len(parts):
        missing = ", ".join(name for name in parts if name not in given)
        raise ProblemError(
            f"the problem lacks {missing}",
            hint="Give model, data and loss, or a matrix as the operator. On PyTorch, loss='model' means "
            "the loss that the model computes itself.",
        )
    known = registry()
    named = backend or problem.backend
    if named is None:
        named = backend_of_model(problem.model, [one.entry for one in known.entries(BackendEntry)])
    entry = known.find(BackendEntry, named)
    if problem.checkpoint is not None and not entry.checkpoints:
        raise UsageError(
            f"the backend {entry.name} can't load checkpoints, but the problem has one: {problem.checkpoint}",
            hint="Add the keyword checkpoint to the problem's factory, and load the file there.",
        )
    return entry


def find_kind(entry: BackendEntry | None, kind: str) -> KindEntry | None:
    """The entry of a kind of operator on a backend; None for a problem without a backend, which has only one.

    Raises:
        UnknownNameError: the backend does not provide the kind.
        UsageError: several plugins provide it.
    """
    return None if entry is None else registry().find_kind(entry.name, kind)


def why_no_classifier(bound: Bound) -> EigencoreError | None:
    """The error by which a backend explains that a problem has no classifier; None if it has one."""
    try:
        bound.classifier()
    except EigencoreError as error:
        return error
    return None


@contextmanager
def hint_why_no_classifier(bound: Bound) -> Iterator[None]:
    """Adds to a CapabilityError raised inside, as its hint, why the problem has no classifier, if so."""
    try:
        yield
    except CapabilityError as error:
        reason = why_no_classifier(bound)
        error.hint = error.hint if reason is None else str(reason)
        raise


class OperatorBound:
    """A bound Problem(operator=...), which offers products, and minibatches if its operator does."""

    def __init__(self, problem: Problem):
        from eigencore.operators import as_operator

        self._problem = problem
        self._operator: LinearOperator = as_operator(problem.operator)

    @property
    def capabilities(self) -> frozenset[Capability]:
        if isinstance(self._operator, MinibatchOperator):
            return frozenset({Capability.PRODUCTS, Capability.MINIBATCHES})
        return frozenset({Capability.PRODUCTS})

    @property
    def description(self) -> str:
        from eigencore import arrays

        library = arrays.library(self._operator.xp)
        dtype = str(self._operator.dtype).rpartition(".")[2]
        return f"{library} {metadata.version(library)} {self._operator.device} {dtype}"

    @property
    def precisions(self) -> tuple[str, ...]:
        return (str(self._operator.dtype).rpartition(".")[2],)

    def operator(self, kind: str = DEFAULT_KIND, params: Params = None, **options: Any) -> LinearOperator:
        unusable = ["kind"] * (kind != DEFAULT_KIND) + ["params"] * (params is not None) + [*options]
        _refuse_for_operator(self._problem, unusable)
        return self._operator

    def classifier(
        self, dtype: str | None = None, *, direction: Array | None = None, params: Params = None
    ) -> NoReturn:
        self._refuse("inputs")

    def loss(self, direction: Array | None = None, params: Params = None) -> NoReturn:
        self._refuse("loss")

    def gradient(self, params: Params = None, minibatch: tuple[int, int, int] | None = None) -> NoReturn:
        self._refuse("loss")

    def sample_curvature(
        self,
        objective: Objective,
        direction: Array,
        x: Array,
        y: Array,
        params: Params = None,
        dtype: str | None = None,
    ) -> NoReturn:
        self._refuse("samples")

    def layout(self, params: Params = None) -> NoReturn:
        self._refuse("parameters")

    def _refuse(self, what: str) -> NoReturn:
        raise CapabilityError(
            f"{self._problem.name or 'the problem'} is given directly as an operator and has no {what}"
        )


def _refuse_for_operator(problem: Problem, unusable: list[str]) -> None:
    if unusable:
        raise UsageError(
            f"{unusable[0]} can't be used: {problem.name or 'the problem'} is given directly as an operator",
            hint=f"Omit {unusable[0]}.",
        )
