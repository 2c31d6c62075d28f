"""Modules that wrap a model: the model inside is used, and wrappers that keep only shards are refused."""

from __future__ import annotations

from torch import nn

from eigencore.errors import ProblemError

# The attribute that holds the model inside, by the name of the wrapper's class: the classes themselves are
# in modules that are expensive to import, or in other packages.
_INNER = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
    "GradSampleModule": "_module",
}
_WHOLE_HINT = (
    "Build the model without sharding, load the full weights into it, and give that model: the function "
    "get_model_state_dict of torch.distributed.checkpoint.state_dict gathers them with full_state_dict=True."
)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside any stack of wrappers, which has the same weights under their own names.

    Raises:
        ProblemError: the wrapper shards the weights, or its hooks are active.
    """
    _refuse_sharded(model)
    while (attribute := _inner_attribute(model)) is not None:
        # Opacus' hooks use activations that they record in training mode only, and fail without them.
        if getattr(model, "hooks_enabled", False):
            raise ProblemError(
                f"{type(model).__name__} computes the gradient of each sample in its hooks, which fail in "
                "evaluation mode",
                hint="Call model.disable_hooks() before binding, and model.enable_hooks() before training "
                "further.",
            )
        model = getattr(model, attribute)
    return model


def name_without_wrappers(model: nn.Module, name: str) -> str:
    """The name of a parameter without the attributes of wrapped parts: "0._orig_mod.weight" is "0.weight"."""
    kept, module = [], model
    for part in name.split("."):
        if part != _inner_attribute(module):
            kept.append(part)
        module = getattr(module, part)
    return ".".join(kept)


def _inner_attribute(module: object) -> str | None:
    """The attribute that holds the module inside; None if this is no wrapper."""
    for base in type(module).__mro__ if isinstance(module, nn.Module) else ():
        attribute = _INNER.get(base.__name__)
        if attribute is not None and isinstance(getattr(module, attribute, None), nn.Module):
            return attribute
    return None


def _refuse_sharded(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if any(base.__name__ == "FullyShardedDataParallel" for base in type(module).__mro__):
            raise ProblemError(
                f"{name or 'the model'} is a FullyShardedDataParallel, which has only a shard of the weights",
                hint=_WHOLE_HINT,
            )
