"""An array library whose new arrays can't be written in place, as with JAX: NumPy with the flag unset."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy as numpy_api
import numpy as np

from eigencore.operators import FunctionOperator


def _frozen(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x.setflags(write=False)
    return x


def read_only_namespace() -> SimpleNamespace:
    """NumPy's namespace, with functions that return read-only arrays where they make new ones."""
    names = {name: getattr(numpy_api, name) for name in dir(numpy_api) if not name.startswith("__")}
    for name in ("asarray", "zeros", "ones", "empty", "full", "concat", "stack"):
        names[name] = lambda *given, made=names[name], **keywords: _frozen(made(*given, **keywords))
    return SimpleNamespace(**names, __name__="array_api_compat.numpy")


def read_only_operator(A: np.ndarray[Any, Any]) -> FunctionOperator:
    """The matrix A (n, n) as an operator that returns read-only arrays."""
    return FunctionOperator(
        lambda v: _frozen(A @ v), len(A), xp=read_only_namespace(), dtype=A.dtype, device="cpu"
    )
