"""How results are shown: as data frames, as figures, as a page, and as a few lines in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from eigencore.errors import EigencoreError
from eigencore.number_text import cells_of

if TYPE_CHECKING:
    import os

    from eigencore.figures import Table

NOTEBOOK_ROWS = 10


class HasColumns(Protocol):
    """Arrays by name, all of the same length."""

    @property
    def columns(self) -> Mapping[str, Any]: ...


class Tabular:
    """Gives a result with `columns` the method `to_pandas`."""

    def to_pandas(self: HasColumns) -> Any:
        """The columns as a pandas DataFrame, with one row for each eigenpair or sample.

        Raises:
            EigencoreError: pandas is not installed.

        Example:
            import numpy as np
            import eigencore

            frame = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3).to_pandas()
            print(frame[frame.converged].eigenvalue.max())
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise EigencoreError("pandas is not installed", hint="Run: pip install pandas") from error
        return DataFrame(dict(self.columns))


class Reported:
    """Gives a result of which `eigencore.report` makes a report the methods that draw it.

    The renderers are entries of plugins, so that the names of eigencore lead to them.
    """

    def plot(self, file: str | os.PathLike[str] | None = None, **options: Any) -> list[Any]:
        """The figures of the result, drawn by the renderer "plot".

        Args:
            file: a file to save them in, such as "figures.pdf", "figure.svg" or "figure.png".
            options: options of the renderer; `eigen renderers plot` lists them.

        Returns:
            A list of matplotlib figures, in the order of the report.

        Raises:
            EigencoreError: as for `eigencore.render`.

        Example:
            import numpy as np
            import eigencore

            result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)
            figures = result.plot("eigenvalues.pdf", width=3.3)
            print(len(figures), figures[0].get_size_inches())
        """
        import eigencore

        figures: list[Any] = eigencore.render(self, "plot", file, **options)
        return figures

    def to_html(self, file: str | os.PathLike[str] | None = None, **options: Any) -> str:
        """The result as one HTML page that opens offline, made by the renderer "html".

        Args:
            file: a file to save it in.
            options: options of the renderer; `eigen renderers html` lists them.

        Raises:
            EigencoreError: as for `eigencore.render`.

        Example:
            import numpy as np
            import eigencore

            result = eigencore.solve(np.diag(np.arange(1.0, 51.0)), k=3)
            print(len(result.to_html("eigenvalues.html")))
        """
        import eigencore

        page: str = eigencore.render(self, "html", file, **options)
        return page

    def _repr_html_(self) -> str:
        """What notebooks show: the title, and the verdict and the first table of each part."""
        import eigencore

        report = eigencore.report(self)
        lines = [f"<strong>{html.escape(report.title)}</strong>"]
        lines += [f"<br><small>{html.escape(line)}</small>" for line in report.setting]
        for name, part in report.parts.items():
            heading = name if len(report.parts) > 1 else ""
            lines.append(f"<p>{f'<em>{html.escape(heading)}</em>: ' if heading else ''}")
            lines.append(f"{html.escape(part.verdict)}</p>")
            lines += [f"<p>{html.escape(warning)}</p>" for warning in part.warnings]
            shown = tuple(part.tables) if part.shown is None else part.shown
            lines += [_table(part.tables[title]) for title in shown[:1]]
        return "\n".join(lines)


def _table(table: Table) -> str:
    cells, numeric = cells_of(table.columns, table.rows)
    lines = ["<table><thead><tr>", *_row("th", table.columns, numeric), "</tr></thead><tbody>"]
    for row in cells[:NOTEBOOK_ROWS]:
        lines += ["<tr>", *_row("td", row, numeric), "</tr>"]
    more = len(cells) - NOTEBOOK_ROWS
    return "".join(
        [*lines, "</tbody></table>", f"<p>and {more} further row{'s' * (more > 1)}</p>" if more > 0 else ""]
    )


def _row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> list[str]:
    return [
        f'<{tag} style="text-align: {"right" if number else "left"}">{html.escape(cell)}</{tag}>'
        for cell, number in zip(cells, numeric, strict=True)
    ]
