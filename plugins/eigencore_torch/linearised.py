"""A batch's gradient as a graph, and how many of these graphs may be kept between products.

With the graph kept, a Hessian product is one backward pass; without it, it takes the forward pass and the
gradient again. What a graph keeps in memory is estimated from one that is thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from eigencore.errors import OptionError
from eigencore_torch.params import Layout

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Linearised:
    """The gradient of one scalar loss over the parameters of a layout, as a linear map of directions."""

    def __init__(self, loss: Tensor, layout: Layout):
        self._layout = layout
        # A loss that is constant in the weights has no graph, and a Hessian of zero.
        gradients = (
            torch.autograd.grad(loss, layout.parameters, create_graph=True, allow_unused=True)
            if loss.requires_grad
            else ()
        )
        # A gradient that does not depend on the weights contributes nothing (unused, linear).
        self._rows = [i for i, g in enumerate(gradients) if g is not None and g.requires_grad]
        self._gradients = [gradients[i] for i in self._rows]

    def product(self, v: Tensor, *, keep: bool) -> Sequence[Tensor | None]:
        """Hessian times the flat vector v (n,), a piece per parameter; keep: the graph is used again."""
        if not self._rows:
            return [None] * len(self._layout.parameters)
        pieces = self._layout.split(v)
        return torch.autograd.grad(
            self._gradients,
            self._layout.parameters,
            grad_outputs=[pieces[i] for i in self._rows],
            retain_graph=keep,
            allow_unused=True,
        )


def bytes_kept(build: Callable[[], Linearised], layout: Layout) -> int:
    """What the graph that `build` makes keeps in memory: every storage once, the weights' left out."""
    own = {p.untyped_storage().data_ptr() for p in layout.parameters}
    sizes: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        if x.layout is torch.strided and (place := x.untyped_storage().data_ptr()) not in own:
            sizes[place] = x.untyped_storage().nbytes()
        # Not x itself: a graph that saves its own output would hold itself for ever.
        return x.detach()

    with saved_tensors_hooks(note, lambda x: x):
        build()
    return sum(sizes.values())


def budget(memory: str, device: torch.device) -> int:
    """The option `memory` in bytes: "none", a size such as "2GiB", or "auto", half of what is free.

    Raises:
        OptionError: it is none of these.
    """
    if memory == "none":
        return 0
    if memory == "auto":
        return _free(device) // 2
    match = re.fullmatch(r"([0-9.]+)\s*([KMG]?i?B)", memory.strip(), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError
        return int(float(match[1]) * _UNITS[match[2].upper()])
    except (ValueError, KeyError):
        raise OptionError(f"torch.memory is {memory!r}; expected auto, none or a size such as 2GiB") from None


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _read(r"MemAvailable:\s+(\d+) kB", "/proc/meminfo")
    # Where the system doesn't tell, a size that every machine has.
    limits = [2**30 if free is None else free * 1024]
    # A container may allow less than the machine has; what it keeps of files it can give back.
    allowed = _read(r"(\d+)", "/sys/fs/cgroup/memory.max")
    used = _read(r"(\d+)", "/sys/fs/cgroup/memory.current")
    files = _read(r"inactive_file (\d+)", "/sys/fs/cgroup/memory.stat")
    if allowed is not None and used is not None:
        limits.append(max(0, allowed - used + (files or 0)))
    return min(limits)


def _read(pattern: str, path: str) -> int | None:
    try:
        match = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(match[1]) if match else None
