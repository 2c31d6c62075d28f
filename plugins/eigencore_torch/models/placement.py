"""The device, data type and weights used for a problem, and the copy of the model made for them."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError, UsageError
from eigencore.problems.sharing import check_dtype
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batches import type_name
from eigencore_torch.models import checkpoint
from eigencore_torch.models.number_types import converted, is_computed_with, real_types

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# float32 represents every number of these types exactly, so that a copy has the same weights.
HALF_TYPES = (torch.bfloat16, torch.float16)
FROZEN = "all weights, which the given model has frozen"


@dataclass(frozen=True)
class PlacedLoss:
    """A model and its loss, as they were given or copied.

    Attributes:
        dtype: the type that floating-point tensors of the data are converted to; None leaves their type
            unchanged.
        original_parameters: the parameters of the given model, if `loss` has a copy of it.
        original: the given loss, if `loss` is a copy of it.
        note: where the weights come from, if they are not the given model's own in their own type.
    """

    loss: BatchLoss
    dtype: torch.dtype | None
    original_parameters: Sequence[nn.Parameter] = ()
    note: str = ""
    original: BatchLoss | None = None

    def refresh(self) -> None:
        """Gives the copy, if it is one, the weights and buffers that the given model and loss have now."""
        if self.original is None:
            return
        with torch.no_grad():
            for original, module in copies(self.original, self.loss):
                pairs = zip(_all_tensors(module), _all_tensors(original), strict=True)
                for copied, given in pairs:
                    copied.copy_(given)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights, or of its buffers if it has no weights."""
    return next((x.device for x in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def place(
    loss: BatchLoss,
    device: str | None,
    dtype: str | None,
    checkpoint_file: str | Path | None,
    *,
    always_copy: bool = False,
) -> PlacedLoss:
    """The given model and loss, or copies if another device, data type or checkpoint is requested.

    16-bit weights are copied to float32, since a product in 16 bits can't be distinguished from its rounding
    error. A model whose weights are all frozen is copied as well, and all weights of the copy are trainable:
    whoever asks for the Hessian of a frozen network means that over all its weights. The given model is never
    changed.

    Raises:
        UsageError: the device, data type or file does not exist.
        ProblemError: the model can't be copied, or the checkpoint does not match it.
    """
    target_device = None if device is None else _device(device)
    target_dtype = None if dtype is None else _dtype(dtype)
    parameters, buffers = list(loss.model.parameters()), list(loss.model.buffers())
    types = real_types(parameters)
    halves = sorted({type_name(dtype) for dtype in types if dtype in HALF_TYPES})
    frozen = bool(types) and not any(p.requires_grad for p in parameters)
    source = ""
    if halves and target_dtype is None:
        target_dtype = reduce(torch.promote_types, types, torch.float32)
        source = f"a copy of {' and '.join(halves)} weights"
    if (
        not frozen
        and not always_copy
        and checkpoint_file is None
        and all(target_device in (None, x.device) for x in parameters or buffers)
        and all(target_dtype in (None, dtype) for dtype in types or real_types(buffers))
    ):
        return PlacedLoss(loss, target_dtype)
    originals = [p for p in parameters if frozen or p.requires_grad]
    copied = _copied(loss, target_device, target_dtype)
    if frozen:
        for p in copied.model.parameters():
            p.requires_grad_(p.is_floating_point() and is_computed_with(p))
    if checkpoint_file is not None:
        # After the change of type: a checkpoint may have more digits than the model had.
        source = checkpoint.load(copied.model, checkpoint_file)
    note = ", ".join(filter(None, [source, FROZEN if frozen else ""]))
    return PlacedLoss(copied, target_dtype, originals, note, loss)


@contextmanager
def trainable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Lets frozen parameters require gradients in a context, which shows whether a loss uses them."""
    frozen = [p for p in parameters if not p.requires_grad and is_computed_with(p) and not p.is_inference()]
    try:
        for p in frozen:
            p.requires_grad_(True)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


def _copied(loss: BatchLoss, device: torch.device | None, dtype: torch.dtype | None) -> BatchLoss:
    results = {id(x): _Result() for module in loss.modules for x in _stored_results(module)}
    try:
        # In one call, so that the copies share what the originals share. Without gradients, since PyTorch
        # makes the weights of a copied TorchScript module depend on those of the original.
        with torch.no_grad():
            model, function = copy.deepcopy((loss.model, loss.function), dict(results))
            copied = replace(loss, model=model, function=function, failure_hint=None)
    except (RuntimeError, TypeError) as error:
        raise ProblemError(
            "the model can't be copied, which is necessary for another device, another data type, a "
            f"checkpoint, or weights that are frozen or moved: {error}",
            hint="Call model.to(...), model.load_state_dict(...) and model.requires_grad_(True) before "
            "binding, and leave out device, dtype and checkpoint.",
        ) from error
    if not _tensors(loss.model).isdisjoint(_tensors(copied.model)):
        raise ProblemError(
            "the model can't be copied, which is necessary for another device, another data type, a "
            "checkpoint, or weights that are frozen or moved: a part of it has a method __deepcopy__ that "
            "returns the original weights"
        )
    # What a function closes over is not copied; the user's own modules must not be converted.
    shared = {id(module) for module in loss.modules}
    for original, module in copies(loss, copied):
        for submodule in module.modules():
            for name in [name for name, x in vars(submodule).items() if isinstance(x, _Result)]:
                delattr(submodule, name)
        for parameter, given in zip(module.parameters(), original.parameters(), strict=True):
            parameter.requires_grad_(given.requires_grad)
        module._apply(partial(converted, device=device, dtype=dtype))  # type: ignore[no-untyped-call]
    return replace(copied, failure_hint=_mixed_hint(copied, shared))


def copies(loss: BatchLoss, copied: BatchLoss) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The modules of a loss that were copied with it, each with its copy."""
    for name, original in loss.named_modules.items():
        module = copied.named_modules.get(name, original)
        if module is not original:
            yield original, module


def _tensors(model: nn.Module) -> set[Tensor]:
    return set(_all_tensors(model))


def _all_tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _mixed_hint(copied: BatchLoss, shared: Container[int]) -> str | None:
    """What to do if the copied model and modules that could not be copied do not fit together."""
    like = next((p for p in copied.model.parameters() if p.is_floating_point()), None)
    if like is None:
        return None
    expected = f"{type_name(like.dtype)} on {like.device}"
    for name, module in copied.named_modules.items():
        for x in module.parameters() if id(module) in shared else ():
            if x.is_floating_point() and (x.dtype, x.device) != (like.dtype, like.device):
                return (
                    f"The model is a copy in {expected}, but {name}, which the loss uses, is in "
                    f"{type_name(x.dtype)} on {x.device}. Convert it before binding, as in "
                    f"{name}.to('{like.device}', {like.dtype}), or give a loss that can be copied with it: a "
                    f"torch.nn.Module or functools.partial with {name} in it."
                )
    return None


class _Result:
    """Stands in a copy for a tensor that a forward pass stored on a module, and that can't be copied.

    Examples are the last activation, and the weight that pruning or weight normalisation computes from the
    parameters before every forward pass. It is removed from the copy, whose own forward pass stores it again.
    """


def _stored_results(module: nn.Module) -> list[Tensor]:
    attributes = (x for submodule in module.modules() for x in vars(submodule).values())
    return [x for x in attributes if isinstance(x, Tensor) and x.grad_fn is not None]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device is {name!r}; expected cpu, cuda or cuda:0")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(
                f"device is {name!r}; CUDA devices that PyTorch finds: {torch.cuda.device_count()}",
                hint="Use --device cpu, or install a PyTorch built for CUDA.",
            )
        # PyTorch does not consider "cuda" and "cuda:0" equal.
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return torch.device("cpu")


def _dtype(name: str) -> torch.dtype:
    # str(): the value may also be torch.float64 itself, as is usual in Python.
    known = str(name).removeprefix("torch.")
    check_dtype(known)
    return DTYPES[known]
