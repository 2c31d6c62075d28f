"""The axis of a spectrum: linear, or logarithmic but for a neighbourhood of zero; and smoothing along it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from eigencore.space import Floats

MOST, WITHIN = 0.9, 0.05  # a linear axis would show this share of the eigenvalues within this share of it


@dataclass(frozen=True)
class Axis:
    """A coordinate t(x) of eigenvalues: x itself, or asinh(x / linear), which is log(2 |x| / linear) far out.

    Attributes:
        scale: "linear" or "symlog", as for a Figure.
        linear: where a "symlog" axis is linear, in absolute value.
    """

    scale: Literal["linear", "symlog"]
    linear: float = 1.0

    @classmethod
    def fitting(
        cls,
        nodes: Floats,
        weights: Floats,
        known: Floats,
        near: float,
        wanted: Literal["auto", "linear", "log"],
    ) -> Axis:
        """The axis for a spectrum with these nodes, weights and known values.

        With "auto" it is logarithmic if a linear one would show nine tenths of the nodes, by weight, within a
        twentieth of its length.
        """
        everything = np.concatenate([nodes, known])
        length = float(np.ptp(everything)) if len(everything) else 0.0
        if wanted == "auto" and len(nodes) and length:
            order = np.argsort(nodes)
            upto = np.cumsum(weights[order])
            middle = nodes[order][
                np.searchsorted(upto, [(1 - MOST) / 2, (1 + MOST) / 2]).clip(0, len(nodes) - 1)
            ]
            wanted = "log" if middle[1] - middle[0] < WITHIN * length else "linear"
        return cls("symlog", near) if wanted == "log" and near > 0 else cls("linear")

    def to(self, x: Floats) -> Floats:
        """t(x)."""
        return x if self.scale == "linear" else np.arcsinh(x / self.linear)

    def back(self, t: Floats) -> Floats:
        """x(t)."""
        return t if self.scale == "linear" else self.linear * np.sinh(t)

    def spacing(self, rules: Sequence[tuple[Floats, Floats]]) -> float:
        """The mean distance of neighbouring nodes along the axis, by weight: what the quadratures resolve."""
        means = []
        for nodes, weights in rules:
            t = self.to(nodes)
            if len(t) > 1:
                gaps = np.diff(t)
                own = (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]])) / 2
                means.append(float(np.sum(weights * own)))
        return float(np.mean(means)) if means else 0.0

    def grid(self, values: Floats, width: float, points: int) -> Floats:
        """Points (g,) from three widths below the least value to three above the largest, evenly along it.

        On a "symlog" axis, they go no further than a decade beyond these values: three widths would be many.
        """
        if not len(values):
            return np.linspace(-1.0, 1.0, points)
        t = self.to(np.array([np.min(values), np.max(values)]))
        beyond = 3 * width if self.scale == "linear" else min(3 * width, math.log(10))
        margin = max(beyond, 0.02 * float(t[1] - t[0]), 1e-6 * float(np.max(np.abs(t))), 1e-12)
        return self.back(np.linspace(t[0] - margin, t[1] + margin, points))

    def smoothed(self, grid: Floats, nodes: Floats, weights: Floats, width: float) -> Floats:
        """The density (g,) per unit of the eigenvalue, each node being a Gaussian of this width along t."""
        t = self.to(grid)
        if not len(nodes):
            return np.zeros_like(grid)
        # A narrower Gaussian than the grid resolves could fall between two points.
        width = max(width, float(np.median(np.diff(t))))
        at = (t[:, None] - self.to(nodes)[None, :]) / width
        along = np.exp(-(at**2) / 2) @ weights / (width * np.sqrt(2 * np.pi))
        slope = np.ones_like(grid) if self.scale == "linear" else 1 / np.hypot(grid, self.linear)
        density: Floats = along * slope
        return density
