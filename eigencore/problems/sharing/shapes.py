"""Checks of the shapes of inputs in rows, their labels, and directions in the space of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigencore.errors import UsageError

if TYPE_CHECKING:
    from eigencore.space import Array


def check_rows(x: Array, d: int) -> None:
    """Raises UsageError if x is not a batch of inputs in rows, (b, d)."""
    if x.ndim != 2 or x.shape[1] != d:
        raise UsageError(f"inputs of shape {tuple(x.shape)}; expected (b, {d})")


def check_labels(y: Array, x: Array) -> None:
    """Raises UsageError if y does not have one label (b,) for each row of x (b, d)."""
    if tuple(y.shape) != tuple(x.shape[:1]):
        raise UsageError(
            f"labels of shape {tuple(y.shape)}; expected {tuple(x.shape[:1])}, one label per input"
        )


def check_row_vectors(v: Array, x: Array) -> None:
    """Raises UsageError if v does not have one vector for each row of x: the same shape (b, d)."""
    if tuple(v.shape) != tuple(x.shape):
        raise UsageError(f"vectors of shape {tuple(v.shape)}; expected {tuple(x.shape)}, one row per sample")


def check_direction(v: Array, n: int) -> None:
    """Raises UsageError if v is not a direction (n,) over n weights."""
    if tuple(v.shape) != (n,):
        raise UsageError(f"a direction of shape {tuple(v.shape)}; expected ({n},)")
