"""The parameters that an operator covers, and their positions in its flat vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import nn

from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import Params
from eigencore.problems.sharing import flat_slices, matching_names, params_text, patterns_of, select_names
from eigencore_torch.data.batches import type_name
from eigencore_torch.models.number_types import is_computed_with
from eigencore_torch.models.shards import Shards, is_dtensor, whole
from eigencore_torch.models.wrappers import name_without_wrappers

_TRAINABLE_HINT = "Call requires_grad_(True) on the parameters that the Hessian should cover."


@dataclass(frozen=True)
class Layout:
    """The selected parameters, in the model's order, one after the other in a flat vector of n numbers."""

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The position of each parameter in a flat vector."""
        return flat_slices(p.numel() for p in self.parameters)

    @property
    def n(self) -> int:
        """The length of a flat vector."""
        return sum(p.numel() for p in self.parameters)

    @cached_property
    def shards(self) -> Shards | None:
        """How the parameters and vectors are cut over several processes; None if they are not.

        Raises:
            ProblemError: a parameter is cut in a way that is not supported.
        """
        return Shards(self.names, self.parameters) if any(map(is_dtensor, self.parameters)) else None

    @property
    def rows(self) -> int:
        """The entries of a flat vector that this process holds: n unless they are cut."""
        return self.n if self.shards is None else self.shards.rows

    @cached_property
    def dtype(self) -> torch.dtype:
        """The smallest data type that represents every parameter exactly."""
        return reduce(torch.promote_types, (p.dtype for p in self.parameters))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.parameters[0].device

    def part(self, positions: Sequence[int]) -> Layout:
        """The layout of the parameters at some positions alone."""
        return Layout(tuple(self.names[i] for i in positions), tuple(self.parameters[i] for i in positions))

    def norm(self) -> float:
        """The norm of the weights."""
        norms = [torch.linalg.vector_norm(whole(p.detach()).double()) for p in self.parameters]
        return float(torch.linalg.vector_norm(torch.stack(norms)))

    def cut(self, v: torch.Tensor) -> torch.Tensor:
        """What this process holds of a whole flat vector (n,): all of it unless vectors are cut."""
        return v if self.shards is None else self.shards.cut(v)

    def split(self, v: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector (n,) as one tensor per parameter, with that parameter's shape and data type.

        If vectors are cut, v (rows,) is what this process holds, and the tensors are cut as the parameters.
        """
        if self.shards is not None:
            return self.shards.split(v)
        return [
            _aligned(v[where].reshape(p.shape).to(p.dtype))
            for p, where in zip(self.parameters, self.slices, strict=True)
        ]

    def flat(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """One tensor per parameter, in its shape, as a flat vector (n,); the inverse of `split`."""
        out = torch.zeros(self.rows, dtype=self.dtype, device=self.device)
        self.add(out, pieces, 1.0)
        return out

    def add(self, out: torch.Tensor, pieces: Sequence[torch.Tensor | None], weight: float) -> None:
        """Adds `weight` times the pieces, one per parameter, to the flat vector `out` (n,) in place.

        A piece that is None counts as zeros. If vectors are cut, `out` (rows,) is what this process holds.
        """
        if self.shards is not None:
            self.shards.add(out, pieces, weight)
            return
        for piece, where in zip(pieces, self.slices, strict=True):
            if piece is not None:
                out[where].add_(piece.reshape(-1).to(out.dtype), alpha=weight)


def select(model: nn.Module, params: Params = None) -> Layout:
    """The trainable parameters whose names match one of the patterns.

    A tied parameter has several names. It is selected if any of them matches, and appears once, under its
    first name.

    Args:
        params: a pattern such as "encoder.*" or several, as for `eigencore.problems.sharing.select_names`;
            None selects all trainable parameters.

    Raises:
        ProblemError: the model has no trainable weights, or no second derivatives over the selected ones.
        UnknownNameError: no parameter matches a pattern; the hint suggests the nearest names.
        UsageError: only frozen parameters match a pattern, or a pattern is invalid, as for `select_names`.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name_without_wrappers(model, name))
    trainable = [p for p in names if p.requires_grad]
    if not trainable:
        raise ProblemError(
            f"{type(model).__name__} has no trainable weights",
            hint=_TRAINABLE_HINT
            if names
            else "Give a model that has parameters; torch.jit.freeze, for one, makes them constants.",
        )
    available = [name for p in trainable for name in names[p]]
    frozen = [name for p, own in names.items() if not p.requires_grad for name in own]
    patterns = None if params is None else patterns_of(params, available + frozen)
    for pattern in patterns or ():
        if matching_names(frozen, pattern) and not matching_names(available, pattern):
            shown = repr(pattern) if isinstance(pattern, str) else params_text(pattern)
            raise UsageError(f"only frozen parameters match {shown}", hint=_TRAINABLE_HINT)
    selected = set(select_names(available, patterns))
    chosen = [p for p in trainable if selected.intersection(names[p])]
    layout = Layout(tuple(names[p][0] for p in chosen), tuple(chosen))
    _refuse_without_second_derivative(model, layout)
    return layout


def differentiable(model: nn.Module) -> Layout:
    """All trainable weights that have second derivatives, which may be none: real ones to compute with."""
    named = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and p.is_floating_point() and is_computed_with(p)
    }
    return Layout(tuple(named), tuple(named.values()))


def _aligned(piece: torch.Tensor) -> torch.Tensor:
    """The piece, in memory of its own if it starts at an odd position: complex numbers start at even ones.

    A weight that the network views as complex demands this of its piece in the second derivative.
    """
    return piece.clone() if piece.storage_offset() % 2 and piece.numel() > 1 else piece


def _refuse_without_second_derivative(model: nn.Module, layout: Layout) -> None:
    for name, parameter in zip(layout.names, layout.parameters, strict=True):
        if parameter.is_complex():
            raise ProblemError(
                f"{name} is complex; expected real weights",
                hint=f"Store real numbers, nn.Parameter(torch.view_as_real({name.rpartition('.')[2]})), "
                "and call torch.view_as_complex on it in forward(). To leave it out of the Hessian, freeze "
                "it with requires_grad_(False), or select other parameters with params.",
            )
        if not is_computed_with(parameter):
            raise ProblemError(
                f"{name} is {type_name(parameter.dtype)}, a type for storing weights, not for computing "
                "with them",
                hint="Give it in float32 or bfloat16, multiplied by its scales, or freeze it with "
                "requires_grad_(False).",
            )
    selected = set(layout.parameters)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse and module.weight in selected:
            layer = name_without_wrappers(model, name) if name else "the model"
            raise ProblemError(
                f"{layer} has sparse gradients, which PyTorch can't differentiate again",
                hint="Set its attribute sparse to False; the outputs stay the same.",
            )
