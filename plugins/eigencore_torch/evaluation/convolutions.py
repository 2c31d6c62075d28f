"""Convolutions whose second derivative is cheaper on CPUs than that of PyTorch.

For the second derivative, PyTorch computes a gradient over the weights as a convolution of its own, in which
an image is the kernel. That took 1.2 to 2.5 times as long as the kernel for such gradients in an ordinary
backward pass, which is used here. The derivatives are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import Function
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten
CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}  # and their dimensions


class Convolution(Function):
    """A convolution of x with w plus b, whose backward pass is `ConvolutionGradient`.

    If its value is known already, the last argument is a list with it. It then becomes the output.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        geometry: tuple[Any, ...],
        known: Sequence[Tensor] = (),
    ) -> Any:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return known[0] if known else _aten.convolution(x, w, b, *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (dy,) = gradients
        over_x, over_w, over_b = ctx.needs_input_grad[:3]
        dx = dw = None
        if over_x or over_w:
            x, w = ctx.saved_tensors
            dx, dw = ConvolutionGradient.apply(dy, x, w, ctx.geometry, (over_x, over_w))  # type: ignore[no-untyped-call]
        db = dy.sum([axis for axis in range(dy.ndim) if axis != 1]) if over_b else None
        return dx, dw, db, *[None] * (len(ctx.needs_input_grad) - 3)


class ConvolutionGradient(Function):
    """The gradients of a convolution over x and w, given the gradient dy over its output."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, w: Tensor, geometry: Any, wanted: Any) -> Any:
        ctx.save_for_backward(dy, x, w)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return _aten.convolution_backward(dy, x, w, None, *geometry, [*wanted, False])[:2]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ddx, ddw = gradients
        dy, x, w = ctx.saved_tensors
        over_dy, over_x, over_w = ctx.needs_input_grad[:3]
        factors = [(a, b) for a, b in ((ddx, w), (x, ddw)) if a is not None and b is not None]
        ddy = gx = gw = None
        if over_dy and factors:
            first, *second = (_aten.convolution(a, b, None, *ctx.geometry) for a, b in factors)
            ddy = first + second[0] if second else first
        if over_x and ddw is not None:
            gx = _aten.convolution_backward(dy, x, ddw, None, *ctx.geometry, [True, False, False])[0]
        if over_w and ddx is not None:
            gw = _aten.convolution_backward(dy, ddx, w, None, *ctx.geometry, [False, True, False])[1]
        return ddy, gx, gw, None, None


class CheaperConvolutions(TorchFunctionMode):
    """Replaces the convolutions that are differentiated inside, where that makes no other difference."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in CONVOLUTIONS and torch.is_grad_enabled():
            found = _inputs(CONVOLUTIONS[func], *args, **given)
            if found is not None and torch.is_autocast_enabled("cpu"):
                # Outside of the function, so that its passes compute in the type of the operands.
                dtype = torch.get_autocast_dtype("cpu")
                found = *(None if x is None else x.to(dtype) for x in found[:3]), found[3]
            if found is not None:
                return Convolution.apply(*found)  # type: ignore[no-untyped-call]
        return func(*args, **given)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution."""
    return isinstance(module, nn.modules.conv._ConvNd)


def _inputs(
    dimensions: int,
    input: Any = None,
    weight: Any = None,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> tuple[Any, ...] | None:
    """The inputs of `Convolution` for the arguments of `torch.conv2d`; None for arguments of another kind."""
    tensors = [input, weight] if bias is None else [input, weight, bias]
    if not all(type(one) in (Tensor, nn.Parameter) and one.layout is torch.strided for one in tensors):
        return None
    suits = (
        input.ndim == weight.ndim == dimensions + 2
        and input.numel() > 0
        and len({one.dtype for one in tensors}) == 1
        and input.is_floating_point()
        and len({one.device for one in tensors}) == 1
        and any(one.requires_grad for one in tensors)
        and not isinstance(padding, str)
    )
    # Inside transformations of functions and forward mode, PyTorch's own rules are needed.
    if not suits or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return None
    sizes = [[one] * dimensions if isinstance(one, int) else list(one) for one in (stride, padding, dilation)]
    sizes = [one * dimensions if len(one) == 1 else one for one in sizes]
    return input, weight, bias, (*sizes, False, [0] * dimensions, groups)
