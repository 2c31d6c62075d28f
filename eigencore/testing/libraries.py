"""The array libraries that plugins are tested on, in two precisions.

NumPy, array-api-strict, PyTorch and JAX are known by name; any other library of the array API is given by the
module with its functions and a data type, such as ("jax.numpy", "float32").
"""

from __future__ import annotations

import os
import sys
import warnings
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
    "jax": ("jax", "jax.numpy"),
}


@dataclass(frozen=True)
class Library:
    """An array library in one precision, such as "torch-float32"; imported on first use.

    Attributes:
        name: one of the known names, or the module with the library's functions.
        precision: the name of a floating-point data type of the library.

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
        return import_module(_NAMESPACES[self.name][1] if self.name in _NAMESPACES else self.name)

    @property
    def dtype(self) -> Any:
        return getattr(self.xp, self.precision)

    @property
    def eps(self) -> float:
        return float(self.xp.finfo(self.dtype).eps)

    def array(self, x: Floats) -> Array:
        """A host array as an array of this library and precision."""
        return self.xp.asarray(x, dtype=self.dtype)


def library(name: str | tuple[str, str]) -> Library:
    """The library with the given name, such as "strict-float32", or of the given module and data type.

    Raises:
        ValueError: no library has this name, it is not installed, or it does not compute in this data type.

    Example:
        from eigencore.testing.libraries import library

        assert library("numpy-float64").eps < 1e-15
        assert str(library(("array_api_compat.numpy", "float32"))) == "array_api_compat.numpy-float32"
    """
    if isinstance(name, tuple):
        return _of_module(*name)
    found = {str(one): one for one in installed()}
    if name not in found:
        raise ValueError(f"no array library named {name!r} is installed; available: {', '.join(found)}")
    return found[name]


def _of_module(module: str, precision: str) -> Library:
    own = Library(module, precision)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX warns where it computes in another precision
            dtype, found = own.dtype, own.xp.zeros(1, dtype=own.dtype).dtype
    except ImportError as error:
        raise ValueError(f"the array library {module} can't be imported: {error}") from error
    except AttributeError as error:
        raise ValueError(f"{module} is no array library with the data type {precision}: {error}") from error
    if found != dtype:
        raise ValueError(f"{module} computes in {found} instead of {precision}")
    return own


def installed() -> tuple[Library, ...]:
    """Every known library that is installed, in both precisions; none of them is imported.

    JAX computes in float64 only if that is turned on, and then in both.
    """
    return tuple(
        Library(name, precision)
        for name, (module, _) in _NAMESPACES.items()
        if find_spec(module)
        for precision in ("float64", "float32")
        if name != "jax" or precision == "float32" or _jax_has_float64()
    )


def _jax_has_float64() -> bool:
    jax = sys.modules.get("jax")
    if jax is not None:
        return bool(jax.config.jax_enable_x64)
    return os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "t", "yes", "y", "on")
