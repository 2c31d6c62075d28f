"""Which axis of an input counts its channels, and rows as images with the channels first.

The convolutions of PyTorch and Equinox take images with the channels first (channels, height, width), those
of Flax with the channels last (height, width, channels). A vector has no channels, nor has a grey image of
two axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencore import arrays
from eigencore.errors import ProblemError, UsageError

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array

CHANNELS = ("first", "last")
FEW = (1, 3, 4)  # the channels of grey images, of colours, and of colours with opacity


def check_channels(channels: str | None) -> None:
    """Raises UsageError if `channels` is not "first", "last" or None."""
    if channels not in (*CHANNELS, None):
        raise UsageError(f"channels is {channels!r}; expected 'first', 'last' or None")


def infer_channel_axis(
    shape: tuple[int, ...], channels: str | None = None, usual: str = "first"
) -> int | None:
    """The axis of an input that counts its channels, from 0; None if there is no such axis.

    It is the one that the problem states. Otherwise inputs of one or two axes have none; of three or more,
    it is the first or the last one, if it has 1, 3 or 4 entries and every other axis has more of them, and
    the usual one if neither has. So a model that transposes its inputs itself is understood, too.

    Args:
        shape: the shape of one input.
        channels: `Problem.channels`.
        usual: "first" or "last", as in the convolutions of the library that the model is written in.

    Raises:
        ProblemError: the problem states an axis, and the inputs have a single one.

    Example:
        from eigencore.problems.sharing import infer_channel_axis

        print(infer_channel_axis((3, 32, 32)), infer_channel_axis((32, 32, 3)), infer_channel_axis((28, 28)))
        print(infer_channel_axis((16, 8, 8)), infer_channel_axis((8, 8, 16), usual="last"))
    """
    last = len(shape) - 1
    if channels is not None:
        if last < 1:
            raise ProblemError(
                f"channels is {channels!r}, but inputs of shape {shape} have no axis of channels",
                hint="Leave channels out, or give inputs in their original shape.",
            )
        return last if channels == "last" else 0
    if last < 2:
        return None
    for axis in (0, last):
        others = shape[:axis] + shape[axis + 1 :]
        if shape[axis] in FEW and shape[axis] < min(others):
            return axis
    return last if usual == "last" else 0


def channel_axis(classifier: Classifier) -> int | None:
    """`Classifier.channel_axis`, or the axis that `infer_channel_axis` finds if a classifier has none.

    Example:
        import eigencore
        from eigencore.problems.sharing import channel_axis

        print(channel_axis(eigencore.bind("demo:digits-numpy").classifier()))
    """
    shape = tuple(classifier.shape)
    return classifier.channel_axis if hasattr(classifier, "channel_axis") else infer_channel_axis(shape)


@dataclass(frozen=True)
class ImageAxes:
    """How inputs in rows (b, d) are images (b, channels, height, width), and back, on any array library.

    An input without an axis of channels has one channel. One whose other axes are not two is a single row of
    pixels: its height is 1.

    Attributes:
        shape: the shape of one input.
        channel_axis: the axis that counts the channels, or None.

    Example:
        import numpy as np
        from eigencore.problems.sharing import ImageAxes

        axes = ImageAxes((4, 5, 3), channel_axis=2)
        rows = np.arange(120.0).reshape(2, 60)
        print(axes.sizes, axes.images(rows)[0, 1, 0, 0], np.all(axes.rows(axes.images(rows)) == rows))
    """

    shape: tuple[int, ...]
    channel_axis: int | None

    @classmethod
    def of(cls, classifier: Classifier) -> ImageAxes:
        """Those of the inputs of a classifier."""
        return cls(tuple(classifier.shape), channel_axis(classifier))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The number of channels, the height and the width."""
        axis = self.channel_axis
        channels = 1 if axis is None else self.shape[axis]
        others = [side for i, side in enumerate(self.shape) if i != axis]
        height, width = others if len(others) == 2 else (1, math.prod(others))
        return channels, height, width

    def images(self, rows: Array) -> Array:
        """Rows (b, d) as images (b, channels, height, width)."""
        xp, first = arrays.namespace(rows), self.channel_axis or 0
        inputs = xp.reshape(rows, (rows.shape[0], *self.shape))
        order = (0, first + 1, *(i for i in range(1, inputs.ndim) if i != first + 1))[: inputs.ndim]
        return xp.reshape(_permuted(inputs, order), (rows.shape[0], *self.sizes))

    def rows(self, images: Array) -> Array:
        """Images (b, channels, height, width) as rows (b, d)."""
        xp, first = arrays.namespace(images), self.channel_axis or 0
        others = [side for i, side in enumerate(self.shape) if i != first]
        inputs = xp.reshape(images, (images.shape[0], *self.shape[first : first + 1], *others))
        order = (0, *range(2, first + 2), 1, *range(first + 2, inputs.ndim))[: inputs.ndim]
        return xp.reshape(_permuted(inputs, order), (images.shape[0], math.prod(self.shape)))


def _permuted(x: Array, order: tuple[int, ...]) -> Array:
    """The array with its axes in another order; x itself if they are in this order already."""
    return x if order == tuple(range(x.ndim)) else arrays.namespace(x).permute_dims(x, order)
