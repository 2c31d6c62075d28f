"""The progress line of a solve, as a pure function of its steps; and what is shown before the first one."""

from __future__ import annotations

import io

import pytest

from eigencore.cli.progress import progress, progress_line, seconds_left
from eigencore.results import Step

VALUES = (37.6366, 22.6804, 14.9643, 12.69, 8.816)


def step(matvecs: float, converged: int, worst: float | None) -> Step:
    """A step of a solve for 5 pairs, at half a second per product."""
    return Step(matvecs, matvecs / 2, VALUES, converged, None, None, 0, worst)


def falling(factor: float, upto: int = 10) -> list[Step]:
    """The worst residual falls from 1000 times its threshold, by that factor with every product."""
    return [step(n, 2, 1000 * factor**n) for n in range(1, upto + 1)]


def test_the_complete_line():
    steps = [step(9, 3, 100.0), step(18, 3, 10.0)]
    assert progress_line(steps, 5, 140) == (
        "18 products · 3 of 5 converged · worst estimated residual 10 x threshold · 9 s, about 4 s left"
        " · 37.64 22.68 14.96 12.69 8.816"
    )


def test_as_many_values_as_fit():
    head = "1 product · 0 of 5 converged · worst estimated residual 3e+02 x threshold · 0 s"
    values = ["37.64", "22.68", "14.96", "12.69", "8.816"]
    whole = [head, *(f"{head} · {' '.join(values[: n + 1])}" for n in range(5))]
    for width in range(len(whole[-1]) + 3):
        expected = max((text for text in whole if len(text) <= width), default=head[:width], key=len)
        assert progress_line([step(1, 0, 300.0)], 5, width) == expected


def test_once_all_have_converged_no_residual_is_shown():
    shown = progress_line([step(9, 4, 20.0), step(12_345, 5, 0.3)], 5, 80)
    assert shown.startswith("12,345 products · 5 of 5 converged · 6172 s · 37.64")


@pytest.mark.parametrize("factor", [0.7, 0.9])
def test_time_left_follows_from_the_rate_of_the_worst_residual(factor):
    needed = next(n for n in range(1000) if 1000 * factor**n <= 1)
    assert seconds_left(falling(factor)) == pytest.approx((needed - 10) / 2, abs=0.5)


@pytest.mark.parametrize(
    "steps",
    [falling(0.5, upto=1), falling(1.0), falling(1.1), falling(0.1), [step(3, 0, None), step(4, 0, 9.0)]],
    ids=["one step", "constant", "rising", "converged", "fewer than k"],
)
def test_no_time_left_is_shown_if_it_cannot_be_predicted(steps):
    assert seconds_left(steps) is None
    assert "left" not in progress_line(steps, 5, 120)


ROUNDED = [(0.01, "1 s"), (4.2, "4 s"), (77, "80 s"), (100, "2 min"), (6000, "2 h"), (1e6, "300 h")]


@pytest.mark.parametrize(("seconds", "rounded"), ROUNDED)
def test_time_left_has_one_digit(seconds, rounded, monkeypatch):
    monkeypatch.setattr("eigencore.cli.progress.seconds_left", lambda steps: seconds)
    assert f"about {rounded} left" in progress_line([step(9, 3, 5.0)], 5, 120)


def test_on_a_terminal_the_line_says_what_is_done_before_the_first_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = io.StringIO()
    stderr.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", stderr)
    with progress(5) as draw:
        assert "binding the problem: checks of the data" in stderr.getvalue()
        assert draw is not None
        draw(step(3, 1, 5.0))
        assert "3 products" in stderr.getvalue()
