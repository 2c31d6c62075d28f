"""Warnings about arguments of hessian-eigenthings 0.0.2 that have no effect, at the line of the caller."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = f"{__name__.rpartition('.')[0]}."


def gpu_or_warning(use_gpu: bool) -> bool:
    """Whether to compute on a GPU; a warning if one is requested and there is none."""
    if use_gpu and not torch.cuda.is_available():
        warn(
            "use_gpu=True, but PyTorch finds no GPU; computing without one. "
            "use_gpu=False silences this warning"
        )
        return False
    return bool(use_gpu)


def warn_of_fp16(fp16: bool) -> None:
    if fp16:
        warn(
            "fp16=True is not used: with vectors of 16 bits, eigenvalues are wrong from the first digit on. "
            "Products are computed in the data type of the weights. For products in 16 bits whose error is "
            'measured, write eigencore.analyze(model, data, loss, tol=0.01, options={"torch": {"products": '
            '"float16"}})'
        )


def warn_of_momentum(momentum: float) -> None:
    if momentum:
        warn(
            f"momentum={momentum} is not used: hessian-eigenthings 0.0.2 subtracts it from the eigenvalues. "
            'For power iteration with momentum, write eigencore.solve(A, k, solver="accel_power")'
        )


def warn(message: str) -> None:
    """Warns at the line that called this package, however deep the call is."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)
