"""The function `attack`: runs an attack, counts its passes, and evaluates the inputs that it returns."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from eigencore import arrays
from eigencore.attacks.counting import CountingClassifier
from eigencore.attacks.perturbation_checks import refuse_outside, refuse_samples_outside, row_norms
from eigencore.entries import AttackEntry
from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import Bound, Classifier, Problem
from eigencore.news import counter, reported_to
from eigencore.problems import bound_of, hint_why_no_classifier
from eigencore.registry import load, registry, require, resolve_options
from eigencore.results import AttackResult
from eigencore.runs import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Attack
    from eigencore.news import Progress
    from eigencore.space import Array, Floats, Space

    Evaluated = tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Floats]


@overload
def attack(problem: Any, name: str, *, eps: float | None = None, **keywords: Any) -> AttackResult: ...
@overload
def attack(problem: Any, name: str, *, eps: Sequence[float], **keywords: Any) -> tuple[AttackResult, ...]: ...
def attack(
    problem: Problem | Bound | str | tuple[Any, Any, Any],
    name: str,
    *,
    eps: float | Sequence[float] | None = None,
    samples: tuple[Array, Array] | None = None,
    images: int | None = None,
    batch: int = 256,
    seed: int = 0,
    classifier: Classifier | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> AttackResult | tuple[AttackResult, ...]:
    """Adversarial inputs for the samples of a problem, with their success and distance.

    Samples that are misclassified from the start are not changed; they count as successes at distance zero.
    The same seed, samples and batch give bitwise identical inputs.

    Args:
        problem: a problem, the name of one, a tuple (model, data, loss), or a bound problem, as `bind`
            returns it; bind a problem once if it is attacked several times.
        name: the name of a registered attack.
        eps: the radius of the ball around each sample, in the units of the inputs, or several of them; only
            for an attack with the goal "fixed_eps".
        samples: inputs (N, d) or (N, *shape) and labels (N,), of any array library; None: the problem's own.
        images: the number of samples to attack, from the first one; None: all.
        batch: the number of samples that are attacked at once.
        seed: the seed of all random numbers.
        classifier: an existing classifier to use; None: a new one, `bound.classifier()`.
        progress: called with a WorkDone before the first batch of each radius and after every batch, and with
            lines of text while the problem is bound.
        **options: options of the attack; `eigen attacks NAME` lists them.

    Returns:
        The inputs (N, *shape), and for each sample whether it was classified correctly, whether the attack
        succeeded, and the distance (N,) in the norm of the attack, infinite if it did not succeed. For
        several radii, a tuple with the result of each, the same as that of a call of its own.

    Raises:
        UnknownNameError, OptionError, UsageError: an argument is invalid; raised before any pass.
        CapabilityError: the problem does not offer what the attack needs; raised before any pass.
        ProblemError: the problem can't be bound, the samples exceed its bounds, or their logits are not
            finite.
        PluginError: the attack returned inputs of another shape, not finite, or outside the ball or bounds.

    Example:
        import eigencore

        for result in eigencore.attack("demo:digits-numpy", "pgd", eps=[0.05, 0.1], images=50):
            print(f"{result.accuracy:.0%} of the samples withstand {result.attack} at {result.eps}")
    """
    entry = registry().find(AttackEntry, name)
    resolved = resolve_options(entry, options)
    several = isinstance(eps, list | tuple | np.ndarray)
    radii: list[Any] = list(eps) if several else [eps]  # type: ignore[arg-type]
    _refuse_bad_radii(entry, radii)
    _refuse_bad_counts(seed=(seed, 0), images=(images, 1), batch=(batch, 1))
    with reported_to(progress):
        bound = bound_of(problem)
    with hint_why_no_classifier(bound):
        require(entry, bound.capabilities)
    classifier = bound.classifier() if classifier is None else classifier
    x, y = classifier.samples(images) if samples is None else _as_rows(samples, images, classifier)
    refuse_samples_outside(x, classifier)
    given = _Attack(entry, load(entry), resolved, _norm(entry, resolved), seed)
    results = tuple(
        _attack_all(given, CountingClassifier(classifier), x, y, radius, batch, progress) for radius in radii
    )
    return results if several else results[0]


@dataclass(frozen=True)
class _Attack:
    """An attack with its options resolved, which `run` calls."""

    entry: AttackEntry
    run: Attack
    options: Any
    norm: str
    seed: int


# -- checks of the arguments, before any pass --------------------------------------------------------------


def _norm(entry: AttackEntry, options: Any) -> str:
    norm = getattr(options, "norm", entry.norms[0])
    if norm not in entry.norms:
        raise UsageError(f"{entry.name}.norm is {norm!r}; expected {' or '.join(entry.norms)}")
    return str(norm)


def _refuse_bad_radii(entry: AttackEntry, radii: Sequence[Any]) -> None:
    if not radii:
        raise UsageError(f"eps is empty; {entry.name} needs at least one radius")
    for eps in radii:
        _refuse_bad_eps(entry, eps)


def _refuse_bad_eps(entry: AttackEntry, eps: Any) -> None:
    if entry.goal == "min_norm" and eps is not None:
        raise UsageError(
            f"eps is {eps!r}; {entry.name} takes no radius: it searches for the smallest perturbation",
            hint="Leave eps out.",
        )
    if entry.goal == "fixed_eps":
        number = isinstance(eps, Real) and not isinstance(eps, bool)
        if not (number and 0 <= float(eps) < math.inf):
            raise UsageError(
                f"eps is {eps!r}; {entry.name} needs a radius, a number of at least 0",
                hint="Give it in the units of the inputs, such as eps=8/255 for inputs between 0 and 1.",
            )


def _refuse_bad_counts(**counts: tuple[int | None, int]) -> None:
    """Raises UsageError if a number, given with its lower bound, is not a whole number of at least that."""
    for name, (value, low) in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {low}")


def _as_rows(samples: Any, images: int | None, classifier: Classifier) -> tuple[Array, Array]:
    """The given samples as rows (N, d) and labels (N,), arrays of the classifier's library."""
    try:
        x, y = samples
        # Inputs that are where they belong stay there; the labels are few.
        own = _belongs_to(x, classifier)
        inputs, labels = (x if own else arrays.to_host(x))[:images, ...], arrays.to_host(y)[:images]
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(f"samples can't be read as a pair of inputs and labels: {error}") from error
    d, count = math.prod(classifier.shape), inputs.shape[0] if inputs.ndim else 0
    if inputs.ndim < 2 or not count or tuple(inputs.shape[1:]) not in ((d,), tuple(classifier.shape)):
        shapes = dict.fromkeys(f"(N, {', '.join(map(str, shape))})" for shape in ((d,), classifier.shape))
        raise UsageError(
            f"the samples' inputs have shape {tuple(inputs.shape)}; expected {' or '.join(shapes)}"
        )
    if labels.shape != (count,):
        raise UsageError(f"the labels have shape {labels.shape}; expected ({count},), one for each input")
    if not np.all(np.isin(labels, np.arange(classifier.classes))):
        raise UsageError(
            f"the labels are {labels}; expected whole numbers from 0 to {classifier.classes - 1}"
        )
    xp = classifier.xp
    rows = xp.reshape(inputs, (count, d)) if own else arrays.from_host(inputs.reshape(count, d), classifier)
    return rows, xp.asarray(labels.astype(np.int64), device=classifier.device)


