"""Figures are drawn as they should look, and the numbers drawn are those of the figure."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.testing.compare import compare_images

from eigencore.figures import Figure, Table
from eigencore_report.figures import draw
from eigencore_report.number_tables import tables_of
from eigencore_report.style import COLOURS, MARKERS, MUTED, literal, styled
from kit.figures import FIGURES

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = (
    6.0  # root mean square of 255; another version of matplotlib moves letters by a fraction of a pixel
)
WIDTH, DPI = 3.4, 100


def save(figure: Figure, place: Path) -> None:
    with styled(8.0):
        draw(figure, WIDTH).savefig(place, dpi=DPI, facecolor="white")


@pytest.mark.usefixtures("same_text")
@pytest.mark.parametrize("name", FIGURES)
def test_it_looks_as_its_baseline(name: str, tmp_path: Path) -> None:
    """`python tests/plugins/report/test_figures.py` draws the baselines; look at them before you commit."""
    drawn = tmp_path / "drawn.png"
    save(FIGURES[name], drawn)
    difference = compare_images(str(BASELINE / f"{name.replace(' ', '-')}.png"), str(drawn), TOLERANCE)
    assert difference is None, difference


def test_another_figure_does_not_look_as_the_baseline(tmp_path: Path) -> None:
    """The tolerance detects one series that is drawn with other numbers."""
    figure, drawn = FIGURES["lines"], tmp_path / "drawn.png"
    save(replace(figure, series={**figure.series, "v_2": 0.8 * figure.series["v_1"]}), drawn)
    assert compare_images(str(BASELINE / "lines.png"), str(drawn), TOLERANCE) is not None


@pytest.mark.parametrize("name", ["lines", "scatter", "ranks", "density", "odd text"])
def test_lines_and_points_are_the_numbers(name: str) -> None:
    figure = FIGURES[name]
    every = draw(figure, WIDTH).axes
    lines = [line for axes in every for line in axes.get_lines()]
    for label in (one for one in figure.series if one != "x"):
        same = [
            line
            for line in lines
            if np.array_equal(line.get_xdata(), figure.series["x"])
            and np.array_equal(line.get_ydata(), figure.series[label], equal_nan=True)
        ]
        assert len(same) >= 1, label
    for at, heights in figure.atoms.values():
        tops = [line for line in lines if np.array_equal(line.get_xdata(), at)]
        assert np.array_equal(tops[0].get_ydata(), heights)
        strokes = [np.asarray(part) for one in every[-1].collections for part in one.get_segments()]
        assert sorted(stroke[1, 1] for stroke in strokes) == sorted(heights)
    for reference in figure.references:
        want = [reference.value] * 2
        if reference.axis == "x":
            assert any(list(line.get_xdata()) == want for line in lines)
        elif reference.axis == "y":
            assert any(list(line.get_ydata()) == want for line in lines)
        else:
            slopes = [np.asarray(line.get_ydata()) / np.asarray(line.get_xdata()) for line in lines]
            assert any(len(slope) == 50 and np.allclose(slope, reference.value) for slope in slopes)


def test_a_band_is_the_numbers() -> None:
    figure = FIGURES["lines"]
    low, high = figure.bands["v_1"]
    (band,) = draw(figure, WIDTH).axes[0].collections
    points = {(round(x, 12), round(y, 12)) for x, y in band.get_paths()[0].vertices}
    for end in (low, high):
        assert {(round(x, 12), round(y, 12)) for x, y in zip(figure.series["x"], end, strict=True)} <= points


def test_bars_are_the_numbers_in_the_order_of_the_labels() -> None:
    figure = FIGURES["bars"]
    axes = draw(figure, WIDTH).axes[0]
    bars = [bar for bar in axes.patches if bar.get_height() > 0]
    widths = [bar.get_width() for bar in bars]
    assert np.array_equal(widths, np.concatenate(list(figure.series.values())), equal_nan=True)
    order = [text.get_text() for text in axes.get_yticklabels()]
    assert order[0] == "conv1.weight"
    assert order[1].startswith("a.very.long")
    assert axes.yaxis_inverted()


def test_bars_are_visible_on_a_logarithmic_axis() -> None:
    """A bar from zero has no left end on such an axis; it is drawn from the edge."""
    canvas = draw(FIGURES["bars on a logarithmic axis"], WIDTH)
    axes = canvas.axes[0]
    canvas.savefig(io.BytesIO())
    pixels = [bar.get_window_extent() for bar in axes.patches]
    inside = axes.get_window_extent()
    shown = [min(one.x1, inside.x1) - max(one.x0, inside.x0) for one in pixels]
    assert np.isfinite(shown).all()
    assert shown[0] > shown[1] > shown[2] > 5 > shown[3]


def test_images_are_the_numbers_in_their_ranges() -> None:
    figure = FIGURES["images"]
    shown = [image for axes in draw(figure, 7.0).axes for image in axes.get_images()]
    for index, (name, stack) in enumerate(figure.series.items()):
        row = shown[3 * index : 3 * index + 3]
        for image, pixels in zip(row, stack, strict=True):
            low, high = figure.ranges.get(name, (stack.min(), stack.max()))
            expected = pixels if pixels.ndim == 2 else (pixels - low) / (high - low)
            np.testing.assert_allclose(image.get_array(), expected)
            if pixels.ndim == 2:
                assert image.get_clim() == (low, high)
    assert shown[3].get_cmap().name == "RdBu_r"  # symmetrical about zero


def test_a_matrix_is_symmetrical_about_zero() -> None:
    (image,) = draw(FIGURES["matrix"], WIDTH).axes[0].get_images()
    np.testing.assert_array_equal(image.get_array(), FIGURES["matrix"].series["coupling"])
    assert image.get_clim() == (-2.0, 2.0)


def test_the_size_is_in_inches() -> None:
    assert tuple(draw(FIGURES["lines"], 5.0, height=2.0).get_size_inches()) == (5.0, 2.0)


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_changes_no_setting_and_needs_no_pyplot(name: str) -> None:
    before = dict(matplotlib.rcParams)
    draw(FIGURES[name], WIDTH).savefig(io.BytesIO())
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("kind", ["line", "scatter"])
@pytest.mark.parametrize("numbers", [[np.nan] * 3, [0.0] * 3, [np.inf, 1.0, -np.inf], [-1.0, -2.0, -3.0]])
@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_numbers_without_a_place_on_the_axis_are_left_out(
    kind: str, numbers: list[float], scale: str
) -> None:
    values = np.array(numbers)
    figure = Figure(kind, "t", "x", "y", {"x": np.arange(3.0), "y": values}, y_scale=scale, x_scale=scale)
    draw(figure, WIDTH).savefig(io.BytesIO())


def luminance(colour: str) -> float:
    parts = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], parts))


@pytest.mark.parametrize("colour", [*COLOURS, MUTED])
@pytest.mark.parametrize("paper", ["#ffffff", "#16181c"])
def test_colours_have_contrast_on_both_papers(colour: str, paper: str) -> None:
    """WCAG 2.2, 1.4.11: at least 3 to 1 for graphics."""
    light, dark = sorted((luminance(colour), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3.0


def test_series_differ_also_in_grey() -> None:
    """Six series differ by marker, whatever their colour."""
    assert len(set(MARKERS)) == len(MARKERS) == len(COLOURS)


def test_the_tables_hold_the_numbers() -> None:
    table = tables_of(FIGURES["lines"])["Loss along directions"]
    assert table.columns == ("step", "v_1", "v_1, lower end", "v_1, upper end", "v_2", "random")
    assert [row[0] for row in table.rows] == FIGURES["lines"].series["x"].tolist()
    assert [row[1] for row in table.rows] == FIGURES["lines"].series["v_1"].tolist()
    assert table.rows[10][5] is None  # NaN
    atoms = tables_of(FIGURES["density"])["eigenvalues"]
    assert atoms == Table(("eigenvalue", "density"), ((20.0, 1e-4), (60.0, 1e-4)))
    matrix = tables_of(FIGURES["matrix"])["Couplings"]
    assert matrix.columns == ("", "a", "b", "c")
    assert matrix.rows[1] == ("b", -0.5, 2.0, 0.1)
    bars = tables_of(FIGURES["bars"])["Eigenvalues by layer"]
    assert bars.rows[1][0] == FIGURES["bars"].labels[1]  # in full
    assert tables_of(FIGURES["images"]) == {}


def test_text_is_shown_as_it_is() -> None:
    assert literal("$x^2$") == r"\$x^2\$"
    assert literal("a\x00b\nc") == "a\N{REPLACEMENT CHARACTER}b\nc"
    title = draw(FIGURES["odd text"], WIDTH).get_suptitle()
    assert "x^2 and <b>&amp;" in title


if __name__ == "__main__":
    for name, figure in FIGURES.items():
        save(figure, BASELINE / f"{name.replace(' ', '-')}.png")
