"""The Hessian by products that are recorded, and compiled or captured if the option `route` says so.

On a processor, replaying a recording takes as long as a backward pass through a kept graph. Compiled, it took
a quarter less on a transformer, and no less on convolutional networks; compiling took up to two minutes. On a
GPU, where launching the operations of small networks takes longer than computing them, a recording that is
captured as a CUDA graph took 0.2 to 0.6 of the time of a kept graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils import _pytree as pytree

from eigencore.errors import ProblemError
from eigencore.problems.sharing import CurvatureOptions
from eigencore_torch.data.batches import sample_count
from eigencore_torch.evaluation.double_backward import Route
from eigencore_torch.kinds.captured_graph import CapturedGraph, CaptureMemory
from eigencore_torch.kinds.graph_memory import GraphMemory
from eigencore_torch.kinds.recording import Multiply, Recording, record
from eigencore_torch.kinds.risk_operator import RiskOperator
from eigencore_torch.kinds.term_graph import Passes, TermGraph
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Term
from eigencore_torch.user_errors import is_out_of_memory

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound

_HINT = "Leave torch.route at graph, which gives the same operator."


class RecordedGraph:
    """A term of the risk whose products are replayed; see `TermGraph`."""

    outputs: Sequence[Node | None] = ()

    def __init__(self, kept: Sequence[Any], multiply: Multiply, layout: Layout):
        self._kept, self._multiply, self._layout = kept, multiply, layout

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block times a direction: a product with zeros in all other parameters."""
        along = [
            pieces[i] if i in pieces else torch.zeros_like(p) for i, p in enumerate(self._layout.parameters)
        ]
        # The operations are those below the functions of PyTorch that the session replaces.
        with torch.no_grad(), torch._C.DisableTorchFunction():
            product = self._multiply(*self._kept, *along)
        return [product[i] for i in pieces]


