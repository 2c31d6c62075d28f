"""Which weights are looked at, and where each lies in the flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, reduce
from itertools import accumulate, pairwise

import torch
from torch import nn

from eigencore.errors import ProblemError, UnknownNameError, UsageError


@dataclass(frozen=True)
class Layout:
    """The chosen parameters, in the model's order, one after the other in a flat vector of n numbers."""

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        ends = accumulate((p.numel() for p in self.parameters), initial=0)
        return tuple(slice(start, end) for start, end in pairwise(ends))

    @property
    def n(self) -> int:
        return sum(p.numel() for p in self.parameters)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type that holds every parameter without loss."""
        return reduce(torch.promote_types, (p.dtype for p in self.parameters))

    @property
    def device(self) -> torch.device:
        return self.parameters[0].device

    def split(self, v: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector (n,) as pieces of the shape and type of each parameter."""
        return [
            v[where].reshape(p.shape).to(p.dtype)
            for p, where in zip(self.parameters, self.slices, strict=True)
        ]

    def add(self, out: torch.Tensor, pieces: Sequence[torch.Tensor | None], weight: float) -> None:
        """Adds weight times the pieces to the flat vector `out` (n,), in place; None counts as zeros."""
        for piece, where in zip(pieces, self.slices, strict=True):
            if piece is not None:
                out[where].add_(piece.reshape(-1).to(out.dtype), alpha=weight)


def select(model: nn.Module, pattern: str | None = None) -> Layout:
    """The trainable parameters that have a name matching the glob `pattern` (None: all of them).

    A parameter that is tied, and so has several names, is counted once, under its first.

    Raises:
        ProblemError: none of the model's weights is trainable.
        UnknownNameError: no parameter matches; the nearest names are told.
        UsageError: only frozen ones match.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    trainable = [p for p in names if p.requires_grad]
    if not trainable:
        raise ProblemError(
            f"{type(model).__name__} has no trainable weights",
            hint="Call requires_grad_(True) on the parameters that the Hessian is wanted over."
            if names
            else "Give a model that has parameters.",
        )
    chosen = [p for p in trainable if _matches(names[p], pattern)]
    if not chosen and pattern is not None:
        if any(_matches(own, pattern) for own in names.values()):
            raise UsageError(
                f"only frozen parameters match {pattern!r}",
                hint="Call requires_grad_(True) on those that the Hessian is wanted over.",
            )
        raise UnknownNameError("parameter", pattern, _patterns(own for p in trainable for own in names[p]))
    return Layout(tuple(names[p][0] for p in chosen), tuple(chosen))


def _matches(names: list[str], pattern: str | None) -> bool:
    return pattern is None or any(fnmatchcase(name, pattern) for name in names)


def _patterns(names: Iterable[str]) -> set[str]:
    """What could have been meant: each parameter, and each module with all of its own."""
    known = set()
    for name in names:
        parts = name.split(".")
        known.add(name)
        known.update(".".join(parts[:depth]) + ".*" for depth in range(1, len(parts)))
    return known
