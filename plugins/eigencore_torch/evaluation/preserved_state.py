"""The settings that computations need, and the restoration of everything that they change."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eigencore_torch.data.batches import type_name
from eigencore_torch.evaluation.double_backward import Derivative, twice_differentiable, uncompiled
from eigencore_torch.evaluation.module_state import restored_modules
from eigencore_torch.evaluation.precision import Precision, Products, autocast, precise_products
from eigencore_torch.models.shards import mixed_operations

# PyTorch's switches, its random state and the modes of modules belong to the process, not to a thread.
_LOCK = RLock()


@dataclass(frozen=True)
class Setting:
    """How a problem is evaluated.

    Attributes:
        precision: the precision of float32 products on GPUs.
        batch_norm: the statistics that BatchNorm normalises with: "running", as in evaluation mode, or those
            of each "batch", as in training mode.
        derivative: "difference" if only first derivatives are taken, so that any kernel may be used.
        products: the 16-bit type that the operands of products are rounded to, or "full".
        sharded: whether parameters are cut into shards over several processes.
    """

    device: torch.device
    precision: Precision = "full"
    batch_norm: Literal["running", "batch"] = "running"
    derivative: Derivative = "exact"
    products: Products = "full"
    sharded: bool = False

    def rounding(self, dtype: torch.dtype) -> str:
        """What the precision does to products of a data type, for descriptions."""
        rounded = self.precision == "tf32" and self.device.type == "cuda" and dtype is torch.float32
        return " with TF32 products" if rounded else ""

    def place(self, dtype: torch.dtype, *, cut: bool) -> list[str]:
        """Where and in which data type is computed, and what is cut into shards, for descriptions.

        Args:
            cut: whether vectors are, although weights are not.
        """
        version = ".".join(torch.__version__.split(".")[:2])
        found = [f"torch {version} {self.device} {type_name(dtype)}{self.rounding(dtype)}"]
        if self.sharded or cut:
            found.append("weights and vectors in shards" if self.sharded else "vectors in shards")
        return found

    @property
    def description(self) -> str:
        """The mode of evaluation."""
        return "evaluation mode" + ", BatchNorm on batch statistics" * (self.batch_norm == "batch")


@contextmanager
def preserve_state(
    modules: Sequence[nn.Module],
    setting: Setting,
    data: Any,
    *,
    over_weights: bool = True,
    host_generators: bool = True,
    check: Callable[[], object] | None = None,
) -> Iterator[None]:
    """Sets evaluation mode and what double backward needs; restores everything afterwards.

    The following is restored, also after an exception: the mode of every module, its buffers and its other
    state, the states of the random number generators (of PyTorch, NumPy, Python and the loader), and
    PyTorch's switches. Threads enter one after the other.

    Args:
        modules: the model first, then other modules that are used; their children are found.
        data: the data that are iterated inside, whose `generator` is restored; None if no data are.
        over_weights: whether derivatives over weights are computed, or only over inputs.
        host_generators: False leaves out the generators of NumPy and Python, whose states take longer to
            save than everything else together; for calls that are known not to draw from them.
        check: is called before anything is changed, and while no other thread changes anything.
    """
    with ExitStack() as stack:
        stack.enter_context(_LOCK)
        if check is not None:
            check()
        device, submodules = setting.device, with_children(modules)
        on_batch = {
            x for x in with_children(modules[:1]) if setting.batch_norm == "batch" and is_batch_norm(x)
        }
        # The caller's own gradient, inference and autocast modes must not affect the computation.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(autocast(device, setting.products))
        if host_generators:
            stack.enter_context(_restored_host_generators())
        stack.enter_context(_restored_torch_generators(device, data))
        stack.enter_context(restored_modules(submodules))
        stack.enter_context(_evaluation_mode(submodules, except_for=on_batch))
        stack.enter_context(precise_products(device, setting.precision))
        stack.enter_context(uncompiled())
        if setting.sharded:
            stack.enter_context(mixed_operations())
        if setting.derivative == "exact":
            # PyTorch cuts its own convolutions only.
            ours = over_weights and not setting.sharded
            stack.enter_context(twice_differentiable(submodules, device, over_weights=ours))
        yield


def with_children(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Modules and all modules within them, each once.

    Takes a fifth of the time of `nn.Module.modules`, which also puts them in order.
    """
    found: dict[nn.Module, None] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in found:
            found[module] = None
            pending.extend(child for child in module._modules.values() if child is not None)
    return list(found)


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module normalises with the statistics of a batch while it is in training mode."""
    return isinstance(module, _BatchNorm)


@contextmanager
def _restored_host_generators() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def host_generator_states() -> Any:
    """The states of NumPy's and Python's generators; they are equal as long as nothing is drawn."""
    _, key, *rest = np.random.get_state()
    return random.getstate(), np.asarray(key).tobytes(), rest


@contextmanager
def _restored_torch_generators(device: torch.device, data: Any) -> Iterator[None]:
    generator = getattr(data, "generator", None)
    state = generator.get_state() if isinstance(generator, torch.Generator) else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        if generator is not None and state is not None:
            generator.set_state(state)


@contextmanager
def _evaluation_mode(modules: Sequence[nn.Module], except_for: Collection[nn.Module]) -> Iterator[None]:
    # The flags are set directly: changes made by a model's own train() and eval() could not be undone.
    modes = [(module, module.training) for module in modules]
    try:
        # BatchNorm in training mode also moves its running statistics, which are restored as all buffers are.
        _set_modes((module, module in except_for) for module, _ in modes)
        yield
    finally:
        _set_modes(modes)


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        if module.training == training:
            continue
        # Setting an attribute of a module takes ten times as long.
        if "training" in (attributes := vars(module)):
            attributes["training"] = training
        else:  # a compiled module keeps it elsewhere
            module.training = training
