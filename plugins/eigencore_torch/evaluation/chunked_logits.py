"""Cross-entropy of a linear output layer by chunks of tokens, whose logits are computed again when needed.

The logits of a language model, tokens times vocabulary, are its largest tensors, and a second derivative
keeps several of them. The output layer and the loss are therefore one operation here, of which the gradient
and the second derivative compute the logits again, for one chunk of tokens after another. With z = W h + b,
the softmax p and the label y of a token, and the factors (u_h, u_W, u_b) of the gradient:

    loss            log sum_v exp(z_v) - z_y
    gradient in z   p - e_y
    Hessian in z    diag(p) - p p'
    dz              W u_h + u_W h + u_b

In the forward pass, the layer returns a stand-in for its logits. A cross-entropy that is computed from it is
computed by chunks; every other function gets the logits themselves, so that the loss is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import Function
from torch.nn import functional
from torch.utils import _pytree as pytree

from eigencore.errors import ProblemError


def output_layer(model: nn.Module) -> nn.Linear | None:
    """The layer whose outputs are logits: the output embeddings of a model that has them, as those of Hugging
    Face's do, or else the linear layer with the most outputs; None if there is no plain linear layer.
    """
    embeddings = getattr(model, "get_output_embeddings", None)
    layer = embeddings() if callable(embeddings) else None
    if layer is None:
        linear = [module for module in model.modules() if _is_plain(module)]
        layer = max(reversed(linear), key=lambda one: one.out_features, default=None)
    return layer if layer is not None and _is_plain(layer) else None


@contextmanager
def chunked_logits(model: nn.Module, chunk: int) -> Iterator[list[int]]:
    """Computes cross-entropies of the outputs of the output layer by chunks of tokens.

    Yields:
        A list to which every such cross-entropy appends the number of its tokens.
    """
    layer, tokens = output_layer(model), list[int]()
    if layer is None:
        raise ProblemError(
            f"torch.vocabulary_chunk needs a linear output layer, and {type(model).__name__} has none",
            hint="Leave torch.vocabulary_chunk at none.",
        )

    def forward(x: Tensor) -> Tensor:
        return Logits(x, layer.weight, layer.bias, chunk, tokens)

    vars(layer)["forward"] = forward
    try:
        yield tokens
    finally:
        del vars(layer)["forward"]


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(module, nn.Linear) and getattr(module.forward, "__func__", None) is nn.Linear.forward


class Logits(Tensor):
    """Stands for the logits (..., v) of inputs (..., d) of a linear layer, which are computed when needed.

    Selecting, reshaping and widening of tokens give another stand-in. `classes_second` says that the classes
    are the second axis, as in (b, v, t).
    """

    @staticmethod
    def __new__(
        cls,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chunk: int,
        tokens: list[int],
        dtype: torch.dtype | None = None,
        classes_second: bool = False,
    ) -> Logits:
        shape = (*inputs.shape[:-1], weight.shape[0])
        if classes_second:
            shape = (shape[0], shape[-1], *shape[1:-1])
        return torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype or inputs.dtype, device=inputs.device
        )

    def __init__(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chunk: int,
        tokens: list[int],
        dtype: torch.dtype | None = None,
        classes_second: bool = False,
    ):
        self.inputs, self.layer_weight, self.layer_bias = inputs, weight, bias
        self.chunk_size, self.tokens, self.classes_second = chunk, tokens, classes_second
        self._version_of_inputs = inputs._version
        self._whole: Tensor | None = None

    def whole(self) -> Tensor:
        """The logits themselves."""
        if self._whole is None:
            self._require_unchanged()
            z = functional.linear(self.inputs, self.layer_weight, self.layer_bias).to(self.dtype)
            self._whole = z.movedim(-1, 1) if self.classes_second else z
        return self._whole

    def with_inputs(self, inputs: Tensor) -> Logits:
        """The stand-in for the logits of other inputs."""
        return self._like(inputs, self.dtype, self.classes_second)

    def widened(self, dtype: torch.dtype) -> Logits:
        """The logits in another type; a shorter one than they have is ignored."""
        return self._like(self.inputs, torch.promote_types(dtype, self.dtype), self.classes_second)

    def exchanged(self) -> Logits:
        """The logits (b, t, v) with classes second, or (b, v, t) with classes last."""
        return self._like(self.inputs, self.dtype, not self.classes_second)

    def cross_entropy(self, targets: Tensor, ignored: int, reduction: str) -> Tensor:
        """The sum over tokens of their cross-entropies, or the mean, without those whose label is ignored."""
        self._require_unchanged()
        h, y = self.inputs.reshape(-1, self.inputs.shape[-1]), targets.reshape(-1)
        counted = y != ignored
        if not bool(counted.all()):
            h, y = h[counted], y[counted]
        self.tokens.append(len(y))
        bias = None if self.layer_bias is None else self.layer_bias.to(self.dtype)
        total: Tensor = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            h.to(self.dtype), self.layer_weight.to(self.dtype), bias, y, self.chunk_size
        )
        return total / len(y) if reduction == "mean" else total

    def _like(self, inputs: Tensor, dtype: torch.dtype, classes_second: bool) -> Logits:
        self._require_unchanged()
        return Logits(
            inputs, self.layer_weight, self.layer_bias, self.chunk_size, self.tokens, dtype, classes_second
        )

    def _require_unchanged(self) -> None:
        if self.inputs._version != self._version_of_inputs:
            raise ProblemError(
                "the inputs of the output layer are changed in place before its logits are used",
                hint="Set torch.vocabulary_chunk=none, or write the operation out of place.",
            )

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _DESCRIBING:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **given)
        handler = _HANDLERS.get(func)
        first = args[0] if args else given.get("input")
        if handler is not None and isinstance(first, Logits) and first._whole is None:
            made = handler(*args, **given)
            if made is not None:
                return made
        return func(*_materialised(args), **_materialised(given))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return func(*_materialised(args), **_materialised(kwargs or {}))


def _materialised(values: Any) -> Any:
    """Arguments with the logits in the place of their stand-ins."""
    return pytree.tree_map(lambda x: x.whole() if isinstance(x, Logits) else x, values)


# -- functions of stand-ins: what they return if it needs no logits, and None otherwise ----------------------


def _index(x: Logits, index: Any) -> Logits | None:
    """Indices of tokens, which leave the classes, the last axis, as they are."""
    parts = list(index) if isinstance(index, tuple) else [index]
    consumed = sum(_axes(part) for part in parts)
    where = [i for i, part in enumerate(parts) if part is Ellipsis]
    if where:
        parts[where[0] : where[0] + 1] = [slice(None)] * (x.ndim - consumed)
        consumed = x.ndim
    every = slice(None)
    if x.classes_second or consumed > x.ndim or (consumed == x.ndim and parts[-1] != every):
        return None
    return x.with_inputs(x.inputs[tuple(parts)])


def _axes(part: Any) -> int:
    """The number of axes that a part of an index stands for."""
    if part is None or part is Ellipsis:
        return 0
    return int(part.ndim) if isinstance(part, Tensor) and part.dtype is torch.bool else 1


def _reshape(x: Logits, *shape: Any) -> Logits | None:
    sizes = list(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else list(shape)
    if x.classes_second or not all(isinstance(size, int) for size in sizes) or sizes[-1] != x.shape[-1]:
        return None
    return x.with_inputs(x.inputs.reshape(*sizes[:-1], x.inputs.shape[-1]))


def _flatten(x: Logits, start: int = 0, end: int = -1) -> Logits | None:
    if x.classes_second or not 0 <= end < x.ndim - 1:
        return None
    return x.with_inputs(x.inputs.flatten(start, end))


def _transpose(x: Logits, first: int, second: int) -> Logits | None:
    exchanged = {first % x.ndim, second % x.ndim}
    return x.exchanged() if x.ndim == 3 and exchanged == {1, 2} else None


def _to(x: Logits, dtype: Any = None, **others: Any) -> Logits | None:
    return x.widened(dtype) if isinstance(dtype, torch.dtype) and not others else None


def _contiguous(x: Logits) -> Logits:
    return x


def _cross_entropy(
    input: Logits,
    target: Any,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor | None:
    tokens = input.shape[:1] + input.shape[2:] if input.classes_second else input.shape[:-1]
    chunked = (
        (input.classes_second or input.ndim == 2)
        and isinstance(target, Tensor)
        and target.dtype is torch.int64
        and target.shape == tokens
        and weight is None
        and size_average is None
        and reduce is None
        and reduction in ("mean", "sum")
        and label_smoothing == 0
    )
    return input.cross_entropy(target, ignore_index, reduction) if chunked else None


_HANDLERS: dict[Any, Callable[..., Any]] = {
    Tensor.__getitem__: _index,
    Tensor.view: _reshape,
    Tensor.reshape: _reshape,
    torch.reshape: _reshape,
    Tensor.flatten: _flatten,
    torch.flatten: _flatten,
    Tensor.transpose: _transpose,
    torch.transpose: _transpose,
    Tensor.mT.__get__: lambda x: _transpose(x, -1, -2),  # type: ignore[attr-defined]
    Tensor.float: lambda x: x.widened(torch.float32),
    Tensor.double: lambda x: x.widened(torch.float64),
    Tensor.to: _to,
    Tensor.contiguous: _contiguous,
    functional.cross_entropy: _cross_entropy,
}
_DESCRIBING = {
    Tensor.shape.__get__,  # type: ignore[attr-defined]
    Tensor.ndim.__get__,  # type: ignore[attr-defined]
    Tensor.dtype.__get__,  # type: ignore[attr-defined]
    Tensor.device.__get__,
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    torch.is_floating_point,
}


# -- the loss, its gradient and its second derivative --------------------------------------------------------


class ChunkedCrossEntropy(Function):
    """The sum of the cross-entropies of tokens with inputs h (t, d) and labels y (t,)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, w: Tensor, b: Tensor | None, y: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(h, w, b, y)
        ctx.chunk = chunk
        total = h.new_zeros(())
        for part in _chunks(len(y), chunk):
            total += functional.cross_entropy(functional.linear(h[part], w, b), y[part], reduction="sum")
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        h, w, b, y = ctx.saved_tensors
        return (*ChunkedGradient.apply(gradients[0], h, w, b, y, ctx.chunk), None, None)  # type: ignore[no-untyped-call]


