"""The free memory of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def free_bytes(device: Any) -> int | None:
    """The bytes that can still be allocated on a device of JAX; None if that is not known."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    if device.platform != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not on Linux
        return None
    available = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return None if available is None else int(available.split()[1]) * 1024
