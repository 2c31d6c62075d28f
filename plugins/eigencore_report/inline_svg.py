"""A matplotlib figure as SVG within a page: it scales with the page, and its ink has the page's colour."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from eigencore_report.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(canvas: Canvas, prefix: str, title: str, text: str) -> str:
    """The figure as an `svg` element.

    Args:
        prefix: what its ids begin with, so that those of several figures on a page differ.
        title: its name; empty: it has none.
        text: its text alternative.
    """
    file = io.StringIO()
    canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for part in list(parent):
            # A style sheet within a page would hold for all of it.
            if part.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(part)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{SVG}}}")
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            name = name.replace(f"{{{XLINK}}}", "")  # `href` alone is what HTML has
            element.set(name, _on_page(name, value, prefix))
    width = root.attrib.pop("width", "")
    for name in ("height", "version"):
        root.attrib.pop(name, None)
    root.set("style", f"width: 100%; max-width: {width}; height: auto")
    root.set("stroke-linejoin", "round")  # what the style sheet of matplotlib says
    root.set("xmlns", SVG)
    if title:
        root.set("role", "img")
        root.set("aria-label", f"{title}. {text}".strip())
    return ElementTree.tostring(root, encoding="unicode")


def _on_page(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = _REFERENCE.sub(rf"url(#{prefix}-\1)", value)
    return value.replace(INK, "currentColor")
