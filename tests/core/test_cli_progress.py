"""What a command shows on stderr while it works, as a function of the news and of a clock."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eigencore.cli.progress import EVERY, progress, progress_line, seconds_left
from eigencore.news import News, WorkDone
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
        "18 products · 3 of 5 converged · 9 s, about 4 s left · residual 10 x threshold"
        " · 37.64 22.68 14.96 12.69 8.816"
    )


def test_as_many_parts_and_values_as_fit():
    parts = ["1 product", "0 of 5 converged", "0 s", "residual 3e+02 x threshold"]
    values = ["37.64", "22.68", "14.96", "12.69", "8.816"]
    heads = [" · ".join(parts[: n + 1]) for n in range(4)]
    for width in range(100):
        head = max((text for text in heads if len(text) <= width), default=heads[0][:width], key=len)
        whole = [head, *(f"{head} · {' '.join(values[: n + 1])}" for n in range(5))]
        assert progress_line([step(1, 0, 300.0)], 5, width) == max(
            (text for text in whole if len(text) <= width), key=len
        )


def test_once_all_have_converged_no_residual_is_shown():
    shown = progress_line([step(9, 4, 20.0), step(12_345, 5, 0.3)], 5, 80)
    assert shown.startswith("12,345 products · 5 of 5 converged · 6172 s · 37.64")


def test_steps_after_all_have_converged_are_a_search():
    shown = progress_line([step(9, 4, 20.0), step(10, 5, 0.3), step(11, 5, 0.3)], 5, 80)
    assert shown.startswith("11 products · 5 of 5 converged, searching for missed eigenvalues · 6 s")


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


# -- where it is shown -------------------------------------------------------------------------------------


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(
    monkeypatch: pytest.MonkeyPatch, news: list[tuple[float, News]], *, terminal: bool, columns: int = 80
) -> str:
    """What is on stderr after news at these times in seconds."""
    stderr, clock = io.StringIO(), Clock()
    stderr.isatty = lambda: terminal  # type: ignore[method-assign]
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", stderr)
        patched.setenv("COLUMNS", str(columns))
        with progress(5, clock=clock) as tell:
            for when, one in news:
                clock.now = 100.0 + when
                tell(one)
    return stderr.getvalue()


ATTACKED = WorkDone("robustness: pgd, eps 0.1", 256, 1024, "samples", 100.0)


def test_without_a_terminal_nothing_is_printed_in_the_first_minute(monkeypatch):
    news = [(0.0, "binding"), (20.0, step(9, 3, 100.0)), (EVERY - 0.1, ATTACKED)]
    assert shown(monkeypatch, news, terminal=False) == ""


def test_without_a_terminal_a_plain_line_is_printed_once_a_minute(monkeypatch):
    news = [
        (0.0, "binding"),
        *((float(t), step(t, 3, 1e9 * 0.9**t)) for t in range(1, 200)),
        (270.0, ATTACKED),
    ]
    lines = shown(monkeypatch, news, terminal=False).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("after 1 min: 60 products · 3 of 5 converged · 30 s, about ")
    assert lines[2].startswith("after 3 min: 180 products · ")
    assert lines[3] == "after 4 min: robustness: pgd, eps 0.1: 256 of 1,024 samples · 100 s, about 5 min left"
    assert not re.search(r"[\x1b\r]", "".join(lines))


def test_on_a_terminal_one_line_is_redrawn_and_removed(monkeypatch):
    news = [
        (0.0, "binding"),
        (0.01, step(3, 1, 5.0)),
        (0.02, step(4, 1, 5.0)),
        (0.3, ATTACKED),
        (0.31, "done"),
    ]
    text = shown(monkeypatch, news, terminal=True)
    lines = text.split("\r\x1b[K")
    # At most ten lines a second are drawn, but those that say what begins always are.
    assert [line.partition(" ")[0] for line in lines] == ["", "binding", "robustness:", "done", ""]


@pytest.mark.parametrize("columns", [20, 80])
def test_a_line_is_never_wider_than_the_terminal_and_at_80_columns_no_part_is_cut(monkeypatch, columns):
    news: list[News] = [
        "computing the digest of the problem, which is saved with the run",
        "checking that a second pass over the data yields the same batches",
        "robustness: loss and accuracy along directions of the weights",
        *falling(0.9),
        step(12345.0, 9, 1.23e5),
        WorkDone("robustness: deepfool", 12_345, 60_000, "samples", 1234.0),
        WorkDone("layers: eigenpairs of 120 blocks", 100, None, "passes", 99.0, "115 blocks finished"),
        WorkDone(
            "study", 3, 10, "rows", 99.0, "a network with a very long name indeed that is described, 3.0 s"
        ),
    ]
    text = shown(monkeypatch, [(float(i), one) for i, one in enumerate(news)], terminal=True, columns=columns)
    lines = text.split("\r\x1b[K")[1:-1]
    assert len(lines) == len(news)
    assert all(len(line) < columns for line in lines)
    if columns == 80:
        for line, one in zip(lines, news, strict=True):
            whole = str(one) if not isinstance(one, Step) else progress_line([one], 5, 1000)
            parts = {*whole.split(" · "), *progress_line(falling(0.9), 5, 1000).split(" · ")}
            values = " ".join(f"{value:.4g}" for value in VALUES)
            assert all(
                part in parts
                or values.startswith(part)
                or re.search(r"products|converged|left$|residual", part)
                for part in line.split(" · ")
            ), line


def test_the_help_imports_neither_progress_nor_rich():
    code = (
        "import sys; from eigencore.cli import main; main(['--help']);"
        "print([m for m in sys.modules if m.startswith(('rich', 'eigencore.cli.progress'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_command_prints_nothing_more_than_without_progress(tmp_path: Path, capsys):
    from eigencore.cli import main

    assert main(["analyze", "demo:quadratic", "-k", "1", "--set", "problem.n=60"]) == 0
    assert capsys.readouterr().err == ""
