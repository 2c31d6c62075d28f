"""An operator that is a weighted sum of matrices, one for each term of a risk."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import array_api_compat.torch as xp
import torch
from torch import Tensor

from eigencore.errors import CapabilityError, ProblemError, UsageError
from eigencore.interfaces import Approximation, LinearOperator
from eigencore.operators import FunctionOperator, WeightOperator
from eigencore.problems.sharing import CurvatureOptions, Minibatch, draw_minibatch
from eigencore_torch.allocations import Allocation, allocation
from eigencore_torch.data.batches import SAME_DATA_HINT, sample_count
from eigencore_torch.evaluation.folded_norms import NormFolding
from eigencore_torch.evaluation.kernels import ProductKernels
from eigencore_torch.kinds.block_sums import (
    ParameterBlock,
    WeightedGraphs,
    block_of,
    weighted_sums,
    whole_block,
)
from eigencore_torch.kinds.graph_memory import GraphMemory
from eigencore_torch.kinds.term_graph import KeptGraph, Passes, TermGraph
from eigencore_torch.memory_limit import free_memory
from eigencore_torch.models.params import Layout
from eigencore_torch.risk import Term
from eigencore_torch.user_errors import (
    explain_errors,
    is_out_of_memory,
    release_memory,
    second_derivative_hint,
)

T = TypeVar("T")

if TYPE_CHECKING:
    from eigencore_torch.bound import TorchBound


class RiskOperator(WeightOperator):
    """D (sum_t w_t A_t / divisor + c I) D + d I, symmetric, on flat vectors (n,) in the selected weights.

    A_t is the matrix of a term of the risk, such as its Hessian, and w_t its weight. D is a diagonal matrix,
    by default the identity; c and d are the options `weight_decay` and `damping`.

    A product is one pass over all batches. During the first product, the graphs of the first batches are kept
    for later products, as many as the limit of memory allows. They are freed with the operator, or by
    `release`. A batch is split if a product with it would exceed the limit.

    If the device runs out of memory, the kept graphs are dropped and the product is tried again without any,
    then with batches split into ever smaller parts, down to single samples. `notes` then says so.

    Args:
        bound: the problem, with the loss over all data, the limit of memory, and the kernels to use.
        layout: the parameters that the operator is over.
        graph: makes the graph of a term, inside a session of the risk. Its second argument returns a context
            for the backward passes that this takes.
        options: what is added to the sum.
        scale: the diagonal (n,) of D; None for the identity.

    Attributes:
        approximation: the same operator with products in low precision, if the bound has the option for it.

    Example:
        import torch
        import eigencore
        from eigencore.problems.sharing import CurvatureOptions
        from eigencore_torch.kinds import GradientGraph, RiskOperator

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        bound = eigencore.bind(problem, backend="torch")
        layout = bound.select("weight")

        def graph(term, passes):
            loss = bound.risk.loss(term.batch, term.index)
            with passes():
                return GradientGraph(loss, layout)

        hessian = RiskOperator(bound, layout, graph, CurvatureOptions())
        product = hessian.matvec(torch.ones(12))
    """

    xp = xp
    approximation: Approximation | None = None

    def __init__(
        self,
        bound: TorchBound,
        layout: Layout,
        graph: Callable[[Term, Passes], TermGraph],
        options: CurvatureOptions,
        scale: Tensor | None = None,
    ):
        self._risk, self._layout, self._graph_of = bound.risk, layout, graph
        self.processes = bound.risk.processes
        self._options, self._scale = options, scale
        self._kernels = ProductKernels(bound.kernels, layout.device, layout.dtype)
        self._folding = NormFolding()
        self.shape = (layout.n, layout.n)
        self.dtype, self.device = layout.dtype, layout.device
        if layout.shards is not None:
            self.sum, self.shard = layout.shards.sum, layout.shards.shard
            self.processes = layout.shards.processes
        self._kept: list[KeptGraph] = []  # of the first terms
        self._all_kept = False
        self._memory = GraphMemory(bound.memory)
        self._reserved = 0  # bytes that PyTorch counts as unused, and that only the kept graphs use
        self._total_weight: float | None = None  # of the batches of this process
        self._whole_weight: float | None = None  # of those of all processes
        self._microbatch: int | None = None  # the most samples in a graph; None: as many as in a term
        self._latest = (0, 0)  # the number of the batch, and of its samples, in the latest graph
        self._memory_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done about a shortage of memory, and which kernels were used if not PyTorch's own."""
        return (*self._memory.notes, *self._memory_notes, *self._kernels.notes)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter by its name, in the order of the flat vector."""
        layout = self._layout
        return {name: tuple(p.shape) for name, p in zip(layout.names, layout.parameters, strict=True)}

    def matvec(self, v: Tensor, /) -> Tensor:
        """A v (n,) for v (n,); raises the same errors as `matmat`."""
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor, /) -> Tensor:
        """A V (n, b) for V (n, b).

        The graph of a batch that is not kept is computed once for all columns.

        Raises:
            UsageError: V has another shape.
            ProblemError: weights or data changed since the problem was bound, or double backward failed.
        """
        return self._multiply(V, self._graphs, checked=True)

    def block_products(self, blocks: Sequence[Sequence[slice]], Vs: Sequence[Tensor], /) -> list[Tensor]:
        """A_bb V_b (n_b, c_b) for each block b of whole parameters, in one pass over the data.

        Raises:
            UsageError: a block is not one of whole parameters, or V_b has another shape.
            CapabilityError: vectors are cut into shards.
            ProblemError: as for `matmat`.
        """
        if self._layout.shards is not None:
            raise CapabilityError(
                "products with diagonal blocks are not available for weights that are cut into shards",
                hint="Give params instead, for the Hessian of some parameters alone.",
            )
        layout, scale = self._layout, self._scale
        parts = [block_of(layout, slices, V, scale) for slices, V in zip(blocks, Vs, strict=True)]
        return self._products(parts, self._graphs, checked=True)

    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[LinearOperator, float]:
        """The operator of some batches, drawn with replacement by weight, and their share of the weights.

        Its mean over all draws is the operator over all data. Kept graphs are used but none are added, so
        that a product costs at most its share of a full product. That does not include reading the data: data
        that are not a list are iterated up to the last batch drawn, and once completely at the first call.

        Args:
            step, seed: determine the draw.
            batches: how many batches to draw.

        Raises:
            UsageError: `batches` is below 1, or `step` or `seed` is negative.
            ProblemError: weights or data changed since the problem was bound.
        """
        with self.processes.together("a minibatch"), self._risk.session():
            sample = draw_minibatch(self._risk.batch_weights, step, seed, batches)
            return self._sampled(sample), sample.share

    def release(self, needed: int | None = None) -> None:
        """Frees the kept graphs; later products keep them again, as far as memory allows.

        Args:
            needed: the bytes that the caller is about to allocate. Nothing is freed if they fit beside the
                graphs: into the limit, and into the free memory of the device; otherwise later graphs take at
                most half of the memory that is free in addition to them. None: all graphs are freed.

        Raises:
            OptionError: the limit of memory was stated, and is smaller.
        """
        if needed is None:
            self._memory.without_solver()
            self._free_graphs()
            return
        if not self._memory.leave_room(needed):
            self._free_graphs()
        if self._kept and self._free_memory() - self._reserved < needed:
            self._kept = []
            self._free_graphs(max(0, self._free_memory() - needed) / 2)

    def _free_memory(self) -> float:
        """The free bytes of the device; of the process that has the fewest if several share the products."""
        free, shards = free_memory(self.device), self._layout.shards
        return free if shards is None else shards.least(free)

    def _sampled(self, sample: Minibatch) -> LinearOperator:
        factors = self._risk.own_factors(sample)
        wanted = factors.keys()
        fetched = self._risk.terms_of(wanted - self._completely_kept(wanted).keys())

        def graphs() -> WeightedGraphs:
            kept = self._completely_kept(wanted)  # fewer than before, if they were dropped
            if missing := wanted - kept.keys() - fetched.keys():
                fetched.update(self._risk.terms_of(missing))
            for index, factor in factors.items():
                for one in kept.get(index, ()):
                    yield one.graph, factor * one.weight, True
                for term in () if index in kept else fetched[index]:
                    for part in self._parts(term):
                        yield self._graph(part), factor * part.weight, False

        def matmat(V: Tensor) -> Tensor:
            return self._multiply(V, graphs, checked=False)

        return FunctionOperator(
            lambda v: matmat(v[:, None])[:, 0],
            self.shape[0],
            xp=xp,
            dtype=self.dtype,
            device=self.device,
            matmat=matmat,
            space=self,
        )

    def _multiply(self, V: Tensor, graphs: Callable[[], WeightedGraphs], *, checked: bool) -> Tensor:
        """The operator of some graphs times V (n, b); see `_products`."""
        if V.ndim != 2 or V.shape[0] != self._layout.rows:
            raise UsageError(f"the block has shape {tuple(V.shape)}; expected ({self._layout.rows}, b)")
        whole = whole_block(self._layout, V, self._scale)
        return self._products([whole], graphs, checked=checked)[0]

    def _products(
        self, blocks: Sequence[ParameterBlock], graphs: Callable[[], WeightedGraphs], *, checked: bool
    ) -> list[Tensor]:
        """The products with each block, of the graphs of all processes.

        Args:
            checked: whether the graphs are those of all data, whose total weight may not change.
        """
        flat = self._risk.processes.sum(
            lambda: self._retried(lambda: self._block_sums(blocks, graphs(), checked)),
            "a product",
            *(block.V for block in blocks),
        )
        if self._whole_weight is None:
            own = self._total_weight if checked else None
            self._whole_weight = sum(self._risk.batch_weights) if own is None else self._risk.total(own)
        by = self._risk.divisor(self._whole_weight)
        sums = torch.split(flat.div_(by), [block.V.numel() for block in blocks])
        return [
            self._regularised(block, sum_.reshape(block.V.T.shape).T)
            for block, sum_ in zip(blocks, sums, strict=True)
        ]

    def _retried(self, compute: Callable[[], T]) -> T:
        """What `compute` returns in a session; if memory runs out, it is tried again with less."""
        with self._risk.session():
            while True:
                try:
                    with explain_errors("the product failed", hint=second_derivative_hint):
                        return compute()
                except ProblemError as error:
                    if not is_out_of_memory(error):
                        if self._kernels.give_up():
                            continue
                        raise
                    release_memory(error, self.device)
                    if not self._use_less_memory():
                        raise self._out_of_memory(error) from error

    def _regularised(self, block: ParameterBlock, product: Tensor) -> Tensor:
        """D (A D V + c D V) + d V, from the product A D V."""
        if self._options.weight_decay:
            product = product + self._options.weight_decay * block.scaled(block.V)
        product = block.scaled(product)
        return product + self._options.damping * block.V if self._options.damping else product

    def _block_sums(self, blocks: Sequence[ParameterBlock], graphs: WeightedGraphs, checked: bool) -> Tensor:
        flat, total_weight = weighted_sums(blocks, graphs, self._layout, self._kernels)
        if checked:
            self._check_total(total_weight)
        return flat

    def _use_less_memory(self) -> bool:
        """Drops the kept graphs, or else halves the samples in a graph; False if neither is possible."""
        if self._kept or self._memory.keeping:
            self._free_graphs(0.0)
        else:
            index, samples = self._latest
            if samples < 2 or (self._microbatch is None and not self._risk.can_split(index)):
                return False
            self._microbatch, self._total_weight = samples // 2, None
        split = f", and batches are split into at most {self._microbatch} samples" if self._microbatch else ""
        self._memory_notes = (
            f"the device ran out of memory: no gradient graphs are kept{split}; the operator is the same, "
            "but products take longer",
        )
        return True

    def _free_graphs(self, limit: float | None = None) -> None:
        """Frees the kept graphs; later ones may take so many bytes. The batches may be split differently."""
        self._kept, self._all_kept, self._total_weight = [], False, None
        self._memory.forget(limit)

    def _out_of_memory(self, error: ProblemError) -> ProblemError:
        index, samples = self._latest
        if samples < 2 or self._microbatch is not None:
            return ProblemError(
                f"{error.message} (with {samples} sample{'s' * (samples != 1)} at a time and no kept graphs)",
                hint='Use a device with more memory, dtype="float32", or params to select fewer parameters.',
            )
        return ProblemError(
            f"{error.message} (batch {index} can't be split: its loss is not the sum or the mean of those "
            "of its parts)",
            hint="Give smaller batches, or a device with more memory.",
        )

    def _graphs(self) -> WeightedGraphs:
        """The graphs of all terms: the kept ones, then new ones, which are kept while memory is left."""
        for place in range(len(self._kept)):
            yield self._kept[place].graph, self._kept[place].weight, True
        if self._all_kept:
            return
        self._memory.begin()
        terms = chain.from_iterable(map(self._parts, self._risk.terms()))
        for term in islice(terms, len(self._kept), None):
            if self._memory.is_crowded():
                self._kept = []
            if self._memory.keep(term):
                self._kept.append(KeptGraph(term.index, term.last, term.weight, self._graph_to_keep(term)))
                yield self._kept[-1].graph, term.weight, True
            else:
                yield self._graph(term), term.weight, False
        self._all_kept = self._memory.keeping

    def _parts(self, term: Term) -> Iterator[Term]:
        """A term, in parts if a product with all of it would take too much memory."""
        fitting = self._memory.most_samples(term, self._allocation, self._risk.can_split)
        most = min((samples for samples in (fitting, self._microbatch) if samples is not None), default=None)
        return iter([term]) if most is None else self._risk.parts(term, most)

    def _completely_kept(self, wanted: Container[int]) -> dict[int, list[KeptGraph]]:
        """The kept graphs of the wanted batches, for those batches whose parts are all kept."""
        complete: dict[int, list[KeptGraph]] = {
            one.index: [] for one in self._kept if one.last and one.index in wanted
        }
        for one in self._kept:
            if one.index in complete:
                complete[one.index].append(one)
        return complete

    def _graph(self, term: Term) -> TermGraph:
        self._latest = term.index, sample_count(term.batch) or 0
        return self._folding(lambda: self._graph_of(term, self._kernels.selected))

    def _graph_to_keep(self, term: Term) -> TermGraph:
        """The graph of a term that is used in many products."""
        return self._graph(term)

    def _allocation(self, term: Term) -> Allocation:
        """The memory of a term's graph, and of a product with it."""

        def multiply(graph: TermGraph) -> None:
            direction = torch.ones(self._layout.rows, dtype=self.dtype, device=self.device)
            graph.block_product(dict(enumerate(self._layout.split(direction))), keep=True)

        found, shards = allocation(lambda: RiskOperator._graph(self, term), multiply), self._layout.shards
        if shards is None:
            return found
        # All processes keep the same graphs: each product takes all of them.
        return Allocation(-shards.least(-found.kept), -shards.least(-found.peak))

    def _check_total(self, total_weight: float) -> None:
        known = self._total_weight
        if known is not None and abs(total_weight - known) > 1e-9 * known:
            raise ProblemError(
                f"the data changed between products: their total weight was {known:g}, now {total_weight:g}",
                hint=SAME_DATA_HINT,
            )
        self._total_weight = total_weight
