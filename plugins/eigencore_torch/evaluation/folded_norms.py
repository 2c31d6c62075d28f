"""BatchNorm in evaluation mode as part of the convolution before it, whose weights it scales.

    (conv(x, w) + b - mean) s + beta = conv(x, s w) + s (b - mean) + beta,  s = g / sqrt(var + eps)

The derivatives are the same, and those of the right side are cheaper: a backward pass through the graph takes
no step of its own for the norm, whose second derivative PyTorch computes in some ten passes over its input.
On ResNet-20 a product took 12 % less time. Values are computed as the left side is, bit by bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from eigencore_torch.evaluation.convolutions import CONVOLUTIONS, Convolution

T = TypeVar("T")

# What BatchNorm reads of its input before it normalises, and what shows no more than that.
_HARMLESS = {Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype"))}


class NormFolding:
    """Folds the norms of a computation as long as this can't be noticed in it.

    A computation notices if it uses the output of a convolution after the norm: its gradient over that output
    would be missing. Then it is repeated without folding, and so are later ones from the beginning.

    Must be used inside a session (`preserve_state`), which replaces the convolutions.
    """

    def __init__(self) -> None:
        self._possible = True

    def __call__(self, compute: Callable[[], T]) -> T:
        """What `compute` returns."""
        if not self._possible:
            return compute()
        norms = FoldedNorms()
        try:
            with norms:
                result = compute()
        except Exception:
            if not norms.noticed:
                raise
        else:
            if not norms.noticed:
                return result
        self._possible = False
        return compute()


@dataclass(frozen=True)
class _Latest:
    """The latest convolution, and the versions that its tensors had."""

    output: weakref.ref[Tensor]
    inputs: tuple[Tensor, Tensor, Tensor | None]
    versions: list[int]

    def unchanged(self, y: Tensor) -> bool:
        return self.output() is y and _versions(y, *self.inputs) == self.versions


class FoldedNorms(TorchFunctionMode):
    """Folds every BatchNorm whose input is the output of the convolution before it and is not used between.

    Attributes:
        noticed: whether such an output was used again after its norm was folded.
    """

    def __init__(self) -> None:
        super().__init__()
        self._latest: _Latest | None = None
        self._folded: list[weakref.ref[Tensor]] = []
        self.noticed = False

    def __exit__(self, *error: Any) -> None:
        self._latest = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.batch_norm:
            latest, self._latest = self._latest, None
            folded = None if latest is None else _folded(latest, *args, **given)
            if latest is not None and folded is not None:
                self._folded.append(latest.output)
                return folded
        if func not in _HARMLESS:
            self._look_for_uses(args, given)
        result = func(*args, **given)
        if func in CONVOLUTIONS and _is_replaced(result):
            inputs = _inputs(*args, **given)
            self._latest = _Latest(weakref.ref(result), inputs, _versions(result, *inputs))
        return result

    def _look_for_uses(self, args: Any, given: dict[str, Any]) -> None:
        self._folded = [one for one in self._folded if one() is not None]
        watched = [one() for one in self._folded]
        latest = None if self._latest is None else self._latest.output()
        if latest is None and not watched:
            return
        for x in _tensors((args, given)):
            if x is latest:
                self._latest = None
            self.noticed = self.noticed or any(x is one for one in watched)


def _tensors(arguments: Any) -> Iterator[Tensor]:
    """The tensors in arguments, and in lists, tuples and mappings among them."""
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, dict):
        yield from _tensors(list(arguments.values()))
    elif isinstance(arguments, list | tuple):
        for one in arguments:
            yield from _tensors(one)


def _versions(*tensors: Tensor | None) -> list[int]:
    return [0 if x is None else x._version for x in tensors]


def _is_replaced(y: Any) -> bool:
    return isinstance(y, Tensor) and getattr(y.grad_fn, "_forward_cls", None) is Convolution


def _inputs(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *others: Any, **given: Any
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors among the arguments of `torch.conv2d`."""
    return input, weight, bias


def _folded(
    latest: _Latest,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """The value of `functional.batch_norm`, as that of a convolution; None if it can't be folded."""
    x, w, b = latest.inputs
    known = [one for one in (running_mean, running_var, weight, bias) if one is not None]
    if (
        training
        or running_mean is None
        or running_var is None
        or not latest.unchanged(input)
        or running_mean.requires_grad
        or running_var.requires_grad
        # With a frozen convolution, its gradient over the weights would be computed for the norm alone.
        or not w.requires_grad
        or not all(type(one) in (Tensor, nn.Parameter) and one.dtype is input.dtype for one in known)
    ):
        return None
    with torch.no_grad():
        value = functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    scale = torch.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = scale * ((0 if b is None else b) - running_mean)
    if bias is not None:
        shift = shift + bias
    scaled = w * scale.reshape(-1, *[1] * (w.ndim - 1))
    geometry = input.grad_fn.geometry  # type: ignore[union-attr]
    folded: Tensor = Convolution.apply(x, scaled, shift, geometry, [value])  # type: ignore[no-untyped-call]
    return folded
