"""The style of every figure: colours, line styles, markers, fonts, and text that is not parsed.

The colours are those of Okabe and Ito (2008), "Color Universal Design", which colour-blind readers can tell
apart, darkened where they had a contrast below 3 with white. Line styles and markers differ as well, so that
a figure can be read in grey.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context

COLOURS = ("#0072b2", "#d55e00", "#009070", "#b4589a", "#a57200", "#3f8fc4")
LINE_STYLES = ("-", (0, (5, 1.5)), "-.", (0, (1, 1.2)), (0, (7, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
INK = "#1b1d21"  # text and axes; on a page it follows the colour of the text there
DARK = "#1c1e22"  # on a light colour of the figure, whatever the colour of the page
MUTED = "#6f747c"  # reference lines
SEQUENTIAL, DIVERGING = "gray", "RdBu_r"


@contextmanager
def styled(font_size: float, *, keep_text: bool = False) -> Iterator[None]:
    """The settings of matplotlib, in force within the context, in which a figure is drawn or saved.

    Args:
        font_size: in points; titles are as large, ticks and legends a little smaller.
        keep_text: whether an SVG file holds text, to be shown in the reader's font, in place of its outlines.
    """
    small = font_size * 0.88
    settings: Any = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": font_size,
        "axes.titlesize": font_size,
        "axes.labelsize": font_size,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "hatch.linewidth": 0.5,
        "lines.linewidth": 1.3,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "axes.titlelocation": "left",
        "axes.unicode_minus": True,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "none" if keep_text else "path",
        "pdf.fonttype": 42,  # TrueType, which journals accept and readers can search
        "svg.hashsalt": "eigencore",
        "text.usetex": False,
    }
    with rc_context(settings), warnings.catch_warnings():
        # Letters that the font does not have are boxes in a file, and right on a page, whose reader has them.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from|.* does not support", UserWarning)
        # A figure too small for its text is drawn without making room for it.
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        yield


def literal(text: str, most: int = 60) -> str:
    """The text as matplotlib shows it unchanged: a dollar begins no formula, and nothing is unprintable.

    Args:
        most: characters, beyond which the middle of the text is left out.
    """
    text = _elided(text, most)
    shown = (one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)
    return "".join(shown).replace("$", r"\$")


def _elided(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def wrapped(text: str, length: float, font_size: float) -> str:
    """A title or label of at most two lines, none of which is longer than this length in inches."""
    each = max(10, int(length * 72 / (0.6 * font_size)))
    lines = textwrap.wrap(text, each) or [""]
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1][: each - 1]}…"]
    return "\n".join(literal(line, each) for line in lines)


def distinct(names: Sequence[str], most: int) -> list[str]:
    """Names of parameters that still differ when they are shortened: without the modules that all share."""
    parts = [name.split(".") for name in names]
    while len(parts) > 1 and all(len(one) > 1 for one in parts) and len({one[0] for one in parts}) == 1:
        parts = [one[1:] for one in parts]
    short = [_elided(".".join(one), most) for one in parts]
    numbered = [f"{i}: {name}" if short.count(name) > 1 else name for i, name in enumerate(short, start=1)]
    return [literal(name, most + 6) for name in numbered]
