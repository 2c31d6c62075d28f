"""The parameters that an operator covers, and their positions in its flat vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import nn

from eigencore.errors import ProblemError, UsageError
from eigencore.problems.sharing import flat_slices, matching_names, select_names


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
    def dtype(self) -> torch.dtype:
        """The smallest data type that represents every parameter exactly."""
        return reduce(torch.promote_types, (p.dtype for p in self.parameters))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.parameters[0].device

    def split(self, v: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector (n,) as one tensor per parameter, with that parameter's shape and data type."""
        return [
            v[where].reshape(p.shape).to(p.dtype)
            for p, where in zip(self.parameters, self.slices, strict=True)
        ]

    def add(self, out: torch.Tensor, pieces: Sequence[torch.Tensor | None], weight: float) -> None:
        """Adds `weight` times the pieces, one per parameter, to the flat vector `out` (n,) in place.

        A piece that is None counts as zeros.
        """
        for piece, where in zip(pieces, self.slices, strict=True):
            if piece is not None:
                out[where].add_(piece.reshape(-1).to(out.dtype), alpha=weight)


def select(model: nn.Module, pattern: str | None = None) -> Layout:
    """The trainable parameters whose names match a glob pattern.

    A tied parameter has several names. It is selected if any of them matches, and appears once, under its
    first name.

    Args:
        pattern: a glob such as "encoder.*"; None selects all trainable parameters.

    Raises:
        ProblemError: the model has no trainable weights.
        UnknownNameError: no parameter matches; the hint suggests the nearest names.
        UsageError: only frozen parameters match.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    trainable = [p for p in names if p.requires_grad]
    if not trainable:
        raise ProblemError(
            f"{type(model).__name__} has no trainable weights",
            hint="Call requires_grad_(True) on the parameters that the Hessian should cover."
            if names
            else "Give a model that has parameters.",
        )
    available = [name for p in trainable for name in names[p]]
    frozen = [name for p, own in names.items() if not p.requires_grad for name in own]
    if matching_names(frozen, pattern) and not matching_names(available, pattern):
        raise UsageError(
            f"only frozen parameters match {pattern!r}",
            hint="Call requires_grad_(True) on the parameters that the Hessian should cover.",
        )
    selected = set(select_names(available, pattern))
    chosen = [p for p in trainable if selected.intersection(names[p])]
    return Layout(tuple(names[p][0] for p in chosen), tuple(chosen))
