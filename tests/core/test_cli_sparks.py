"""Curves and bars of characters are as high and as long as their numbers."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from eigencore.cli.sparks import BAR, LEVELS, WIDTH, bars, can_draw, curve
from eigencore.figures import Figure


def line(y: object, **more: object) -> Figure:
    values = np.asarray(y, dtype=float)
    return Figure("line", "t", "x", "y", {"x": np.arange(len(values)), "y": values}, **more)  # type: ignore[arg-type]


def levels(figure: Figure) -> list[int]:
    drawn = curve(figure)
    assert drawn is not None
    return [LEVELS.index(one) for one in drawn]


def test_a_curve_is_as_high_as_its_numbers() -> None:
    assert levels(line(np.linspace(0, 8, 33))) == [int(np.ceil(one - 1e-9)) for one in np.linspace(0, 8, 33)]


def test_no_peak_is_lost() -> None:
    y = np.zeros(1000)
    y[777] = 3.0
    drawn = levels(line(y))
    assert len(drawn) == WIDTH
    assert drawn[777 * WIDTH // 1000] == len(LEVELS) - 1
    assert sum(drawn) == len(LEVELS) - 1


def test_a_logarithmic_curve_shows_seven_decades() -> None:
    drawn = levels(line(10.0 ** np.linspace(0, -14, 29), y_scale="log"))
    assert drawn[0] == 8
    assert drawn[7] == 4  # 10^-3.5
    assert drawn[14:] == [0] * 15


@pytest.mark.parametrize("y", [[np.nan] * 20, [0.0] * 20, [-1.0] * 20])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_nothing_to_show_is_no_curve_or_a_flat_one(y: list[float], scale: str) -> None:
    assert set(curve(line(y, y_scale=scale)) or " ") <= {" "}


def test_few_points_and_other_figures_are_no_curve() -> None:
    assert curve(line(np.ones(5))) is None
    assert curve(Figure("bar", "t", "x", "y", {"y": np.ones(30)}, labels=("a",) * 30)) is None


def test_bars_are_as_long_as_their_numbers() -> None:
    drawn = bars([4.0, -2.0, np.nan, 0.0, 1.0])
    assert [len(one) for one in drawn] == [BAR, BAR // 2, 0, 0, BAR // 4]
    assert bars([]) == []
    assert bars([0.0]) == [""]


def test_a_terminal_without_the_characters_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert not can_draw()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert can_draw()
