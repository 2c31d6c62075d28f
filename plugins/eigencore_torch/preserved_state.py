"""The settings that computations need, and the restoration of everything that they change."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencore_torch.double_backward import twice_differentiable
from eigencore_torch.fingerprints import version_of


@contextmanager
def preserve_state(
    modules: Sequence[nn.Module], device: torch.device, data: Any, host_generators: bool = True
) -> Iterator[None]:
    """Sets evaluation mode and what double backward needs; restores everything afterwards.

    The following is restored, also after an exception: the mode of every module, its buffers and other
    tensors, the states of the random number generators (of PyTorch, NumPy, Python and the loader), and
    PyTorch's switches.

    Args:
        data: the data that are iterated inside, whose `generator` is restored; None if no data are.
        host_generators: False leaves out the generators of NumPy and Python, whose states take longer to
            save than everything else together; for calls that are known not to draw from them.
    """
    submodules = [module for root in modules for module in root.modules()]
    with ExitStack() as stack:
        if host_generators:
            stack.enter_context(_restored_host_generators())
        stack.enter_context(_restored_torch_generators(device, data))
        stack.enter_context(_restored_buffers(submodules))
        stack.enter_context(_restored_attributes(submodules))
        stack.enter_context(_evaluation_mode(submodules))
        # The caller's own gradient, inference and autocast modes must not affect the computation.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(twice_differentiable(modules, device))
        yield


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
def _evaluation_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    # The flags are set directly: changes made by a model's own train() and eval() could not be undone.
    modes = [(module, module.training) for module in modules]
    try:
        _set_modes((module, False) for module, _ in modes)
        yield
    finally:
        _set_modes(modes)


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        # Compared first: setting an attribute of a module takes ten times as long as reading it.
        if module.training != training:
            module.training = training


@contextmanager
def _restored_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    before = [
        (module, name, buffer, None if buffer is None else (version_of(buffer), buffer.clone()))
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        for module, name, buffer, saved in before:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            if buffer is not None and saved is not None and version_of(buffer) != saved[0]:
                with torch.no_grad():
                    buffer.copy_(saved[1])


@contextmanager
def _restored_attributes(modules: Sequence[nn.Module]) -> Iterator[None]:
    # A tensor that a forward pass stores on a module, such as its last activation, holds the pass's graph.
    before = [(vars(module), vars(module).copy()) for module in modules]
    try:
        yield
    finally:
        for attributes, saved in before:
            changed = [name for name, x in attributes.items() if x is not saved.get(name)]
            for name in changed:
                if name not in saved and isinstance(attributes[name], Tensor):
                    del attributes[name]
                elif isinstance(saved.get(name), Tensor):
                    attributes[name] = saved[name]
