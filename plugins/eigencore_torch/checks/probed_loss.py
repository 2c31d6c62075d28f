"""A loss on few samples, and how far its derivatives are from central differences."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from eigencore import arrays
from eigencore.errors import ProblemError
from eigencore.problems.sharing import DIFFERENCES, DerivativeGaps, Differences, derivative_gaps
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.checks.float64_mode import Float64Mode
from eigencore_torch.checks.suspects import ForwardWatch, nodes_of, python_functions
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches, first_samples
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state
from eigencore_torch.gradient_graph import GradientGraph
from eigencore_torch.memory_limit import free_memory
from eigencore_torch.models.params import Layout, differentiable
from eigencore_torch.models.placement import copies, place
from eigencore_torch.user_errors import explain_errors
from eigencore_torch.weight_space import shifted_weights

_FEWER_SAMPLES = 4
_SHIFT = 1e-3  # relative to the norm of the weights
_LONG_STEPS = 2  # the number of steps at which rounding hides hardly anything
_VECTORS = 10  # of the size of all weights in float64: the copy, the direction, gradients and products


@dataclass(frozen=True)
class ProbeOutcome:
    """What a measurement showed.

    Attributes:
        tolerance: the largest gap between right derivatives and differences.
        not_finite: the first derivative that is not finite; None if both are.
    """

    gaps: DerivativeGaps
    tolerance: float = 0.0
    not_finite: Literal["gradient", "second derivative"] | None = None

    @property
    def wrong(self) -> bool:
        """Whether a gap is above the tolerance."""
        return self.gaps.exceed(self.tolerance)

    @property
    def shows_right(self) -> bool:
        """Whether wrong derivatives would have had a gap above the tolerance, and there is none."""
        return self.gaps.resolved and self.gaps.gradient <= self.tolerance and not self.wrong

    @property
    def gradient_is_right(self) -> bool:
        """Whether only the second derivative may be wrong."""
        return not self.gaps.gradient > self.tolerance

    @property
    def description(self) -> str:
        """The gaps above the tolerance, as a clause for messages."""
        return self.gaps.description(self.tolerance)


@dataclass(frozen=True)
class ForwardPass:
    """The loss with its graph, and what was recorded while it was computed."""

    value: Tensor
    watch: ForwardWatch

    @cached_property
    def functions(self) -> list[type]:
        """The custom autograd functions in the graph."""
        return python_functions(self.value)


@dataclass(frozen=True)
class ProbedLoss:
    """A loss on the samples that are probed.

    Attributes:
        setting: how the loss is evaluated.
        originals: the parameters of the given model, if `loss` has a copy of it.
    """

    loss: BatchLoss
    batch: Batch
    index: int
    setting: Setting
    originals: frozenset[nn.Parameter] = frozenset()

    @cached_property
    def layout(self) -> Layout:
        return differentiable(self.loss.model)

    @cached_property
    def exact(self) -> bool:
        """Whether all weights are float64."""
        return all(p.dtype == torch.float64 for p in self.layout.parameters)

    @property
    def differences(self) -> Differences:
        return DIFFERENCES["float64" if self.exact else "float32"]

    def look(self) -> ForwardPass:
        """One forward pass, watched."""
        with self._session(), ForwardWatch() as watch:
            return ForwardPass(self._finite_value(), watch)

    def in_float64(self) -> ProbedLoss:
        """A copy in float64, with the gradient hooks of the parameters, which copying drops.

        Raises:
            ProblemError: the model can't be copied, or the copy would not fit into the free memory.
        """
        needed = 8 * _VECTORS * sum(p.numel() for m in self.loss.modules for p in m.parameters())
        if needed > free_memory(self.layout.device) / 2:
            raise ProblemError("it would not fit into the free memory")
        with explain_errors("the model can't be copied"):
            copied = place(self.loss, None, "float64", None).loss
            (batch,) = Batches([self.batch], self.layout.device, torch.float64)
            originals = set()
            for given, module in copies(self.loss, copied):
                for original, parameter in zip(given.parameters(), module.parameters(), strict=True):
                    originals.add(original)
                    for hook in (original._backward_hooks or {}).values():
                        parameter.register_hook(hook)  # type: ignore[no-untyped-call]
        return ProbedLoss(copied, batch, self.index, self.setting, frozenset(originals))

    def measure(self, functions: Sequence[type]) -> ProbeOutcome:
        """The gaps on these samples, or on fewer ones near these weights if they are smaller there.

        At the given weights, a preactivation may be exactly zero, and there may be so many kinks that some
        are always closer than the smallest step.

        Args:
            functions: the custom autograd functions that are expected in the graph.

        Raises:
            ProblemError: a computation failed, or does not use the weights that it is meant to use.
        """
        outcome = self._measure_here(functions)
        if not outcome.wrong:
            return outcome
        few = self.first_samples(_FEWER_SAMPLES) or self
        try:
            with shifted_weights(self.layout, _SHIFT * self._weights_norm * self._random(1)):
                again = few._measure_here(functions)
        except ProblemError:
            return outcome
        return outcome if again.wrong or again.not_finite else again

    def settled(self, forward: ForwardPass) -> bool:
        """Whether the derivatives in a forward pass over these samples are right, which costs little to show.

        The product in the type of the weights is compared with differences in float64. Their largest step,
        which is often beyond the nearest kink, is left out. False shows nothing.

        Args:
            forward: what `look` returned.
        """
        with suppress(ProblemError), explain_errors("the Hessian product failed"):
            exact = self if self.exact else self.in_float64()
            with self._session():
                v = self._direction(forward.value)
                product = self._product(forward.value, v)
                if not self._is_comparable(product):
                    return False
            with exact._session():
                steps = exact.differences.steps[1:]
                return exact._compared(v.double(), product.double(), steps).shows_right
        return False

    def _measure_here(self, functions: Sequence[type]) -> ProbeOutcome:
        with self._session(), explain_errors("the Hessian product failed"):
            value = self._finite_value()
            self._refuse_other_graph(value, functions)
            v = self._direction(value)
            product = self._product(value, v)
            del value
            if not self._is_comparable(product):
                finite = arrays.is_finite(self._at(v, 0.0)[1], self.layout.shards)
                nothing = DerivativeGaps(math.nan, math.nan)
                return ProbeOutcome(nothing, not_finite="second derivative" if finite else "gradient")
            return self._compared(v, product, self.differences.steps)

    def _product(self, value: Tensor, v: Tensor) -> Tensor:
        """The Hessian of a loss times v (n,); NaN, which is not compared, without second derivatives."""
        if self.setting.derivative != "exact":
            return torch.full_like(v, torch.nan)
        product = torch.zeros_like(v)
        self.layout.add(product, GradientGraph(value, self.layout).product(v, keep=False), 1.0)
        return product

    def _is_comparable(self, product: Tensor) -> bool:
        """Whether a product is finite, if it has been computed."""
        return self.setting.derivative != "exact" or arrays.is_finite(product, self.layout.shards)

    def _compared(self, v: Tensor, product: Tensor, steps: tuple[float, ...]) -> ProbeOutcome:
        def gaps(steps: tuple[float, ...], terms: float) -> DerivativeGaps:
            differences = replace(self.differences, steps=steps)
            return derivative_gaps(
                lambda t: self._at(v, t),
                v,
                product,
                differences,
                self._weights_norm,
                terms,
                space=self.layout.shards,
            )

        tolerance = self.differences.tolerance
        found = gaps(steps, 0.0)
        if found.exceed(tolerance):
            # The gap may be the rounding error of confident outputs; short steps would hide any gap in it.
            again = gaps(steps[:_LONG_STEPS], self._largest_output)
            found = found if again.exceed(tolerance) else again
        return ProbeOutcome(found, tolerance)

    @cached_property
    def _largest_output(self) -> float:
        """The largest number in the outputs of the model; 0 if the loss does not call the model itself."""
        sizes = [0.0]

        def record(module: nn.Module, arguments: object, outputs: object) -> None:
            found = [
                x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()
            ]
            sizes.extend(float(x.detach().abs().max()) for x in found if x.numel())

        handle = self.loss.model.register_forward_hook(record)
        try:
            with self._session(), torch.no_grad():
                self.loss(self.batch, self.index)
        finally:
            handle.remove()
        return max(size for size in sizes if math.isfinite(size))

    def _at(self, v: Tensor, t: float) -> tuple[float, Tensor]:
        """The loss, and its gradient (n,), at the weights w + t v."""
        gradient = torch.zeros_like(v)
        with shifted_weights(self.layout, t * v):
            value = self.loss(self.batch, self.index)
            if value.requires_grad:
                pieces = torch.autograd.grad(value, self.layout.parameters, allow_unused=True)
                self.layout.add(gradient, pieces, 1.0)
        return float(value.detach()), gradient

    def _finite_value(self) -> Tensor:
        value = self.loss(self.batch, self.index)
        if not bool(torch.isfinite(value)):
            raise ProblemError(f"the loss of some samples of batch {self.index} is {float(value.detach())}")
        return value

    def _refuse_other_graph(self, value: Tensor, functions: Sequence[type]) -> None:
        """Raises ProblemError if the copy computes something else than the given model does."""
        used = {getattr(node, "variable", None) for node in nodes_of(value)}
        if not self.originals.isdisjoint(used):
            raise ProblemError("the loss uses the weights of the given model, not those of a copy")
        if python_functions(value) != functions:
            raise ProblemError("the model computes with other operations in float64")

    def operation_not_finite(self) -> str | None:
        """The name of the operation whose derivative is NaN; None if it is not found."""
        reports = []
        with self._session(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with torch.autograd.detect_anomaly(check_nan=True):
                    GradientGraph(self._finite_value(), self.layout).product(self._random(0), keep=False)
            except RuntimeError as error:
                reports.append(str(error))
        # The second derivative of an operation consists of others; a warning says which one induced them.
        reports = [*(str(one.message) for one in caught), *reports]
        induced = re.search(r"induced by (\w+?)Backward", "".join(reports))
        named = induced or re.search(r"Function '(\w+?)Backward", "".join(reports))
        return named[1] if named else None

    @contextmanager
    def _session(self) -> Iterator[None]:
        with (
            preserve_state(self.loss.modules, self.setting, None),
            Float64Mode() if self.exact else nullcontext(),
        ):
            yield

    def _random(self, seed: int) -> Tensor:
        """A random direction (n,) of norm 1 from a generator of its own."""
        generator = torch.Generator().manual_seed(seed)
        # In float32, in which random numbers take a quarter of the time.
        v: Tensor = torch.randn(self.layout.n, generator=generator).to(self.layout.dtype)
        return self.layout.cut(v.div_(torch.linalg.vector_norm(v)).to(self.layout.device))

    def _direction(self, value: Tensor) -> Tensor:
        """A random direction, without rows of embeddings that are constant by declaration (padding_idx)."""
        v = self._random(0)
        slices = dict(zip(self.layout.parameters, self.layout.slices, strict=True))
        for node in nodes_of(value):
            if hasattr(node, "_saved_padding_idx"):
                row, table = node._saved_padding_idx, getattr(node.next_functions[0][0], "variable", None)
                if table in slices and row < len(table):  # a large number stands for no padding
                    v[slices[table]].reshape(table.shape)[row] = 0
        return v

    @cached_property
    def _weights_norm(self) -> float:
        return self.layout.norm()

    def first_samples(self, samples: int) -> ProbedLoss | None:
        """The first samples only; None if the batch has no more, or can't be split."""
        few = first_samples(self.batch, samples)
        return None if few is None else replace(self, batch=few)
