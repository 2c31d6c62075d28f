"""Real results of every kind, and a browser, for the tests of figures and pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.attacks import attack_report

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

# What drew the baselines, as constraints.txt pins it; other versions of matplotlib place text differently.
BASELINES_BY = "3.11"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright. In continuous integration it has to be there."""
    if "CI" not in os.environ:
        pytest.importorskip("playwright")
        if BROWSER is None:
            pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    assert BROWSER, "continuous integration installs Chromium"
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def members() -> Iterator[eigencore.Member]:
    """Networks whose numbers are made up, so that the figures of a study have something to show."""
    for n in range(10, 18):
        yield eigencore.Member(f"network {n}", np.diag(np.arange(1.0, n) ** 1.5), {"size": n})


@pytest.fixture(scope="session")
def results() -> dict[str, Any]:
    """A full run with the robustness analysis, and what each other function and analysis returns, by name.

    In float64, so that they are the same on every machine but for the last digits.
    """
    pytest.importorskip("sklearn")
    digits: dict[str, Any] = {"dtype": "float64"}
    attacked = {
        name: eigencore.attack(eigencore.bind("demo:digits-numpy", **digits), name, images=40, **options)
        for name, options in {"pgd": {"eps": [0.05, 0.1, 0.2]}, "fmn": {"steps": 20}}.items()
    }
    runs = {
        solver: eigencore.analyze("demo:quadratic", k=4, solver=solver, analyses="none")
        for solver in ("lanczos", "lobpcg")
    }
    small = {"robustness": {"images": 40, "eps": "0.1,0.5"}}
    return {
        "run": eigencore.analyze("demo:digits-numpy", k=3, options=small, **digits),
        "density": eigencore.density("demo:digits-numpy", **digits),
        "diagonal": eigencore.diagonal("demo:quadratic"),
        "trace": eigencore.trace("demo:quadratic"),
        "norms": eigencore.norms("demo:quadratic"),
        "layers": eigencore.layers("demo:digits-numpy", k=2, **digits),
        "study": eigencore.study(list(members()), analyses="trace", k=2, jobs=1),
        "attack": attack_report(attacked["pgd"]),
        "distances": attacked["fmn"],
        "comparison": eigencore.compare(runs),
    }


@pytest.fixture
def same_text() -> None:
    """Skips a comparison with a baseline under a version of matplotlib that draws text differently."""
    if not matplotlib.__version__.startswith(f"{BASELINES_BY}."):
        pytest.skip(f"matplotlib {BASELINES_BY} drew the baselines")
