"""Parameters that are cut into shards over several processes (DTensor), and the flat vectors cut with them.

A process holds of a flat vector the entries of its own shards of the cut parameters, one parameter after the
other. The parameters that every process has whole, one after the other, are cut into equal shares, so that
every entry of a vector lies in one process, and dot products count it once.

Products are computed by PyTorch's own operations on DTensors, which exchange what they need; a gradient may
come back in other pieces than its parameter, or as terms of a sum over the processes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import array_api_compat.torch as xp
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.processes.process_group import group_processes

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

    from eigencore.space import Floats


def is_dtensor(x: object) -> TypeGuard[DTensor]:
    """Whether a tensor is a DTensor. The module of that class, if nobody has imported it, is not either."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def is_sharded(model: nn.Module) -> bool:
    """Whether a parameter of the model is a DTensor."""
    return any(is_dtensor(p) for p in model.parameters())


@contextmanager
def mixed_operations() -> Iterator[None]:
    """A context in which operations may mix DTensors and tensors that every process has whole.

    A network makes such tensors itself, as for the positions of a text.
    """
    from torch.distributed.tensor import DTensor

    # PyTorch's context `implicit_replication` can't be nested: the inner one turns the outer one off.
    dispatcher: Any = DTensor._op_dispatcher
    before = dispatcher._allow_implicit_replication
    dispatcher._allow_implicit_replication = True
    try:
        with warnings.catch_warnings():
            # Of tensors with one number, which are replicated like the others.
            warnings.filterwarnings("ignore", "Found a non-scalar tensor with numel=1")
            yield
    finally:
        dispatcher._allow_implicit_replication = before


def whole(x: Tensor) -> Tensor:
    """A tensor, put together in every process if it is a DTensor."""
    return x.full_tensor() if is_dtensor(x) else x


def replicated(x: Tensor) -> Tensor:
    """A tensor that every process has whole, as a plain tensor that can be differentiated twice."""
    if not is_dtensor(x):
        return x
    return x.redistribute(placements=_everywhere()).to_local()


