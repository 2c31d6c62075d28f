"""Replacements for the PyTorch kernels whose second derivative is missing, wrong or slow.

Five are known. Fused attention, cuDNN's recurrent networks, transformer layers fused for inference and
everything compiled by torch.compile have no second derivative. The fused weight normalisation has a wrong
one, as if the norms were constants (seen in PyTorch 2.13). Those of convolutions are slow on CPUs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from eigencore_torch.evaluation.convolutions import CheaperConvolutions, is_convolution

# How products are computed: by double backward, or by differences of the gradient.
Derivative = Literal["exact", "difference"]
# How exact products are computed: through autograd graphs, or from recorded operations, which are replayed,
# compiled, or captured as CUDA graphs.
Route = Literal["graph", "recorded", "compiled", "captured"]


@contextmanager
def twice_differentiable(
    modules: Sequence[nn.Module], device: torch.device, *, over_weights: bool = True
) -> Iterator[None]:
    """Makes computations inside twice differentiable; restores PyTorch's switches afterwards.

    Args:
        modules: all modules that are used, their children among them.
        over_weights: whether derivatives over weights are computed. Over inputs alone, PyTorch's convolutions
            are not slow, and ours would compute the derivatives over their weights in vain.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_unfused_transformer_layers())
        if device.type == "cuda" and any(isinstance(module, nn.RNNBase) for module in modules):
            stack.enter_context(_without_cudnn())
        if any(_is_weight_normed(module) for module in modules):
            stack.enter_context(_PlainWeightNorm())
        if over_weights and device.type == "cpu" and any(is_convolution(module) for module in modules):
            stack.enter_context(CheaperConvolutions())
        yield


def uncompiled() -> AbstractContextManager[None]:
    """Runs compiled parts of the model or the loss uncompiled.

    They have no second derivative, and are not compiled for weights that are replaced.
    """
    # PyTorch has this switch from version 2.6. The compiler is only imported if something was compiled.
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    context: AbstractContextManager[None] = stance("force_eager")
    return context


@contextmanager
def _unfused_transformer_layers() -> Iterator[None]:
    """Computes transformer layers from single operations, also when no gradient is required."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _without_cudnn() -> Iterator[None]:
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


class _PlainWeightNorm(TorchFunctionMode):
    """Computes weight normalisation from a norm and a product instead of the fused kernel."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        function = _weight_norm if func is torch._weight_norm else func
        return function(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / ||v||, with the norm over all dimensions except `dim`, or over all of them for dim=-1."""
    others = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    norm: Tensor = torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1)
    return v * (g / norm)


def _is_weight_normed(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    # A current parametrisation, or a hook of the older torch.nn.utils.weight_norm.
    return type(module).__name__ == "_WeightNorm" or any(type(h).__name__ == "WeightNorm" for h in hooks)
