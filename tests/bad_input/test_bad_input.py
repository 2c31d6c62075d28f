"""The table of bad input: each row has an input and the expected message.

Every row must also print no traceback, exit with the right code, give the same message as text and as JSON,
and leave the folder as it was.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rows_asked
import rows_config
import rows_files
import rows_matrices
import rows_plugins
import rows_problems
import rows_results
import rows_robustness
from rows import Row

from eigencore.cli import main
from eigencore.errors import EigencoreError
from eigencore.registry import registry
from eigencore.results import EigenResult, Run, Status

TABLE: list[Row] = [
    *rows_asked.ROWS,
    *rows_config.ROWS,
    *rows_problems.ROWS,
    *rows_matrices.ROWS,
    *rows_files.ROWS,
    *rows_results.ROWS,
    *rows_robustness.ROWS,
    *rows_plugins.ROWS,
]


def through(way: str) -> list[object]:
    """The rows that are given in this way, "python" or "command"."""
    return [
        pytest.param(
            row,
            id=row.given,
            marks=[pytest.mark.xfail(strict=True, reason=row.fault)]
            if row.fault and row.fault_of in ("", way)
            else [],
        )
        for row in TABLE
        if getattr(row, way) is not None
    ]


def prepared(row: Row, folder: Path) -> dict[Path, bytes]:
    """Prepares a row; returns the files that exist before it is given."""
    row.prepare(folder)
    registry.cache_clear()
    return contents(folder)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("row", through("python"))
def test_through_python(row: Row, folder: Path):
    before = prepared(row, folder)
    if row.error is not None:
        with pytest.raises(row.error) as caught:
            row.python()
        assert isinstance(caught.value, EigencoreError)
        assert type(caught.value) is row.error
        message = str(caught.value)
    else:
        given = row.python()
        message = "" if isinstance(given, EigenResult) else text_of_analyses(given)
        found = given if isinstance(given, EigenResult) else given.eigen
        assert found.status is Status.CONVERGED
        if row.truth is not None:
            np.testing.assert_allclose(found.values, row.truth(), rtol=1e-3, atol=1e-6)
    for word in row.words:
        assert word in message
    assert contents(folder) == before


def text_of_analyses(run: Run) -> str:
    return " ".join(
        " ".join([one.verdict, *one.warnings, *(str(table.rows) for table in one.tables.values())])
        for one in run.analyses.values()
    )


@pytest.mark.parametrize("row", through("command"))
def test_through_the_command(row: Row, folder: Path, capsys: pytest.CaptureFixture[str]):
    before = prepared(row, folder)
    code = main(row.command)
    out, err = capsys.readouterr()
    assert code == row.exit_code
    assert "Traceback" not in out + err
    message = out
    if row.error is not None:
        assert err.startswith("eigen: ")
        assert out == "" or out.startswith("eigenpairs computed before the failure:")
        message = err
    for word in row.words:
        assert word in message
    assert contents(folder) == before

    first, *rest = row.command
    assert main((first, *rest, "--json") if first.startswith("-") else (first, "--json", *rest)) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    if row.error is not None:
        assert document["error"].keys() == {"type", "message", "hint", "culprit"}
        for word in row.words:
            assert word in f"{document['error']['message']}\n{document['error']['hint']}"
    else:
        assert document["status"] == "converged"
        if row.truth is not None:
            np.testing.assert_allclose(document["eigenvalues"], row.truth(), rtol=1e-3, atol=1e-6)


def test_the_table_has_at_least_200_different_rows():
    names = [row.given for row in TABLE]
    assert len(set(names)) == len(names) >= 200
