"""The gradient of a batch loss as an autograd graph, and the memory that such graphs may use.

With the graph kept, a Hessian product is one backward pass. Without it, the forward pass and the gradient are
computed again first. The memory that a graph uses is measured on a graph that is then discarded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

from eigencore.errors import OptionError
from eigencore_torch.models.params import Layout

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class GradientGraph:
    """The gradient of a scalar loss over the parameters of a layout, which can be differentiated again."""

    def __init__(self, loss: Tensor, layout: Layout):
        self._layout = layout
        # A loss that does not depend on the weights has no graph; its Hessian is zero.
        gradients = (
            torch.autograd.grad(loss, layout.parameters, create_graph=True, allow_unused=True)
            if loss.requires_grad
            else ()
        )
        # The gradient over an unused parameter, or one that enters linearly, contributes nothing.
        self._active = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
        self._gradients = [gradients[i] for i in self._active]

    @property
    def outputs(self) -> list[Node | None]:
        """The nodes that computed the gradients, from which all others are reached."""
        return [gradient.grad_fn for gradient in self._gradients]

    def product(self, v: Tensor, *, keep: bool) -> Sequence[Tensor | None]:
        """The Hessian times the flat vector v (n,), one piece per parameter; None stands for zeros.

        Args:
            keep: whether the graph is used again.
        """
        return self.block_product(dict(enumerate(self._layout.split(v))), keep=keep)

    def block_product(self, pieces: Mapping[int, Tensor], *, keep: bool) -> Sequence[Tensor | None]:
        """A diagonal block of the Hessian times a direction: only the operations between its parameters run.

        Args:
            pieces: the direction in each parameter of the block, by its position in the layout.
            keep: whether the graph is used again.

        Returns:
            One piece per parameter of the block, in the order of `pieces`.
        """
        active = dict(zip(self._active, self._gradients, strict=True))
        chosen = [i for i in pieces if i in active]
        if not chosen:
            return [None] * len(pieces)
        return torch.autograd.grad(
            [active[i] for i in chosen],
            [self._layout.parameters[i] for i in pieces],
            grad_outputs=[pieces[i] for i in chosen],
            retain_graph=keep,
            allow_unused=True,
        )


def graph_bytes(build: Callable[[], object], layout: Layout) -> int:
    """The bytes of the graph that `build` creates: each storage counts once, those of the weights do not."""
    weights = {p.untyped_storage().data_ptr() for p in layout.parameters}
    sizes: dict[int, int] = {}

    def record(x: Tensor) -> Tensor:
        if x.layout is torch.strided and (address := x.untyped_storage().data_ptr()) not in weights:
            sizes[address] = x.untyped_storage().nbytes()
        # Not x itself: a graph that saves its own output would keep itself alive indefinitely.
        return x.detach()

    with saved_tensors_hooks(record, lambda x: x):
        build()
    return sum(sizes.values())


def memory_budget(memory: str, device: torch.device) -> int:
    """The value of the option `memory` in bytes.

    Args:
        memory: "none", a size such as "2GiB", or "auto" for half of the device's free memory.

    Raises:
        OptionError: the value has another form.
    """
    if memory == "none":
        return 0
    if memory == "auto":
        return free_memory(device) // 2
    match = re.fullmatch(r"([0-9.]+)\s*([KMG]?i?B)", memory.strip(), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError
        return int(float(match[1]) * _UNITS[match[2].upper()])
    except (ValueError, KeyError):
        raise OptionError(f"torch.memory is {memory!r}; expected auto, none or a size such as 2GiB") from None


def free_memory(device: torch.device) -> int:
    """The bytes that are free on a device, with those that PyTorch has reserved there and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = _read_number(r"MemAvailable:\s+(\d+) kB", "/proc/meminfo")
    # If the system does not report its free memory, a size that every machine has is assumed.
    limits = [2**30 if free is None else free * 1024]
    # A container may allow less than the machine has. It can release the memory that it uses to cache files.
    allowed = _read_number(r"(\d+)", "/sys/fs/cgroup/memory.max")
    used = _read_number(r"(\d+)", "/sys/fs/cgroup/memory.current")
    files = _read_number(r"inactive_file (\d+)", "/sys/fs/cgroup/memory.stat")
    if allowed is not None and used is not None:
        limits.append(max(0, allowed - used + (files or 0)))
    return min(limits)


@cache
def retain_freed_memory() -> None:
    """Makes the C library keep freed blocks of up to 32 MiB in the process, for the next batch.

    glibc returns freed blocks of more than 128 KiB to the system and obtains them again page by page, which
    took a tenth to a fifth of the time of a product with a small network. It raises that threshold to the
    size of the largest block that is freed, and this is the largest size that it takes into account. Other
    allocators are not affected.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)


def _read_number(pattern: str, path: str) -> int | None:
    try:
        match = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(match[1]) if match else None
