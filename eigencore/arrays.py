"""All access to the Python array API: namespaces, transfers to and from the host, random arrays, safe norms.

Small projected problems are solved on the host in float64. Arrays are transferred only by functions of this
module.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import array_api_compat as compat
import array_api_extra as xpx
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats, Space

# A whole basis is rewritten in place in chunks of this many columns: few enough for a processor's cache,
# enough to make the overhead of a call negligible.
CHUNK = 1 << 15


def namespace(*arrays: Array) -> Any:
    """The array-API namespace of arrays of one library."""
    return compat.array_namespace(*arrays)


def is_array(x: object) -> bool:
    """Whether x is an array of a library that follows the array API."""
    return compat.is_array_api_obj(x)


def device_of(x: Array) -> Any:
    """The device that x is on."""
    return compat.device(x)


def eps(space: Space) -> float:
    """The rounding unit of the space's data type."""
    return float(space.xp.finfo(space.dtype).eps)


def to_host(x: Array) -> Floats:
    """A copy of a small array of any library as NumPy float64."""
    if compat.is_torch_array(x):
        x = x.detach()
        # NumPy has no bfloat16, and some devices have no float64: widen on the device, but only to float32.
        x = (x if x.element_size() >= 4 else x.float()).cpu().numpy()
    elif compat.is_cupy_array(x):
        x = x.get()
    return np.array(x, dtype=np.float64)


def from_host(x: Floats, space: Space) -> Array:
    """A copy of a host array in the library, data type and device of the space.

    Example:
        import numpy as np
        from eigencore import arrays, as_operator

        operator = as_operator(np.eye(3, dtype=np.float32))
        v = arrays.from_host(np.ones(3), operator)
        print(v.dtype, arrays.norm(operator.matvec(v)))
    """
    # Copied first: libraries share memory with NumPy if they can, and solvers write into the result.
    return space.xp.asarray(np.array(x, order="C"), dtype=space.dtype, device=space.device)


def native_bytes(x: Array) -> memoryview:
    """The bytes of an array of any library in its own data type, in C order.

    They are not copied if the array is contiguous and in the host's memory.

    Example:
        import numpy as np
        from eigencore import arrays

        print(len(arrays.native_bytes(np.zeros((2, 3), dtype=np.float32))))
    """
    if compat.is_torch_array(x):
        x = x.detach().resolve_conj().resolve_neg().cpu().contiguous()
        # NumPy has no bfloat16: the bytes are viewed as such before they are handed over.
        x = x.reshape(-1).view(namespace(x).uint8).numpy()
    elif compat.is_cupy_array(x):
        x = x.get()
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8).data


def trimmed(x: Array) -> Array:
    """x itself, or a copy if x is a view of a larger array, whose memory it would keep.

    Example:
        import numpy as np
        from eigencore import arrays

        first = arrays.trimmed(np.zeros((100, 3))[:1, :])
        assert first.base is None
    """
    if compat.is_numpy_array(x):
        base = getattr(x, "base", None)
        held = base.nbytes if isinstance(base, np.ndarray) else 0
    elif compat.is_torch_array(x):
        held = x.untyped_storage().nbytes()
    else:
        return x
    return namespace(x).asarray(x, copy=True) if held > x.nbytes else x


def zeros(shape: tuple[int, ...], space: Space) -> Array:
    """An array of zeros in the space."""
    return space.xp.zeros(shape, dtype=space.dtype, device=space.device)


def random_normal(rng: np.random.Generator, shape: tuple[int, ...], space: Space) -> Array:
    """Independent standard normal numbers, the same in every library: drawn on the host in float64."""
    return from_host(rng.standard_normal(shape), space)


def writeable(space: Space) -> bool:
    """Whether arrays of the space can be written in place; if not, every write makes a copy.

    Example:
        import numpy as np
        from eigencore import arrays, as_operator

        assert arrays.writeable(as_operator(np.eye(3)))
    """
    return bool(compat.is_writeable_array(zeros((1,), space)))


def write(x: Array, index: Any, value: Array) -> Array:
    """x with `value` at `index`. Written in place if the library allows it; use the returned array."""
    return xpx.at(x)[index].set(value)


def rows(x: Array, index: npt.NDArray[np.intp]) -> Array:
    """The rows of x at the given indices, which are on the host."""
    xp = namespace(x)
    return xp.take(x, xp.asarray(index, device=device_of(x)), axis=0)


def scalar(x: Array) -> float:
    """The number in an array of one element, on the host."""
    return float(x)


def norm(x: Array) -> float:
    """The Euclidean norm (Frobenius for a block), correct even if the squares overflow or underflow."""
    xp = namespace(x)
    with np.errstate(over="ignore", under="ignore"):
        plain = float(xp.linalg.vector_norm(x))
    limits = xp.finfo(x.dtype)
    if math.sqrt(limits.smallest_normal) * 1e4 < plain < math.sqrt(limits.max) * 1e-4:
        return plain
    largest = float(xp.max(xp.abs(x))) if x.shape[0] else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * float(xp.linalg.vector_norm(x / largest))


def is_finite(x: Array) -> bool:
    """Whether all numbers are finite. A finite sum shows it; otherwise each number is tested."""
    xp = namespace(x)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(xp.sum(x))
    return math.isfinite(total) or bool(xp.all(xp.isfinite(x)))
