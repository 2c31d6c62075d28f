"""The arrays that a part of a problem contains, found without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from eigencore import arrays


def arrays_in(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each array in a model, in data or in an operator, with its path.

    Read are arrays of any library with the array API, sparse matrices of SciPy, what `state_dict()` returns,
    and all that mappings, lists, tuples and dataclasses contain. Anything else, such as a function or a data
    loader, is left out, and so are arrays without bytes of their own, such as sparse tensors of PyTorch.

    Args:
        path: the path of the part itself, such as "model".

    Example:
        import numpy as np
        from eigencore.problems.contained_arrays import arrays_in

        print([path for path, _ in arrays_in((len, {"w": np.ones(3), "b": [np.zeros(2)]}), "model")])
    """
    return _arrays_in(part, path, ())


def _arrays_in(part: Any, path: str, around: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """As `arrays_in`; `around` has the ids of the parts around this one, to which it may refer back."""
    if arrays.is_array(part) and not hasattr(part, "__tensor_flatten__"):
        if _has_bytes(part):
            yield path, part
    elif id(part) not in around:
        for name, value in _contents(part):
            yield from _arrays_in(value, f"{path}.{name}" if name else path, (*around, id(part)))


def _contents(part: Any) -> Iterator[tuple[str, Any]]:
    """What a part that is no array contains, by name; one that stands for another has no name of its own."""
    if hasattr(part, "__tensor_flatten__"):  # a PyTorch tensor that consists of others
        yield from ((name, getattr(part, name)) for name in part.__tensor_flatten__()[0])
    elif hasattr(part, "tocoo"):  # SciPy sparse matrices
        sparse = part.tocoo()
        yield from {"row": sparse.row, "col": sparse.col, "data": sparse.data}.items()
    elif hasattr(part, "state_dict"):
        yield "", part.state_dict()
    elif isinstance(part, Mapping):
        yield from ((str(key), value) for key, value in part.items())
    elif isinstance(part, list | tuple):
        yield from ((str(index), value) for index, value in enumerate(part))
    elif is_dataclass(part) and not isinstance(part, type):
        yield from ((field.name, getattr(part, field.name, None)) for field in fields(part))


def _has_bytes(array: Any) -> bool:
    """Whether an array has bytes, unlike arrays of objects, keys of JAX, sparse and quantised tensors."""
    dense = str(getattr(array, "layout", "torch.strided")) == "torch.strided"
    objects, quantized = getattr(array.dtype, "hasobject", False), getattr(array, "is_quantized", False)
    return dense and not (objects or quantized or str(array.dtype).startswith("key<"))
