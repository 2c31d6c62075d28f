"""The array libraries that plugins are tested on: NumPy, array-api-strict and PyTorch, in two precisions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

# The module to look for, and the namespace with the functions of the array API standard for its arrays.
# array-api-strict refuses calls outside the standard that NumPy and PyTorch accept.
_NAMESPACES = {
    "numpy": ("numpy", "array_api_compat.numpy"),
    "strict": ("array_api_strict", "array_api_strict"),
    "torch": ("torch", "array_api_compat.torch"),
}


@dataclass(frozen=True)
class Library:
    """An array library in one precision, such as "torch-float32"; imported on first use.

    Example:
        import numpy as np
        from eigencore.testing.libraries import Library

        x = Library("numpy", "float32").array(np.ones(3))
    """

    name: str
    precision: str

    def __str__(self) -> str:
        return f"{self.name}-{self.precision}"

    @property
    def xp(self) -> Any:
        return import_module(_NAMESPACES[self.name][1])

    @property
    def dtype(self) -> Any:
        return getattr(self.xp, self.precision)

    @property
    def eps(self) -> float:
        return float(self.xp.finfo(self.dtype).eps)

    def array(self, x: Floats) -> Array:
        """A host array as an array of this library and precision."""
        return self.xp.asarray(x, dtype=self.dtype)


def library(name: str) -> Library:
    """The library with the given name, such as "strict-float32".

    Raises:
        ValueError: no library has this name, or it is not installed.

    Example:
        from eigencore.testing.libraries import library

        assert library("numpy-float64").eps < 1e-15
    """
    found = {str(one): one for one in installed()}
    if name not in found:
        raise ValueError(f"no array library named {name!r} is installed; available: {', '.join(found)}")
    return found[name]


def installed() -> tuple[Library, ...]:
    """Every library that is installed, in both precisions; none of them is imported."""
    return tuple(
        Library(name, precision)
        for name, (module, _) in _NAMESPACES.items()
        if find_spec(module)
        for precision in ("float64", "float32")
    )
