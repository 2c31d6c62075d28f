"""A mode that computes in float64 what a model or its loss requests in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Of view, a data type reinterprets the bits; of grad, the inputs must stay the tensors that they are.
_EXCEPTIONS = (Tensor.view, torch.autograd.grad)


class Float64Mode(TorchFunctionMode):
    """Replaces float32 by float64 in every call of PyTorch that runs inside.

    A copy of a model in float64 does not compute in float64 throughout: a loss may convert logits to float32,
    a recurrent network may start from torch.zeros(...), and class weights may be held by a function. The
    first would leave the rounding errors of float32, the others would fail. Types of 16 bits stay as they
    are: whoever requests them for a part of the network wants their rounding.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.float:
            func = Tensor.double
        if func in _EXCEPTIONS or _writes_into_an_argument(func, kwargs):
            return func(*args, **kwargs)
        result = func(*_widened(args), **_widened(kwargs))
        # What is created here may be written into later, so that it must have its type from the start.
        return _widened(result) if not _has_tensor((args, kwargs)) else result


def _writes_into_an_argument(func: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    special = name.startswith("__")
    return name in ("__set__", "__setitem__") or (name.endswith("_") and not special) or "out" in kwargs


def _widened(x: Any) -> Any:
    """Arguments or a result with float64 in place of float32."""
    if isinstance(x, Tensor):
        return x.double() if x.dtype == torch.float32 else x
    if x is torch.float32:
        return torch.float64
    if isinstance(x, dict):
        return {key: _widened(value) for key, value in x.items()}
    return type(x)(map(_widened, x)) if type(x) in (list, tuple) else x


def _has_tensor(x: Any) -> bool:
    if isinstance(x, dict):
        x = list(x.values())
    return any(map(_has_tensor, x)) if isinstance(x, list | tuple) else isinstance(x, Tensor)