class RecordedOperator(RiskOperator):
    """A RiskOperator whose products are recorded once for every form of batch; see `RiskOperator`.

    The first product of each term is compared with that of its graph, and so is that of each capture.

    Args:
        route: "recorded" replays the operations one by one, "compiled" compiles them. "captured" captures
            those of each term that is kept as a CUDA graph, and replays those of the others one by one.
    """

    def __init__(
        self,
        bound: TorchBound,
        layout: Layout,
        graph: Callable[[Term, Passes], TermGraph],
        options: CurvatureOptions,
        scale: Tensor | None = None,
        *,
        route: Route,
    ):
        super().__init__(bound, layout, graph, options, scale)
        self._route = route
        if route == "captured":
            # The memory of one product stays allocated for the captured ones.
            self._memory = GraphMemory(bound.memory, products=2)
        self._recordings: dict[Hashable, Recording] = {}
        self._compared: set[tuple[int, int, int | None]] = set()
        self._route_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """How products were computed, and how long one took; then those of every RiskOperator."""
        return (*self._route_notes, *super().notes)

    def _graph(self, term: Term) -> TermGraph:
        began = time.perf_counter()
        recording, kept = self._prepared(term)
        graph = RecordedGraph(kept, recording.multiply, self._layout)
        if _place(term) not in self._compared:
            self._compare(term, graph, "recorded" if self._route == "captured" else self._route, began)
        return graph

    def _graph_to_keep(self, term: Term) -> TermGraph:
        if self._route != "captured":
            return self._graph(term)
        began = time.perf_counter()
        recording, kept = self._prepared(term)
        latest = self._kept[-1].graph if self._kept else None
        memory = latest.memory if isinstance(latest, CapturedGraph) else CaptureMemory(self._layout)
        try:
            graph = CapturedGraph(recording, kept, memory)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise self._refused(f"capturing the product failed: {error}") from error
        self._reserved = memory.reserved
        self._compare(term, graph, self._route, began)
        return graph

    def _prepared(self, term: Term) -> tuple[Recording, list[Any]]:
        """The recording for a term, and what its products use of the term."""
        self._latest = term.index, sample_count(term.batch) or 0
        leaves, structure = pytree.tree_flatten(term.batch)
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        forms = [_form(x) for x in leaves]
        key = _place(term) if None in forms else (structure, *forms)
        if key not in self._recordings:
            self._recordings[key] = self._record(term, leaves, structure)
        recording = self._recordings[key]
        with torch.no_grad(), torch._C.DisableTorchFunction():
            return recording, recording.prepare(*tensors)

    def _record(self, term: Term, leaves: list[Any], structure: pytree.TreeSpec) -> Recording:
        of_graph = super()._graph
        nodes: list[Node | None] = []

        def product(tensors: list[Tensor], directions: list[Tensor]) -> Sequence[Tensor | None]:
            left = iter(tensors)
            batch = structure.unflatten([next(left) if isinstance(x, Tensor) else x for x in leaves])
            graph = of_graph(replace(term, batch=batch))
            nodes.extend(graph.outputs)
            return graph.block_product(dict(enumerate(directions)), keep=False)

        try:
            recording = record(product, [x for x in leaves if isinstance(x, Tensor)], self._directions())
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise self._refused(_reason(error)) from error
        self._kernels.decide(
            nodes
        )  # not while operations are recorded: it may multiply matrices to time them
        if self._route == "compiled":
            recording = replace(recording, multiply=_compiled(recording.multiply))
        if self._route == "captured" and recording.waiting is not None:
            raise self._refused(
                f"the operation {recording.waiting} waits for the GPU to learn the shape of a result, as "
                "indexing with a mask does, and a CUDA graph can't wait"
            )
        return recording

    def _compare(self, term: Term, graph: TermGraph, route: Route, began: float) -> None:
        """Checks a product against that of the term's graph; on the first term, both are timed.

        They differ if the model uses a batch in another way than through the operations on its tensors.
        """
        plain, pieces = super()._graph(term), dict(enumerate(self._directions()))
        with self._kernels.selected():
            try:
                found = graph.block_product(pieces, keep=True)
            except Exception as error:
                if route != "compiled" or is_out_of_memory(error):
                    raise
                raise self._refused(f"compiling the product failed: {error}") from error
            prepared = time.perf_counter() - began
            expected = plain.block_product(pieces, keep=True)
        difference, norm = (
            sum(float(x.double().square().sum()) for x in several if x is not None) ** 0.5
            for several in ([_minus(a, b) for a, b in zip(found, expected, strict=True)], expected)
        )
        if not difference <= torch.finfo(self.dtype).eps ** 0.5 * norm:
            raise self._refused(
                f"a {route} product with batch {term.index} differs by "
                f"{difference / norm if norm else difference:.1g} from that of its graph"
            )
        self._compared.add(_place(term))
        if not self._route_notes:
            with self._kernels.selected():
                own, other = (self._seconds(one, pieces) for one in (graph, plain))
            unkept = ", not captured, since they are not kept" if route != self._route else ""
            self._route_notes = (
                f"products were {route}{unkept} (torch.route): with the first batch, one took "
                f"{1e3 * own:.3g} ms instead of {1e3 * other:.3g} ms through its graph; preparing it took "
                f"{prepared:.2g} s",
            )

    def _refused(self, reason: str) -> ProblemError:
        return ProblemError(f"torch.route={self._route} is not available: {reason}", hint=_HINT)

    def _directions(self) -> list[Tensor]:
        generator = torch.Generator(self.device).manual_seed(0)
        v = torch.randn(self._layout.n, generator=generator, dtype=self.dtype, device=self.device)
        return self._layout.split(v)

    def _seconds(self, graph: TermGraph, pieces: Mapping[int, Tensor]) -> float:
        """The time of a product, the shortest of three."""
        times = []
        for _ in range(3):
            began = time.perf_counter()
            graph.block_product(pieces, keep=True)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - began)
        return min(times)


def _place(term: Term) -> tuple[int, int, int | None]:
    """Which samples a term has."""
    return term.index, term.start, sample_count(term.batch)


def _reason(error: Exception) -> str:
    if "out of a tracing tensor" in str(error):
        return (
            "the model or the loss reads a value from a tensor, as .item() or a condition does, and a "
            "recording has to hold for other values"
        )
    return f"recording the product failed: {error}"


def _form(x: Any) -> Hashable:
    """What a recording depends on in a leaf of a batch; None if that is unknown."""
    if isinstance(x, Tensor):
        return (tuple(x.shape), x.stride(), x.dtype) if x.layout is torch.strided else None
    return (type(x), x) if isinstance(x, bool | int | float | str | bytes | None) else None


def _minus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a - b


def _compiled(multiply: Multiply) -> Multiply:
    """Compiles at the first call, although everything else in a session runs uncompiled."""
    compiled = torch.compile(multiply, dynamic=False)

    def run(*inputs: Any) -> Sequence[Tensor | None]:
        with torch.compiler.set_stance("default"):
            product: Sequence[Tensor | None] = compiled(*inputs)
        return product

    return run
