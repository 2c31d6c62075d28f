"""All access to the Python array API: namespaces, transfers to and from the host, random numbers, safe norms.

Small projected problems are solved on the host in float64. Arrays are transferred to the host only by the
functions `to_host`, `to_host_at_once`, `scalar`, `norm`, `safe_norm` and `is_finite`. Each transfer waits for
the device, so that a solver makes one per product: it computes on the device what it wants to know of a
product, and has it brought over by `to_host_at_once`.

A dot product or norm of vectors that may be shards (see `eigencore.space.ShardedSpace`) is a sum over the
processes: `total` adds up, and the norms do it themselves if they are given the space.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, TypeGuard
from zlib import crc32

import array_api_compat as compat
import array_api_extra as xpx
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array, Floats, LinearOperator, ShardedSpace, Space

# A whole basis is rewritten in place in chunks of this many columns: few enough for a processor's cache,
# enough to make the overhead of a call negligible.
CHUNK = 1 << 15


def namespace(*arrays: Array) -> Any:
    """The array-API namespace of arrays of one library."""
    return compat.array_namespace(*arrays)


def library(xp: Any) -> str:
    """The name of the array library of a namespace, such as "numpy", "torch" or "jax"."""
    name: str = xp.__name__
    return name.removeprefix("array_api_compat.").partition(".")[0]


def is_array(x: object) -> bool:
    """Whether x is an array of a library that follows the array API."""
    return compat.is_array_api_obj(x)


def device_of(x: Array) -> Any:
    """The device that x is on."""
    return compat.device(x)


def eps(space: Space) -> float:
    """The rounding unit of the space's data type."""
    return float(space.xp.finfo(space.dtype).eps)


def itemsize(space: Space) -> int:
    """The bytes of a number of the space's data type."""
    return int(space.xp.finfo(space.dtype).bits) // 8


def to_host(x: Array) -> Floats:
    """A copy of a small array of any library as NumPy float64."""
    if compat.is_torch_array(x):
        x = x.detach()
        # NumPy has no bfloat16, and some devices have no float64: widen on the device, but only to float32.
        x = (x if x.element_size() >= 4 else x.float()).cpu().numpy()
    elif compat.is_cupy_array(x):
        x = x.get()
    return np.array(x, dtype=np.float64)


def to_host_at_once(*parts: Array) -> list[Floats]:
    """Copies of several small arrays of one data type and device, brought to the host in one transfer.

    Example:
        import numpy as np
        from eigencore import arrays

        overlaps, length = arrays.to_host_at_once(np.ones((2, 3)), np.asarray(4.0))
        assert overlaps.shape == (2, 3) and length == 4
    """
    xp = namespace(*parts)
    whole = to_host(xp.concat([xp.reshape(part, (-1,)) for part in parts]))
    ends = np.cumsum([math.prod(part.shape) for part in parts])[:-1]
    return [one.reshape(part.shape) for one, part in zip(np.split(whole, ends), parts, strict=True)]


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
    if library(space.xp) == "jax":  # `asarray` would be compiled for every shape
        import jax

        return jax.device_put(np.array(x, order="C", dtype=space.dtype), space.device)
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
        if hasattr(x, "to_local"):  # a shard of a tensor: the numbers of this process
            x = x.to_local()
        x = x.detach().resolve_conj().resolve_neg().cpu().contiguous()
        # NumPy has no bfloat16: the bytes are viewed as such before they are handed over.
        x = x.reshape(-1).view(namespace(x).uint8).numpy()
    elif compat.is_cupy_array(x):
        x = x.get()
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8).data


def is_column_major(x: Array) -> bool:
    """Whether x is a matrix whose columns are contiguous, and not its rows.

    The last bit of a product may depend on it.

    Example:
        import numpy as np
        from eigencore import arrays

        print(arrays.is_column_major(np.zeros((3, 2)).T))
    """
    if x.ndim != 2:
        return False
    if compat.is_numpy_array(x):
        return bool(x.flags.f_contiguous and not x.flags.c_contiguous)
    return bool(compat.is_torch_array(x) and x.T.is_contiguous() and not x.is_contiguous())


