"""The C library's allocator, told to keep what was freed."""

from __future__ import annotations

from functools import cache

import torch


@cache
def keep_freed_memory() -> None:
    """Freed blocks of up to 32 MiB stay with the process, for the next batch.

    glibc gives those of more than 128 KiB back to the system and gets them again page by page, which was a
    tenth to a fifth of a small network's product. It raises that size to that of the largest block it sees
    freed, and this is the largest that it takes into account. Other allocators take no notice.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)
