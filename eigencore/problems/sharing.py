"""What backends have in common: minibatches, layouts of parameters, argument checks, bounds, demo data.

A plugin must not import another plugin, so logic that several backends need lives here. The functions work
on names, sizes and NumPy arrays, and import no framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.errors import PluginError, ProblemError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Params
    from eigencore.space import Array, Floats, Space

DTYPES = ("float32", "float64")
REDUCTIONS = ("infer", "mean", "sum")
CALLS = ("loss(model(x), y)", "loss(model, batch)")


# -- minibatches -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Minibatch:
    """Random batches, weighted so that their sum is an unbiased estimate of the sum over all batches.

    Attributes:
        factors: for the index of each drawn batch, the factor that multiplies the weight of that batch.
        share: the weight of the drawn batches as a fraction of the total weight, in (0, 1].
    """

    factors: Mapping[int, float]
    share: float


def draw_minibatch(weights: Sequence[float], step: int, seed: int, batches: int) -> Minibatch:
    """Draws batches with replacement, each with a probability proportional to its weight.

    The draw depends only on the arguments: the same step and seed give the same minibatch.

    Args:
        weights: the weight of each batch in the loss over all data, such as its number of samples.
        step, seed: together they select the random numbers; both at least 0.
        batches: the number of draws, at least 1.

    Returns:
        The drawn batches with their factors and their share of the total weight. A batch that is drawn
        several times appears once.

    Raises:
        UsageError: `batches` is below 1, or `step` or `seed` is negative.
        ProblemError: the weights sum to zero.

    Example:
        from eigencore.problems.sharing import draw_minibatch

        minibatch = draw_minibatch([256, 256, 157], step=0, seed=0, batches=2)
        for index, factor in minibatch.factors.items():
            print(index, factor)
    """
    if batches < 1 or step < 0 or seed < 0:
        raise UsageError(
            f"batches={batches}, step={step}, seed={seed}; expected batches >= 1, step >= 0 and seed >= 0"
        )
    total = sum(weights)
    if not total:
        raise ProblemError("data is empty, or every batch has weight zero")
    rng = np.random.default_rng([seed, step])
    drawn = rng.choice(len(weights), size=batches, p=np.array(weights) / total)
    return weight_minibatch(Counter(drawn.tolist()), weights)


def weight_minibatch(counts: Mapping[int, int], weights: Sequence[float]) -> Minibatch:
    """The minibatch that results if batch b is drawn counts[b] times.

    With A = sum_b w_b A_b over all batches, W = sum_b w_b, and m draws of probability w_b / W each, the
    estimate is sum_b counts_b (W / (m w_b)) w_b A_b. Its expectation over all draws is A (Hansen & Hurwitz
    1943). A batch that is drawn twice is computed once, and therefore counts once in the share.
    """
    total, m = sum(weights), sum(counts.values())
    factors = {b: times * total / (m * weights[b]) for b, times in counts.items()}
    return Minibatch(factors, sum(weights[b] for b in counts) / total)


# -- the layout of parameters ------------------------------------------------------------------------------


def select_names(names: Iterable[str], params: Params = None) -> list[str]:
    """The selected parameter names, each once and in their given order.

    Args:
        names: names of parameters; dots separate the names of nested modules, as in "encoder.0.weight".
        params: a glob such as "encoder.*", several globs as "encoder.*,head.weight" or as a list; None
            selects all names.

    Raises:
        UnknownNameError: no name matches one of the globs; the hint suggests the nearest names.
        UsageError: `params` is neither text nor a list of texts.

    Example:
        from eigencore.problems.sharing import select_names

        print(select_names(["0.weight", "0.bias", "2.weight"], "0.*"))
        print(select_names(["0.weight", "0.bias", "2.weight"], ["2.weight", "*.bias"]))
    """
    names = list(names)
    if params is None:
        return names
    selected: set[str] = set()
    for glob in globs_of(params, names):
        matching = matching_names(names, glob)
        if not matching:
            raise UnknownNameError("parameter", glob, _patterns_for(names))
        selected.update(matching)
    return [name for name in names if name in selected]


def globs_of(params: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """The globs that `params` consists of.

    Text is split at its commas, unless it matches a name as it is: names and sets of characters such as
    "[0,2]" may contain commas. The items of a list are not split.

    Raises:
        UsageError: `params` is neither text nor a list of texts, or is an empty list.
    """
    if isinstance(params, str):
        return [params] if matching_names(names, params) else [glob.strip() for glob in params.split(",")]
    if not isinstance(params, list | tuple) or not params or not all(isinstance(x, str) for x in params):
        raise UsageError(
            f"params is {params!r:.60}; expected a glob of parameter names, or a list of globs",
            hint="Write, for example, params='head.*' or params=['head.*', 'embed.weight']; leave params out "
            "to select all parameters.",
        )
    return list(params)


def matching_names(names: Iterable[str], glob: str) -> list[str]:
    """The name that the glob is, if there is one; otherwise the names that match it, possibly none."""
    names = list(names)
    return [glob] if glob in names else [name for name in names if fnmatchcase(name, glob)]


def flat_slices(sizes: Iterable[int]) -> tuple[slice, ...]:
    """The slices of parameters of these sizes, stored one after the other in a flat vector."""
    return tuple(slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0)))


def _patterns_for(names: Iterable[str]) -> set[str]:
    """Patterns worth suggesting: each parameter, and each module with all of its parameters."""
    patterns = set()
    for name in names:
        parts = name.split(".")
        patterns.add(name)
        patterns.update(".".join(parts[:depth]) + ".*" for depth in range(1, len(parts)))
    return patterns


# -- argument checks ---------------------------------------------------------------------------------------


def check_kind(kind: str, available: Collection[str]) -> None:
    """Raises UnknownNameError if the backend does not offer this kind of operator."""
    if kind not in available:
        raise UnknownNameError("kind of operator", kind, available)


def check_dtype(name: str) -> None:
    """Raises UsageError if `name` is not "float32" or "float64"."""
    if name not in DTYPES:
        raise UsageError(
            f"dtype is {name!r}; expected {' or '.join(DTYPES)}",
            hint="Use one of these: in a lower precision, rounding errors dominate a product.",
        )


def check_cpu(device: str | None, backend: str) -> None:
    """Raises UsageError if a backend that runs only on the CPU is asked for another device."""
    if device not in (None, "cpu"):
        raise UsageError(
            f"device is {device!r}; the backend {backend} runs only on the CPU", hint="Leave device out."
        )


def check_reduction(reduction: str) -> None:
    """Raises UsageError if `reduction` is not "infer", "mean" or "sum"."""
    if reduction not in REDUCTIONS:
        raise UsageError(f"reduction is {reduction!r}; expected 'infer', 'mean' or 'sum'")


def check_call(call: str | None) -> None:
    """Raises UsageError if `call` is neither None nor one of the two ways to call a loss."""
    if call is not None and call not in CALLS:
        raise UsageError(f"call is {call!r}; expected {' or '.join(map(repr, CALLS))}, or None")


def check_objective(loss: object) -> None:
    """Raises ProblemError if the loss is not an `eigencore.interfaces.Objective`."""
    missing = [name for name in ("value", "grad", "hvp") if not callable(getattr(loss, name, None))]
    if missing:
        raise ProblemError(
            f"the loss is a {type(loss).__name__} without {', '.join(missing)}; expected an Objective",
            hint="Give eigencore.objectives.CrossEntropy(), or implement eigencore.interfaces.Objective.",
        )


def check_reiterable(
    data: object, name: str = "data", expected: str = "a list of batches, such as [(x, y)]"
) -> None:
    """Raises ProblemError if the data can't be iterated, or can be iterated only once.

    Args:
        name: what the message calls the data.
        expected: what the hint recommends instead.
    """
    # Decided from the type, without calling iter(): a data loader's iter() can draw random numbers.
    if isinstance(data, str | bytes) or not (isinstance(data, Iterable) or hasattr(data, "__getitem__")):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which can't be iterated; expected batches",
            hint=f"Give {expected}.",
        )
    if isinstance(data, Iterator):
        raise ProblemError(
            f"{name} is a {type(data).__name__}, which can be iterated only once; expected data that can be "
            "iterated many times",
            hint=f"Give {expected}, or call list() on the data if they fit into memory.",
        )


# -- bounds of the inputs ----------------------------------------------------------------------------------

# `eigencore.arrays` is imported by the functions that need it, so that this module imports NumPy alone.

# How far rounding may move an input beyond its bounds, relative to their distance.
BOUNDS_SLACK = 1e-6


def check_bounds(given: Any) -> tuple[Floats, Floats] | None:
    """The lowest and the highest value in `Problem.bounds` as arrays on the host; None if there are none.

    Raises:
        ProblemError: they are not two finite numbers in ascending order, or two arrays of such numbers.
            Arrays may be equal in some entries, which are then fixed.
    """
    if given is None:
        return None
    try:
        low, high = (_on_host(bound) for bound in given)
    except (TypeError, ValueError, RuntimeError):
        low = high = np.array(np.nan)
    finite = np.all(np.isfinite(low)) and np.all(np.isfinite(high))
    # Arrays of different shapes are compared by `bounds_of_rows`, which knows the shape of an input.
    comparable = low.shape == high.shape or not (low.ndim and high.ndim)
    if not finite or (comparable and not _ascending(low, high)):
        raise _invalid_bounds(given)
    return low, high


def bounds_of_rows(given: Any, shape: tuple[int, ...], space: Space) -> tuple[Array, Array] | None:
    """The lowest and the highest value of each entry of a row, two arrays (d,); None if there are no bounds.

    Args:
        given: `Problem.bounds`: two numbers, or two arrays that broadcast to one input or have one number for
            each of its channels, its first axis.
        shape: the shape of one input.
        space: the array library, data type and device of the rows.

    Raises:
        ProblemError: the bounds are invalid, do not fit the inputs, or fit them in two different ways.

    Example:
        import numpy as np
        from eigencore import as_operator
        from eigencore.problems.sharing import bounds_of_rows

        low, high = bounds_of_rows(([0, 0, 0], [1, 2, 3]), (3, 8, 8), as_operator(np.eye(2)))
        print(low.shape, high[0], high[-1])
    """
    bounds = check_bounds(given)
    if bounds is None:
        return None
    low, high = (_of_one_input(bound, shape) for bound in bounds)
    if not _ascending(low, high):
        raise _invalid_bounds(given)
    from eigencore.arrays import from_host

    return from_host(low, space), from_host(high, space)


def bounds_excess(x: Array, bounds: tuple[Array, Array]) -> float:
    """The largest distance of an entry of rows x (b, d) from its bounds (d,); 0 if it is within rounding."""
    from eigencore.arrays import namespace

    xp, (low, high) = namespace(x), bounds
    if not x.shape[0]:
        return 0.0
    rounding = 4 * float(xp.finfo(x.dtype).eps) * xp.maximum(xp.abs(low), xp.abs(high))
    excess = xp.maximum(low - x, x - high)
    beyond = excess > BOUNDS_SLACK * (high - low) + rounding
    return float(xp.max(xp.where(beyond, excess, xp.zeros_like(excess))))


def _ascending(low: Floats, high: Floats) -> bool:
    return bool(np.all(low <= high) and np.any(low < high))


def _invalid_bounds(given: object) -> ProblemError:
    return ProblemError(
        f"bounds are {' '.join(repr(given).split()):.80}; expected two finite numbers, the lower one first, "
        "or two arrays of such numbers",
        hint="Give the lowest and highest value that any input may take, such as bounds=(0, 1).",
    )


def _on_host(x: Any) -> Floats:
    from eigencore.arrays import is_array, to_host

    return to_host(x) if is_array(x) else np.asarray(x, dtype=np.float64)


def _of_one_input(bound: Floats, shape: tuple[int, ...]) -> Floats:
    """One bound for each value of an input, in a row (d,)."""
    readings, ones = [bound], [1] * (len(shape) - 1)
    if bound.shape == shape[:1]:
        readings.append(bound.reshape(-1, *ones))
    found = []
    for reading in readings:
        with suppress(ValueError):
            found.append(np.broadcast_to(reading, shape))
    if found and np.array_equal(found[0], found[-1]):
        return found[0].reshape(-1)
    fit = "do not fit" if not found else "fit, along the first axis and along the last,"
    raise ProblemError(
        f"bounds of shape {bound.shape} {fit} inputs of shape {shape}; expected numbers, or arrays that "
        "broadcast to one input",
        hint=f"For one number per channel, give arrays of shape {(*shape[:1], *ones)}.",
    )


# -- demo data ---------------------------------------------------------------------------------------------


@contextmanager
def requires_extras(name: str, extras: str) -> Iterator[None]:
    """Reports a package that is missing inside the `with` block as a PluginError.

    Args:
        name: what needs the package, such as "demo:digits".
        extras: the pip extras of eigencore that install it, separated by commas.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise PluginError(
            f"{name} needs {missing}, which is not installed", hint=f'Run: pip install "eigencore[{extras}]"'
        ) from error


def handwritten_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 1,797 handwritten digits that scikit-learn includes, in a fixed random order.

    Returns:
        Images (1797, 8, 8) with pixels from 0 to 1, and their labels (1797,) from 0 to 9.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = fixed_permutation(len(digits.target))
    return (digits.images[order] / 16).astype(np.float32), digits.target[order].astype(np.int64)


def fixed_permutation(n: int) -> npt.NDArray[Any]:
    """A random order of n samples that is the same with every version of NumPy."""
    # NumPy guarantees that the numbers of this legacy generator never change.
    return np.random.RandomState(0).permutation(n)


def split_batches(x: Array, y: Array, size: int) -> list[tuple[Array, Array]]:
    """Consecutive batches (x, y) of `size` samples; the last batch may be smaller."""
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
