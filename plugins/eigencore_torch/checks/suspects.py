"""What in a model or its loss can make derivatives wrong without an error.

Such suspects are found in three places: in the modules, with their hooks and parameters, in the autograd
graph of the loss, and in the calls that the forward pass makes. A suspect alone proves nothing: a hook may
only log, and a detached tensor may not matter. Whether derivatives are wrong is measured (see `probe`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function
from torch.autograd.graph import Node
from torch.nn.modules._functions import BackwardHookFunction
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from eigencore_torch.evaluation.convolutions import Convolution
from eigencore_torch.models.placement import HALF_TYPES
from eigencore_torch.user_errors import CHECKPOINT_HINT

_DETACHING = {
    Tensor.detach: "detach()",
    Tensor.detach_: "detach_()",
    torch.detach: "detach()",
    Tensor.item: "item()",
    Tensor.tolist: "tolist()",
    Tensor.numpy: "numpy()",
    Tensor.__float__: "float()",
    Tensor.data.__get__: ".data",  # type: ignore[attr-defined]
}
_ROUNDING = {
    getattr(place, name): f"{name}()"
    for place in (torch, Tensor)
    for name in ("round", "floor", "ceil", "trunc", "sign")
}
_APPLY = Function.apply.__func__.__code__  # type: ignore[attr-defined]
_NO_GRAPH_HINT = (
    "Write the backward pass of {} with differentiable operations on tensors from ctx.save_for_backward, or "
    "write the function with PyTorch's operations: values without their graph count as constants."
)
_OTHER_GRADIENT_HINT = (
    "Replace {} for the analysis if its backward pass is not the derivative of its forward pass, as with a "
    "straight-through estimator or a gradient reversal."
)
_HOOK_HINT = "Remove the hook for the analysis, with handle.remove()."
_DETACH_HINT = (
    "A Hessian is that of a loss in which nothing is detached: let the gradient pass there, or compute the "
    "detached value from a separate copy of the weights."
)


@dataclass(frozen=True)
class Suspect:
    """Something that can make derivatives wrong.

    Attributes:
        what: what it is and where, as a noun phrase for messages.
        hint: what to write instead.
    """

    what: str
    hint: str


# -- the autograd graph ------------------------------------------------------------------------------------


def nodes_of(value: Tensor) -> Iterator[Any]:
    """The nodes of the autograd graph of a tensor."""
    visited: set[Node] = set()
    pending = [value.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in visited:
            visited.add(node)
            yield node
            pending.extend(following for following, _ in node.next_functions)


def python_functions(value: Tensor) -> list[type]:
    """The user's autograd functions, written in Python, in the graph of a tensor."""
    found = {getattr(node, "_forward_cls", None): None for node in nodes_of(value)}
    known = (None, BackwardHookFunction, CheckpointFunction, Convolution)
    return sorted((cls for cls in found if cls not in known), key=name_of_function)


def name_of_function(cls: type) -> str:
    """The name of a custom autograd function, for messages."""
    return cls.__name__.removeprefix("GeneratedBackwardFor_")


def once_differentiable(cls: type) -> bool:
    """Whether the backward pass of a custom autograd function is marked once_differentiable.

    If such a function is the last operation, PyTorch omits its second derivative without an error.
    """
    code = getattr(getattr(cls, "backward", None), "__code__", None)
    return code is not None and "once_differentiable" in code.co_qualname


def in_graph(value: Tensor, gradient_is_right: bool) -> Iterator[Suspect]:
    """The suspects in the graph of a loss.

    Args:
        gradient_is_right: whether only second derivatives are wrong.
    """
    for cls in python_functions(value):
        name = name_of_function(cls)
        yield Suspect(
            f"the autograd function {name}",
            _NO_GRAPH_HINT.format(name) if gradient_is_right else _OTHER_GRADIENT_HINT.format(name),
        )
    if any(getattr(node, "_forward_cls", None) is CheckpointFunction for node in nodes_of(value)):
        yield Suspect("a reentrant checkpoint", CHECKPOINT_HINT)


# -- modules -----------------------------------------------------------------------------------------------


