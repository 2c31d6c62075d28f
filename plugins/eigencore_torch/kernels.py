"""PyTorch's kernels whose second derivative is missing or wrong, and what is computed instead.

Three are known: fused attention and cuDNN's recurrent networks refuse a second derivative, and the fused
weight normalisation gives a wrong one, as if the norms were constants (seen in PyTorch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def twice_differentiable(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """What is computed inside can be differentiated twice; PyTorch's switches are put back afterwards."""
    parts = [module for root in modules for module in root.modules()]
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in parts):
            stack.enter_context(_without_cudnn())
        if any(_is_weight_normed(module) for module in parts):
            stack.enter_context(_PlainWeightNorm())
        yield


@contextmanager
def _without_cudnn() -> Iterator[None]:
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


class _PlainWeightNorm(TorchFunctionMode):
    """Computes weight normalisation from a norm and a product."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        instead = _weight_norm if func is torch._weight_norm else func
        return instead(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ||v||, the norm over all dimensions but `dim`; -1: over all of them."""
    others = [axis for axis in range(v.ndim) if dim == -1 or axis != dim]
    norm: Tensor = torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1)
    return v * (g / norm)


def _is_weight_normed(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    # A parametrisation of today, or a hook of the older torch.nn.utils.weight_norm.
    return type(module).__name__ == "_WeightNorm" or any(type(h).__name__ == "WeightNorm" for h in hooks)
