"""The function `render`: a result as figures or as a page, by a renderer that a plugin registers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigencore.entries import RendererEntry
from eigencore.errors import EigencoreError, ResultError, UnknownNameError, UsageError
from eigencore.registry import load, registry, resolve_options
from eigencore.runs.reports import report

if TYPE_CHECKING:
    from eigencore.interfaces import Renderer


def render(result: Any, name: str, file: str | os.PathLike[str] | None = None, **options: Any) -> Any:
    """The result drawn by the registered renderer of this name, and saved if there is a file.

    Args:
        result: as for `report`.
        name: "plot" for matplotlib figures, "html" for a page, or a renderer of another plugin.
        file: the file to write, whose suffix says the format.
        options: options of the renderer.

    Returns:
        What the renderer returns: for "plot" a list of figures, for "html" the text of the page.

    Raises:
        UnknownNameError: no renderer has that name.
        UsageError: there is no report of the result, or the file can't be written in that format or place;
            raised before anything is drawn.
        OptionError: an option is unknown or invalid.
        PluginError: the packages of the renderer are not installed; the hint says which to install.
        ResultError: the file can't be written.

    Example:
        import numpy as np
        import eigencore

        result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)
        page = eigencore.render(result, "html", "eigenvalues.html")
        print(page[:15])
    """
    entry = find_renderer(name)
    path = None if file is None else check_file(entry, file)
    made = report(result)
    resolved = resolve_options(entry, options)
    draw: Renderer = load(entry)
    try:
        return draw(made, path, resolved)
    except EigencoreError:
        raise
    except OSError as error:
        raise ResultError(f"{path} can't be written: {error.strerror or error}") from error


def prepare_rendering(name: str, file: str | os.PathLike[str]) -> None:
    """Checks that the renderer can be used and can write the file, before there is anything to draw.

    Raises:
        EigencoreError: as for `render`.
    """
    entry = find_renderer(name)
    check_file(entry, file)
    load(entry)


def find_renderer(name: str) -> RendererEntry:
    """The renderer of this name.

    Raises:
        UnknownNameError: there is none; the hint says what to install.
    """
    try:
        return registry().find(RendererEntry, name)
    except UnknownNameError as error:
        if name in ("plot", "html"):
            error.hint = (
                f"The plugin eigencore_report draws it, which is not loaded. {error.hint or ''}".strip()
            )
        raise


def check_file(entry: RendererEntry, file: str | os.PathLike[str]) -> Path:
    """The path of a file that a renderer can write; nothing is written.

    Raises:
        UsageError: the suffix is not one of the renderer's, or the file can't be written there.
    """
    path = Path(file)
    suffix = path.suffix.lower().removeprefix(".")
    formats = ", ".join(f".{one}" for one in entry.suffixes)
    if os.path.isdir(path) or not path.name:
        raise UsageError(f"{os.fspath(file)!r} is a folder; expected a file that ends in {formats}")
    if suffix not in entry.suffixes:
        raise UsageError(f"{path} ends in {path.suffix or 'no suffix'}; {entry.name} writes {formats}")
    if not os.path.isdir(path.parent):
        raise UsageError(f"{path} can't be written: there is no folder {path.parent}")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        raise UsageError(f"{path} can't be written to")
    return path
