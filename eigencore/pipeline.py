"""analyze, the main job: a problem is bound, its operator's eigenpairs are found, analyses look at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from eigencore.analyses import Findings, Planned, Selected, find_analyses, plan, run_analyses
from eigencore.attacks.attack import attack
from eigencore.entries import DEFAULT_KIND, DEFAULT_SOLVER, AttackEntry, Entry, SolverEntry
from eigencore.errors import CapabilityError, EigencoreError, Interrupted, UnknownNameError, UsageError
from eigencore.interfaces import AnalysisContext, Bound, Problem
from eigencore.problems import (
    as_problem,
    backend_of,
    bind,
    check_keywords,
    find_factory,
    make_problem,
    refuse_unknown_kind,
)
from eigencore.registry import registry, require, resolve_options
from eigencore.request import Request
from eigencore.results import AttackResult, EigenResult, Run, Step
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
    """Ctrl-C during `analyze`; `run` holds what there was until then, `result` its eigenpairs."""

    def __init__(self, run: Run):
        super().__init__(run.eigen)
        self.run = run


def analyze(
    problem: Any,
    k: int = 5,
    *,
    backend: str | None = None,
    solver: str | Solver = DEFAULT_SOLVER,
    kind: str = DEFAULT_KIND,
    params: str | None = None,
    which: str = "LM",
    tol: float = 1e-3,
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
    """The top eigenpairs of a problem's operator, certified, and what the analyses say of them.

    Args:
        problem: a name (see `find_problem`), a Problem, a tuple (model, data, loss), or a matrix.
        k, solver, which, tol, seed, max_matvecs, max_seconds, certify: as in `solve`.
        backend, device, dtype: as in `bind`.
        kind, params: of the operator, and a glob of the parameters that it is over.
        analyses: names, as a list or as "a,b"; "none" or empty: none; None: all that the problem offers
            enough for.
        options: by the name of their entry, {"accel_power": {"momentum": 0.5}}; those under "problem" are
            keywords of its factory.
        out: a folder to save the run in; `load` reads it.
        progress: called with a Step after every snapshot, and with what an analysis has to tell.

    Raises:
        UsageError: something that can't be asked for; before any product.
        EigencoreError: what `bind` and `solve` raise; `out` holds what there was until then.
        RunInterrupted: Ctrl-C; `.run` holds what there was, and `out` too.
    """
    arguments = dict(locals())
    request = Request(k, which, tol, seed)
    folder = None if out is None else check_folder(out)
    setting = _prepare(problem, backend, solver, kind, analyses, options or {}, device, dtype)
    operator = setting.bound.operator(kind, params)
    if folder is not None:
        make_folder(folder)
    identity, stopped, failure = digest(setting.problem), False, None
    try:
        eigen = solve(
            operator,
            k,
            solver=solver,
            which=which,
            tol=tol,
            seed=seed,
            max_matvecs=max_matvecs,
            max_seconds=max_seconds,
            certify=certify,
            progress=progress,
            **setting.solver_options,
        )
    except Interrupted as interrupted:
        eigen, stopped = interrupted.result, True
    except EigencoreError as error:
        if error.partial is None:
            raise
        eigen, failure = error.partial, error
    findings = Findings()
    if not stopped and failure is None:
        findings = run_analyses(setting.analyses, setting.context(eigen, kind, params, progress, folder))
    with interruption() as late:  # once there is something to lose
        manifest = {
            **about(setting.problem, setting.backend, setting.bound, request, eigen, kind, params),
            "arguments": arguments_as_data(arguments),
            "options": plain({**setting.options, eigen.solver: eigen.options}),
            **environment(operator),
            "digest": identity,
            "failed": findings.failed,
        }
        run = Run(eigen, findings.results, manifest)
        if folder is not None:
            save(run, folder)
    if failure is not None:
        raise failure
    if stopped or findings.stopped or late.pressed:
        raise RunInterrupted(run)
    return run


@dataclass(frozen=True)
class _Setting:
    """What an analyze works with. `options` are resolved, by entry; the solver's are as they were given."""

    problem: Problem
    backend: str | None
    bound: Bound
    analyses: tuple[Planned, ...]
    solver_options: Mapping[str, Any]
    attack_options: Options
    options: Mapping[str, Any]

    def _attack(self, name: str, **keywords: Any) -> AttackResult:
        """With the options that the run was given for that attack, where the analysis sets none itself."""
        return attack(self.bound, name, **{**self.attack_options.get(name, {}), **keywords})

    def context(
        self,
        eigen: EigenResult,
        kind: str,
        params: str | None,
        progress: Progress | None,
        folder: Path | None,
    ) -> AnalysisContext:
        return AnalysisContext(
            problem=self.problem,
            bound=self.bound,
            eigen=eigen,
            kind=kind,
            params=params,
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
) -> _Setting:
    """Finds and checks all that is asked for, names first; binds the problem last, which may take a while."""
    entry = registry().find(SolverEntry, solver) if isinstance(solver, str) else None
    solver_name = entry.name if entry is not None else getattr(solver, "__name__", "solver")
    _refuse_unknown_entries(options, solver_name)
    solver_options = options.get(solver_name, {})
    if entry is not None:
        resolve_options(entry, solver_options)
    if isinstance(analyses, str):
        analyses = () if analyses == "none" else analyses.split(",")
    asked = None if analyses is None else find_analyses(analyses)
    found, keywords = _find(problem, options.get("problem", {}))
    on = backend_of(found, backend)
    refuse_unknown_kind(on, kind)
    backend_options = {} if on is None else options.get(on.name, {})
    bound = bind(found, backend=backend, device=device, dtype=dtype, **backend_options)

    name = found.name or "this problem"
    if entry is not None:
        require(entry, bound.capabilities, name)
    planned = _planned(asked, bound, options, name)
    resolved = {"problem": keywords, **{one.name: one.options for one in planned}}
    attacks = {name: options[name] for name in options if planned and _is_attack(name)}
    resolved |= {
        name: resolve_options(registry().find(AttackEntry, name), own) for name, own in attacks.items()
    }
    if on is not None:
        resolved[on.name] = resolve_options(on, backend_options)
    _refuse_idle_options(options, {"problem", solver_name, *resolved, *(one.entry.name for one in planned)})
    return _Setting(found, None if on is None else on.name, bound, planned, solver_options, attacks, resolved)


