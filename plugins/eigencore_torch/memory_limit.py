"""The option `torch.memory`: how much memory operators and what is computed with them may take."""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from eigencore.errors import OptionError
from eigencore_torch.models.shards import Shards
from eigencore_torch.options import TorchOptions

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

_M_TRIM_THRESHOLD = -1  # in <malloc.h>


@dataclass(frozen=True)
class MemoryLimit:
    """The limits on the memory beside the model and the data, in bytes.

    Attributes:
        graphs: on the graphs that are kept between products.
        total: on these, what a product takes beside them, and the vectors of a solver, together.
        stated: whether the total was stated; an error is raised if it can't be met.
    """

    graphs: float
    total: float
    stated: bool = False


def memory_limit(memory: str, device: torch.device, beside: int = 1) -> MemoryLimit:
    """The limits for a value of the option `memory`.

    Args:
        memory: a size such as "2GiB"; "none" for no limit and no kept graphs; or "auto" for all of the
            device's free memory, of which graphs take at most half.
        beside: how many processes share the free memory.

    Raises:
        OptionError: the value has another form.
    """
    if memory == "none":
        return MemoryLimit(0, math.inf)
    if memory == "auto":
        free = free_memory(device) / beside
        return MemoryLimit(free / 2, free)
    match = re.fullmatch(r"([0-9.]+)\s*([KMG]?i?B)", memory.strip(), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError
        size = int(float(match[1]) * _UNITS[match[2].upper()])
    except (ValueError, KeyError):
        raise OptionError(f"torch.memory is {memory!r}; expected auto, none or a size such as 2GiB") from None
    return MemoryLimit(size, size, stated=True)


def operator_memory(
    options: TorchOptions, device: torch.device, shards: Shards | None, beside: int
) -> MemoryLimit:
    """The limits for an operator; with shards, the smallest of all processes, which keep the same graphs.

    Args:
        beside: how many processes share the free memory.
    """
    limit = memory_limit(options.memory, device, beside)
    if shards is not None:
        limit = replace(limit, graphs=shards.least(limit.graphs), total=shards.least(limit.total))
    if options.derivative == "difference":  # there are no graphs to keep, only batches
        return replace(limit, graphs=0)
    if options.products != "full":  # there are two operators, each of which keeps graphs
        return replace(limit, graphs=limit.graphs / 2, total=limit.total - limit.graphs / 2)
    return limit


def size_text(size: float) -> str:
    """A number of bytes for messages: "1.5 MiB"."""
    unit = max(0, min(3, int(math.log2(max(size, 1)) // 10)))
    return f"{size / 2 ** (10 * unit):.3g} {('bytes', 'KiB', 'MiB', 'GiB')[unit]}"


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
    """Makes the C library keep freed blocks of up to 32 MiB, and 256 MiB in all, for the next batch.

    glibc returns freed blocks of more than 128 KiB to the system and obtains them again page by page, which
    took a tenth to a fifth of the time of a product with a small network. It raises that threshold to the
    size of the largest block that is freed, and this is the largest size that it takes into account. It would
    then keep 64 MiB at the end of its memory; with a transformer, a product took 15 to 20 % longer. Other
    allocators are not affected, and a value of MALLOC_TRIM_THRESHOLD_ in the environment is kept.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 2**28)


def _read_number(pattern: str, path: str) -> int | None:
    try:
        match = re.search(pattern, Path(path).read_text())
    except OSError:
        return None
    return int(match[1]) if match else None
