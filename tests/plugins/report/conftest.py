"""Figures of every kind, a whole run, and a browser for the tests of figures and pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

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
