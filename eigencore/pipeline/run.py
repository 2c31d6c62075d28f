"""The function `analyze`: binds a problem, computes eigenpairs of its operator, and runs analyses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

from eigencore import arrays
from eigencore.analyses import Findings, run_analyses
from eigencore.entries import DEFAULT_K, DEFAULT_KIND, DEFAULT_SOLVER
from eigencore.errors import Culprit, EigencoreError, Interrupted, UsageError, attach
from eigencore.interfaces import LinearOperator, Params, Problem
from eigencore.news import report, reported_to
from eigencore.operators import release
from eigencore.pipeline.resumption import SAVE_EVERY, kept_in, refuse_changed
from eigencore.pipeline.samples import give_samples
from eigencore.pipeline.setup import Options, Setup, prepare
from eigencore.processes import is_first, processes_of
from eigencore.request import Request
from eigencore.results import EigenResult, Run, Status
from eigencore.runs import (
    about,
    arguments_as_data,
    check_folder,
    digests,
    environment,
    plain,
    save,
)
from eigencore.runs.unfinished import is_unfinished, locked, refuse_unfinished
from eigencore.solving import Budget, Interruption, interruption
from eigencore.solving.clock import RunClock
from eigencore.solving.sampling.arguments import refuse_bad_sampling
from eigencore.solving.solve import refuse_bad_limits, solve

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from eigencore.interfaces import Solver
    from eigencore.news import Progress


class RunInterrupted(Interrupted):
    """Ctrl-C was pressed during `analyze`; `run` holds what had been computed, `result` its eigenpairs."""

    def __init__(self, run: Run):
        super().__init__(run.pairs)
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
    samples: int | None = None,
    rtol: float | None = None,
    device: str | None = None,
    dtype: str | None = None,
    analyses: str | Iterable[str] | None = None,
    options: Options | None = None,
    eigen: EigenResult | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_every: float | None = SAVE_EVERY,
    progress: Progress | None = None,
) -> Run:
    """The top eigenpairs of a problem's operator with a certificate, and the results of analyses of them.

    Args:
        problem: a name (see `find_problem`), a Problem, a tuple (model, data, loss), or a matrix; or a model,
            followed by its data and loss.
        data, loss: the data and the loss of a model; `analyze(problem, 3)` with a whole number means k=3.
        k: the number of eigenpairs; 0: none, for analyses that need none.
        solver, which, tol, complete, seed, certify: as for `solve`.
        samples, rtol: as for `solve`, and for the analyses that are named: those with an option `samples` run
            from as many samples, others are refused, and none runs by default. `rtol` is for analyses that
            also have that option, such as `trace`.
        max_matvecs, max_seconds: as for `solve`; the analyses get what the solve leaves of them. They limit
            only products with the operator.
        backend, device, dtype: as for `bind`.
        kind: the kind of operator.
        params: the parameters that the operator acts on, as for `operator`; None: all trainable parameters.
        analyses: names of analyses, as a list or as "a,b"; "none" or an empty list: no analyses; None: those
            that run by default, if the problem meets their needs.
        options: options by the name of their entry, such as {"accel_power": {"momentum": 0.5}}; options under
            "problem" are keywords of the problem's factory.
        eigen: eigenpairs of the same operator, which are analysed in place of new ones; `k`, `solver` and the
            other arguments of the solve are then not used.
        out: a folder to save the run in; `eigencore.load` reads it. If it holds a finished run and this one
            does not finish, this one is saved beside it (see `Run.save`); `Run.folder` says where. While the
            run works, `out` has a journal of its products, from which it is resumed if it is killed.
        resume: whether to continue the run in `out`. It computes only what the journal does not have, and
            gives the result of a run that was not stopped, on a CPU to the last bit. A run that has ended is
            returned as it was saved, and one that had not begun starts.
        save_every: how often the journal is made durable, in seconds; 0: after every product; None: there is
            no journal, and a run that is killed can only start again.
        progress: called with news: a Step after every snapshot; a WorkDone while samples are attacked,
            random vectors are multiplied and the like; and lines of text that say what begins. Each has a
            text, so that `print` is such a function. An exception that it raises is raised as it is.

    Returns:
        The run. A failed analysis raises no error: `Run.failed` says why it failed.

    Raises:
        UsageError: an argument is invalid; raised before any product. So is what concerns `out`: another run
            uses it, or holds an unfinished run that is not to be resumed, or one that was asked for something
            else: other arguments than limits, other weights or data, other versions.
        EigencoreError: an error of `bind` or `solve`, or the run can't be saved. If there are eigenpairs,
            they are in `.partial`, also of an exception of any other type, and have been saved in `out`.
        RunInterrupted: Ctrl-C was pressed, or SIGTERM was received in a run with `out`; `.run` holds what had
            been computed, which is also saved in `out`.

    Example:
        import eigencore

        run = eigencore.analyze("demo:quadratic", k=3, options={"problem": {"n": 60}})
        print(run.eigen.values, run.eigen.advice)
    """
    arguments = dict(locals())
    problem, k = _positional(arguments.pop("problem"), arguments.pop("data"), arguments.pop("loss"), k)
    arguments |= {"problem": problem, "k": k}
    request = None if eigen is not None or k == 0 else Request(k, which, tol, seed)
    refuse_bad_limits(max_matvecs, max_seconds, certify)
    if samples is not None or rtol is not None:
        refuse_bad_sampling(samples, rtol)
        analyses, options = give_samples(analyses, options or {}, samples, rtol)
        if not analyses and request is None:
            raise UsageError("samples and rtol are given, but neither eigenpairs nor analyses are computed")
    folder = _folder_of(out, resume=resume, save_every=save_every)
    with reported_to(progress):
        setup = prepare(
            problem,
            backend=backend,
            solver=None if request is None else solver,
            kind=kind,
            params=params,
            analyses=analyses,
            options=options or {},
            device=device,
            dtype=dtype,
        )
        if request is None and eigen is None:
            _refuse_without_eigenpairs(setup)
        clock = RunClock()
        operator = setup.operator()
    solved = 0.0
    if eigen is not None:
        vectors = operator.xp.asarray(eigen.vectors, dtype=operator.dtype, device=operator.device)
        eigen = replace(eigen, vectors=vectors)
        solved = _refuse_foreign_eigenpairs(eigen, operator)
    processes = processes_of(operator)
    first = is_first(operator)  # the process that writes the folder
    with (
        processes.together("the run"),
        reported_to(progress),
        kept_in(folder if first else None, clock, resume=resume, save_every=save_every) as kept,
    ):
        given, parts = None, dict[str, str]()
        if folder is not None and setup.problem is not None:
            report("computing the digest of the problem, which is saved with the run")
            owned = setup.problem
            given, parts = processes.collect(lambda: digests(owned) if first else (None, {}), "the digest")[0]
        asked = {
            "arguments": arguments_as_data(arguments),
            "versions": environment(operator)["versions"],
            "digests": parts,
        }
        if folder is not None:
            if kept.earlier is not None:
                refuse_changed(_asked_of(kept.earlier), {**asked, "digests": {"problem": given}}, folder)
            earlier = processes.collect(lambda: kept.earlier, "the run that has ended")[0]
            if earlier is not None:
                return earlier
            operator = kept.operator(operator, asked, folder)
        findings = Findings()
        if request is not None:
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
                    samples=samples,
                    rtol=rtol,
                    progress=progress,
                    **setup.solver_options,
                )
            except BaseException as error:
                eigen, findings.raised = _computed_before(error) if eigen is None else eigen, error
            solved = eigen.matvecs
        if findings.raised is None:
            # Ctrl-C is raised in an analysis at once, and not only between products as in a solver.
            budget = Budget(
                max_matvecs, max_seconds, 0, Interruption(), began=0.0, spent=solved, processes=processes
            )
            try:
                release(operator)
                context = setup.context(operator, eigen, seed, progress, folder)
                findings = run_analyses(setup.analyses, context, budget, kept.recorder)
            except BaseException as error:  # Ctrl-C between two analyses
                findings.raised = error
        try:
            with interruption() as while_saving:  # Ctrl-C must not prevent the results from being saved
                used = {} if eigen is None else {eigen.solver: eigen.options}
                manifest = {
                    **about(
                        setup.problem,
                        setup.backend,
                        setup.bound,
                        operator,
                        request,
                        kind,
                        params,
                        setup.options,
                    ),
                    "arguments": asked["arguments"],
                    "options": plain({**setup.options, **used}),
                    **environment(operator),
                    "digest": given,
                    "failed": {name: failure.message for name, failure in findings.failed.items()},
                    "skipped": setup.skipped,
                    "unasked": [one.name for one in setup.analyses] if analyses is None else [],
                    "finished": (eigen is None or eigen.status is Status.CONVERGED) and findings.finished,
                    "resumption": kept.remarks,
                }
                run = Run(eigen, findings.results, manifest, findings.failed)
                if folder is not None:
                    place, whole = folder, _with_whole_vectors(run, operator)
                    saved = processes.collect(lambda: save(whole, place) if first else place, "the saved run")
                    run = replace(run, folder=saved[0])
        except BaseException as error:
            attach(error, partial=eigen)
            raise error from (error.__cause__ or findings.raised)
        stopped = findings.stopped is not None or while_saving.pressed
        kept.ended = not stopped and findings.raised is None
    _say_where(findings.raised, run, folder)
    _raise_again(findings.raised, run, stopped=stopped)
    return run


def _asked_of(run: Run) -> dict[str, Any]:
    """What a saved run was asked for."""
    manifest = run.manifest
    return {
        "arguments": manifest["arguments"],
        "versions": {},
        "digests": {"problem": manifest.get("digest")},
    }


def _folder_of(out: str | os.PathLike[str] | None, *, resume: bool, save_every: float | None) -> Path | None:
    """The folder of the run. Raises UsageError if it can't be used, or the arguments about it are invalid."""
    if save_every is not None and not (isinstance(save_every, Real) and save_every >= 0):
        raise UsageError(f"save_every is {save_every!r}; expected seconds of at least 0, or None")
    if out is None:
        if resume:
            raise UsageError("resume is given without out", hint="Name the folder of the run as out.")
        return None
    folder = check_folder(out)
    if not resume and is_unfinished(folder):
        with locked(folder):
            refuse_unfinished(folder)
    return folder


