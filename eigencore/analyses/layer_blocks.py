"""The function `layers`: the diagonal blocks of an operator over parameters, and what they miss of the whole.

The eigenpairs of all blocks are computed in lockstep: each step takes one pass over the data, in which every
block is multiplied by a vector of its own.

Let v be the first eigenvector of the whole operator A, with the part v_i in block i. Then lambda_1 is the sum
of the couplings v_i'A_ij v_j, and the block-diagonal view has those with i = j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from eigencore import arrays
from eigencore.analyses.block_estimates import Estimate, trace_and_norm
from eigencore.analyses.block_products import BlockProducts, embedded
from eigencore.analyses.layer_result import LayerBlock, LayersResult
from eigencore.entries import DEFAULT_KIND, DEFAULT_SOLVER
from eigencore.errors import Interrupted, UsageError
from eigencore.news import counter, reported_to
from eigencore.problems import as_problem, backend_of, bind_with, find_problem, is_bound
from eigencore.processes import processes_of
from eigencore.results import EigenResult
from eigencore.solving import Interruption, interruption
from eigencore.solving.lockstep import in_lockstep
from eigencore.solving.solve import solve

if TYPE_CHECKING:
    from eigencore.interfaces import Bound, LinearOperator, Parameter, Params, Solver
    from eigencore.news import Progress
    from eigencore.results import Step
    from eigencore.space import Array, Floats

# "parameter", "module", or the parameters of each group, in the form of `params`.
By: TypeAlias = "str | Mapping[str, Params]"
COLUMNS = 16  # the largest number of vectors in a block product with the whole operator


def layers(
    problem: Any,
    k: int = 1,
    *,
    kind: str = DEFAULT_KIND,
    by: By = "parameter",
    params: Params = None,
    which: str = "LM",
    tol: float = 1e-3,
    complete: float | None = 0.99,
    seed: int = 0,
    certify: str = "sketch",
    solver: str | Solver = DEFAULT_SOLVER,
    probes: int = 8,
    whole: bool = True,
    backend: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> LayersResult:
    """Top eigenvalues, trace and norm of every diagonal block of an operator, and what the blocks miss.

    Args:
        problem: as for `solve`, or a bound problem; it has parameters.
        k: the number of eigenpairs of each block, fewer if it has fewer weights.
        kind: the kind of operator.
        by: the blocks: one for each "parameter", for each "module", or for each group of a mapping from its
            name to its parameters, in the form of `params`.
        params: the parameters that the blocks divide; None: all trainable parameters.
        which, tol, complete, seed, certify, solver: as for `solve`, for every block and the whole operator.
        probes: random vectors for the trace and the norm of each block; 0: these are left out. They are exact
            for a block with no more weights than probes.
        whole: whether to compute the k top eigenpairs of the whole operator, and the couplings of the blocks.
        backend, device, dtype: as for `bind`, unless the problem is bound.
        options: options of the kind, the solver and the backend, by name, and under "problem" keywords of the
            problem's factory, as for `analyze`.
        progress: called with a WorkDone after every pass over the data for the blocks, a Step after every
            snapshot of the solve of the whole operator, and lines of text in between.

    Raises:
        UsageError: an argument is invalid, or the groups overlap.
        CapabilityError: the problem has no parameters.
        EigencoreError: as for `solve`.
        Interrupted: Ctrl-C was pressed; `.result` is the LayersResult so far.

    Example:
        import eigencore

        result = eigencore.layers("demo:digits-numpy", by={"first": "W1,b1", "second": "W2,b2"})
        print(result.columns)
    """
    if probes < 0:
        raise UsageError(f"probes is {probes}; expected at least 0")
    say, given = progress or (lambda line: None), dict(options or {})
    with reported_to(progress):
        bound = _bound(problem, given, backend, device, dtype)
        operator = bound.operator(kind, params, **given.pop(kind, {}))
    solver_options = given.pop(solver, {}) if isinstance(solver, str) else {}
    for unused in given:
        raise UsageError(f"options are given for {unused}, which is not used here")
    groups = _groups(bound, params, by)
    processes, stop = processes_of(operator), Interruption()
    with interruption() as flag:
        passes = BlockProducts(operator, [[one.where for one in group] for group in groups.values()])

        def top(block: LinearOperator, listener: Progress | None = None) -> EigenResult:
            def watch(step: Step) -> None:
                if stop.pressed:
                    raise KeyboardInterrupt
                if listener is not None:
                    listener(step)

            try:
                return solve(
                    block,
                    min(k, block.shape[0]),
                    solver=solver,
                    which=which,
                    tol=tol,
                    complete=complete,
                    seed=seed,
                    certify=certify,
                    progress=watch,
                    **solver_options,
                )
            except KeyboardInterrupt as error:
                partial: EigenResult = error.partial  # type: ignore[attr-defined]
                return partial

        done = counter(progress, f"layers: eigenpairs of {len(groups)} blocks", None, "passes")

        def multiplied(wanted: Mapping[int, Array]) -> Mapping[int, Array]:
            stop.pressed = processes.any(flag.pressed)
            products = passes.products(wanted)
            done(passes.count, f"{len(groups) - len(wanted)} blocks finished")
            return products

        found = in_lockstep([top] * len(groups), passes.sizes, operator, multiplied)
        estimates: Sequence[tuple[Estimate | None, Estimate | None]] = [(None, None)] * len(groups)
        if probes and not processes.any(flag.pressed):
            say(f"layers: traces and norms from {probes} random vectors")
            estimates = trace_and_norm(passes.products, passes.sizes, operator, found, probes, seed)
        blocks = tuple(
            LayerBlock(
                name=name,
                parameters=tuple(one.name for one in group),
                n=size,
                weight_norm=math.hypot(*(one.norm for one in group)),
                eigen=eigen,
                trace=trace,
                frobenius=frobenius,
            )
            for (name, group), size, eigen, (trace, frobenius) in zip(
                groups.items(), passes.sizes, found, estimates, strict=True
            )
        )
        result = LayersResult(blocks, None, None, passes.count)
        if whole and not processes.any(flag.pressed):
            say("layers: eigenpairs of the whole operator, and the couplings")
            eigen = top(operator, progress)
            couplings = _couplings(operator, eigen, passes.blocks) if eigen.converged[:1].all() else None
            result = LayersResult(blocks, eigen, couplings, passes.count)
    if processes.any(flag.pressed):
        raise Interrupted(result)
    return result


def _bound(
    problem: Any,
    options: dict[str, Mapping[str, Any]],
    backend: str | None,
    device: str | None,
    dtype: str | None,
) -> Bound:
    """The problem, bound; the options of its factory and its backend are taken out of `options`."""
    if is_bound(problem):
        given = {"backend": backend, "device": device, "dtype": dtype}
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name} is {value!r}, but the problem is bound already")
        return problem
    keywords = options.pop("problem", {})
    found = find_problem(problem, keywords) if isinstance(problem, str) else as_problem(problem)
    if keywords and not isinstance(problem, str):
        raise UsageError("options of problem can't be set: the problem is not given by name")
    entry = backend_of(found, backend)
    own = {} if entry is None else options.pop(entry.name, {})
    return bind_with(found, own, backend=backend, device=device, dtype=dtype)


def _groups(bound: Bound, params: Params, by: By) -> dict[str, list[Parameter]]:
    """The parameters of each block, by its name."""
    layout = bound.layout(params)
    if isinstance(by, Mapping):
        positions = {one.name: one for one in layout}
        groups = {
            str(name): [positions[one.name] for one in bound.layout(own) if one.name in positions]
            for name, own in by.items()
        }
        taken: dict[str, str] = {}
        for name, group in groups.items():
            if not group:
                raise UsageError(f"the group {name} has no parameters among those that params selects")
            for one in group:
                if taken.setdefault(one.name, name) != name:
                    raise UsageError(f"{one.name} is in the groups {taken[one.name]} and {name}")
        if not groups:
            raise UsageError("by is an empty mapping; expected at least one group of parameters")
        return groups
    if by == "parameter":
        return {one.name: [one] for one in layout}
    if by == "module":
        modules: dict[str, list[Parameter]] = {}
        for one in layout:
            modules.setdefault(one.name.rpartition(".")[0] or one.name, []).append(one)
        return modules
    raise UsageError(
        f"by is {by!r}; expected 'parameter', 'module', or a mapping from names to parameters",
        hint="For example by={'first': 'conv1.*', 'rest': 'conv2.*,head.*'}.",
    )


def _couplings(operator: LinearOperator, eigen: EigenResult, blocks: Sequence[Sequence[slice]]) -> Floats:
    """v_i'A_ij v_j (B, B) for the parts v_i of the first eigenvector in the blocks."""
    v, xp = eigen.vectors[:, :1], operator.xp
    found = []
    for start in range(0, len(blocks), COLUMNS):
        parts = [
            embedded(operator, block, xp.concat([v[where, :] for where in block]))
            for block in blocks[start : start + COLUMNS]
        ]
        AV = operator.matmat(xp.concat(parts, axis=1))
        sums = [sum(xp.sum(v[where, :] * AV[where, :], axis=0) for where in block) for block in blocks]
        found.append(arrays.to_host(xp.stack(sums)))
    whole = np.concatenate(found, axis=1)
    return (whole + whole.T) / 2
