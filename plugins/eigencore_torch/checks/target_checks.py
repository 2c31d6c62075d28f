"""Checks of the targets of a batch against the outputs that they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from eigencore.errors import ProblemError
from eigencore_torch.checks.failure_hints import reshape_hint
from eigencore_torch.data.batches import describe, type_name

# Losses of corresponding elements. With shapes (n, 1) and (n,), they compare every output with every target.
_ELEMENTWISE = (
    *(functional.mse_loss, functional.l1_loss, functional.smooth_l1_loss, functional.huber_loss),
    *(functional.poisson_nll_loss, functional.gaussian_nll_loss, functional.kl_div),
)


class ElementwiseShapes(TorchFunctionMode):
    """Refuses elementwise losses of outputs and targets whose shapes differ so that every pair is compared.

    PyTorch itself warns at most.

    Args:
        index: the number of the batch, for messages.
    """

    def __init__(self, index: int):
        super().__init__()
        self._index = index

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if func in _ELEMENTWISE:
            named = [keywords[name] for name in ("input", "target") if name in keywords]
            outputs, y = [*args, *named][:2]
            if _pairs_all(outputs, y):
                raise _wrong_shapes(self._index, outputs, y)
            if func is functional.huber_loss and outputs.dtype != y.dtype:
                # Its backward pass fails, but its forward pass does not.
                raise ProblemError(
                    f"the outputs of batch {self._index} are {type_name(outputs.dtype)} and its targets "
                    f"{type_name(y.dtype)}",
                    hint=f"Convert the targets, as in y.to({outputs.dtype}).",
                )
        return func(*args, **keywords)


def check_targets(loss_function: Any, index: int, outputs: Any, y: Any) -> None:
    """Checks the targets y of batch number `index` before loss(outputs, y) is computed.

    Raises:
        ProblemError: labels are out of range, or the loss pairs every output with every target.
    """
    if isinstance(outputs, Tensor) and isinstance(y, Tensor):
        _check_labels(loss_function, index, outputs, y)
        if _pairs_all(outputs, y) and _is_coupled_by_shape(loss_function, outputs.detach(), y):
            raise _wrong_shapes(index, outputs, y)


def _wrong_shapes(index: int, outputs: Tensor, y: Tensor) -> ProblemError:
    return ProblemError(
        f"the loss of batch {index} compares every output with every target: the outputs are "
        f"{describe(outputs)}, the targets {describe(y)}",
        hint=reshape_hint(outputs),
    )


def _pairs_all(outputs: Tensor, y: Tensor) -> bool:
    """Whether an elementwise operation would pair every element of one with every element of the other."""
    if outputs.is_nested or y.is_nested or outputs.numel() != y.numel() or outputs.numel() < 2:
        return False
    sizes = list(zip_longest(reversed(outputs.shape), reversed(y.shape), fillvalue=1))
    return all(1 in pair or pair[0] == pair[1] for pair in sizes) and prod(map(max, sizes)) > outputs.numel()


def _is_coupled_by_shape(loss_function: Any, outputs: Tensor, y: Tensor) -> bool:
    """Whether a sample's outputs are compared with other samples' targets only because of the shapes."""
    try:
        return _is_coupled(loss_function, outputs, y) and not _is_coupled(
            loss_function, outputs.reshape(y.shape), y
        )
    except Exception:
        return False  # the loss expects these shapes, or fails on them with an error of its own


def _is_coupled(loss_function: Any, outputs: Tensor, y: Tensor) -> bool:
    """Whether the gradient over the outputs of some samples depends on the target of another sample."""
    flat = y.reshape(-1)
    others = (flat != flat[0]).nonzero()
    if not len(others):
        return False
    changed = flat.clone()
    changed[0] = flat[others[0, 0]]
    leaf = outputs.clone().requires_grad_()
    before, after = (
        torch.autograd.grad(loss_function(leaf, targets), leaf)[0].reshape(-1)[1:]
        for targets in (y, changed.reshape(y.shape))
    )
    return not torch.allclose(before, after)


def _check_labels(loss_function: Any, index: int, outputs: Tensor, labels: Tensor) -> None:
    """Refuses labels out of range for losses that take class labels; on a GPU they would end the process."""
    by_class = isinstance(loss_function, nn.CrossEntropyLoss | nn.NLLLoss)
    if not (by_class or loss_function in (functional.cross_entropy, functional.nll_loss)):
        return
    if labels.is_floating_point() or outputs.ndim != labels.ndim + 1:
        return  # the loss function itself raises an error about the shapes
    classes = outputs.shape[1 if labels.ndim else 0]
    counted = labels[labels != (loss_function.ignore_index if by_class else -100)]
    if counted.numel() and not (int(counted.min()) >= 0 and int(counted.max()) < classes):
        raise ProblemError(
            f"the labels of batch {index} range from {int(counted.min())} to {int(counted.max())}; expected "
            f"0 to {classes - 1}, since the model distinguishes {classes} classes",
            hint="Number the labels from 0, or give the model as many outputs as there are classes.",
        )
