"""The function `analyze`: binds a problem, computes eigenpairs of its operator, and runs analyses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from eigencore.analyses import Findings, Planned, find_analyses, impossible, plan, run_analyses
from eigencore.attacks.attack import attack
from eigencore.entries import (
    DEFAULT_K,
    DEFAULT_KIND,
    DEFAULT_SOLVER,
    AttackEntry,
    Capability,
    Entry,
    SolverEntry,
)
from eigencore.errors import (
    CapabilityError,
    Culprit,
    EigencoreError,
    Interrupted,
    UnknownNameError,
    UsageError,
    attach,
)
from eigencore.interfaces import AnalysisContext, Bound, Params, Problem
from eigencore.operators import release
from eigencore.problems import (
    as_problem,
    backend_of,
    bind,
    check_keywords,
    find_factory,
    find_kind,
    hint_why_no_classifier,
    make_problem,
    why_no_classifier,
)
from eigencore.registry import registry, require, resolve_options
from eigencore.request import Request
from eigencore.results import AttackResult, EigenResult, Run, Status, Step
from eigencore.runs import (
    about,
    arguments_as_data,
    check_folder,
    digest,
    environment,
    load,
    make_folder,
    plain,
    save,
)
from eigencore.solving import interruption
from eigencore.solving.solve import solve

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from eigencore.interfaces import Solver

Options: TypeAlias = Mapping[str, Mapping[str, Any]]
Progress: TypeAlias = Callable[[Step | str], None]


class RunInterrupted(Interrupted):
    """Ctrl-C was pressed during `analyze`; `run` holds what had been computed, `result` its eigenpairs."""

    def __init__(self, run: Run):
        super().__init__(run.eigen)
        self.run = run


def analyze(
    problem: Any,
    data: Any = None,
    loss: Any = None,
    k: int = DEFAULT_K,
    *,
    backend: str | None = None,
    solver: str | Solver = DEFAULT_SOLVER,
    kind: str = DEFAULT_KIND,
    params: Params = None,
    which: str = "LM",
    tol: float = 1e-3,
    complete: float | None = 0.99,
    seed: int = 0,
    max_matvecs: float | None = None,
    max_seconds: float | None = None,
    certify: str = "sketch",
    device: str | None = None,
    dtype: str | None = None,
    analyses: str | Iterable[str] | None = None,
    options: Options | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Run:
    """The top eigenpairs of a problem's operator with a certificate, and the results of analyses of them.

    Args:
        problem: a name (see `find_problem`), a Problem, a tuple (model, data, loss), or a matrix; or a model,
            followed by its data and loss.
        data, loss: the data and the loss of a model; `analyze(problem, 3)` with a whole number means k=3.
        k, solver, which, tol, complete, seed, max_matvecs, max_seconds, certify: as for `solve`.
        backend, device, dtype: as for `bind`.
        kind: the kind of operator.
        params: the parameters that the operator acts on, as for `operator`; None: all trainable parameters.
        analyses: names of analyses, as a list or as "a,b"; "none" or an empty list: no analyses; None: all
            analyses whose needs the problem meets.
        options: options by the name of their entry, such as {"accel_power": {"momentum": 0.5}}; options under
            "problem" are keywords of the problem's factory.
        out: a folder to save the run in; `eigencore.load` reads it. If it holds a finished run and this one
            does not finish, this one is saved beside it (see `Run.save`); `Run.folder` says where.
        progress: called with a Step after every snapshot, and with every line of text from an analysis. An
            exception that it raises is raised as it is.

    Returns:
        The run. A failed analysis raises no error: `Run.failed` says why it failed.

    Raises:
        UsageError: an argument is invalid; raised before any product.
        EigencoreError: an error of `bind` or `solve`, or the run can't be saved. If there are eigenpairs,
            they are in `.partial`, also of an exception of any other type, and have been saved in `out`.
        RunInterrupted: Ctrl-C was pressed; `.run` holds what had been computed, which is also saved in `out`.

    Example:
        import eigencore

        run = eigencore.analyze("demo:quadratic", k=3, options={"problem": {"n": 60}})
        print(run.eigen.values, run.eigen.advice)
    """
    arguments = dict(locals())
    problem, k = _positional(arguments.pop("problem"), arguments.pop("data"), arguments.pop("loss"), k)
    arguments |= {"problem": problem, "k": k}
    request = Request(k, which, tol, seed)
    folder = None if out is None else check_folder(out)
    setup = _prepare(problem, backend, solver, kind, analyses, options or {}, device, dtype)
    operator = setup.bound.operator(kind, params, **setup.kind_options)
    if folder is not None:
        make_folder(folder)
    problem_digest, findings = None if folder is None else digest(setup.problem), Findings()
    try:
        eigen = solve(
            operator,
            k,
            solver=solver,
            which=which,
            tol=tol,
            complete=complete,
            seed=seed,
            max_matvecs=max_matvecs,
            max_seconds=max_seconds,
            certify=certify,
            progress=progress,
            **setup.solver_options,
        )
    except BaseException as error:
        eigen, findings.raised = _computed_before(error), error
    if findings.raised is None:
        try:
            release(operator)
            findings = run_analyses(setup.analyses, setup.context(eigen, kind, params, progress, folder))
        except BaseException as error:  # Ctrl-C between two analyses
            findings.raised = error
    try:
        with interruption() as while_saving:  # Ctrl-C must not prevent the results from being saved
            stopped = findings.raised is not None or findings.stopped is not None
            manifest = {
                **about(
                    *(setup.problem, setup.backend, setup.bound, request, eigen, kind, params),
                    setup.options,
                ),
                "arguments": arguments_as_data(arguments),
                "options": plain({**setup.options, eigen.solver: eigen.options}),
                **environment(operator),
                "digest": problem_digest,
                "failed": {name: failure.message for name, failure in findings.failed.items()},
                "skipped": setup.skipped,
                "finished": eigen.status is Status.CONVERGED and not (stopped or findings.failed),
            }
            run = Run(eigen, findings.results, manifest, findings.failed)
            if folder is not None:
                run = replace(run, folder=save(run, folder))
    except BaseException as error:
        attach(error, partial=eigen)
        raise error from (error.__cause__ or findings.raised)
    _say_where(findings.raised, run, folder)
    _raise_again(findings.raised, run, stopped=findings.stopped is not None or while_saving.pressed)
    return run


def _computed_before(error: BaseException) -> EigenResult:
    """The result that an exception of `solve` carries; the exception is raised if nothing was computed."""
    if isinstance(error, Interrupted):
        return error.result  # type: ignore[no-any-return]
    found = getattr(error, "partial", None)
    if not isinstance(found, EigenResult) or not len(found.values):
        raise error
    return found


def _say_where(raised: BaseException | None, run: Run, folder: Path | None) -> None:
    """Adds to the hint of an error that the run is saved beside the finished one in the folder."""
    if isinstance(raised, EigencoreError) and run.folder != folder:
        place = f"What was computed is saved in {run.folder}, because {folder} holds a finished run."
        raised.hint = f"{raised.hint} {place}" if raised.hint else place


def _raise_again(raised: BaseException | None, run: Run, *, stopped: bool) -> None:
    """Raises what ended the run, now that it is saved."""
    by_caller = getattr(raised, "culprit", None) is Culprit.CALLBACK
    if raised is not None and (by_caller or not isinstance(raised, KeyboardInterrupt)):
        attach(raised, partial=run.eigen)
        raise raised
    if raised is not None or stopped:
        raise RunInterrupted(run) from None


def _positional(problem: Any, data: Any, loss: Any, k: int) -> tuple[Any, int]:
    """The problem and k, from `analyze(problem, k)` or `analyze(model, data, loss, k)`."""
    if isinstance(data, int) and loss is None:
        if k != DEFAULT_K:
            raise UsageError(f"k was given twice: {data} and {k}")
        return problem, data
    if data is None and loss is None:
        return problem, k
    if data is None or loss is None:
        raise UsageError(
            f"{'data' if data is None else 'loss'} is missing: analyze was given a model and its "
            f"{'loss' if data is None else 'data'}",
            hint="Write analyze(model, data, loss), or analyze(problem, k).",
        )
    if isinstance(problem, Problem | str):
        raise UsageError(
            "analyze was given a problem and also data and loss; expected a model with data and loss",
            hint="Leave data and loss out, or write analyze(model, data, loss).",
        )
    return Problem(problem, data, loss), k


@dataclass(frozen=True)
class _Setup:
    """The objects that `analyze` works with.

    Attributes:
        solver_options, kind_options: the options of the solver and of the kind of operator, as given.
        attack_options: the options of attacks, by name, as given.
        options: the resolved options of everything but the solver, by entry.
        skipped: why analyses that run by default do not run on this problem, by name.
    """

    problem: Problem
    backend: str | None
    bound: Bound
    analyses: tuple[Planned, ...]
    solver_options: Mapping[str, Any]
    kind_options: Mapping[str, Any]
    attack_options: Options
    options: Mapping[str, Any]
    skipped: Mapping[str, str]

    def _attack(self, name: str, **keywords: Any) -> AttackResult:
        """`attack` with the run's options for it; options that the analysis sets take precedence."""
        return attack(self.bound, name, **{**self.attack_options.get(name, {}), **keywords})

    def context(
        self, eigen: EigenResult, kind: str, params: Params, progress: Progress | None, folder: Path | None
    ) -> AnalysisContext:
        return AnalysisContext(
            problem=self.problem,
            bound=self.bound,
            eigen=eigen,
            kind=kind,
            params=params,
            kind_options=self.kind_options,
            attack=self._attack,
            solve=solve,
            load=load,
            seed=eigen.seed,
            progress=progress or (lambda line: None),
            folder=folder,
        )