def _planned(asked: Selected | None, bound: Bound, options: Options, name: str) -> tuple[Planned, ...]:
    try:
        return plan(asked, bound.capabilities, options, name)
    except CapabilityError as error:
        try:
            bound.classifier()
        except CapabilityError as why:  # the backend knows why the problem offers no more
            error.hint = str(why)
        raise


def _is_attack(name: str) -> bool:
    return any(one.entry.name == name for one in registry().entries(AttackEntry))


def _find(problem: Any, keywords: Mapping[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """The problem, and the keywords that its factory was given."""
    if isinstance(problem, str):
        factory = find_factory(problem)
        checked = check_keywords(factory, keywords)
        return make_problem(problem, factory, checked), checked
    if keywords:
        raise UsageError(
            f"{', '.join(keywords)} would be keywords of the problem's factory; this problem is made already",
            hint="Name the problem, or give its factory these keywords yourself.",
        )
    return as_problem(problem), {}


def _refuse_unknown_entries(options: Options, solver: str) -> None:
    for named, given in {"options": options, **(options if isinstance(options, Mapping) else {})}.items():
        if not isinstance(given, Mapping):
            raise UsageError(
                f"{named} is {given!r:.60}; expected a mapping",
                hint='As in options={"accel_power": {"momentum": 0.5}}, by the name of an entry.',
            )
    known = {"problem", solver, *(one.entry.name for one in registry().entries(Entry))}
    for name in options:
        if name not in known:
            raise UnknownNameError("entry with options", name, known)


def _refuse_idle_options(options: Options, used: set[str]) -> None:
    for name in options:
        if name not in used:
            raise UsageError(
                f"options are given for {name}, which has no part in this run",
                hint=f"What has options in it: {', '.join(sorted(used))}.",
            )
