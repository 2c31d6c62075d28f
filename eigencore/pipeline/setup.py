"""What a run works with: its problem, operator and analyses, all arguments of which have been validated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from eigencore.analyses import Planned, find_analyses, impossible, plan
from eigencore.attacks.attack import attack
from eigencore.entries import AttackEntry, Capability, Entry, SolverEntry
from eigencore.errors import CapabilityError, UnknownNameError, UsageError
from eigencore.interfaces import AnalysisContext, Bound, LinearOperator, Params, Problem
from eigencore.problems import (
    as_problem,
    backend_of,
    bind_with,
    check_keywords,
    find_factory,
    find_kind,
    hint_why_no_classifier,
    is_bound,
    make_problem,
    why_no_classifier,
)
from eigencore.registry import entry_kind, registry, require, resolve_options
from eigencore.results import AttackResult, EigenResult
from eigencore.runs import load
from eigencore.solving.solve import solve

if TYPE_CHECKING:
    from pathlib import Path

    from eigencore.interfaces import Solver
    from eigencore.news import Progress

Options: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Setup:
    """The objects that a run works with.

    Attributes:
        problem: the problem; None if a bound one was given.
        backend: the name of its backend; None if it has none, or was bound by the caller.
        bind: binds another problem in the same way.
        solver_options, kind_options: the options of the solver and of the kind of operator, as given.
        attack_options: the options of attacks, by name, as given.
        options: the resolved options of everything but the solver, by entry.
        skipped: why analyses that run by default do not run on this problem, by name.
    """

    problem: Problem | None
    backend: str | None
    bound: Bound
    bind: Callable[[Problem], Bound]
    kind: str
    params: Params
    analyses: tuple[Planned, ...]
    solver_options: Mapping[str, Any]
    kind_options: Mapping[str, Any]
    attack_options: Options
    options: Mapping[str, Any]
    skipped: Mapping[str, str]

    def operator(self) -> LinearOperator:
        """The operator of the run, made anew by every call."""
        return self.bound.operator(self.kind, self.params, **self.kind_options)

    def _attack(self, name: str, **keywords: Any) -> AttackResult:
        """`attack` with the run's options for it; options that the analysis sets take precedence."""
        result: AttackResult = attack(self.bound, name, **{**self.attack_options.get(name, {}), **keywords})
        return result

    def context(
        self,
        operator: LinearOperator,
        eigen: EigenResult | None,
        seed: int,
        progress: Progress | None,
        folder: Path | None,
    ) -> AnalysisContext:
        given_directly = self.problem is not None and self.problem.operator is not None
        return AnalysisContext(
            operator=operator,
            pairs=eigen,
            bound=None if given_directly else self.bound,
            problem=self.problem,
            kind=self.kind,
            params=self.params,
            kind_options=self.kind_options,
            attack=self._attack,
            solve=solve,
            load=load,
            bind=self.bind,
            seed=seed,
            progress=progress or (lambda news: None),
            folder=folder,
        )


