"""attack: runs one on samples, counts its passes, and evaluates what it found itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.encoding import plain
from eigencore.errors import PluginError, ProblemError, UsageError
from eigencore.interfaces import AttackEntry, Bound, Classifier, Objective
from eigencore.problems import resolve_options
from eigencore.registry import load, registry, require
from eigencore.results import AttackResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.interfaces import Array, Attack, Floats

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

    Samples that are misclassified already are left as they are; they count as broken at distance zero.

    Args:
        name: of a registered attack.
        eps: the radius of the ball for an attack that takes one.
        samples: inputs (N, d) and labels (N,) of the classifier; None: its own.
        images: how many of its own samples to attack; None: all.
        batch: samples that are attacked at once.
        seed: of every random number.
        classifier: one that was made already, to attack; None: `bound.classifier()`.
        progress: takes a line of text after every batch.
        **options: of the attack.

    Raises:
        UnknownNameError, OptionError, UsageError: something that can't be asked for; before any pass.
        CapabilityError: the problem does not offer what the attack needs.
        ProblemError: the samples have logits that are not finite.
        PluginError: the attack left the ball or the bounds.
    """
    entry = registry().find(AttackEntry, name)
    resolved = resolve_options(entry, options)
    norm = _norm(entry, resolved)
    _check(entry, eps, seed, images, batch)
    require(entry, bound.capabilities)
    run: Attack = load(entry)
    began = time.perf_counter()
    counted = _Counting(classifier if classifier is not None else bound.classifier())
    x, y = counted.samples(images) if samples is None else samples
    found = [
        _attacked(run, counted, x[at : at + batch], y[at : at + batch], resolved, norm, eps, [seed, at])
        for at in _told(range(0, x.shape[0], batch), x.shape[0], batch, name, progress)
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
        eps=eps,
        seed=seed,
        forward=counted.forward,
        backward=counted.backward,
        seconds=time.perf_counter() - began,
        options=plain(resolved) if resolved is not None else {},
    )


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
    if entry.goal == "fixed_eps" and (eps is None or not 0 <= eps < float("inf")):
        raise UsageError(f"eps is {eps!r}; {entry.name} needs a radius, a number of at least 0")
    for name, value, low in (("seed", seed, 0), ("images", images, 1), ("batch", batch, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {low}")


def _attacked(
    run: Attack,
    classifier: _Counting,
    x: Array,
    y: Array,
    options: Any,
    norm: str,
    eps: float | None,
    entropy: list[int],
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Floats]:
    """A batch: its adversarial inputs, who was correct, who was broken, at what distance."""
    labels = arrays.to_host(y)
    correct = _predicted(classifier, x) == labels
    distance, index = np.zeros(len(labels)), np.arange(len(labels))
    found = x
    if correct.any():
        xp, chosen = classifier.xp, np.flatnonzero(correct)
        own, targets = _rows(x, chosen, classifier), _rows(y, chosen, classifier)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        # With no room to move in, an attack would divide by zero.
        moved = own if eps == 0 else run(classifier, own, targets, options, eps=eps, seed=seed)
        _refuse_outside(moved, own, classifier, norm, eps)
        distance[chosen] = arrays.to_host(row_norms(moved - own, norm))
        index[chosen] = len(labels) + np.arange(len(chosen))
        found = _rows(xp.concat([x, moved]), index, classifier)
    success = _predicted(classifier, found) != labels
    return found, correct, success, np.where(success, distance, np.inf)


def _rows(x: Array, index: npt.NDArray[np.int64], classifier: Classifier) -> Array:
    return classifier.xp.take(x, classifier.xp.asarray(index, device=classifier.device), axis=0)


def _predicted(classifier: Classifier, x: Array) -> npt.NDArray[np.int64]:
    logits = classifier.logits(x)
    if not arrays.is_finite(logits):
        raise ProblemError("the classifier's logits are not finite", hint="Look at its inputs and weights.")
    return arrays.to_host(classifier.xp.argmax(logits, axis=1)).astype(np.int64)


def _refuse_outside(moved: Array, x: Array, classifier: Classifier, norm: str, eps: float | None) -> None:
    if moved.shape != x.shape or not arrays.is_finite(moved):
        raise PluginError(
            f"the attack returned {tuple(moved.shape)}, expected {tuple(x.shape)} finite numbers"
        )
    xp = classifier.xp
    if eps is not None:
        farthest = float(xp.max(row_norms(moved - x, norm)))
        if farthest > eps * (1 + SLACK) + 4 * arrays.eps(classifier) * float(xp.max(xp.abs(x))):
            raise PluginError(f"the attack left the ball: {norm} distance {farthest:g}, eps {eps:g}")
    if classifier.bounds is not None:
        low, high = classifier.bounds
        over = max(low - float(xp.min(moved)), float(xp.max(moved)) - high)
        if over > SLACK * (high - low):
            raise PluginError(f"the attack left the bounds {low:g} to {high:g} by {over:g}")


def row_norms(x: Array, norm: str) -> Array:
    """The "Linf" or "L2" norm of each row (b,)."""
    xp = arrays.namespace(x)
    return xp.linalg.vector_norm(x, axis=1, ord=float("inf") if norm == "Linf" else 2)


def _told(
    starts: range, total: int, batch: int, name: str, progress: Callable[[str], None] | None
) -> Iterator[int]:
    for at in starts:
        yield at
        if progress is not None:
            progress(f"{name}: {min(at + batch, total)} of {total} samples")


class _Counting:
    """A classifier that counts its passes, in samples."""

    def __init__(self, classifier: Classifier):
        self._classifier = classifier
        self.xp, self.dtype, self.device = classifier.xp, classifier.dtype, classifier.device
        self.shape, self.classes, self.bounds = classifier.shape, classifier.classes, classifier.bounds
        self.forward = self.backward = 0

    def samples(self, most: int | None = None) -> tuple[Array, Array]:
        return self._classifier.samples(most)

    def logits(self, x: Array, /) -> Array:
        self._count(x, 1, 0)
        return self._classifier.logits(x)

    def value_and_grad(self, objective: Objective, x: Array, y: Array, /) -> tuple[Array, Array]:
        self._count(x, 1, 1)
        return self._classifier.value_and_grad(objective, x, y)

    def input_products(self, objective: Objective, x: Array, y: Array, /) -> Callable[[Array], Array]:
        self._count(x, 1, 1)
        product = self._classifier.input_products(objective, x, y)

        def counted(v: Array) -> Array:
            self._count(v, 0, 1)
            return product(v)

        return counted

    def _count(self, x: Array, forward: int, backward: int) -> None:
        self.forward += forward * x.shape[0]
        self.backward += backward * x.shape[0]