def own_entries(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return x._local_tensor if is_dtensor(x) else x.data


def set_own_entries(p: nn.Parameter, entries: Tensor) -> None:
    """Replaces what this process holds of a parameter, without a trace in its version counter."""
    if is_dtensor(p):
        p._local_tensor = entries  # setting `data` of a DTensor has no effect on it
    else:
        p.data = entries


class Shards:
    """How some parameters are cut, of which at least one is a DTensor: a `eigencore.space.ShardedSpace`.

    Args:
        names: their names, for messages.
        parameters: the parameters, in the order of the flat vector.

    Raises:
        ProblemError: a parameter is cut in a way that is not supported.
    """

    xp = xp

    def __init__(self, names: Sequence[str], parameters: Sequence[nn.Parameter]):
        self._parameters = parameters
        self.dtype = reduce(torch.promote_types, (p.dtype for p in parameters))
        self.device = parameters[0].device
        cut = [(name, p) for name, p in zip(names, parameters, strict=True) if is_dtensor(p)]
        self.mesh = cut[0][1].device_mesh
        for name, p in cut:
            _check(name, p, cut[0][1])
        self.group = self.mesh.get_group()
        self.processes = group_processes(self.group)
        self._rank, self._count = self.mesh.get_local_rank(), self.mesh.size()
        # The dimension in which each parameter is cut; None: every process has the whole parameter.
        self._dims = [_cut_dimension(p) for p in parameters]
        self._wholes = [i for i, dim in enumerate(self._dims) if dim is None]
        in_wholes = sum(parameters[i].numel() for i in self._wholes)
        size = -(-in_wholes // self._count)
        self._share = slice(min(in_wholes, self._rank * size), min(in_wholes, (self._rank + 1) * size))
        self._share_size, self._in_wholes = size, in_wholes

    @cached_property
    def rows(self) -> int:
        """The number of entries of a flat vector that this process holds."""
        cut = sum(end - start for start, end in self._slices.values())
        return cut + self._share_length

    @property
    def _share_length(self) -> int:
        return self._share.stop - self._share.start

    @cached_property
    def _slices(self) -> dict[int, tuple[int, int]]:
        """Where the entries of each cut parameter start and end in a vector of this process."""
        found, start = {}, 0
        for i, dim in enumerate(self._dims):
            if dim is not None:
                end = start + own_entries(self._parameters[i]).numel()
                found[i] = start, end
                start = end
        return found

    def sum(self, x: Tensor) -> Tensor:
        """The sum of a small array over the processes: the same bits in each of them."""
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total

    def least(self, x: float) -> float:
        """The smallest of the numbers of all processes."""
        number = torch.tensor(x, dtype=torch.float64, device=self.mesh.device_type)
        dist.all_reduce(number, op=dist.ReduceOp.MIN, group=self.group)
        return float(number)

    def shard(self, x: Floats) -> Floats:
        """The rows of this process, from a host array (n, ...) in the order of the whole parameters."""
        return np.concatenate(self._parts(x))

    def cut(self, v: Tensor) -> Tensor:
        """The entries of this process, from a whole vector (n,)."""
        return torch.cat(self._parts(v))

    def _parts(self, x: Any) -> list[Any]:
        """What `shard` returns, in parts."""
        cut, wholes, start, passed = [], [], 0, 0
        for p, dim in zip(self._parameters, self._dims, strict=True):
            rows = x[start : start + p.numel()]
            start += p.numel()
            if dim is None:
                wholes.append(rows)
                continue
            there = _chunk(p.shape[dim], self._rank, self._count)
            part = rows.reshape(*p.shape, *x.shape[1:])[(slice(None),) * dim + (there,)]
            cut.append(part.reshape(-1, *x.shape[1:]))
        for rows in wholes:
            there = slice(max(0, self._share.start - passed), max(0, self._share.stop - passed))
            cut.append(rows[there])
            passed += len(rows)
        return cut

    def split(self, v: Tensor) -> list[Tensor]:
        """One tensor per parameter, cut as that parameter, from the entries of this process (rows,)."""
        sizes = [self._parameters[i].numel() for i in self._wholes]
        wholes = iter(torch.split(self._gathered(v), sizes))
        pieces = []
        for i, p in enumerate(self._parameters):
            own = v[slice(*self._slices[i])] if i in self._slices else next(wholes)
            own = own.reshape(own_entries(p).shape).to(p.dtype)
            pieces.append(_like(p, own) if is_dtensor(p) else own)
        return pieces

    def add(self, out: Tensor, pieces: Sequence[Tensor | None], weight: float) -> None:
        """Adds `weight` times the pieces, one per parameter, to the entries of this process, in place."""
        wholes = torch.zeros(self._in_wholes, dtype=out.dtype, device=out.device)
        terms = any(pieces[i] is not None and _is_term(pieces[i]) for i in self._wholes)
        start = 0
        for i, (p, piece) in enumerate(zip(self._parameters, pieces, strict=True)):
            if i in self._slices:
                if piece is not None:
                    own = own_entries(_placed(piece, p)).reshape(-1)
                    out[slice(*self._slices[i])].add_(own.to(out.dtype), alpha=weight)
                continue
            if piece is not None:
                is_term = _is_term(piece)
                own = own_entries(piece if is_term else replicated(piece)).reshape(-1)
                if is_term or not terms or self._rank == 0:  # what is no term counts once in the sum
                    wholes[start : start + p.numel()] = own.to(out.dtype)
            start += p.numel()
        if terms:
            dist.all_reduce(wholes, group=self.group)
        out[self.rows - self._share_length :].add_(wholes[self._share], alpha=weight)

    def _gathered(self, v: Tensor) -> Tensor:
        """The entries of the parameters that every process has whole, from the shares in all processes."""
        if not self._in_wholes:
            return v[:0]
        own = v.new_zeros(self._share_size)
        own[: self._share_length] = v[self.rows - self._share_length :]
        parts = [torch.empty_like(own) for _ in range(self._count)]
        dist.all_gather(parts, own, group=self.group)
        return torch.cat(parts)[: self._in_wholes]


def _everywhere() -> list[Any]:
    from torch.distributed.tensor import Replicate

    return [Replicate()]


def _cut_dimension(p: Tensor) -> int | None:
    if not is_dtensor(p):
        return None
    (placement,) = p.placements
    return getattr(placement, "dim") % p.ndim if placement.is_shard() else None  # noqa: B009


def _check(name: str, p: DTensor, first: DTensor) -> None:
    """Raises ProblemError if a DTensor is cut in a way that is not supported."""
    if p.device_mesh.ndim != 1:
        raise ProblemError(
            f"{name} is cut over a mesh of {p.device_mesh.ndim} dimensions; expected one",
            hint="Distribute the parameters over a one-dimensional mesh, such as one dimension of yours.",
        )
    if p.device_mesh != first.device_mesh:
        raise ProblemError(
            "the parameters are cut over different meshes of processes; expected one for all",
            hint="Distribute all parameters over the same mesh.",
        )
    (placement,) = p.placements
    if not (placement.is_replicate() or type(placement).__name__ == "Shard"):
        raise ProblemError(
            f"{name} is placed as {placement}; expected Shard(dim) or Replicate()",
            hint="Call redistribute on the parameter.",
        )
    dim = _cut_dimension(p)
    if dim is not None:
        there = _chunk(p.shape[dim], p.device_mesh.get_local_rank(), p.device_mesh.size())
        expected = (*p.shape[:dim], there.stop - there.start, *p.shape[dim + 1 :])
        if tuple(own_entries(p).shape) != expected:
            raise ProblemError(
                f"this process holds {tuple(own_entries(p).shape)} of {name}; expected {expected}",
                hint="Make the parameter by torch.distributed.tensor.distribute_tensor.",
            )


def _chunk(size: int, rank: int, count: int) -> slice:
    """The part of a dimension that a process holds, as torch.chunk cuts it."""
    each = -(-size // count)
    return slice(min(size, rank * each), min(size, (rank + 1) * each))


def _like(p: DTensor, own: Tensor) -> Tensor:
    """A DTensor that is cut as a parameter, from what this process holds of it."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        own, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )


def _placed(piece: Tensor, p: Tensor) -> Tensor:
    """A piece, cut as its parameter."""
    assert is_dtensor(p)
    assert is_dtensor(piece)
    return cast("Tensor", piece.redistribute(p.device_mesh, p.placements))


def _is_term(piece: Tensor | None) -> bool:
    """Whether a piece is the sum of what the processes hold."""
    return is_dtensor(piece) and bool(piece.placements[0].is_partial("sum"))
