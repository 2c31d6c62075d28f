"""Objectives: one number per sample, from its logits and label, with derivatives with respect to the logits.

Each class implements `interfaces.Objective` in array-API functions: logits (b, c), labels (b,), values (b,).
Derivatives treat the choice of the largest class and of the runner-up as constant; at a tie, they are those
of one of the tied classes.

Example:
    import numpy as np
    from eigencore.objectives import CrossEntropy, Margin

    logits, y = np.array([[2.0, 0.5, -1.0]]), np.array([0])
    print(CrossEntropy().value(logits, y), Margin().value(logits, y), Margin().grad(logits, y))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eigencore.arrays import device_of, namespace
from eigencore.errors import UsageError
from eigencore.space import Array


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy loss, log sum exp(z) - z_y."""

    def value(self, logits: Array, y: Array, /) -> Array:
        xp = namespace(logits)
        # Shifted before the subtraction, because a small loss may be the difference of large logits.
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        return xp.log(xp.sum(xp.exp(shifted), axis=1)) - at(shifted, one_hot(logits, y))

    def grad(self, logits: Array, y: Array, /) -> Array:
        """p - e_y, where p is the softmax of the logits."""
        return softmax(logits) - _as_numbers(logits, one_hot(logits, y))

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(diag(p) - p p') v."""
        p = softmax(logits)
        return p * (v - namespace(logits).sum(p * v, axis=1, keepdims=True))


@dataclass(frozen=True)
class LabelOdds:
    """log((1 - p_y) / p_y) with the softmax p: the log-odds of all classes but the label.

    It increases with the cross-entropy, log(1 + exp(log-odds)), and the gradients of a sample have the same
    direction; but that of the cross-entropy rounds to zero where the network is certain, and this one does
    not.

    Example:
        import numpy as np
        from eigencore.objectives import LabelOdds

        print(LabelOdds().value(np.array([[900.0, 0.0, 0.0]]), np.array([0])))  # log(2) - 900
    """

    def value(self, logits: Array, y: Array, /) -> Array:
        xp, label = namespace(logits), one_hot(logits, y)
        others = but(logits, label)
        top = xp.max(others, axis=1)
        return top + xp.log(xp.sum(xp.exp(others - top[:, None]), axis=1)) - at(logits, label)

    def grad(self, logits: Array, y: Array, /) -> Array:
        """q - e_y, where q is the softmax of the other logits."""
        label = one_hot(logits, y)
        return softmax(but(logits, label)) - _as_numbers(logits, label)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(diag(q) - q q') v."""
        q = softmax(but(logits, one_hot(logits, y)))
        return q * (v - namespace(logits).sum(q * v, axis=1, keepdims=True))


@dataclass(frozen=True)
class Margin:
    """The margin z_y - z_k: positive if the sample is on the correct side of the boundary to class k.

    Attributes:
        against: k, one class for all samples, or an array (b,) with one class per sample; None: the class
            with the largest logit other than y.

    Raises:
        UsageError: `against` is not a class of the logits.
    """

    against: int | Array | None = None

    def value(self, logits: Array, y: Array, /) -> Array:
        return at(logits, one_hot(logits, y)) - at(logits, self._rival(logits, y))

    def grad(self, logits: Array, y: Array, /) -> Array:
        """e_y - e_k."""
        own, rival = one_hot(logits, y), self._rival(logits, y)
        return _as_numbers(logits, own) - _as_numbers(logits, rival)

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        return namespace(v).zeros_like(v)

    def _rival(self, logits: Array, y: Array) -> Array:
        xp = namespace(logits)
        if self.against is None:
            return one_hot(logits, xp.argmax(but(logits, one_hot(logits, y)), axis=1))
        if getattr(self.against, "ndim", 0):
            return one_hot(logits, self.against)
        against, classes = int(self.against), logits.shape[1]
        if not 0 <= against < classes:
            raise UsageError(
                f"the margin is against class {against}; expected a class from 0 to {classes - 1}"
            )
        return one_hot(logits, xp.full_like(y, against))


@dataclass(frozen=True)
class DLR:
    """The difference of logits ratio, which does not change if the logits are shifted or multiplied.

    Without a target, it is -(z_y - z_k) / (z_1st - z_3rd), where z_k is the largest logit other than z_y;
    with the target t, it is -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2), and if there are only three classes
    z_3rd takes the place of z_4th. Croce and Hein 2020 (arXiv:2003.01690), equations 6 and 7.

    Attributes:
        target: t, one class per sample (b,); None: no target.

    Raises:
        UsageError: there are fewer than three classes.
    """

    target: Array | None = None

    def value(self, logits: Array, y: Array, /) -> Array:
        margin, spread, _, _ = self._parts(logits, y)
        return -margin / spread

    def grad(self, logits: Array, y: Array, /) -> Array:
        margin, spread, a, s = self._parts(logits, y)
        return (margin[:, None] * s / spread[:, None] - a) / spread[:, None]

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        xp = namespace(logits)
        margin, spread, a, s = (part if part.ndim == 2 else part[:, None] for part in self._parts(logits, y))
        along_a, along_s = xp.sum(a * v, axis=1, keepdims=True), xp.sum(s * v, axis=1, keepdims=True)
        return (a * along_s + s * along_a - 2 * margin * s * along_s / spread) / spread**2

    def _parts(self, logits: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """The margin and the spread of the ratio (b,), and their gradients (b, c), which are constant."""
        xp, classes = namespace(logits), logits.shape[1]
        if classes < 3:
            raise UsageError(
                f"DLR needs at least three classes; these logits have {classes}",
                hint="Use CrossEntropy or Margin.",
            )
        rest, largest = logits, []
        for _ in range(3 if self.target is None else min(classes, 4)):
            largest.append(one_hot(logits, xp.argmax(rest, axis=1)))
            rest = but(rest, largest[-1])
        first, third = largest[0], largest[2]
        fourth = third if self.target is None else largest[-1]
        spread = at(logits, first) - (at(logits, third) + at(logits, fourth)) / 2
        s = _as_numbers(logits, first) - (_as_numbers(logits, third) + _as_numbers(logits, fourth)) / 2
        margin = Margin(self.target)
        # Avoids a division by zero if the logits are equal. A constant, such as the 1e-12 of the published
        # attack, would not be small for small logits.
        spread = xp.where(spread > 0, spread, xp.ones_like(spread))
        return margin.value(logits, y), spread, margin.grad(logits, y), s


def one_hot(logits: Array, y: Array) -> Any:
    """A boolean mask (b, c) that is true at the label of each row."""
    xp = namespace(logits)
    classes = xp.arange(logits.shape[1], dtype=y.dtype, device=device_of(logits))
    return y[:, None] == classes[None, :]


def _as_numbers(logits: Array, mask: Array) -> Array:
    return namespace(logits).astype(mask, logits.dtype)


def at(logits: Array, mask: Array) -> Array:
    """The logits (b,) that the mask selects, one per row."""
    xp = namespace(logits)
    return xp.sum(xp.where(mask, logits, xp.zeros_like(logits)), axis=1)


def but(logits: Array, mask: Array) -> Array:
    """The logits, with minus infinity at the positions that the mask selects."""
    xp = namespace(logits)
    return xp.where(mask, xp.full_like(logits, -xp.inf), logits)


def softmax(logits: Array) -> Array:
    """The softmax of each row (b, c); zero where a logit is minus infinity."""
    xp = namespace(logits)
    powers = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return powers / xp.sum(powers, axis=1, keepdims=True)
