"""What backends have in common: minibatches, parameters, checks of derivatives and arguments, demo data.

A plugin must not import another plugin, so logic that several backends need lives here. The functions work
on names, sizes and NumPy arrays, and import no framework.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eigencore.errors import PluginError, ProblemError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.space import Array

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


def select_names(names: Iterable[str], pattern: str | None = None) -> list[str]:
    """The parameter names that match a glob pattern, in their given order.

    Args:
        names: names of parameters; dots separate the names of nested modules, as in "encoder.0.weight".
        pattern: a glob such as "encoder.*"; None selects all names.

    Raises:
        UnknownNameError: no name matches; the hint suggests the nearest names.

    Example:
        from eigencore.problems.sharing import select_names

        print(select_names(["0.weight", "0.bias", "2.weight"], "0.*"))
    """
    names = list(names)
    selected = matching_names(names, pattern)
    if not selected and pattern is not None:
        raise UnknownNameError("parameter", pattern, _patterns_for(names))
    return selected


def matching_names(names: Iterable[str], pattern: str | None) -> list[str]:
    """The names that match a glob pattern, possibly none; None matches every name."""
    return [name for name in names if pattern is None or fnmatchcase(name, pattern)]


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


# -- derivatives -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differences:
    """How derivatives are compared with central differences along a direction.

    Attributes:
        steps: the distances from the weights, relative to their norm, in decreasing order.
        tolerance: the largest gap between right derivatives and differences.
        eps: the rounding unit of the loss and the gradients.
    """

    steps: tuple[float, ...]
    tolerance: float
    eps: float


# In float32, rounding permits no steps that are small enough to avoid the kinks of ReLU and max-pooling, so
# that the gap is large for right derivatives as well and shows nothing on its own.
DIFFERENCES = {
    "float64": Differences((1e-5, 1e-6, 1e-7, 1e-8), 1e-4, 2.0**-52),
    "float32": Differences((1e-2, 3e-3, 1e-3), 0.05, 2.0**-23),
}
# The relative rounding error of a loss and of a gradient, in rounding units; measured: below 10.
_ROUNDING = 100


class DerivativeGaps(NamedTuple):
    """How far derivatives along a direction are from central differences, relative to the larger of the two.

    Attributes:
        gradient: the gap between the gradient and differences of the loss.
        product: the gap between the Hessian product and differences of the gradient.
    """

    gradient: float
    product: float

    def exceed(self, tolerance: float) -> bool:
        """Whether one of the gaps is larger; a gap that is NaN is not."""
        return self.gradient > tolerance or self.product > tolerance

    def description(self, tolerance: float) -> str:
        """The gaps above the tolerance, as a clause for messages."""
        gradient = f"the gradient differs by {_percent(self.gradient)} from the change of the loss"
        product = f"the Hessian product differs by {_percent(self.product)} from the change of the gradient"
        parts = [gradient] * (self.gradient > tolerance) + [product] * (self.product > tolerance)
        return f"along a random direction, {' and '.join(parts)}"


def derivative_gaps(
    at: Callable[[float], tuple[float, Array]],
    v: Array,
    product: Array,
    differences: Differences,
    weights_norm: float,
) -> DerivativeGaps:
    """Compares the gradient and a Hessian product with central differences along a direction.

    The least gap over the steps counts: beyond the nearest kink of a ReLU or of max-pooling, differences do
    not show derivatives, and smaller steps do not reach it. A smaller step is only taken while a gap is above
    the tolerance, so that right derivatives mostly cost two gradients. Differences that are within rounding
    error show no gap, and differences that are not finite show nothing.

    Args:
        at: t -> the loss, and its gradient (n,), at the weights w + t v.
        v: a random direction (n,) of norm 1.
        product: the Hessian at w times v (n,).
        weights_norm: the norm of w; for weights of zero, the steps are not relative.

    Example:
        import numpy as np
        from eigencore.problems.sharing import DIFFERENCES, derivative_gaps

        v = np.array([0.6, 0.8])

        def at(t):
            w = np.ones(2) + t * v
            return float(np.sum(w**3)), 3 * w**2

        print(derivative_gaps(at, v, 3 * v, DIFFERENCES["float64"], 2**0.5).product)  # the right one is 6 v
    """
    from eigencore import arrays  # not at the top: it imports the libraries of the array API

    tolerance, scale = differences.tolerance, weights_norm or 1.0
    least = DerivativeGaps(math.nan, math.nan)
    for relative in differences.steps:
        step = relative * scale
        (ahead, gradient_ahead), (behind, gradient_behind) = at(step), at(-step)
        loss = max(abs(ahead), abs(behind))
        gradient = max(arrays.norm(gradient_ahead), arrays.norm(gradient_behind))
        # The mean of both gradients, not the gradient at w, which at a kink is that of either side.
        slope = arrays.scalar((gradient_ahead + gradient_behind) @ v) / 2
        change = (ahead - behind) / (2 * step)
        changes = (gradient_ahead - gradient_behind) / (2 * step)
        # A gap within rounding error is divided by so much that it is below the tolerance. The gradient of a
        # constant loss consists of rounding errors; those of its terms are about as large as loss / scale.
        rounding = _ROUNDING * differences.eps / (step * tolerance)
        found = (
            _relative(abs(change - slope), abs(change), abs(slope), 1e-3 * gradient, rounding * loss),
            _relative(
                arrays.norm(changes - product),
                arrays.norm(changes),
                arrays.norm(product),
                rounding * max(gradient, loss / scale),
            ),
        )
        least = DerivativeGaps(*(float(np.fmin(one, other)) for one, other in zip(least, found, strict=True)))
        if not least.exceed(tolerance):
            break
    return least


def _percent(fraction: float) -> str:
    """Two significant digits, without an exponent."""
    digits = max(0, 1 - math.floor(math.log10(100 * fraction))) if fraction > 0 else 0
    return f"{100 * fraction:.{digits}f} %"


def _relative(gap: float, *sizes: float) -> float:
    """The gap relative to the largest size; NaN if it is not finite."""
    if not math.isfinite(gap):
        return math.nan
    return gap / max(sizes) if gap else 0.0


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
