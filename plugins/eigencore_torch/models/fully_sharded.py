"""Models wrapped by `fully_shard` (FSDP2): a copy without FSDP, with whole weights or with shards.

FSDP's hooks put the weights together during a forward pass, and free them afterwards; a second backward pass
is not foreseen. The copy has no hooks. The given model is only read, so that FSDP's settings and state stay
as they are, and training goes on as if nothing had happened.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.models.shards import is_dtensor, whole

# Whether every process holds all weights, or its own shards.
Weights = Literal["whole", "shards"]

# The attributes of a module that belong to FSDP.
_MARKS = ("_fsdp", "_is_fsdp", "__composable_api")
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_LOSS_HINT = (
    "Call copy.deepcopy(model) before fully_shard, load the weights into that copy with get_model_state_dict "
    "of torch.distributed.checkpoint.state_dict (full_state_dict=True), and give it."
)


def is_fully_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 manages the module itself; the class is compared by name, since importing it is slow."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)


def without_fsdp(loss: BatchLoss, weights: Weights) -> BatchLoss:
    """A loss whose modules are copied without FSDP; the loss itself if none is wrapped.

    The copies have the weights that the modules had when they were copied, in their own type: a policy of
    mixed precision belongs to FSDP.

    Args:
        weights: "whole" puts all weights together in every process, which all processes do at the same time;
            "shards" leaves them cut, and the copy shares them with the given model.

    Raises:
        ProblemError: a module can't be copied.
    """
    modules = [module for one in loss.modules for module in one.modules()]
    if not any(map(is_fully_sharded, modules)):
        return loss
    known = {id(p): _weight(p, weights) for module in loss.modules for p in module.parameters()}
    with ExitStack() as stack:
        for module in dict.fromkeys(modules):
            stack.enter_context(_plain(module))
        try:
            model, function = copy.deepcopy((loss.model, loss.function), known)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ProblemError(
                f"the model, which fully_shard wraps, can't be copied: {error}", hint=_LOSS_HINT
            ) from error
    return BatchLoss(model, function, loss.call, vocabulary_chunk=loss.vocabulary_chunk)


def _weight(p: nn.Parameter, weights: Weights) -> Tensor:
    """What the copy has in place of a parameter: the same shards, or whole weights of its own.

    FSDP may keep some weights together after a forward pass; it frees them later, whoever uses them.
    """
    shared: bool = weights == "shards" and is_dtensor(p)
    if shared:
        return p
    return nn.Parameter(whole(p.detach()).clone(), requires_grad=p.requires_grad)


@contextmanager
def _plain(module: nn.Module) -> Iterator[None]:
    """The module without its class of FSDP, hooks and marks inside."""
    kind, attributes = type(module), vars(module)
    before = {name: attributes[name] for name in _HOOKS}
    marks = {name: x for name, x in attributes.items() if name.startswith(_MARKS)}
    try:
        for name, hooks in before.items():
            kept = type(hooks)((key, hook) for key, hook in hooks.items() if not _is_of_fsdp(hook))
            attributes[name] = kept
        for name in marks:
            del attributes[name]
        if is_fully_sharded(module):
            module.__class__ = _inner_class(kind)
        yield
    finally:
        module.__class__ = kind
        attributes.update(before)
        attributes.update(marks)


def _inner_class(kind: type) -> type[nn.Module]:
    """The class that FSDP derived a class from: the second base, after FSDPModule."""
    inner: type[nn.Module] = kind.__bases__[1]
    return inner


def _is_of_fsdp(hook: Any) -> bool:
    """Whether a hook is a method of FSDP's state, or a function that wraps one."""
    while hook is not None:
        if type(getattr(hook, "__self__", None)).__name__ == "FSDPState":
            return True
        hook = getattr(hook, "__wrapped__", None)
    return False