def from_native_bytes(
    content: bytearray, dtype: str, shape: tuple[int, ...], space: Space | None, *, column_major: bool = False
) -> Array:
    """The array whose bytes `native_bytes` returned, or of its transpose for a matrix that is column-major.

    Args:
        content: the bytes, which the array may go on to use.
        dtype: the name of the data type, such as "float32".
        space: its library and device; None: NumPy.

    Example:
        import numpy as np
        from eigencore import arrays

        x = np.arange(3, dtype=np.float32)
        print(arrays.from_native_bytes(bytearray(arrays.native_bytes(x)), "float32", (3,), None))
    """
    x = np.frombuffer(content, dtype=dtype).reshape(shape[::-1] if column_major else shape)
    if space is not None:
        # Memory of the library itself: how numbers are aligned may change the last bit of what is computed.
        x = space.xp.asarray(x, dtype=getattr(space.xp, dtype), device=space.device, copy=True)
    return x.T if column_major else x


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


def generator(seed: int, purpose: str, *count: int) -> np.random.Generator:
    """A generator whose stream depends on all arguments, and is independent of that of any other arguments.

    Streams must not repeat each other: a random vector that checks an answer proves nothing if it is the one
    that the answer was computed from. Keys such as `default_rng([seed, count])` are unsafe, because
    `default_rng([seed, 0])` is `default_rng(seed)`: trailing zeros are padding. Spawn keys are not padded.

    Args:
        seed: the seed of the run, at least 0.
        purpose: what the numbers are for, as in "start vector".
        count: how many streams were drawn for this purpose before.

    Example:
        from eigencore import arrays

        first, second = (arrays.generator(0, "noise", count).standard_normal() for count in (0, 1))
        assert first != second
    """
    key = (crc32(purpose.encode()), *count)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def random_normal(rng: np.random.Generator, shape: tuple[int, ...], space: Space) -> Array:
    """Independent standard normal numbers, the same in every library: drawn on the host in float64.

    In a space of shards, the array (n, ...) is drawn whole, and the rows of this process are returned.
    """
    return from_host(shard(rng.standard_normal(shape), space), space)


def is_sharded(space: Space | None) -> TypeGuard[ShardedSpace]:
    """Whether the vectors of a space are shards of whole vectors."""
    return hasattr(space, "shard") and hasattr(space, "sum")


def total(x: Array, space: Space | None) -> Array:
    """The sum of a small array over the processes that hold the shards of a vector; x itself without shards.

    Example:
        import numpy as np
        from eigencore import arrays, as_operator

        u, v, operator = np.ones(3), np.ones(3), as_operator(np.eye(3))
        print(arrays.scalar(arrays.total(u @ v, operator)))
    """
    return space.sum(x) if is_sharded(space) else x


def shard(x: Floats, space: Space) -> Floats:
    """The rows that this process holds, of a host array (n, ...); x itself in a space without shards."""
    return space.shard(x) if is_sharded(space) else x


def whole(x: Array, space: LinearOperator) -> Floats:
    """A vector (n,) or block (n, b) on the host, in every process that holds a shard of it.

    Example:
        import numpy as np
        from eigencore import arrays, as_operator

        print(arrays.whole(np.ones(3), as_operator(np.eye(3))))
    """
    n, own = space.shape[0], to_host(x)
    if not is_sharded(space):
        return own
    found = np.zeros((n, *x.shape[1:]))
    found[space.shard(np.arange(n, dtype=np.float64)).astype(np.intp)] = own
    return to_host(space.sum(from_host(found, space)))


def local_rows(operator: LinearOperator) -> int:
    """The number of rows that vectors have in this process: n without shards."""
    n = operator.shape[0]
    return len(operator.shard(np.empty(n))) if is_sharded(operator) else n


def writeable(space: Space) -> bool:
    """Whether arrays of the space can be written in place; if not, every write makes a copy.

    Example:
        import numpy as np
        from eigencore import arrays, as_operator

        assert arrays.writeable(as_operator(np.eye(3)))
    """
    return bool(compat.is_writeable_array(zeros((1,), space)))


