"""The function `attack`: runs an attack, counts its passes, and evaluates the inputs that it returns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.attacks.counting import CountingClassifier
from eigencore.attacks.perturbation_checks import refuse_outside, refuse_samples_outside, row_norms
from eigencore.entries import AttackEntry
from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import Bound, Classifier, Problem
from eigencore.problems import bound_of, hint_why_no_classifier
from eigencore.registry import load, registry, require, resolve_options
from eigencore.results import AttackResult
from eigencore.runs import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Attack
    from eigencore.space import Array, Floats

    Evaluated = tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Floats]


def attack(
    problem: Problem | Bound | str,
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
    """Adversarial inputs for the samples of a problem, with their success and distance.

    Samples that are misclassified from the start are not changed; they count as successes at distance zero.
    The same seed, samples and batch give bitwise identical inputs.

    Args:
        problem: a problem, the name of one, or a bound problem, as `bind` returns it; bind a problem once if
            it is attacked several times.
        name: the name of a registered attack.
        eps: the radius of the ball around each sample, in the units of the inputs; only for an attack with
            the goal "fixed_eps".
        samples: inputs (N, d) or (N, *shape) and labels (N,), of any array library; None: the problem's own.
        images: the number of samples to attack, from the first one; None: all.
        batch: the number of samples that are attacked at once.
        seed: the seed of all random numbers.
        classifier: an existing classifier to use; None: a new one, `bound.classifier()`.
        progress: called with a line of text after every batch.
        **options: options of the attack; `eigen attacks NAME` lists them.

    Returns:
        The inputs (N, *shape), and for each sample whether it was classified correctly, whether the attack
        succeeded, and the distance (N,) in the norm of the attack, infinite if it did not succeed.

    Raises:
        UnknownNameError, OptionError, UsageError: an argument is invalid; raised before any pass.
        CapabilityError: the problem does not offer what the attack needs; raised before any pass.
        ProblemError: the problem can't be bound, the samples exceed its bounds, or their logits are not
            finite.
        PluginError: the attack returned inputs of another shape, not finite, or outside the ball or bounds.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "pgd", eps=0.1, images=50)
        print(f"{result.accuracy:.0%} of the samples withstand {result.attack}")
    """
    entry = registry().find(AttackEntry, name)
    resolved = resolve_options(entry, options)
    norm = _norm(entry, resolved)
    _refuse_bad_eps(entry, eps)
    _refuse_bad_counts(seed=(seed, 0), images=(images, 1), batch=(batch, 1))
    bound = bound_of(problem)
    with hint_why_no_classifier(bound):
        require(entry, bound.capabilities)
    run: Attack = load(entry)
    began = time.perf_counter()
    counted = CountingClassifier(classifier if classifier is not None else bound.classifier())
    x, y = counted.samples(images) if samples is None else _as_rows(samples, images, counted)
    refuse_samples_outside(x, counted)
    evaluated = [
        _attack_batch(run, counted, x[at:to, ...], y[at:to], resolved, norm, eps, [seed, at])
        for at, to in _batches(x.shape[0], batch, name, progress)
    ]
    xp = counted.xp
    inputs, correct, success, distance = zip(*evaluated, strict=True)
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


# -- checks of the arguments, before any pass --------------------------------------------------------------


def _norm(entry: AttackEntry, options: Any) -> str:
    norm = getattr(options, "norm", entry.norms[0])
    if norm not in entry.norms:
        raise UsageError(f"{entry.name}.norm is {norm!r}; expected {' or '.join(entry.norms)}")
    return str(norm)


def _refuse_bad_eps(entry: AttackEntry, eps: float | None) -> None:
    if entry.goal == "min_norm" and eps is not None:
        raise UsageError(
            f"eps is {eps!r}; {entry.name} takes no radius: it searches for the smallest perturbation",
            hint="Leave eps out.",
        )
    if entry.goal == "fixed_eps":
        number = isinstance(eps, Real) and not isinstance(eps, bool)
        if not (number and 0 <= float(eps) < math.inf):  # type: ignore[arg-type]
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
        inputs, labels = arrays.to_host(x)[:images], arrays.to_host(y)[:images]
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(f"samples can't be read as a pair of inputs and labels: {error}") from error
    d = math.prod(classifier.shape)
    if inputs.ndim < 2 or not len(inputs) or tuple(inputs.shape[1:]) not in ((d,), tuple(classifier.shape)):
        shapes = dict.fromkeys(f"(N, {', '.join(map(str, shape))})" for shape in ((d,), classifier.shape))
        raise UsageError(f"the samples' inputs have shape {inputs.shape}; expected {' or '.join(shapes)}")
    if labels.shape != inputs.shape[:1]:
        raise UsageError(
            f"the labels have shape {labels.shape}; expected ({len(inputs)},), one for each input"
        )
    if not np.all(np.isin(labels, np.arange(classifier.classes))):
        raise UsageError(
            f"the labels are {labels}; expected whole numbers from 0 to {classifier.classes - 1}"
        )
    rows = arrays.from_host(inputs.reshape(len(inputs), d), classifier)
    return rows, classifier.xp.asarray(labels.astype(np.int64), device=classifier.device)


# -- one batch ---------------------------------------------------------------------------------------------


def _attack_batch(
    run: Attack,
    classifier: Classifier,
    x: Array,
    y: Array,
    options: Any,
    norm: str,
    eps: float | None,
    entropy: list[int],
) -> Evaluated:
    """The adversarial inputs, which samples were correct, which attacks succeeded, and their distances."""
    labels = arrays.to_host(y)
    correct = _predicted(classifier, x) == labels
    distance, index = np.zeros(len(labels)), np.arange(len(labels))
    inputs = x
    if correct.any():
        xp, chosen = classifier.xp, np.flatnonzero(correct)
        own, targets = arrays.rows(x, chosen), arrays.rows(y, chosen)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        # In a ball of radius zero, an attack would divide by zero.
        moved = own if eps == 0 else run(classifier, own, targets, options, eps=eps, seed=seed)
        refuse_outside(moved, own, classifier, norm, eps)
        distance[chosen] = arrays.to_host(row_norms(moved - own, norm))
        index[chosen] = len(labels) + np.arange(len(chosen))
        inputs = arrays.rows(xp.concat([x, moved]), index)
    success = _predicted(classifier, inputs) != labels
    return inputs, correct, success, np.where(success, distance, np.inf)


def _predicted(classifier: Classifier, x: Array) -> npt.NDArray[np.int64]:
    logits = classifier.logits(x)
    if not arrays.is_finite(logits):
        raise ProblemError("the classifier's logits are not finite", hint="Check its inputs and weights.")
    return arrays.to_host(classifier.xp.argmax(logits, axis=1)).astype(np.int64)


def _batches(
    total: int, batch: int, name: str, progress: Callable[[str], None] | None
) -> Iterator[tuple[int, int]]:
    for at in range(0, total, batch):
        to = min(at + batch, total)
        yield at, to
        if progress is not None:
            progress(f"{name}: {to} of {total} samples")
