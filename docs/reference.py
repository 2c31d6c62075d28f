"""Writes the reference in docs/reference/ from docstrings, signatures, declared options and help texts.

    python docs/reference.py

tests/docs/test_reference.py fails if the pages differ from what this script writes.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from describing import described, escaped, fenced, prose

import eigencore
from eigencore import errors, hookspecs, interfaces, news, objectives, operators, options, results, tabular
from eigencore.analyses.block_estimates import Estimate
from eigencore.analyses.layer_result import LayerBlock, LayersResult
from eigencore.cli import OWN, main
from eigencore.entries import (
    AnalysisEntry,
    AttackEntry,
    BackendEntry,
    CommandEntry,
    Entry,
    KindEntry,
    ProblemEntry,
    SolverEntry,
)
from eigencore.pipeline import RunInterrupted
from eigencore.pipeline.spectral import DensityResult, DiagonalResult, NormsResult, TraceResult
from eigencore.pipeline.studies import StudyRow
from eigencore.problems import find_problem, read_matrix
from eigencore.registry import catalogue as registry
from eigencore.runs import result_json
from eigencore_robustness import infer, infer_study
from eigencore_robustness.networks.network_inference import StudyInference
from eigencore_robustness.statistics.across_networks import NetworkInference, RankAssociation

FOLDER = Path(__file__).parent / "reference"
WRITTEN = "<!-- written by docs/reference.py -->"

# The public names, and the classes and functions that they contain, accept or raise.
PYTHON: dict[str, tuple[Any, ...]] = {
    "Functions": (
        *(eigencore.analyze, eigencore.solve, eigencore.attack, eigencore.load, eigencore.save),
        *(eigencore.bind, eigencore.operator, eigencore.as_operator, find_problem, eigencore.layers),
        *(eigencore.density, eigencore.trace, eigencore.diagonal, eigencore.norms),
        *(eigencore.study, infer, infer_study),
        read_matrix,
    ),
    "Results": (
        *(eigencore.Run, eigencore.EigenResult, eigencore.Certificate, eigencore.Status, results.Step),
        eigencore.WorkDone,
        *(results.Sampling, results.EigenvalueInterval, results.SamplingCost),
        *(eigencore.AnalysisResult, results.Table, results.Figure, results.Reference),
        eigencore.AttackResult,
        *(results.AnalysisFailure, tabular.Tabular),
    ),
    "The whole spectrum": (DensityResult, TraceResult, DiagonalResult, NormsResult),
    "Layers": (LayersResult, LayerBlock, Estimate),
    "Studies": (
        eigencore.Member,
        eigencore.Study,
        StudyRow,
        NetworkInference,
        RankAssociation,
        StudyInference,
    ),
    "Problems and requests": (eigencore.Problem, eigencore.Request),
    "Operators": (operators.MatrixLike, operators.WeightOperator, operators.FunctionOperator),
    "Errors": (eigencore.EigencoreError, errors.Culprit, eigencore.Interrupted, RunInterrupted),
}
PLUGINS: dict[str, tuple[Any, ...]] = {
    "Operators and solvers": (
        *(interfaces.Space, interfaces.LinearOperator, interfaces.MinibatchOperator),
        *(interfaces.MeanOperator, interfaces.SampleMean),
        *(interfaces.BlockedOperator, interfaces.NotedOperator),
        *(interfaces.InexactOperator, interfaces.CachingOperator),
        *(interfaces.ApproximatedOperator, interfaces.Approximation),
        interfaces.ShardedSpace,
        *(interfaces.Solver, interfaces.Snapshot),
        interfaces.Evidence,
    ),
    "Backends": (
        *(interfaces.Backend, interfaces.Bound, interfaces.Capability, interfaces.Parameter),
        interfaces.Kind,
        *(interfaces.Classifier, interfaces.Objective),
    ),
    "Objectives": (objectives.CrossEntropy, objectives.LabelOdds, objectives.Margin, objectives.DLR),
    "Attacks and analyses": (interfaces.Attack, interfaces.Analysis, interfaces.AnalysisContext),
    "Entries": (
        *(Entry, ProblemEntry, BackendEntry, KindEntry, SolverEntry, AttackEntry, AnalysisEntry),
        interfaces.CommandEntry,
    ),
    "Options": (options.option,),
    "Progress": (news.counter, news.report),
}
LISTINGS = {
    "Solvers": SolverEntry,
    "Backends": BackendEntry,
    "Kinds of operator": KindEntry,
    "Problems": ProblemEntry,
    "Attacks": AttackEntry,
    "Analyses": AnalysisEntry,
}


def pages() -> dict[str, str]:
    """The text of each page, by file name. Plugins that are not bundled are disabled."""
    foreign = [one.full_name for one in registry.registry().records if one.distribution != "eigencore"]
    if foreign:
        registry.disable(*foreign)
    return {
        "python.md": page("Python", python()),
        "interfaces.md": page("What plugins implement", plugins()),
        "entries.md": page("What is bundled, and its options", entries()),
        "command.md": page("The command", command()),
        "result.schema.json": json.dumps(result_json.schema(), indent=2) + "\n",
    }


def page(title: str, parts: Iterator[str]) -> str:
    return "\n\n".join(filter(None, [WRITTEN, f"# {title}", *parts])) + "\n"


def python() -> Iterator[str]:
    yield (
        "These names are imported from `eigencore` and are stable within a minor version. The page also "
        "describes what they contain, accept or raise: `Step`, `Table` and `Figure` of `eigencore.results`, "
        "`Tabular` of `eigencore.tabular`, from which results inherit `to_pandas`, "
        "`find_problem` and `read_matrix` of `eigencore.problems`, `MatrixLike`, `WeightOperator` and "
        "`FunctionOperator` of `eigencore.operators`, and `RunInterrupted` of `eigencore.pipeline`. [Another "
        "page](interfaces.md) describes what plugins implement."
    )
    for title, things in PYTHON.items():
        yield f"## {title}"
        if title == "Errors":
            yield fenced(inspect.cleandoc(errors.__doc__ or ""))
        for thing in things:
            yield from described(thing)


def plugins() -> Iterator[str]:
    yield (
        "These are names of `eigencore.interfaces`, `eigencore.hookspecs`, `eigencore.objectives` and "
        "`eigencore.options`. [Write a plugin](../write-a-plugin.md) shows how to use them."
    )
    yield prose((interfaces.__doc__ or "").partition("\n")[2])
    for title, things in PLUGINS.items():
        yield f"## {title}"
        for thing in things:
            yield from described(thing)
    yield "## Hooks"
    yield "A plugin marks its implementations with `eigencore.hookimpl`. Each hook returns a list of entries."
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("eigen_")}
    yield "\n".join(f"- `{name}()`: {prose(hook.__doc__ or '')}" for name, hook in hooks.items())


def entries() -> Iterator[str]:
    yield (
        "`--set NAME.OPTION=VALUE` sets an option. In Python it is a keyword of `solve`, `bind` or `attack`, "
        "or an item of `analyze(options={NAME: {OPTION: VALUE}})`. [Entries](interfaces.md#entries) explains "
        "the other properties. `eigen solvers NAME` prints the same information."
    )
    for title, kind in LISTINGS.items():
        yield f"## {title}"
        for one in registry.registry().entries(kind):
            yield from entry_described(one.entry)


def command() -> Iterator[str]:
    """The help of the commands of the core, and of those of bundled plugins."""
    others = [one.entry.name for one in registry.registry().entries(CommandEntry)]
    for name in ("", *OWN, *others):
        words = [name] if name else []
        yield f"## {' '.join(['eigen', *words])}"
        yield fenced(help_of(*words))


def help_of(*words: str) -> str:
    """What `eigen WORDS --help` prints on a terminal with 80 columns."""
    printed = io.StringIO()
    with patch.dict(os.environ, COLUMNS="80"), redirect_stdout(printed):
        main([*words, "--help"])
    return printed.getvalue().rstrip()


# -- entries -----------------------------------------------------------------------------------------------


def entry_described(entry: Entry) -> Iterator[str]:
    yield f"### {entry.name} on {entry.backend}" if isinstance(entry, KindEntry) else f"### {entry.name}"
    yield sentence(entry.summary)
    yield "\n".join(f"- {name}: {text}" for name, text in facts(entry))
    if isinstance(entry, ProblemEntry):
        prefix, factory = "problem", registry.load(entry)
        specs = options.describe_keywords(factory)
        if specs:
            yield prose(factory.__doc__ or "")
    else:
        prefix, declared = entry.name, registry.load_options(entry)
        specs = () if declared is None else options.describe(declared)
    yield from (option_described(prefix, spec) for spec in specs)


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What the entry declares, in the order of its fields."""
    for field in dataclasses.fields(entry):
        name, value = field.name, getattr(entry, field.name)
        if name in ("name", "summary", "load", "options") or value in (None, (), frozenset()):
            continue
        if name == "extra":
            yield "needs the extra", f"`eigencore[{value}]`"
        elif isinstance(value, bool | str):
            yield f"`{name}`", plain(value)
        else:
            yield f"`{name}`", ", ".join(sorted(value) if isinstance(value, frozenset) else value)


def option_described(prefix: str, spec: options.OptionSpec) -> str:
    default = "required" if spec.required else f"default {plain(spec.default)}"
    lines = [f"**`{prefix}.{spec.name}`**: {escaped(spec.range)}; {default}.", sentence(spec.help)]
    if spec.when:
        lines.append(f"When to change it: {escaped(spec.when)}.")
    return "\\\n".join(filter(None, lines))


def sentence(text: str) -> str:
    """A line of a listing, which begins in lower case and ends without a period, as a sentence."""
    return escaped(text[:1].upper() + text[1:]) + ("." if text and text[-1] not in ".?" else "")


def plain(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def write() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(write())
