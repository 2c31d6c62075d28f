"""attack: runs one on samples, counts its passes, and evaluates what it found itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.attacks.counting import CountingClassifier
from eigencore.entries import AttackEntry
from eigencore.errors import PluginError, ProblemError, UsageError
from eigencore.interfaces import Bound, Classifier, Problem
from eigencore.registry import load, registry, require, resolve_options
from eigencore.results import AttackResult
from eigencore.runs import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Attack
    from eigencore.space import Array, Floats

    Verdict = tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Floats]

# How far over the ball or the bounds rounding may take an input, in parts of their size.
SLACK = 1e-6


def attack(
    bound: Bound,
    name: str,
    *,
    eps: float | None = None,
    samples: tuple[Array, Array] | None = None,
    images: int | None = None,
    batch: int = 256,
    seed: int = 0,
    classifier: Classifier | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> AttackResult:
    """Adversarial inputs for the samples of a bound problem, evaluated.

    Samples that are misclassified already are left as they are; they count as broken at distance zero. The
    same seed, samples and batch give the same bytes.

    Args:
        name: of a registered attack.
        eps: the radius of the ball, for an attack that takes one.
        samples: inputs (N, d) or (N, *shape) and labels (N,), of any array library; None: the problem's own.
        images: how many of the samples to attack, from the first; None: all.
        batch: samples that are attacked at once.
        seed: of every random number.
        classifier: one that was made already, to attack; None: `bound.classifier()`.
        progress: takes a line of text after every batch.
        **options: of the attack.

    Raises:
        UnknownNameError, OptionError, UsageError: something that can't be asked for; before any pass.
        CapabilityError: the problem does not offer what the attack needs; before any pass.
        ProblemError: samples outside the problem's bounds, or whose logits are not finite.
        PluginError: the attack left the ball or the bounds.
    """
    if isinstance(bound, Problem | str):
        told = "a Problem" if isinstance(bound, Problem) else f"the name {bound!r}"
        raise UsageError(f"attack was given {told}", hint="Bind it first: attack(bind(problem), ...).")
    entry = registry().find(AttackEntry, name)
    resolved = resolve_options(entry, options)
    norm = _norm(entry, resolved)
    _check(entry, eps, seed, images, batch)
    require(entry, bound.capabilities)
    run: Attack = load(entry)
    began = time.perf_counter()
    counted = CountingClassifier(classifier if classifier is not None else bound.classifier())
    x, y = counted.samples(images) if samples is None else _given(samples, images, counted)
    _refuse_samples_outside(x, counted)
    found = [
        _attacked(run, counted, x[at:to, ...], y[at:to], resolved, norm, eps, [seed, at])
        for at, to in _batches(x.shape[0], batch, name, progress)
    ]
    xp = counted.xp
    inputs, correct, success, distance = zip(*found, strict=True)
    return AttackResult(
        attack=entry.name,
        inputs=xp.reshape(xp.concat(inputs), (x.shape[0], *counted.shape)),
        labels=arrays.to_host(y).astype(np.int64),
        correct=np.concatenate(correct),
        success=np.concatenate(success),
        distance=np.concatenate(distance),
        norm=norm,
        eps=None if eps is None else float(eps),
        seed=seed,
        forward=counted.forward,
        backward=counted.backward,
        seconds=time.perf_counter() - began,
        options=plain(resolved) if resolved is not None else {},
    )


# -- what is asked, looked at before any pass --------------------------------------------------------------


def _norm(entry: AttackEntry, options: Any) -> str:
    norm = getattr(options, "norm", entry.norms[0])
    if norm not in entry.norms:
        raise UsageError(f"{entry.name} bounds {' or '.join(entry.norms)}; its norm is {norm!r}")
    return str(norm)


def _check(entry: AttackEntry, eps: float | None, seed: int, images: int | None, batch: int) -> None:
    if entry.goal == "min_norm" and eps is not None:
        raise UsageError(
            f"{entry.name} looks for the smallest perturbation; eps is {eps!r}", hint="Leave eps out."
        )
    if entry.goal == "fixed_eps":
        number = isinstance(eps, Real) and not isinstance(eps, bool)
        if not (number and 0 <= float(eps) < math.inf):  # type: ignore[arg-type]
            raise UsageError(
                f"eps is {eps!r}; {entry.name} needs a radius, a number of at least 0",
                hint="It is in the units of the inputs: eps=8/255 where they go from 0 to 1.",
            )
    for name, value, low in (("seed", seed, 0), ("images", images, 1), ("batch", batch, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {low}")


def _given(samples: Any, images: int | None, classifier: Classifier) -> tuple[Array, Array]:
    """The caller's samples as rows (N, d) and labels (N,) of the classifier's library."""
    try:
        x, y = samples
        inputs, labels = arrays.to_host(x)[:images], arrays.to_host(y)[:images]
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(f"samples can't be read as a pair of inputs and labels: {error}") from error
    d = math.prod(classifier.shape)
    if inputs.ndim < 2 or not len(inputs) or tuple(inputs.shape[1:]) not in ((d,), tuple(classifier.shape)):
        shapes = dict.fromkeys(f"(N, {', '.join(map(str, one))})" for one in ((d,), classifier.shape))
        raise UsageError(f"the samples' inputs have shape {inputs.shape}; expected {' or '.join(shapes)}")
    if labels.shape != inputs.shape[:1]:
        raise UsageError(f"labels of shape {labels.shape} for {len(inputs)} inputs; expected one for each")
    if not np.all(np.isin(labels, np.arange(classifier.classes))):
        raise UsageError(f"labels are whole numbers from 0 to {classifier.classes - 1}; given was {labels}")
    rows = arrays.from_host(inputs.reshape(len(inputs), d), classifier)
    return rows, classifier.xp.asarray(labels.astype(np.int64), device=classifier.device)


def _refuse_samples_outside(x: Array, classifier: Classifier) -> None:
    over = _over(x, classifier)
    if over > 0:
        low, high = float(classifier.xp.min(x)), float(classifier.xp.max(x))
        raise ProblemError(
            f"the samples go from {low:g} to {high:g}, {over:g} outside their bounds",
            hint="Give Problem(bounds=...) for inputs as the network gets them; None where there are none.",
        )


# -- one batch ---------------------------------------------------------------------------------------------


def _attacked(
    run: Attack,
    classifier: Classifier,
    x: Array,
    y: Array,
    options: Any,
    norm: str,
    eps: float | None,
    entropy: list[int],
) -> Verdict:
    """Its adversarial inputs, who was correct, who was broken, at what distance."""
    labels = arrays.to_host(y)
    correct = _predicted(classifier, x) == labels
    distance, index = np.zeros(len(labels)), np.arange(len(labels))
    found = x
    if correct.any():
        xp, chosen = classifier.xp, np.flatnonzero(correct)
        own, targets = arrays.rows(x, chosen), arrays.rows(y, chosen)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        # With no room to move in, an attack would divide by zero.
        moved = own if eps == 0 else run(classifier, own, targets, options, eps=eps, seed=seed)
        _refuse_outside(moved, own, classifier, norm, eps)
        distance[chosen] = arrays.to_host(row_norms(moved - own, norm))
        index[chosen] = len(labels) + np.arange(len(chosen))
        found = arrays.rows(xp.concat([x, moved]), index)
    success = _predicted(classifier, found) != labels
    return found, correct, success, np.where(success, distance, np.inf)


def _predicted(classifier: Classifier, x: Array) -> npt.NDArray[np.int64]:
    logits = classifier.logits(x)
    if not arrays.is_finite(logits):
        raise ProblemError("the classifier's logits are not finite", hint="Look at its inputs and weights.")
    return arrays.to_host(classifier.xp.argmax(logits, axis=1)).astype(np.int64)


def _refuse_outside(moved: Array, x: Array, classifier: Classifier, norm: str, eps: float | None) -> None:
    if getattr(moved, "shape", None) != x.shape or not arrays.is_finite(moved):
        told = getattr(moved, "shape", type(moved).__name__)
        raise PluginError(f"the attack returned {told}; expected finite numbers of shape {tuple(x.shape)}")
    xp = classifier.xp
    if eps is not None:
        farthest = float(xp.max(row_norms(moved - x, norm)))
        if farthest > eps * (1 + SLACK) + 4 * arrays.eps(classifier) * float(xp.max(xp.abs(x))):
            raise PluginError(f"the attack left the ball: {norm} distance {farthest:g}, eps {eps:g}")
    over = _over(moved, classifier)
    if over > 0:
        raise PluginError(f"the attack left the bounds by {over:g}")


def _over(x: Array, classifier: Classifier) -> float:
    """By how much x leaves the bounds; 0 within rounding."""
    if classifier.bounds is None:
        return 0.0
    low, high = classifier.bounds
    over = max(low - float(classifier.xp.min(x)), float(classifier.xp.max(x)) - high)
    return over if over > SLACK * (high - low) else 0.0


def row_norms(x: Array, norm: str) -> Array:
    """The "Linf" or "L2" norm of each row (b,)."""
    xp = arrays.namespace(x)
    return xp.linalg.vector_norm(x, axis=1, ord=math.inf if norm == "Linf" else 2)


def _batches(
    total: int, batch: int, name: str, progress: Callable[[str], None] | None
) -> Iterator[tuple[int, int]]:
    for at in range(0, total, batch):
        to = min(at + batch, total)
        yield at, to
        if progress is not None:
            progress(f"{name}: {to} of {total} samples")
