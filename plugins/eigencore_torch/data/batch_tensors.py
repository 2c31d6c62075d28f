"""The tensors in a batch, wherever it holds them: in containers, or in the attributes of objects.

A batch may be a tensor, a NumPy array, a mapping, a list, a tuple, or an object with attributes, such as a
dataclass or a graph; and any of these inside another one. An object that holds tensors is copied before they
are replaced, so that the given data never change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.data import DataLoader, Dataset

from eigencore.errors import ProblemError
from eigencore_torch.models.number_types import converted

Batch: TypeAlias = Any

# An object that leads to tensors only through more attributes than this is not a batch of its own.
_LEVELS = 4
_PLAIN = (str, bytes, int, float, complex, type(None))
_NOT_DATA = (
    *(nn.Module, Dataset, DataLoader, torch.Generator),
    *(type, ModuleType, FunctionType, MethodType, BuiltinFunctionType),
)


def tensors_of(batch: Batch) -> list[Tensor]:
    """All tensors in a batch, in a fixed order; a NumPy array counts as a tensor that shares its memory."""
    return list(_tensors(batch, {}, _LEVELS))


def _tensors(x: Any, seen: dict[int, Any], levels: int) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, np.ndarray):
        shared = _tensor_of_array(x)
        if shared is not None:
            yield shared
    elif id(x) not in seen and not isinstance(x, _PLAIN):
        seen[id(x)] = x  # kept: the id of an object that is freed may be used again
        for part, left in _parts(x, levels):
            yield from _tensors(part, seen, left)


def _parts(x: Any, levels: int) -> Iterator[tuple[Any, int]]:
    """What a container or an object holds, with the number of levels of attributes that are left below."""
    if isinstance(x, Mapping):
        yield from ((value, levels) for value in x.values())
    elif isinstance(x, list | tuple):
        yield from ((item, levels) for item in x)
    elif levels and not isinstance(x, _NOT_DATA):
        yield from ((value, levels - 1) for value in attributes_of(x).values())


def first_dimensions(batch: Batch) -> set[int]:
    """The first dimensions of the tensors in a batch.

    An object whose own tensors do not share one, such as a graph or packed sequences, has none.
    """
    return _first_dimensions(batch, {})


def _first_dimensions(x: Any, seen: dict[int, Any]) -> set[int]:
    if isinstance(x, Mapping | list | tuple) and not isinstance(x, PackedSequence):
        if id(x) in seen:
            return set()
        seen[id(x)] = x
        return {size for part, _ in _parts(x, 0) for size in _first_dimensions(part, seen)}
    # The shape of a nested tensor can't always be read, but its first dimension can.
    sizes = {y.size(0) for y in tensors_of(x) if y.ndim}
    return sizes if len(sizes) == 1 else set()


def map_tensors(
    batch: Batch,
    tensor: Callable[[Tensor], Tensor],
    *,
    whole: Callable[[Any], Any] | None = None,
    uncopied: Callable[[Any], Any] | None = None,
) -> Batch:
    """The batch with `tensor` applied to its tensors. The batch itself is not changed.

    Args:
        whole: is applied to an object with a method `to`, and to a NumPy array, instead of looking into it.
        uncopied: is applied to an object that can't be copied, instead of looking into it.

    Raises:
        ProblemError: an object can't be copied, and there is no `uncopied`.
    """
    return _Traversal(tensor, whole, uncopied or _refuse_uncopied).mapped(batch, _LEVELS)


def _refuse_uncopied(x: Any) -> Any:
    raise ProblemError(
        f"a batch holds a {type(x).__name__}, which can't be copied, so its tensors can't be replaced",
        hint="Give its tensors in a dictionary.",
    )


class _Traversal:
    """One traversal of `map_tensors`."""

    def __init__(
        self,
        tensor: Callable[[Tensor], Tensor],
        whole: Callable[[Any], Any] | None,
        uncopied: Callable[[Any], Any],
    ):
        self._tensor, self._whole, self._uncopied = tensor, whole, uncopied
        # The containers and objects seen, with their replacements: they may refer to one another in circles.
        self._done: dict[int, tuple[Any, Any]] = {}

    def mapped(self, x: Any, levels: int) -> Any:
        if isinstance(x, Tensor):
            return self._tensor(x)
        if isinstance(x, _PLAIN):
            return x
        if id(x) in self._done:
            return self._done[id(x)][1]
        if self._whole is not None and (isinstance(x, np.ndarray) or _moves_itself(x)):
            return self._whole(x)
        if isinstance(x, np.ndarray):
            shared = _tensor_of_array(x)
            return x if shared is None else self._tensor(shared).cpu().numpy()
        if type(x) is dict:
            return self._filled(x, {}, levels)
        if type(x) is list:
            return self._filled_list(x, [], levels)
        if isinstance(x, tuple) and not isinstance(x, PackedSequence):
            return self._tuple(x, levels)
        if not any(True for _ in _tensors(x, {}, levels)):
            return x
        return self._object(x, levels)

    def _filled(self, x: Mapping[Any, Any], to: Any, levels: int) -> Any:
        self._done[id(x)] = x, to
        for key, value in x.items():
            to[key] = self.mapped(value, levels)
        return to

    def _filled_list(self, x: list[Any], to: list[Any], levels: int) -> list[Any]:
        self._done[id(x)] = x, to
        to[:] = [self.mapped(item, levels) for item in x]
        return to

    def _tuple(self, x: tuple[Any, ...], levels: int) -> tuple[Any, ...]:
        items = [self.mapped(item, levels) for item in x]
        if all(new is old for new, old in zip(items, x, strict=True)):
            return x  # such as a shape, whose type can't be made from a list
        # A named tuple takes its fields as arguments.
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)

    def _object(self, x: Any, levels: int) -> Any:
        """A copy of an object, or of a container of another type than dict, list and tuple."""
        if isinstance(x, PackedSequence):
            # The lengths of its steps stay on the CPU, in int64.
            order = (None if y is None else self._tensor(y) for y in (x.sorted_indices, x.unsorted_indices))
            return PackedSequence(self._tensor(x.data), x.batch_sizes, *order)
        try:
            copied = copy.copy(x)
        except Exception:
            copied = x
        if copied is x:
            return self._mapping_anew(x, levels) if isinstance(x, Mapping) else self._uncopied(x)
        # The copy may refer to itself where the object refers to itself.
        self._done[id(x)], self._done[id(copied)] = (x, copied), (copied, copied)
        if isinstance(x, list):
            return self._filled_list(x, copied, levels)
        if isinstance(x, Mapping):
            try:
                self._filled(x, copied, levels)
            except Exception:
                return self._mapping_anew(x, levels)
            for name, value in attributes_of(copied).items():
                if id(value) in self._done:  # such as the object that holds this mapping
                    _set(copied, name, self._done[id(value)][1])
            return copied
        # The parts of the copy, not of the object: a copy may already have its own, which refer to it.
        for name, value in attributes_of(copied).items():
            new = self.mapped(value, levels - 1)
            if new is not value:
                _set(copied, name, new)
        return copied

    def _mapping_anew(self, x: Mapping[Any, Any], levels: int) -> Any:
        """A mapping made from its items, or a dictionary, if a copy can't be changed."""
        items = {key: self.mapped(value, levels) for key, value in x.items()}
        try:
            return type(x)(items)  # type: ignore[call-arg]
        except Exception:
            return items