class ChunkedGradient(Function):
    """g times the gradient of `ChunkedCrossEntropy` over h, w and b."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, h: Tensor, w: Tensor, b: Tensor | None, y: Tensor, chunk: int) -> Any:
        ctx.save_for_backward(g, h, w, b, y)
        ctx.chunk = chunk
        ctx.set_materialize_grads(False)
        over_h, over_w, over_b = torch.empty_like(h), torch.zeros_like(w), _zeros(b)
        for part in _chunks(len(y), chunk):
            dz = _minus_one_at(_probabilities(h[part], w, b), y[part]).mul_(g)
            torch.mm(dz, w, out=over_h[part])
            over_w.addmm_(dz.T, h[part])
            if over_b is not None:
                over_b += dz.sum(0)
        return over_h, over_w, over_b

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        uh, uw, ub = gradients
        g, h, w, b, y = ctx.saved_tensors
        over_g, over_h, over_w, over_b = g.new_zeros(()), [], torch.zeros_like(w), _zeros(b)
        for part in _chunks(len(y), ctx.chunk):
            p = _probabilities(h[part], w, b)
            rest = _minus_one_at(p.clone(), y[part])
            terms = [None if uh is None else uh[part] @ w.T, None if uw is None else h[part] @ uw.T, ub]
            dz = sum(term for term in terms if term is not None) + torch.zeros_like(p)
            q = g * p * (dz - (p * dz).sum(1, keepdim=True))
            over_g = over_g + (rest * dz).sum()
            over_h.append(q @ w if uw is None else q @ w + g * (rest @ uw))
            over_w = over_w + q.T @ h[part] + (0 if uh is None else g * (rest.T @ uh[part]))
            if over_b is not None:
                over_b = over_b + q.sum(0)
        return over_g, torch.cat(over_h) if over_h else torch.zeros_like(h), over_w, over_b, None, None


def _chunks(tokens: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, tokens, chunk)]


def _probabilities(h: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return torch.softmax(functional.linear(h, w, b), dim=1)


def _minus_one_at(p: Tensor, y: Tensor) -> Tensor:
    """p - e_y, in place."""
    return p.scatter_add_(1, y[:, None], torch.full_like(p[:, :1], -1.0))


def _zeros(x: Tensor | None) -> Tensor | None:
    return None if x is None else torch.zeros_like(x)
