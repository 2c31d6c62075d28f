"""Pages in a real browser: nothing overflows, is missing or fails, on a phone, on a screen and in print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eigencore
from eigencore.findings import Report
from kit.figures import ODD, everything

pytestmark = pytest.mark.slow
NAMES = ("run", "density", "layers", "study", "attack", "comparison", "odd", "long words")
WIDTHS = (360, 800, 1400)
PRINTED = 680  # CSS pixels between the margins of a printed A4 page
# What WCAG 2.1 AA asks for: contrast, text alternatives, headings, tables, landmarks, keyboard access.
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")


@pytest.fixture(scope="session")
def pages(results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a full run, of a density, of layers, of a study, and others."""
    folder = tmp_path_factory.mktemp("pages")
    long = {"i" * 200: everything("n" * 300).parts["n" * 300]}
    reports = {
        **{name: results[name] for name in NAMES if name in results},
        "odd": everything(ODD),
        "long words": Report("W" * 300, ("m" * 400,), long, {"d" * 100: "e" * 500}),
    }
    for name, one in reports.items():
        eigencore.render(one, "html", folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(params=NAMES)
def page(request: pytest.FixtureRequest, pages: dict[str, Path], browser: Any) -> Iterator[Any]:
    """A page, opened without a network, whose console and failed requests are recorded."""
    context = browser.new_context(offline=True)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("requestfailed", lambda sent: problems.append(sent.url))
    opened.goto(pages[request.param].as_uri())
    yield opened
    context.close()
    assert problems == []


OVERFLOWING = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = element => element.closest('.scroll, pre') !== null;
  return [...document.body.querySelectorAll('*')]
    .filter(element => !element.closest('svg') || element.tagName === 'svg')
    .filter(element => !scrolls(element) || element.matches('.scroll, pre'))
    .filter(element => element.checkVisibility())
    .filter(element => element.getBoundingClientRect().right > wide + 1)
    .map(element => element.tagName + ' ' + element.textContent.slice(0, 40));
}"""
MISSING = """async () => {
  const missing = [];
  for (const image of document.querySelectorAll('img, image')) {
    const probe = new Image();
    probe.src = image.getAttribute('href') || image.src;
    try { await probe.decode(); } catch (error) { missing.push(probe.src.slice(0, 60)); }
    if (!probe.naturalWidth) missing.push('empty ' + probe.src.slice(0, 60));
  }
  for (const svg of document.querySelectorAll('svg')) {
    const box = svg.getBoundingClientRect();
    if (box.width < 100 || box.height < 50) missing.push('tiny ' + svg.getAttribute('aria-label'));
  }
  return missing;
}"""
CUT = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < whole.left - 1 || box.right > whole.right + 1
      || box.top < whole.top - 1 || box.bottom > whole.bottom + 1;
  }).map(text => text.textContent);
})"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_no_image_is_missing(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(MISSING) == []
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate(OVERFLOWING) == []


def test_in_print_tables_and_figures_fit_the_paper(page: Any, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PRINTED, "height": 900})
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(MISSING) == []
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_text_alternatives_and_structure(page: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    # The parts of a figure are not looked at: it is one image, which has a text alternative.
    found = Axe().run(page, context={"exclude": [["svg *"]]}, options={"runOnly": list(RULES)}).response
    violations = [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {json.dumps(one['nodes'][0]['any'])[:300]}"
        for one in found["violations"]
    ]
    assert violations == []
    assert len(found["passes"]) > 10


def test_a_page_that_overflows_is_found(browser: Any) -> None:
    """The check has power: a wide element, a broken image and grey on grey are found."""
    from axe_playwright_python.sync_playwright import Axe

    opened = browser.new_page(viewport={"width": 360, "height": 600})
    opened.set_content(
        "<html lang='en'><title>t</title><body style='background:#fff'><main><h1>a</h1>"
        "<p style='color:#bbb'>grey on white</p>"
        "<p style='width: 900px'>wide</p><img src='data:image/png;base64,AAAA'></main>"
    )
    assert any(one.startswith("P wide") for one in opened.evaluate(OVERFLOWING))
    assert opened.evaluate(MISSING)
    found = {one["id"] for one in Axe().run(opened, options={"runOnly": list(RULES)}).response["violations"]}
    assert {"color-contrast", "image-alt"} <= found
    opened.close()


def test_text_of_figures_is_not_cut(pages: dict[str, Path], browser: Any) -> None:
    """Labels, titles and legends lie within their figures, in the font of this machine."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    for name in ("run", "density", "layers", "study", "attack"):
        opened.goto(pages[name].as_uri())
        assert opened.evaluate(CUT) == [], name
    opened.close()


def test_dark_figures_have_light_ink(pages: dict[str, Path], browser: Any) -> None:
    opened = browser.new_page(color_scheme="dark")
    opened.goto(pages["density"].as_uri())
    colour = opened.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    parts = [int(one) for one in re.findall(r"\d+", colour)[:3]]
    assert min(parts) > 200
    opened.close()
