"""What a product needs set for its duration and puts back, and whether the weights are still the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.data import bits
from eigencore_torch.kernels import twice_differentiable


@contextmanager
def untouched(
    modules: Sequence[nn.Module], device: torch.device, data: Any, foreign: bool = True
) -> Iterator[None]:
    """Evaluation mode and what double backward needs, inside; everything as it was, afterwards.

    Put back, also after an exception: the mode of every module, its buffers and other tensors, the states of
    the random number generators (of PyTorch, NumPy, Python and the loader), and PyTorch's switches.

    Args:
        foreign: False leaves out the generators of NumPy and Python, whose states take longer than all else
            together; for calls that are known not to draw from them.
    """
    parts = [module for root in modules for module in root.modules()]
    with ExitStack() as stack:
        if foreign:
            stack.enter_context(_foreign_random_states())
        stack.enter_context(_random_states(device, data))
        stack.enter_context(_buffers(parts))
        stack.enter_context(_attributes(parts))
        stack.enter_context(_evaluation_mode(parts))
        # Whatever the caller is in the middle of must not reach the product.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(twice_differentiable(modules, device))
        yield


@contextmanager
def _foreign_random_states() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def foreign_draws() -> Any:
    """What stays equal for as long as nobody draws from NumPy's or Python's generator."""
    _, key, *rest = np.random.get_state()
    return random.getstate(), np.asarray(key).tobytes(), rest


@contextmanager
def _random_states(device: torch.device, data: Any) -> Iterator[None]:
    own = getattr(data, "generator", None)
    loader = own.get_state() if isinstance(own, torch.Generator) else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        if own is not None and loader is not None:
            own.set_state(loader)


@contextmanager
def _evaluation_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    # Flags, not eval(): what a model does in its own train() and eval() could not be taken back.
    modes = [(module, module.training) for module in modules]
    try:
        _set_modes((module, False) for module, _ in modes)
        yield
    finally:
        _set_modes(modes)


def _set_modes(modes: Iterable[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        # Asked first: a module takes ten times as long to set an attribute as to tell it.
        if module.training != training:
            module.training = training


@contextmanager
def _buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    before = [
        (module, name, buffer, None if buffer is None else (_version(buffer), buffer.clone()))
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        for module, name, buffer, saved in before:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            if buffer is not None and saved is not None and _version(buffer) != saved[0]:
                with torch.no_grad():
                    buffer.copy_(saved[1])


@contextmanager
def _attributes(modules: Sequence[nn.Module]) -> Iterator[None]:
    # What a forward pass leaves on a module, such as its last activation, holds the pass's graph.
    before = [(vars(module), vars(module).copy()) for module in modules]
    try:
        yield
    finally:
        for own, saved in before:
            other = [name for name, x in own.items() if x is not saved.get(name)]
            for name in other:
                if name not in saved and isinstance(own[name], Tensor):
                    del own[name]
                elif isinstance(saved.get(name), Tensor):
                    own[name] = saved[name]


class Weights:
    """The weights and buffers as they are now, to be told from what they are later.

    Version counters see changes in place; a sum over the bits sees those made through `.data`.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self._modules = modules
        self._tensors = self._named()
        self._versions = {name: _version(x) for name, x in self._tensors.items()}
        self._bits = self._sums()

    def refuse_changed(self) -> None:
        """Raises ProblemError where any weight or buffer is another than when this was made."""
        self.refuse_moved()
        sums = self._sums()
        self._refuse([name for name, then in self._bits.items() if sums[name] != then])

    def refuse_moved(self) -> None:
        """The same without the sums over the bits: what was changed through `.data` is not noticed."""
        now = self._named()
        self._refuse([n for n in self._tensors.keys() | now.keys() if not self._same(n, now.get(n))])

    def _refuse(self, changed: list[str]) -> None:
        if changed:
            raise ProblemError(
                f"the weights changed after the problem was bound: {sorted(changed)[0]}",
                hint="Bind the problem again: an operator is that of the weights at the time of binding.",
            )

    def _same(self, name: str, now: Tensor | None) -> bool:
        # A buffer's counter moves when it is put back after a product: its bits decide.
        return now is self._tensors.get(name) and (
            not isinstance(now, nn.Parameter) or _version(now) == self._versions[name]
        )

    def _named(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for number, module in enumerate(self._modules):
            prefix = "loss." if number else ""
            named.update((prefix + name, x) for name, x in module.named_parameters())
            named.update((prefix + name, x) for name, x in module.named_buffers())
        return named

    def _sums(self) -> dict[str, int]:
        dense = {name: x for name, x in self._tensors.items() if x.layout is torch.strided}
        with torch.no_grad():
            sums = [bits(x) for x in dense.values()]
            # One transfer, not one per tensor.
            numbers = torch.stack([x.to(sums[0].device) for x in sums]).tolist() if sums else []
        return dict(zip(dense, numbers, strict=True))


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version