def in_modules(modules: Sequence[nn.Module]) -> Iterator[Suspect]:
    """Gradient hooks of parameters, backward hooks of modules, and embeddings that scale gradients."""
    for root in modules:
        for name, parameter in root.named_parameters():
            if parameter._backward_hooks:
                yield Suspect(f"the gradient hook on {name}", _HOOK_HINT)
        for name, module in root.named_modules():
            where = f"{name} ({type(module).__name__})" if name else type(module).__name__
            if module._backward_hooks or module._backward_pre_hooks:
                yield Suspect(f"the backward hook on the module {where}", _HOOK_HINT)
            if getattr(module, "scale_grad_by_freq", False):
                hint = "Set its attribute scale_grad_by_freq to False; the outputs stay the same."
                yield Suspect(f"scale_grad_by_freq of the module {where}", hint)


# -- the forward pass --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """A call of PyTorch during a forward pass.

    Attributes:
        name: the name of the function, for messages.
        where: the file and line of the caller outside PyTorch.
        stack: the Python functions that were running, the innermost first.
    """

    name: str
    where: str
    stack: tuple[CodeType, ...]


class ForwardWatch(TorchFunctionMode):
    """Records the calls inside that detach tensors from the weights, round, or compute in 16 bits.

    Attributes:
        autocast: whether autocast was enabled and produced numbers of 16 bits.
    """

    _MOST = 3  # calls of each sort that are recorded

    def __init__(self) -> None:
        super().__init__()
        self.autocast = False
        self._calls: dict[str, list[_Call]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tracked = any(isinstance(x, Tensor) and x.requires_grad for x in args)
        if func in _ROUNDING:
            self._record("rounding", _ROUNDING[func])
        if tracked and func in _DETACHING:
            self._record("detached", _DETACHING[func])
        elif tracked and func is Tensor.register_hook:
            self._record("hook", "register_hook()")
        elif tracked and isinstance(result, Tensor) and result.is_floating_point():
            if not torch.is_grad_enabled():
                self._record("detached", "a computation without gradients")
            elif result.dtype in HALF_TYPES:
                self.autocast |= torch.is_autocast_enabled(result.device.type)
                self._record("half", "a computation in 16 bits")
        return result

    def suspects(self, functions: Iterable[type]) -> Iterator[Suspect]:
        """The suspects among the recorded calls.

        Args:
            functions: the custom autograd functions in the graph, inside which there are no gradients anyway.
        """
        within = {getattr(cls.forward, "__code__", None) for cls in functions}  # type: ignore[attr-defined]
        rounding = self._calls.get("rounding")
        for call in self._calls.get("detached", ()):
            if CheckpointFunction.forward.__code__ in call.stack:
                what = "a reentrant checkpoint of a block whose inputs need no gradient"
                yield Suspect(what, CHECKPOINT_HINT)
                return
            # PyTorch itself calls view_as for a custom function that returns its input.
            if within.isdisjoint(call.stack) and call.stack[0] is not _APPLY:
                estimator = f"a straight-through estimator, {rounding[0].name} with " if rounding else ""
                what = f"{estimator}{call.name} of a tensor that depends on the weights{call.where}"
                yield Suspect(what, _DETACH_HINT)
        for call in self._calls.get("hook", ()):
            yield Suspect(f"the gradient hook on a tensor{call.where}", _HOOK_HINT)
        for call in self._calls.get("half", ()):
            yield Suspect(f"{call.name}{call.where}", "Remove the conversion to float16 or bfloat16.")

    def _record(self, sort: str, name: str) -> None:
        calls = self._calls.setdefault(sort, [])
        if len(calls) < self._MOST:
            calls.append(_Call(name, *_caller()))


def _caller() -> tuple[str, tuple[CodeType, ...]]:
    """The place in the model or the loss from where PyTorch was called, and the functions on the stack."""
    torch_folder, our_folder = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])
    where, stack = "", []
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        stack.append(frame.f_code)
        file = frame.f_code.co_filename
        if file.startswith(our_folder):  # everything further out called this package
            break
        if not where and not file.startswith(torch_folder):
            where = f" ({Path(file).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return where, tuple(stack)
