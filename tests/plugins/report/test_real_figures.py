"""The figures of real results look as they should, and none is without a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.testing.compare import compare_images

import eigencore
from eigencore.figures import Figure
from eigencore_report.figures import draw
from eigencore_report.style import styled

pytestmark = pytest.mark.slow
BASELINE = Path(__file__).parent / "baseline" / "real"
WIDTH, DPI, TOLERANCE = 3.4, 70, 8.0


def named(results: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Each figure of each result, by a name for its file."""
    for name, result in results.items():
        for number, figure in enumerate(eigencore.report(result).figures, start=1):
            yield f"{name}-{number}.png", figure


def save(figure: Figure, place: Path) -> None:
    with styled(8.0):
        draw(figure, WIDTH).savefig(place, dpi=DPI, facecolor="white")


@pytest.mark.usefixtures("same_text")
def test_they_look_as_their_baselines(results: dict[str, Any], tmp_path: Path) -> None:
    """New baselines are what this test has drawn, in the folder that its error names; look at them."""
    figures = dict(named(results))
    for name, figure in figures.items():
        save(figure, tmp_path / name)
    assert sorted(figures) == sorted(path.name for path in BASELINE.glob("*.png")), tmp_path
    differences = [
        compare_images(str(BASELINE / name), str(tmp_path / name), TOLERANCE) for name in sorted(figures)
    ]
    assert [one for one in differences if one is not None] == []


def test_every_result_has_figures_with_captions(results: dict[str, Any]) -> None:
    for name, result in results.items():
        figures = eigencore.report(result).figures
        assert figures or name in ("trace",), name
        for figure in figures:
            assert figure.caption.endswith("."), figure.title
