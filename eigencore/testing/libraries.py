"""The array libraries that solvers are tested on: NumPy, array-api-strict and PyTorch, in two precisions."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eigencore.space import Array, Floats

# The module to look for, and the namespace that gives its arrays the standard's functions.
# array-api-strict refuses what only NumPy and PyTorch forgive.
_NAMESPACES = {
    "numpy": ("numpy", "array_api_compat.numpy"),
    "strict": ("array_api_strict", "array_api_strict"),
    "torch": ("torch", "array_api_compat.torch"),
}


@dataclass(frozen=True)
class Library:
    """An array library in one precision, as in "torch-float32"; imported on first use."""

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
        """A host array as an array of this library."""
        return self.xp.asarray(x, dtype=self.dtype)


def library(name: str) -> Library:
    """The library of a name such as "strict-float32".

    Raises:
        ValueError: there is none of that name, or it is not installed.
    """
    found = {str(one): one for one in installed()}
    if name not in found:
        raise ValueError(f"no array library {name!r} is installed; there is: {', '.join(found)}")
    return found[name]


def installed() -> tuple[Library, ...]:
    """Those that can be imported; looks, and imports none."""
    return tuple(
        Library(name, precision)
        for name, (module, _) in _NAMESPACES.items()
        if find_spec(module)
        for precision in ("float64", "float32")
    )
