"""What plugins register: light records that name the implementation by an import string.

An entry is returned by a hook (see `eigencore.hookspecs`). Reading entries imports no implementation, so
listing what is installed stays fast and works when an optional dependency is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

# The entries that are used when the user names none.
DEFAULT_PROBLEM = "demo:digits"
DEFAULT_BACKEND = "torch"
DEFAULT_SOLVER = "lanczos"
DEFAULT_KIND = "hessian"
DEFAULT_K = 5


class Capability(StrEnum):
    """What a bound problem may offer and an entry may need."""

    PRODUCTS = "products"
    MINIBATCHES = "minibatches"
    WEIGHT_LOSS = "weight_loss"
    LOGITS = "logits"
    INPUT_GRADIENT = "input_gradient"
    INPUT_PRODUCTS = "input_products"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A record of one thing that a plugin provides. Its implementation is imported when it is first used.

    Attributes:
        name: the name that users give, as in `--solver NAME` and `--set NAME.OPTION=VALUE`; unique within a
            kind of entry. That of a kind of operator is unique within its backend.
        summary: one line for the listings.
        load: import string "module:attribute" of the implementation.
        options: import string of its options, a frozen dataclass (see `eigencore.options`).
        needs: the capabilities that the bound problem must offer.
        extra: the pip extra of the entry's own distribution that installs what the implementation imports, by
            its bare name: "torch" for `pip install "my-package[torch]"`. An error that a package is missing
            then says this line. None: the distribution itself requires everything that is imported.

    Example:
        from eigencore import BackendEntry

        # In pyproject.toml of the same distribution: [project.optional-dependencies] torch = ["torch>=2.4"]
        BackendEntry(name="mine", summary="my models", load="my_package.backend:bind", extra="torch")
    """

    name: str
    summary: str
    load: str
    options: str | None = None
    needs: frozenset[Capability] = field(default_factory=frozenset)
    extra: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProblemEntry(Entry):
    """A problem. `load` names a factory: a function that takes keywords and returns a Problem."""


@dataclass(frozen=True, kw_only=True)
class BackendEntry(Entry):
    """A backend. `load` names an `interfaces.Backend`.

    Its kinds of operator are entries of their own, see KindEntry.

    Attributes:
        checkpoints: whether the backend can load a problem's checkpoint.
        models: the top-level packages that define the classes of its models, or base classes of them, such as
            ("torch",). A problem whose model is of such a class needs to name no backend.
    """

    checkpoints: bool = False
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KindEntry(Entry):
    """A kind of operator on a backend. `load` names an `interfaces.Kind`.

    Attributes:
        backend: the name of the backend, which may be that of another package.
        semidefinite: whether the operator, with its default options, is positive semidefinite for every loss
            that is convex in the outputs.
        over_weights: whether its vectors are directions in the selected weights; otherwise no parameters can
            be selected.

    Example:
        from eigencore import KindEntry, hookimpl

        @hookimpl
        def eigen_kinds():
            return [
                KindEntry(backend="torch", name="mine", summary="my matrix", load="my_package.kind:operator")
            ]
    """

    backend: str
    semidefinite: bool = False
    over_weights: bool = True


@dataclass(frozen=True, kw_only=True)
class SolverEntry(Entry):
    """An eigensolver. `load` names an `interfaces.Solver`.

    Attributes:
        which: the ends of the spectrum that the solver can compute.
        warm_start: whether it uses a block of start vectors, so that a good one saves products.
        partial: whether it yields snapshots as it proceeds; otherwise it yields one, at the end.
        on_device: whether it works on the operator's device; otherwise it works on the host.
        refuses_non_finite: whether it raises NotFiniteError when a product is not finite, before it changes
            what its last snapshot refers to. The core then doesn't test its products, each of which would
            take a transfer to the host.
        vectors: import string of a function (options, k, n) -> int: the most vectors (n,) that it has in
            memory at once, those of a product among them. An operator may leave room for them. None: the core
            assumes a basis of max(2k, 20) vectors.
        shards: whether it multiplies and adds up vectors that are cut over several processes (see
            `space.ShardedSpace`); otherwise it is refused for them.

    Example:
        from eigencore import SolverEntry, hookimpl

        @hookimpl
        def eigen_solvers():
            return [SolverEntry(name="mine", summary="my method", load="my_package.solver:solve")]
    """

    which: tuple[str, ...] = ("LM", "LA", "SA", "BE")
    warm_start: bool = True
    partial: bool = True
    on_device: bool = True
    refuses_non_finite: bool = False
    vectors: str | None = None
    shards: bool = False


@dataclass(frozen=True, kw_only=True)
class AttackEntry(Entry):
    """An adversarial attack. `load` names an `interfaces.Attack`.

    Attributes:
        goal: "fixed_eps" (any adversarial input within a radius) or "min_norm" (the nearest one).
        norms: the norms that the attack supports: "Linf", "L2" or both; its option `norm` selects one of two.
    """

    goal: str
    norms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnalysisEntry(Entry):
    """An analysis. `load` names an `interfaces.Analysis`.

    Attributes:
        eigenpairs: whether it needs eigenpairs. If not, it can also be run alone, by `analyze_alone`.
        by_default: whether `analyze` runs it when no analyses are named and the problem meets its needs.

    Example:
        from eigencore import AnalysisEntry, hookimpl

        @hookimpl
        def eigen_analyses():
            return [AnalysisEntry(name="mine", summary="my analysis", load="my_package.look:look")]
    """

    eigenpairs: bool = True
    by_default: bool = True


@dataclass(frozen=True, kw_only=True)
class CommandEntry(Entry):
    """A subcommand of `eigen`. `load` names a click command."""


@dataclass(frozen=True, kw_only=True)
class RendererEntry(Entry):
    """A renderer of reports. `load` names an `interfaces.Renderer`.

    Attributes:
        suffixes: the suffixes of the files that it writes, without the dot, in lower case.

    Example:
        from eigencore import RendererEntry, hookimpl

        @hookimpl
        def eigen_renderers():
            return [
                RendererEntry(name="latex", summary="for a paper", load="my_package:draw", suffixes=("tex",))
            ]
    """

    suffixes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MonitorEntry(Entry):
    """What `eigencore.Monitor` needs of a backend. `load` names a `training.TrainingBackend`.

    Its name is that of the backend.

    Example:
        from eigencore import MonitorEntry, hookimpl

        @hookimpl
        def eigen_monitors():
            return [MonitorEntry(name="mine", summary="my framework", load="my_package.training:follow")]
    """
