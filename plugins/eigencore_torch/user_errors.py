"""Exceptions raised in a user's model, loss or data, turned into errors that say where they came from."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from eigencore.errors import EigencoreError, ProblemError

SECOND_DERIVATIVE_HINT = (
    "If the message names an operation that has no second derivative in PyTorch, write that operation with "
    "simpler operations; or set torch.derivative=difference, for products by differences of the gradient."
)
THIRD_DERIVATIVE_HINT = (
    "If the message names an operation that has no third derivative in PyTorch, write that operation with "
    "simpler operations: a sample's curvature takes the third derivative of every operation in the model."
)
SHARDS_HINT = (
    "PyTorch can't compute the second derivative of an operation on DTensors that are cut like this. Cut "
    "parameters and batches in their first dimension, as distribute_tensor(x, mesh, [Shard(0)]) does; or set "
    "torch.derivative=difference, for products by differences of the gradient."
)
FEW_SAMPLES_HINT = (
    "PyTorch can't cut an operation on DTensors over so many processes. If it can for whole batches, but not "
    "for the few samples that are tried first, give Problem(reduction='mean') or 'sum', and set "
    "torch.check=false."
)
CHECKPOINT_HINT = "Call checkpoint(..., use_reentrant=False)."
_MEMORY_HINT = "Set torch.microbatch, or torch.memory=none; neither changes the operator."


@contextmanager
def explain_errors(
    failed: str,
    hint: str | Callable[[BaseException], str | None] | None = None,
    memory_hint: str = _MEMORY_HINT,
) -> Iterator[None]:
    """Raises every exception of the enclosed code as a ProblemError; eigencore's own errors pass unchanged.

    Args:
        failed: a clause that says what failed; the message starts with it.
        hint: what to do next, or a function of the exception that returns it.
        memory_hint: what to do next if the device is out of memory.

    Raises:
        ProblemError: the enclosed code raised an exception or called sys.exit.
    """
    try:
        yield
    except EigencoreError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise ProblemError(f"{failed}: the device is out of memory: {error}", hint=memory_hint) from error
        advice = hint(error) if callable(hint) else hint
        raise ProblemError(f"{failed}: {type(error).__name__}: {error}", hint=advice) from error


def gradient_hint(error: BaseException) -> str | None:
    """What to do if a gradient failed that a loss permits."""
    if "use_reentrant" in str(error):
        return CHECKPOINT_HINT
    return FEW_SAMPLES_HINT if _concerns_shards(error) else None


def second_derivative_hint(error: BaseException) -> str:
    """What to do if a Hessian product failed."""
    return SHARDS_HINT if _concerns_shards(error) else gradient_hint(error) or SECOND_DERIVATIVE_HINT


def _concerns_shards(error: BaseException) -> bool:
    """Whether PyTorch can't exchange the shards that an operation on DTensors needs, by its messages."""
    return any(word in str(error) for word in ("redistribute", "DTensor", "Sharding propagation", "sharded"))


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on a GPU or on the host, or the error was caused by that."""
    if error is None:
        return False
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    # On the host, PyTorch raises a RuntimeError.
    on_host = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_host or is_out_of_memory(error.__cause__)


def release_memory(error: BaseException | None, device: torch.device) -> None:
    """Frees the tensors that the frames of a caught exception hold, and the memory that PyTorch caches."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
