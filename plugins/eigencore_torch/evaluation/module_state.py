"""The state that modules hold besides their weights: buffers, other tensors, and plain Python data.

It is compared by value. The version counter of a tensor does not show everything: `F.batch_norm` updates
running statistics without moving it.
"""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors

from eigencore_torch.data.fingerprints import version_of

_ATOMS = {bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device}
_CONTAINERS = {dict, OrderedDict, defaultdict, list, set, deque}
# Containers that every module has. Their items are not looked into, except for the buffers.
_INTERNAL = frozenset(vars(nn.Module()))
_DEPTH = 3  # of containers within containers
_SCANNED = 1000  # the largest container whose items are looked at
# Small tensors are compared and copied together: a hundred layers have hundreds of buffers.
_SMALL = 2**14
# A larger tensor that is not a buffer, such as the data themselves, is not copied.
_LARGEST_ATTRIBUTE = 2**26
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def restored_modules(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restores the attributes of modules, the buffers and tensors among them by value.

    Lists, dicts, sets, arrays, random generators and objects of plain data among the attributes are restored
    with their content, to a depth of three. The content of other objects is not.

    Args:
        modules: the modules themselves; their children are not visited.
    """
    with torch.no_grad():
        state = _ModuleState(modules)
    try:
        yield
    finally:
        with torch.no_grad():
            state.restore()


class _ModuleState:
    """A record of the state of some modules.

    A module has more than ten containers, nearly all of them empty. Empty ones are not copied, and copies are
    in lists of their own: many new objects would start Python's garbage collection.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self._attributes: list[dict[str, Any]] = []
        self._attributes_then: list[dict[str, Any]] = []
        self._empty: list[Any] = []
        self._containers: list[Any] = []
        self._containers_then: list[Any] = []
        self._restorers: list[Callable[[], object]] = []
        self._seen: set[int] = set()
        self._tensors: dict[int, Tensor] = {}
        for module in modules:
            self._record(module)
        self._values = _TensorValues(list(self._tensors.values()))

    def restore(self) -> None:
        for attributes, then in zip(self._attributes, self._attributes_then, strict=True):
            _restore_attributes(attributes, then)
        for container, then in zip(self._containers, self._containers_then, strict=True):
            if not _same_items(container, then):
                _refill(container, then)
        if any(self._empty):
            for container in self._empty:
                container.clear()
        for restore in self._restorers:
            restore()
        self._values.restore()

    def _record(self, module: nn.Module) -> None:
        self._attributes.append(attributes := vars(module))
        self._attributes_then.append(attributes.copy())
        for x in module._buffers.values():
            if x is not None:
                self._tensors[id(x)] = x
        for name, value in attributes.items():
            kind = type(value)
            if kind in _ATOMS:
                continue
            if name not in _INTERNAL:
                self._record_value(value, _DEPTH)
            elif kind in _CONTAINERS:
                self._record_container(value)

    def _record_container(self, container: Any) -> None:
        if container:
            self._containers.append(container)
            self._containers_then.append(container.copy())
        else:
            self._empty.append(container)

    def _record_value(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in _ATOMS or depth < 0 or id(value) in self._seen or isinstance(value, nn.Module):
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            # A tensor within a graph can't be changed in place without breaking that graph.
            if not value.requires_grad and value.nbytes <= _LARGEST_ATTRIBUTE:
                self._tensors[id(value)] = value
        elif kind in _CONTAINERS:
            self._record_container(value)
            self._record_items(value.values() if isinstance(value, dict) else value, depth)
        elif kind is tuple:
            self._record_items(value, depth)
        elif (restore := _restorer(value)) is not None:
            self._restorers.append(restore)
        elif _is_plain_object(value):
            self._record_container(vars(value))
            self._record_items(vars(value).values(), depth)

    def _record_items(self, items: Collection[Any], depth: int) -> None:
        if len(items) <= _SCANNED:
            for item in items:
                self._record_value(item, depth - 1)


def _restore_attributes(attributes: dict[str, Any], then: dict[str, Any]) -> None:
    if _same_items(attributes, then):
        return
    # One after the other, so that the module can be used in another thread meanwhile.
    for name in attributes.keys() - then.keys():
        del attributes[name]
    for name, value in then.items():
        if attributes.get(name, attributes) is not value:
            attributes[name] = value


def _same_items(container: Any, then: Any) -> bool:
    """Whether a container holds the same objects as a copy of it made earlier."""
    if len(container) != len(then):
        return False
    if isinstance(container, dict):
        return all(map(is_, container.values(), then.values())) and all(map(is_, container, then))
    return bool(container == then) if isinstance(container, set) else all(map(is_, container, then))


def _refill(container: Any, then: Any) -> None:
    container.clear()
    if isinstance(container, dict | set):
        container.update(then)
    else:
        container.extend(then)


def _is_plain_object(value: Any) -> bool:
    """Whether a value is an object, such as a counter of metrics, all of whose attributes are plain data."""
    attributes = getattr(value, "__dict__", None)
    return type(attributes) is dict and all(
        type(x) in _ATOMS | _CONTAINERS or isinstance(x, tuple | Tensor | np.ndarray | np.generic)
        for x in attributes.values()
    )


def _restorer(value: Any) -> Callable[[], object] | None:
    """What restores the state of an array or a random generator; None for other objects."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits)
    if isinstance(value, np.random.RandomState):
        numpy = value.get_state()
        return lambda: value.set_state(numpy)
    if isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes <= _LARGEST_ATTRIBUTE:
        array = value.copy()
        return lambda: np.copyto(value, array)
    return None


class _TensorValues:
    """A record of the values of some tensors, in few copies."""

    def __init__(self, tensors: Sequence[Tensor]):
        groups: dict[object, list[Tensor]] = {}
        self._others: list[tuple[Tensor, Tensor, int]] = []
        for x in tensors:
            if x.is_meta or nn.parameter.is_lazy(x):
                continue  # it has no values
            if _is_dense(x):
                own = id(x) if x.numel() > _SMALL else 0
                groups.setdefault((own, x.dtype, x.device, x.is_inference()), []).append(x)
            else:
                # Tensors of other kinds, such as sparse ones, are compared by version counter.
                self._others.append((x, x.clone(), version_of(x)))
        self._groups = list(groups.values())
        self._shapes = [[x.shape for x in group] for group in self._groups]
        self._saved = [_joined(group) for group in self._groups]

    def restore(self) -> None:
        for group, shapes, saved in zip(self._groups, self._shapes, self._saved, strict=True):
            resized = [x.shape for x in group] != shapes
            if resized or not torch.equal(_bits(_joined(group, copy=False)), _bits(saved)):
                self._copy_back(group, shapes, saved)
        for x, copy, version in self._others:
            if version_of(x) != version:
                x.copy_(copy)

    @staticmethod
    def _copy_back(group: Sequence[Tensor], shapes: Sequence[torch.Size], saved: Tensor) -> None:
        pieces = torch.split(saved, [shape.numel() for shape in shapes])
        with torch.inference_mode(group[0].is_inference()):
            for x, shape, piece in zip(group, shapes, pieces, strict=True):
                if x.shape != shape:
                    x.resize_(shape)  # observers of quantisation grow in their first pass
                if not torch.equal(_bits(_joined([x], copy=False)), _bits(piece)):
                    # Through `.data`, which leaves the version counter alone: kept graphs compare it.
                    x.data.copy_(piece.view(shape))


def _is_dense(x: Tensor) -> bool:
    return x.layout is torch.strided and not x.is_quantized and type(x) in (Tensor, nn.Parameter)


def _joined(tensors: Sequence[Tensor], copy: bool = True) -> Tensor:
    """The values of dense tensors of one type in one flat tensor."""
    flat: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return flat.clone() if copy and len(tensors) == 1 else flat


def _bits(x: Tensor) -> Tensor:
    """A flat tensor as integers, in which NaN equals itself and zero differs from minus zero."""
    return x.detach().view(_BITS[min(x.element_size(), 8)])
