"""Numbers for each sample of its logits and label, with their derivatives in logit space.

Each is an `interfaces.Objective`, in array-API functions: logits (b, c), labels (b,), values (b,). What a
derivative holds fixed is which classes are the runner-up and the largest: where two tie, it is that of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eigencore.arrays import device_of, namespace
from eigencore.errors import UsageError
from eigencore.space import Array


@dataclass(frozen=True)
class CrossEntropy:
    """log sum exp(z) - z_y."""

    def value(self, logits: Array, y: Array, /) -> Array:
        xp = namespace(logits)
        # Shifted before the subtraction: a small loss is a difference of what may be large logits.
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        return xp.log(xp.sum(xp.exp(shifted), axis=1)) - at(shifted, one_hot(logits, y))

    def grad(self, logits: Array, y: Array, /) -> Array:
        """p - e_y, p the softmax."""
        return softmax(logits) - _as_numbers(logits, one_hot(logits, y))

    def hvp(self, logits: Array, y: Array, v: Array, /) -> Array:
        """(diag(p) - p p') v."""
        p = softmax(logits)
        return p * (v - namespace(logits).sum(p * v, axis=1, keepdims=True))


@dataclass(frozen=True)
class Margin:
    """z_y - z_k: positive where the sample is on the right side of the boundary to class k.

    Attributes:
        against: k, a class for all samples or an array (b,) with one for each; None: the largest but y.
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
            raise UsageError(f"a margin against class {against}; the logits have 0 to {classes - 1}")
        return one_hot(logits, xp.full_like(y, against))


@dataclass(frozen=True)
class DLR:
    """The difference of logits ratio, -(z_y - z_k) / (z_1st - z_3rd), k the largest but y.

    Shifting or scaling the logits leaves it as it is. Croce and Hein 2020 (arXiv:2003.01690), equation 6. Of
    fewer than three classes there is no third, which raises UsageError.
    """

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
        """The margin and the spread (b,), and the gradients of both (b, c), which are constants."""
        xp = namespace(logits)
        if logits.shape[1] < 3:
            raise UsageError(
                f"DLR takes at least three classes; these logits have {logits.shape[1]}",
                hint="Use CrossEntropy or Margin.",
            )
        rest, largest = logits, []
        for _ in range(3):
            largest.append(one_hot(logits, xp.argmax(rest, axis=1)))
            rest = but(rest, largest[-1])
        first, third = largest[0], largest[2]
        # Three equal logits have no spread; the published attack adds this, too.
        spread = at(logits, first) - at(logits, third) + 1e-12
        margin = Margin()
        a = margin.grad(logits, y)
        s = _as_numbers(logits, first) - _as_numbers(logits, third)
        return margin.value(logits, y), spread, a, s


def one_hot(logits: Array, y: Array) -> Any:
    """(b, c) of truth values: each row true at its label."""
    xp = namespace(logits)
    classes = xp.arange(logits.shape[1], dtype=y.dtype, device=device_of(logits))
    return y[:, None] == classes[None, :]


def _as_numbers(logits: Array, mask: Array) -> Array:
    return namespace(logits).astype(mask, logits.dtype)


def at(logits: Array, mask: Array) -> Array:
    """The one logit of each row that the mask leaves (b,)."""
    xp = namespace(logits)
    return xp.sum(xp.where(mask, logits, xp.zeros_like(logits)), axis=1)


def but(logits: Array, mask: Array) -> Array:
    """The logits with those of the mask at minus infinity."""
    xp = namespace(logits)
    return xp.where(mask, xp.full_like(logits, -xp.inf), logits)


def softmax(logits: Array) -> Array:
    """(b, c); nothing where a logit is minus infinity."""
    xp = namespace(logits)
    powers = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return powers / xp.sum(powers, axis=1, keepdims=True)
