"""The line that is redrawn while a solve goes on, as a pure function of its steps."""

from __future__ import annotations

import pytest

from eigencore.cli.progress import line, seconds_left
from eigencore.results import Step

VALUES = (37.6366, 22.6804, 14.9643, 12.69, 8.816)


def step(matvecs: float, converged: int, residual: float | None, seconds: float | None = None) -> Step:
    """A step of a solve of 5 pairs, half a second a product."""
    value = None if residual is None else VALUES[converged]
    return Step(matvecs, matvecs / 2 if seconds is None else seconds, VALUES, converged, value, residual, 0)


def falling(factor: float, upto: int = 10) -> list[Step]:
    """The first open pair's residual falls by that factor with every product."""
    return [step(n, 2, factor**n) for n in range(1, upto + 1)]


def test_all_of_it():
    steps = [step(9, 3, 0.5), step(18, 3, 0.03)]
    assert line(steps, 5, 1e-3, 120) == (
        "18 products · 3 of 5 converged · next residual 3.0e-02 · 9 s, about 2 s left"
        " · 37.64 22.68 14.96 12.69 8.816"
    )


def test_as_many_values_as_fit():
    head = "1 product · 0 of 5 converged · next residual 3.0e-01 · 0 s"
    values = ["37.64", "22.68", "14.96", "12.69", "8.816"]
    whole = [head, *(f"{head} · {' '.join(values[: n + 1])}" for n in range(5))]
    for width in range(len(whole[-1]) + 3):
        expected = max((text for text in whole if len(text) <= width), default=head[:width], key=len)
        assert line([step(1, 0, 0.3)], 5, 1e-3, width) == expected


def test_where_all_have_converged_nothing_is_left():
    shown = line([step(9, 4, 0.02), step(12_345, 5, None)], 5, 1e-3, 80)
    assert shown.startswith("12,345 products · 5 of 5 converged · 6172 s · 37.64")


@pytest.mark.parametrize("factor", [0.2, 0.5, 0.9])
def test_time_left_is_that_of_the_first_open_pair_and_some_for_those_behind(factor):
    tol = 1e-9
    needed = next(n for n in range(1000) if factor**n <= tol * VALUES[2])
    alone = seconds_left(falling(factor), 3, tol)
    assert alone == pytest.approx((needed - 10) / 2, abs=0.5)
    assert seconds_left(falling(factor), 4 + 2, tol) == pytest.approx(2 * alone)


@pytest.mark.parametrize(
    "steps",
    [falling(0.5, upto=1), falling(1.0), falling(1.1), [step(9, 4, 0.1), step(12, 5, None)]],
    ids=["one step", "standing", "rising", "converged"],
)
def test_no_time_is_told_where_nothing_shows_it(steps):
    assert seconds_left(steps, 5, 1e-3) is None
    assert "left" not in line(steps, 5, 1e-3, 120)


ROUGHLY = [(0.01, "1 s"), (4.2, "4 s"), (77, "80 s"), (100, "2 min"), (6000, "2 h"), (1e6, "300 h")]


@pytest.mark.parametrize(("seconds", "told"), ROUGHLY)
def test_time_left_has_one_digit(seconds, told, monkeypatch):
    monkeypatch.setattr("eigencore.cli.progress.seconds_left", lambda *given: seconds)
    assert f"about {told} left" in line([step(9, 3, 0.5)], 5, 1e-3, 120)