def _belongs_to(x: Any, space: Space) -> bool:
    """Whether x is an array of the library, data type and device of the space."""
    if not (arrays.is_array(x) and arrays.namespace(x) is space.xp):
        return False
    return bool(x.dtype == space.dtype and arrays.device_of(x) == space.device)


# -- one batch ---------------------------------------------------------------------------------------------


def _attack_all(
    given: _Attack,
    classifier: CountingClassifier,
    x: Array,
    y: Array,
    eps: float | None,
    batch: int,
    progress: Progress | None,
) -> AttackResult:
    """Attacks the samples x (N, d), batch by batch."""
    began, xp = time.perf_counter(), classifier.xp
    total, what = x.shape[0], given.entry.name if eps is None else f"{given.entry.name}, eps {eps:.4g}"
    done, evaluated = counter(progress, what, total, "samples"), []
    for at in range(0, total, batch):
        to = min(at + batch, total)
        evaluated.append(_attack_batch(given, classifier, x[at:to, ...], y[at:to], eps, at))
        done(to)
    inputs, correct, success, distance = zip(*evaluated, strict=True)
    return AttackResult(
        attack=given.entry.name,
        inputs=xp.reshape(xp.concat(inputs), (x.shape[0], *classifier.shape)),
        labels=arrays.to_host(y).astype(np.int64),
        correct=np.concatenate(correct),
        success=np.concatenate(success),
        distance=np.concatenate(distance),
        norm=given.norm,
        eps=None if eps is None else float(eps),
        seed=given.seed,
        forward=classifier.forward,
        backward=classifier.backward,
        seconds=time.perf_counter() - began,
        options=plain(given.options) if given.options is not None else {},
    )


def _attack_batch(
    given: _Attack, classifier: Classifier, x: Array, y: Array, eps: float | None, at: int
) -> Evaluated:
    """The adversarial inputs, which samples were correct, which attacks succeeded, and their distances.

    Args:
        at: the position of the first sample, from which the seed of the batch is derived.
    """
    labels = arrays.to_host(y)
    correct = _predicted(classifier, x) == labels
    distance, index = np.zeros(len(labels)), np.arange(len(labels))
    inputs = x
    if correct.any():
        xp, chosen = classifier.xp, np.flatnonzero(correct)
        own, targets = arrays.rows(x, chosen), arrays.rows(y, chosen)
        seed = int(np.random.SeedSequence([given.seed, at]).generate_state(1)[0])
        # In a ball of radius zero, an attack would divide by zero.
        moved = own
        if eps != 0:
            moved = given.run(classifier, own, targets, given.options, eps=eps, seed=seed)
        refuse_outside(moved, own, classifier, given.norm, eps)
        distance[chosen] = arrays.to_host(row_norms(moved - own, given.norm))
        index[chosen] = len(labels) + np.arange(len(chosen))
        inputs = arrays.rows(xp.concat([x, moved]), index)
    success = _predicted(classifier, inputs) != labels
    return inputs, correct, success, np.where(success, distance, np.inf)


def _predicted(classifier: Classifier, x: Array) -> npt.NDArray[np.int64]:
    logits = classifier.logits(x)
    if not arrays.is_finite(logits):
        raise ProblemError("the classifier's logits are not finite", hint="Check its inputs and weights.")
    return arrays.to_host(classifier.xp.argmax(logits, axis=1)).astype(np.int64)
