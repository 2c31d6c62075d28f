"""Every analysis has figures that can be drawn, have captions, and can be saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eigencore
from eigencore.entries import AnalysisEntry
from eigencore.figures import check_figure
from eigencore.registry import registry
from eigencore.runs import plain
from eigencore.runs.stored_arrays import without_arrays

pytest.importorskip("sklearn")

FEW = {
    "batch_sharpness": {"draws": 3},
    "density": {"probes": 2, "steps": 20},
    "network": {"images": 30},
    "norms": {"probes": 2, "steps": 10},
    "ranks": {"images": 30},
    "robustness": {"images": 60},
}
MOST_BYTES = 40_000  # of the figures of an analysis in the JSON object


def bundled() -> list[str]:
    return [
        item.entry.name
        for item in registry().entries(AnalysisEntry)
        if item.plugin.distribution.startswith("eigencore")
    ]


@pytest.fixture(scope="module")
def run() -> eigencore.Run:
    found = eigencore.analyze("demo:digits-numpy", k=2, analyses=bundled(), options=FEW)
    assert found.failed == {}
    return found


@pytest.mark.parametrize("name", bundled())
def test_figures_can_be_drawn_and_are_described(run: eigencore.Run, name: str) -> None:
    figures = run.analyses[name].figures
    assert figures
    assert len({figure.title for figure in figures}) == len(figures)
    for figure in figures:
        check_figure(figure)
        assert figure.title
        assert figure.caption.endswith(".")
        assert 1 <= figure.caption.count(". ") + 1 <= 3
    stored = json.dumps(plain(without_arrays(name, run.analyses[name]).figures))
    assert len(stored) < MOST_BYTES


def test_figures_are_the_same_after_they_were_saved(run: eigencore.Run, tmp_path: Path) -> None:
    eigencore.save(run, tmp_path / "run")
    again = eigencore.load(tmp_path / "run")
    for name, result in run.analyses.items():
        for one, other in zip(again.analyses[name].figures, result.figures, strict=True):
            assert list(one.series) == list(other.series)
            pairs = [(one.series[key], other.series[key]) for key in other.series]
            for kind in ("bands", "atoms"):
                for key, ends in getattr(other, kind).items():
                    pairs += zip(getattr(one, kind)[key], ends, strict=True)
            for read, kept in pairs:
                assert np.array_equal(read, kept, equal_nan=True)
            bare = [replace(each, series={}, bands={}, atoms={}) for each in (one, other)]
            assert bare[0] == bare[1]
