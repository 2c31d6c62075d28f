"""Square: random search in a ball by changes of one window of the image, without gradients.

Andriushchenko et al. 2020 (arXiv:1912.00049), algorithms 1 to 3. Every iterate lies on the surface of the
ball, as far as the bounds allow. A candidate changes one window of the image; it is accepted if the
loss rises. The windows shrink on a schedule. As no gradient is used, masked gradients do not weaken it.
This differs from the paper in:

1. A window has the given share of the pixels also in images that are not square, and in inputs without rows
   and columns, where it is an interval.
2. A sample is finished at its first misclassified iterate, as in the other attacks.
3. In Linf, a window that has the drawn signs already gets the opposite ones. The paper spends a query on a
   candidate that is the best iterate itself: with one channel and small windows, every other one.
4. In L2, what the bounds cut off is given back by a larger factor, so that a candidate has the norm eps. On
   demo:mnist-robust, where most pixels are zero, this left 69 % instead of 78 % of the images at eps 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from eigencore import arrays
from eigencore.options import option
from eigencore.problems.sharing import ImageAxes, clip_to_bounds
from eigencore_attacks.active_samples import ActiveSamples
from eigencore_attacks.losses import LOSSES, LossName
from eigencore_attacks.norm_ball import Norm, lengths

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Floats

# The shares of all queries after which the windows are halved.
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
TILES = 5  # along each axis, of the first iterate in L2
RESCALINGS = 3  # of a perturbation in L2 that the bounds cut off


@dataclass(frozen=True)
class SquareOptions:
    """Options of the attack `square`."""

    norm: Norm = option(
        "Linf", help="norm of the ball", when="use L2 if a perturbation may be concentrated on few inputs"
    )
    queries: int = option(
        1000,
        low=2,
        help="forward passes per sample",
        when="use 5000, as AutoAttack does, on networks whose gradients are masked",
    )
    share: float = option(
        0.8,
        low=1e-4,
        high=1,
        help="share of the pixels in the first windows",
        when="try .05 or .1 with many queries, as in the paper",
    )
    loss: LossName = option("margin", help="loss to maximise", when="change it to see how much it matters")


def square(
    classifier: Classifier, x: Array, y: Array, options: SquareOptions, /, *, eps: float, seed: int
) -> Array:
    """The attack `square`: random search on the surface of the ball.

    Args:
        classifier: the network under attack; only its logits are used.
        x, y: correctly classified inputs (b, d) and their labels (b,).
        options: see `SquareOptions`.
        eps: radius of the ball, in the units of the inputs.
        seed: seed of the windows and signs.

    Returns:
        Inputs (b, d) in the balls and within the bounds, misclassified if the attack succeeded.

    Raises:
        UsageError: the loss is dlr and there are fewer than three classes.

    Example:
        import eigencore

        bound = eigencore.bind("demo:digits-numpy")
        result = eigencore.attack(bound, "square", eps=0.2, images=50, queries=100)
        print(result.accuracy)
    """
    loss, rng, axes = LOSSES[options.loss], arrays.generator(seed, "square"), ImageAxes.of(classifier)
    active = ActiveSamples(classifier, x, y)
    first = stripes if options.norm == "Linf" else tiles
    change = axes.rows(arrays.from_host(first(rng, x.shape[0], axes.sizes), classifier))
    if options.norm == "Linf":
        candidate = clip_to_bounds(x + eps * change, classifier.bounds)
    else:
        candidate = on_sphere(x, change, eps, classifier.bounds)
    for query in range(1, options.queries + 1):
        active.record(loss.value(classifier.logits(candidate), active.y), candidate)
        if not active or query == options.queries:
            break
        share = options.share / 2 ** sum(query > q * options.queries for q in HALVINGS)
        size = window_size(share, axes.sizes, options.norm)
        window = Windows(rng, x.shape[0], size, axes, active, classifier)
        candidate = window.signs_changed(eps) if options.norm == "Linf" else window.norm_moved(eps)
    return active.results()


class Windows:
    """A window in each image that is still under attack, a second one, and a random sign for each channel."""

    def __init__(
        self,
        rng: np.random.Generator,
        batch: int,
        size: tuple[int, int],
        axes: ImageAxes,
        active: ActiveSamples,
        classifier: Classifier,
    ):
        # Drawn for all samples of the batch, so that none depends on which others have been fooled.
        channels, *lengths = axes.sizes
        room = [length - side + 1 for length, side in zip(lengths, size, strict=True)] * 2
        corners = rng.integers(0, room, (batch, 4))
        signs = rng.choice([-1.0, 1.0], (batch, channels))
        drawn = arrays.from_host(np.concatenate([corners, signs], axis=1)[active.index], classifier)
        self._transposed = bool(rng.integers(2)) and size[0] == size[1]
        self._active, self._size, self._axes, self._space = active, size, axes, classifier
        self._first, self._second = drawn[:, :2], drawn[:, 2:4]
        self._signs = drawn[:, 4:, None, None]

    def signs_changed(self, eps: float) -> Array:
        """Candidates (b, d) for Linf: the perturbation is eps times the sign in the first window.

        The signs are the opposite ones where the candidate would be the best iterate itself.
        """
        xp, best = self._space.xp, self._active.best
        drawn, opposite = (self._with_sign(radius) for radius in (eps, -eps))
        return xp.where(xp.all(drawn == best, axis=1, keepdims=True), opposite, drawn)

    def _with_sign(self, eps: float) -> Array:
        x, best = self._axes.images(self._active.x), self._axes.images(self._active.best)
        changed = self._space.xp.where(self._mask(self._first), x + eps * self._signs, best)
        return clip_to_bounds(self._axes.rows(changed), self._space.bounds)

    def norm_moved(self, eps: float) -> Array:
        """Candidates (b, d) for L2: the first window takes the norm that is in the second one, or unused."""
        xp, x = self._space.xp, self._axes.images(self._active.x)
        change = self._axes.images(self._active.best) - x
        first, second = self._mask(self._first), self._mask(self._second)
        zero = xp.zeros_like(change)
        inside = xp.where(first, change, zero)
        both = xp.sum(xp.where(first | second, change, zero) ** 2, axis=(2, 3), keepdims=True)
        unused = xp.clip(eps**2 - xp.sum(change**2, axis=(1, 2, 3), keepdims=True), 0, None)
        pattern = self._signs * self._pattern() + inside / _nonzero(_norms(inside, (2, 3)))
        pattern = xp.where(first, pattern, zero)
        available = xp.sqrt(both + unused / self._axes.sizes[0])
        moved = pattern * (available / _nonzero(_norms(pattern, (2, 3))))
        change = xp.where(first, moved, xp.where(second, zero, change))
        return on_sphere(self._active.x, self._axes.rows(change), eps, self._space.bounds)

    def _mask(self, corner: Array) -> Array:
        """Whether a pixel is in the window with this corner (b, 2): (b, 1, height, width)."""
        rows, columns = self._offsets(corner)
        height, width = self._size
        return (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)

    def _offsets(self, corner: Array) -> tuple[Array, Array]:
        """The rows (b, 1, height, 1) and columns (b, 1, 1, width) of the image, counted from the corner."""
        xp, (_, height, width) = self._space.xp, self._axes.sizes
        rows, columns = (
            xp.arange(length, dtype=self._space.dtype, device=self._space.device)
            for length in (height, width)
        )
        at = corner[:, :, None, None]
        return rows[None, None, :, None] - at[:, :1, ...], columns[None, None, None, :] - at[:, 1:, ...]

    def _pattern(self) -> Array:
        """The pattern of the window at the place of the first one, and anything elsewhere (b, 1, h, w)."""
        xp, (height, width) = self._space.xp, self._size
        bumps = two_bumps(height, width)
        flat = arrays.from_host((bumps.T if self._transposed else bumps).reshape(-1), self._space)
        rows, columns = self._offsets(self._first)
        place = xp.clip(rows, 0, height - 1) * width + xp.clip(columns, 0, width - 1)
        index = xp.astype(xp.reshape(place, (-1,)), xp.int32)
        return xp.reshape(xp.take(flat, index, axis=0), place.shape)


def on_sphere(x: Array, change: Array, eps: float, bounds: tuple[Array, Array] | None) -> Array:
    """Returns x + t change (b, d), clipped to the bounds, at the L2 distance eps from x.

    Clipping shortens the change, and a larger t makes up for it: the distance approaches eps from below.
    """
    moved = x
    for _ in range(RESCALINGS):
        moved = clip_to_bounds(x + change * (eps / _nonzero(lengths(change, "L2"))), bounds)
        change = moved - x
    return moved


def window_size(share: float, image: tuple[int, int, int], norm: Norm) -> tuple[int, int]:
    """Returns the number of rows and columns of a window with this share of the pixels.

    For L2, both are odd and at least three, if the image has them, because the pattern needs a middle.
    """
    _, rows, columns = image
    area, least = share * rows * columns, 1 if norm == "Linf" else 3
    height = min(max(round(math.sqrt(area)), least), rows)
    width = max(round(area / height), least)
    if norm == "L2":
        height, width = min(height | 1, rows), width | 1
    return height, min(width, columns)


def stripes(rng: np.random.Generator, batch: int, image: tuple[int, int, int]) -> Floats:
    """Returns images (batch, *image) of vertical stripes with random signs: the start in Linf."""
    channels, _, columns = image
    signs = rng.choice([-1.0, 1.0], (batch, channels, 1, columns))
    return np.array(np.broadcast_to(signs, (batch, *image)))


def tiles(rng: np.random.Generator, batch: int, image: tuple[int, int, int]) -> Floats:
    """Returns images (batch, *image) of bumps with random signs, of norm 1: the start in L2.

    The tiles are in the middle of the image, and each is transposed at random if it is square.
    """
    channels, rows, columns = image
    height, width = max(rows // TILES, 1), max(columns // TILES, 1)
    count = rows // height, columns // width
    tile = np.broadcast_to(two_bumps(height, width), (*count, height, width))
    if height == width:
        tile = np.where(rng.integers(2, size=(*count, 1, 1)), tile, np.swapaxes(tile, 2, 3))
    signs = rng.choice([-1.0, 1.0], (batch, channels, *count, 1, 1))
    whole = np.swapaxes(signs * tile, 3, 4).reshape(batch, channels, count[0] * height, count[1] * width)
    free = rows - whole.shape[2], columns - whole.shape[3]
    whole = np.pad(whole, [(0, 0), (0, 0), *((one // 2, one - one // 2) for one in free)])
    return np.asarray(whole / np.linalg.norm(whole.reshape(batch, -1), axis=1)[:, None, None, None])


@cache
def two_bumps(height: int, width: int) -> Floats:
    """Returns a window (height, width) of norm 1: a bump in the left half, minus one in the right half."""
    left = width // 2
    window = np.concatenate([_bump(height, left), -_bump(height, width - left)], axis=1)
    return np.asarray(window / np.linalg.norm(window))


def _bump(height: int, width: int) -> Floats:
    """Returns sums of 1 / k^2, with the more terms the nearer to the centre (height, width)."""
    n = max(height, width) // 2
    rows, columns = (np.abs(np.arange(length) - length // 2) for length in (height, width))
    terms = n - np.maximum(rows[:, None], columns[None, :])
    sums = np.cumsum(1.0 / np.arange(n + 1, 0, -1) ** 2)
    return np.asarray(sums[terms])


def _norms(x: Array, axes: tuple[int, ...]) -> Array:
    xp = arrays.namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=axes, keepdims=True))


def _nonzero(x: Array) -> Array:
    xp = arrays.namespace(x)
    return xp.where(x > 0, x, xp.ones_like(x))