def _prepare(
    problem: Any,
    backend: str | None,
    solver: str | Solver,
    kind: str,
    analyses: str | Iterable[str] | None,
    options: Options,
    device: str | None,
    dtype: str | None,
) -> _Setup:
    """Validates all arguments, names first. The problem is bound last, because that may take a long time."""
    entry = registry().find(SolverEntry, solver) if isinstance(solver, str) else None
    solver_name = entry.name if entry is not None else getattr(solver, "__name__", "solver")
    _refuse_unknown_entries(options, solver_name)
    solver_options = options.get(solver_name, {})
    if entry is not None:
        resolve_options(entry, solver_options)
    if isinstance(analyses, str):
        analyses = () if analyses == "none" else analyses.split(",")
    selected = None if analyses is None else find_analyses(analyses)
    found, keywords = _find(problem, options.get("problem", {}))
    backend_entry = backend_of(found, backend)
    kind_entry = find_kind(backend_entry, kind)
    kind_options = {} if kind_entry is None else options.get(kind_entry.name, {})
    backend_options = {} if backend_entry is None else options.get(backend_entry.name, {})
    bound = bind(found, backend=backend, device=device, dtype=dtype, **backend_options)

    name = found.name or "this problem"
    if entry is not None:
        require(entry, bound.capabilities, name)
    with hint_why_no_classifier(bound):
        planned = plan(selected, bound.capabilities, options, name)
    skipped = {} if selected is not None or found.operator is not None else _skipped(bound, name)
    resolved = {"problem": keywords, **{one.name: one.options for one in planned}}
    attacks = {name: options[name] for name in options if planned and _is_attack(name)}
    resolved |= {
        name: resolve_options(registry().find(AttackEntry, name), own) for name, own in attacks.items()
    }
    if backend_entry is not None:
        resolved[backend_entry.name] = resolve_options(backend_entry, backend_options)
    if kind_entry is not None:
        resolved[kind_entry.name] = resolve_options(kind_entry, kind_options)
    used = {"problem", solver_name, *resolved, *(one.entry.name for one in planned)}
    _refuse_unused_options(options, used, skipped)
    return _Setup(
        problem=found,
        backend=None if backend_entry is None else backend_entry.name,
        bound=bound,
        analyses=planned,
        solver_options=solver_options,
        kind_options=kind_options,
        attack_options=attacks,
        options=resolved,
        skipped=skipped,
    )