def moved(
    batch: Batch,
    device: torch.device,
    dtype: torch.dtype | None,
    send: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """The batch on a device, with its floating-point tensors converted to a type; None keeps their type.

    Tensors are detached: a loss that calls requires_grad_() on its inputs must not change the user's data.

    Args:
        send: copies a tensor to the device; by default, its method `to` does.

    Raises:
        ProblemError: an object can neither be copied nor convert its tensors itself.
    """

    def convert(x: Tensor) -> Tensor:
        return converted(x.detach(), None, dtype)

    batch = map_tensors(batch, convert, uncopied=lambda x: _converted_by_itself(x, dtype))

    def has_arrived(x: Any) -> bool:
        return all(y.device == device for y in tensors_of(x))

    def move(x: Any) -> Any:
        # An object knows which of its tensors belong on the device. Being a copy, it may change itself.
        return x if isinstance(x, np.ndarray) or has_arrived(x) else x.to(device)

    return batch if has_arrived(batch) else map_tensors(batch, send or (lambda x: x.to(device)), whole=move)


def _converted_by_itself(x: Any, dtype: torch.dtype | None) -> Any:
    """An object that can't be copied, with its tensors converted by its own method `to`."""

    def is_converted(y: Any) -> bool:
        return all(part.dtype == dtype for part in tensors_of(y) if part.is_floating_point())

    if dtype is None or is_converted(x):
        return x
    itself = x.to(dtype) if _moves_itself(x) else x
    if not is_converted(itself):
        raise ProblemError(
            f"a batch holds a {type(x).__name__}, whose tensors can't be converted to "
            f"{str(dtype).removeprefix('torch.')}",
            hint="Convert the data before you give them, or give their tensors in a dictionary.",
        )
    return itself


def strided_parts(x: Tensor) -> list[Tensor]:
    """The dense tensors that a nested or sparse tensor consists of; for any other one, itself."""
    if x.is_nested:
        return list(x.unbind())
    if is_traceable_wrapper_subclass(x):
        held = (getattr(x, name) for name in x.__tensor_flatten__()[0])
        return [part for one in held if isinstance(one, Tensor) for part in strided_parts(one)]
    if x.is_quantized:
        return [x.int_repr()]
    if x.layout is torch.strided:
        return [x]
    if x.layout is torch.sparse_coo:
        x = x.coalesce()
        return [x.indices(), x.values()]
    if x.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [x.crow_indices(), x.col_indices(), x.values()]
    if x.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [x.ccol_indices(), x.row_indices(), x.values()]
    return [x.to_dense()]


def _moves_itself(x: Any) -> bool:
    # Asked of the type: an object may invent any attribute that is asked of it.
    return callable(getattr(type(x), "to", None))


def _tensor_of_array(x: np.ndarray[Any, Any]) -> Tensor | None:
    """A tensor that shares an array's memory, or copies it if it is read-only; None for other types."""
    if type(x) is not np.ndarray:
        return None
    try:
        return torch.from_numpy(np.require(x, requirements=["C", "W"]))
    except (TypeError, ValueError):
        return None


def attributes_of(x: Any) -> dict[str, Any]:
    """The attributes that an object stores, in its `__dict__` or in slots."""
    own = getattr(x, "__dict__", None)
    found = dict(own) if isinstance(own, dict) else {}
    for name in _slots(x.__class__):
        try:
            found[name] = object.__getattribute__(x, name)
        except AttributeError:  # a slot without a value
            continue
    return found


@cache
def _slots(kind: type) -> tuple[str, ...]:
    return tuple(
        name
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for name, value in vars(base).items()
        if isinstance(value, MemberDescriptorType)
    )


def _set(x: Any, name: str, value: Any) -> None:
    """Sets a stored attribute, past any `__setattr__` of the object, as a frozen dataclass has."""
    if name in _slots(x.__class__):
        object.__setattr__(x, name, value)
    else:
        vars(x)[name] = value
