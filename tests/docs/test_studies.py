"""The pages of studies show the numbers of their rows, and the rows are those of their scripts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.figures import check_figure

FOLDER = Path(__file__).parents[2] / "docs" / "studies"
SCRIPTS = ["large_batches", "placebo"]


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(FOLDER)
    yield import_module(request.param)
    for name in (request.param, "page_tables"):
        sys.modules.pop(name)


@pytest.fixture
def study(script: Any) -> eigencore.Study:
    return eigencore.Study.read(script.ROWS)


def filled(script: Any, study: eigencore.Study) -> str:
    text: str = sys.modules["page_tables"].filled(script.PAGE.read_text(), script.parts(study))  # type: ignore[attr-defined]
    return text


def test_every_study_is_tested_here() -> None:
    assert {path.stem.replace("-", "_") for path in FOLDER.glob("*.jsonl")} == set(SCRIPTS)


def test_the_rows_are_those_of_the_script(script: Any, study: eigencore.Study) -> None:
    members = list(script.networks())
    assert len(members) >= 24
    assert [row.name for row in study.rows] == [member.name for member in members]
    for row, member in zip(study.rows, members, strict=True):
        assert row.complete
        assert all(row.converged)
        assert row.covariates == member.covariates
        assert row.group == member.group
        assert row.backend.endswith("1 thread")
    given = study.settings["arguments"]
    for name, options in script.SETTINGS["options"].items():
        assert given["options"][name].items() >= options.items()
    assert given["seed"] == script.SETTINGS["seed"]
    assert given["threads"] == 1


def test_the_page_shows_the_numbers_of_the_rows(script: Any, study: eigencore.Study) -> None:
    assert script.PAGE.read_text() == filled(script, study)


def test_another_number_in_a_row_would_change_the_page(script: Any, study: eigencore.Study) -> None:
    first = study.rows[0]
    numbers = {name: dict(own) for name, own in first.numbers.items()}
    for own in numbers.values():
        own |= {name: 10 * value for name, value in own.items() if isinstance(value, float)}
    changed = replace(study, rows=(replace(first, numbers=numbers), *study.rows[1:]))
    assert script.PAGE.read_text() != filled(script, changed)


def test_the_figures_are_data_of_equal_lengths(script: Any, study: eigencore.Study) -> None:
    figures = script.figures(study)
    assert figures
    for figure in figures:
        check_figure(figure)
        assert figure.caption.endswith(".")
        lengths = {len(series) for series in figure.series.values()}
        assert len(lengths) == 1
        assert np.all(np.isfinite(figure.series["x"]))
        others = [series for name, series in figure.series.items() if name != "x"]
        assert np.isfinite(np.stack(others)).any(axis=0).all()


def test_the_pictures_show_a_point_for_each_network(script: Any, study: eigencore.Study) -> None:
    """They are vector graphics that hold the titles of the figures, as outlines of letters in this order."""
    tables = sys.modules["page_tables"]
    for number, figure in enumerate(script.figures(study), start=1):
        text = tables.picture(script.PAGE, number).read_text()  # type: ignore[attr-defined]
        points = sum(int(np.isfinite(one).sum()) for name, one in figure.series.items() if name != "x")
        markers = len(re.findall(r"<use ", text))
        assert markers > points, figure.title  # and the letters of the labels
        assert f"<!-- {figure.title[:20]}" in text


def test_the_file_holds_no_nan(script: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in script.ROWS.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["large_batches"], indirect=True)
def test_a_row_that_is_computed_again_is_like_the_one_that_is_kept(
    script: Any, study: eigencore.Study
) -> None:
    """On another type of processor, training rounds differently: only the sizes of numbers are alike."""
    member = next(script.networks())
    again = eigencore.study([member], jobs=1, **script.SETTINGS).rows[0].numbers["network"]
    kept = study.rows[0].numbers["network"]
    for name in ("clean_accuracy", "robust_accuracy", "median_distance", "median_r1", "train_loss"):
        assert again[name] == pytest.approx(kept[name], rel=0.2)
    for name in ("lambda_clean", "lambda_robust"):
        assert 0.5 < again[name] / kept[name] < 2  # type: ignore[operator]