def _skipped(bound: Bound, name: str) -> dict[str, str]:
    """Why each of the analyses that can't run on the problem can't, in a sentence."""
    no_classifier = None if Capability.LOGITS in bound.capabilities else why_no_classifier(bound)
    skipped = {}
    for analysis, entry in impossible(bound.capabilities).items():
        try:
            require(entry, bound.capabilities, name)
        except CapabilityError as error:
            reason = no_classifier if Capability.LOGITS in entry.needs else None
            skipped[analysis] = (reason or error).message
    return skipped


def _is_attack(name: str) -> bool:
    return any(one.entry.name == name for one in registry().entries(AttackEntry))


def _find(problem: Any, keywords: Mapping[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """The problem, and the keywords that were passed to its factory."""
    if isinstance(problem, str):
        factory = find_factory(problem)
        checked = check_keywords(factory, keywords)
        return make_problem(problem, factory, checked), checked
    if keywords:
        raise UsageError(
            f"{', '.join(keywords)} can't be set: this problem is not given by name and has no factory",
            hint="Give the problem by name, or pass the keywords to its factory directly.",
        )
    return as_problem(problem), {}


def _refuse_unknown_entries(options: Options, solver: str) -> None:
    inner = options.items() if isinstance(options, Mapping) else ()
    for named, given in (("options", options), *((f"options[{name!r}]", own) for name, own in inner)):
        if not isinstance(given, Mapping):
            raise UsageError(
                f"{named} is {given!r:.60}; expected a mapping of names to values",
                hint='Give options by the name of their entry: options={"accel_power": {"momentum": 0.5}}.',
            )
    known = {"problem", solver, *(one.entry.name for one in registry().entries(Entry))}
    for name in options.keys() - known:
        raise UnknownNameError("entry", name, known)


def _refuse_unused_options(options: Options, used: set[str], skipped: Mapping[str, str]) -> None:
    for name in options:
        if name not in used:
            raise UsageError(
                f"options are given for {name}, which this run does not use",
                hint=skipped.get(name, f"This run uses: {', '.join(sorted(used))}."),
            )