def on_processor(x: Array) -> bool:
    """Whether x is in the memory of a processor, rather than of an accelerator.

    Example:
        import numpy as np
        from eigencore import arrays

        assert arrays.on_processor(np.ones(3))
    """
    if compat.is_torch_array(x):
        return bool(x.device.type == "cpu")
    if compat.is_jax_array(x):
        return all(device.platform == "cpu" for device in x.devices())
    return not compat.is_cupy_array(x)


def write(x: Array, index: Any, value: Array) -> Array:
    """x with `value` at `index`, in the memory of x if the library allows it: do not use x any more.

    JAX copies x, unless the index consists of integers and full slices: then it takes the memory of x.
    """
    if compat.is_jax_array(x) and isinstance(index, tuple):
        at = tuple(part == slice(None) for part in index)
        if all(full or isinstance(part, int) for full, part in zip(at, index, strict=True)):
            places = [part for full, part in zip(at, index, strict=True) if not full]
            return _jax_writer()(x, value, places, full=at)
    return xpx.at(x)[index].set(value)


@functools.cache
def _jax_writer() -> Any:
    """Writes at integers in place of the axes that are not `full`; compiled once for all integers."""
    import jax

    def written(x: Array, value: Array, places: list[int], full: tuple[bool, ...]) -> Array:
        left = iter(places)
        return x.at[tuple(slice(None) if whole else next(left) for whole in full)].set(value)

    return jax.jit(written, static_argnames="full", donate_argnums=0)


def rows(x: Array, index: npt.NDArray[np.intp]) -> Array:
    """The rows of x at the given indices, which are on the host."""
    xp = namespace(x)
    return xp.take(x, xp.asarray(index, device=device_of(x)), axis=0)


def scalar(x: Array) -> float:
    """The number in an array of one element, on the host."""
    return float(x)


def norm(x: Array, space: Space | None = None) -> float:
    """The Euclidean norm (Frobenius for a block), correct even if the squares overflow or underflow.

    Args:
        space: the space of x, if x may be a shard: the norm is then that of the whole.
    """
    return safe_norm(scalar(quick_norm(x, space)), x, space)


def quick_norm(x: Array, space: Space | None = None) -> Array:
    """The norm of x as an array () on the device, for `safe_norm`: its squares may overflow or underflow."""
    xp = namespace(x)
    with np.errstate(over="ignore", under="ignore"):
        own = xp.linalg.vector_norm(x)
        return xp.sqrt(total(own * own, space)) if is_sharded(space) else own


def safe_norm(quick: float, x: Array, space: Space | None = None) -> float:
    """The norm of x, from that of `quick_norm` on the host: correct even if that one is not.

    It transfers numbers only if `quick` is near the limits of the data type. If x is not finite, neither is
    the norm.

    Example:
        import numpy as np
        from eigencore import arrays

        x = np.full(4, 1e30, dtype=np.float32)
        print(arrays.safe_norm(arrays.scalar(arrays.quick_norm(x)), x))
    """
    xp = namespace(x)
    limits = xp.finfo(x.dtype)
    if math.sqrt(limits.smallest_normal) * 1e4 < quick < math.sqrt(limits.max) * 1e-4:
        return quick
    zero = xp.zeros((), dtype=x.dtype, device=device_of(x))
    # Over shards, the sum of the largest numbers takes the place of the largest one.
    unit = total(xp.max(xp.abs(x)) if math.prod(x.shape) else zero, space)
    with np.errstate(invalid="ignore"):  # infinity over infinity
        scaled = quick_norm(x / xp.where(unit > 0, unit, zero + 1), space)
    largest, length = (float(one) for one in to_host_at_once(unit, scaled))
    return largest * length if 0 < largest < math.inf else largest


def is_finite(x: Array, space: Space | None = None) -> bool:
    """Whether all numbers are finite. A finite sum shows it; otherwise each number is tested.

    Args:
        space: the space of x, if x may be a shard: the answer is then the same in every process.
    """
    xp = namespace(x)
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(scalar(total(xp.sum(x), space))):
            return True
    bad = xp.astype(xp.logical_not(xp.all(xp.isfinite(x))), x.dtype)
    return scalar(total(bad, space)) == 0