def prepare(
    problem: Any,
    *,
    backend: str | None,
    solver: str | Solver | None,
    kind: str,
    params: Params,
    analyses: str | Iterable[str] | None,
    options: Options,
    device: str | None,
    dtype: str | None,
) -> Setup:
    """Validates all arguments, names first. The problem is bound last, because that may take a long time.

    Args:
        problem: as for `analyze`, or a bound problem.
        solver: None: the run computes no eigenpairs itself.
        analyses: as for `analyze`.

    Raises:
        UsageError, ProblemError, PluginError: as for `analyze`.
    """
    entry = registry().find(SolverEntry, solver) if isinstance(solver, str) else None
    solver_name = None
    if solver is not None:
        solver_name = entry.name if entry is not None else getattr(solver, "__name__", "solver")
    _refuse_unknown_entries(options, solver_name)
    solver_options = {} if solver_name is None else options.get(solver_name, {})
    if entry is not None:
        resolve_options(entry, solver_options)
    selected = None if analyses is None else find_analyses(names_of(analyses))
    if is_bound(problem):
        _refuse_for_bound(options, backend=backend, device=device, dtype=dtype)
        found, backend_entry, kind_entry = None, None, None
        keywords: dict[str, Any] = {}
    else:
        found, keywords = _find(problem, options.get("problem", {}))
        backend_entry = backend_of(found, backend)
        kind_entry = find_kind(backend_entry, kind)
    kind_options = options.get(kind if kind_entry is None else kind_entry.name, {})
    backend_options = {} if backend_entry is None else options.get(backend_entry.name, {})

    def bind_alike(one: Problem) -> Bound:
        return bind_with(one, backend_options, backend=backend, device=device, dtype=dtype)

    bound: Bound = problem if found is None else bind_alike(found)
    name = (None if found is None else found.name) or "this problem"
    if entry is not None:
        require(entry, bound.capabilities, name)
    with hint_why_no_classifier(bound):
        planned = plan(selected, bound.capabilities, options, name)
    by_default = selected is None and (found is None or found.operator is None)
    skipped = _skipped(bound, name) if by_default else {}
    resolved = {"problem": keywords, **{one.name: one.options for one in planned}}
    attacks = {name: options[name] for name in options if planned and _is_attack(name)}
    resolved |= {
        name: resolve_options(registry().find(AttackEntry, name), own) for name, own in attacks.items()
    }
    if backend_entry is not None:
        resolved[backend_entry.name] = resolve_options(backend_entry, backend_options)
    if kind_entry is not None:
        resolved[kind_entry.name] = resolve_options(kind_entry, kind_options)
    used: dict[str, list[Entry]] = {}
    for one in filter(None, (entry, backend_entry, kind_entry, *(one.entry for one in planned))):
        used.setdefault(one.name, []).append(one)
    _refuse_shared_names(options, used)
    _refuse_unused_options(options, {"problem", solver_name or "", kind, *resolved, *used}, skipped)
    return Setup(
        problem=found,
        backend=None if backend_entry is None else backend_entry.name,
        bound=bound,
        bind=bind_alike,
        kind=kind,
        params=params,
        analyses=planned,
        solver_options=solver_options,
        kind_options=kind_options,
        attack_options=attacks,
        options=resolved,
        skipped=skipped,
    )


def _skipped(bound: Bound, name: str) -> dict[str, str]:
    """Why each of the analyses that run by default can't run on the problem, in a sentence."""
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


def names_of(analyses: str | Iterable[str]) -> tuple[str, ...]:
    """The names of analyses that are given one by one, or as text: "A,B", or "none"."""
    if isinstance(analyses, str):
        return () if analyses == "none" else tuple(analyses.split(","))
    return tuple(analyses)


def _refuse_for_bound(options: Options, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} is {value!r}, but the problem is bound already", hint=f"Omit {name}.")
    if options.get("problem"):
        raise UsageError("options of problem can't be set: the problem is bound already")


def _refuse_unknown_entries(options: Options, solver: str | None) -> None:
    inner = options.items() if isinstance(options, Mapping) else ()
    for named, given in (("options", options), *((f"options[{name!r}]", own) for name, own in inner)):
        if not isinstance(given, Mapping):
            raise UsageError(
                f"{named} is {given!r:.60}; expected a mapping of names to values",
                hint='Give options by the name of their entry: options={"accel_power": {"momentum": 0.5}}.',
            )
    known = {"problem", *(one.entry.name for one in registry().entries(Entry))}
    known |= {solver} if solver is not None else set()
    for name in options.keys() - known:
        raise UnknownNameError("entry", name, known)


def _refuse_shared_names(options: Options, used: Mapping[str, list[Entry]]) -> None:
    """Options by the name of an entry are those of one entry."""
    for name, entries in used.items():
        if name in options and len(entries) > 1:
            kinds = " and of the ".join(entry_kind(one) for one in entries)
            raise UsageError(f"options are given for {name}, which is the name of the {kinds} of this run")


def _refuse_unused_options(options: Options, used: set[str], skipped: Mapping[str, str]) -> None:
    for name in options:
        if name not in used:
            raise UsageError(
                f"options are given for {name}, which this run does not use",
                hint=skipped.get(name, f"This run uses: {', '.join(sorted(filter(None, used)))}."),
            )