def _refuse_without_eigenpairs(setup: Setup) -> None:
    """Raises UsageError if k = 0 and there is nothing to do, or an analysis needs eigenpairs."""
    if not setup.analyses:
        raise UsageError(
            "k is 0 and there is no analysis to run; expected at least 1, or an analysis",
            hint="`eigen analyses` lists them.",
        )
    for one in setup.analyses:
        if one.entry.eigenpairs:
            raise UsageError(f"k is 0, but the analysis {one.name} needs eigenpairs; expected at least 1")


def _with_whole_vectors(run: Run, operator: LinearOperator) -> Run:
    """The run as it is saved: with whole vectors, also if this process holds a shard of them only."""
    sharded: bool = arrays.is_sharded(operator)
    if run.pairs is None or not sharded:
        return run
    whole = arrays.whole(run.pairs.vectors, operator)
    return replace(run, pairs=replace(run.pairs, vectors=whole))


def _refuse_foreign_eigenpairs(eigen: EigenResult, operator: LinearOperator) -> float:
    """Raises UsageError if a product with the first eigenvector shows that it is one of another operator.

    Returns:
        The products that it took.
    """
    n, rows = operator.shape[0], arrays.local_rows(operator)
    if eigen.n != n or eigen.vectors.shape[0] != rows:
        raise UsageError(f"eigen belongs to an operator of size {eigen.n}; this one has size {n}")
    if not len(eigen.values):
        return 0.0
    v, value, stated = eigen.vectors[:, 0], float(eigen.values[0]), float(eigen.residuals[0])
    residual = arrays.norm(operator.matvec(v) - value * v, operator)
    if not residual <= 10 * max(stated, eigen.tol * abs(value), 1e3 * arrays.eps(operator) * abs(value)):
        raise UsageError(
            "eigen does not belong to this operator: the residual norm of its first pair is "
            f"{residual:.2g}, and was {stated:.2g}",
            hint="Give the same kind, params, data and weights as for the solve.",
        )
    return 1.0


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
        attach(raised, partial=run.pairs)
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
