"""What the commands print on a terminal of 80 columns: nothing is wider, cut, or broken within a word."""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

import eigencore
from eigencore.cli import main
from eigencore.cli.page import INDENT, Page, Plain, Terminal, fitted
from eigencore.cli.print_run import print_run
from eigencore.results import Run

pytest.importorskip("sklearn")  # demo:digits-numpy needs it
WIDTH = 80
FEW = {
    "robustness": {"images": 110},
    "network": {"images": 30},
    "ranks": {"images": 30},
    "batch_sharpness": {"draws": 3},
    "density": {"probes": 2, "steps": 20},
    "trace": {"products": 40},
    "diagonal": {"products": 40},
    "norms": {"probes": 2, "steps": 20},
}
MEMBERS = """
import numpy as np
import eigencore

def networks():
    for i in range(12):
        values = (1.0 + i) * np.arange(1.0, 20) ** 2
        yield eigencore.Member(f"a network with a rather long name, number {i}", np.diag(values),
                               {f"covariate_{j}": float(i * j % 7) for j in range(4)})
"""
TABLES = {
    "text": (["name", "summary"], [("a", "a summary that is longer than the page is wide"), ("b", "short")]),
    "names": (["a rather long name of a column"] * 4, [(1.25, 10.5, "x", None)]),
    "numbers": (["name", *(f"column {i}" for i in range(12))], [("a", *(1e5 + i for i in range(12)))] * 2),
    "no rows": (["name", "summary"], []),
    "one wide word": (["file"], [("/a/path/that/is/wider/than/the/page/" * 2,)]),
}


def words(text: str) -> set[str]:
    """All words and numbers, apart from times and the rules of tables."""
    return set(re.sub(r"\bin [\d.,]+ s\b", "", " ".join(re.sub("─+", " ", text).split())).split())


def unfit(text: str) -> list[str]:
    """The lines that are too wide or cut."""
    return [line for line in text.splitlines() if len(line.rstrip()) > WIDTH or "…" in line]


def on_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a command prints on a terminal without colours."""
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", str(WIDTH))
        patched.setenv("TERM", "dumb")
        patched.setattr("sys.stdout", shown)
        assert main(arguments) == 0
    return shown.getvalue()


@pytest.fixture(scope="module")
def run() -> Run:
    """A run with all analyses."""
    return eigencore.analyze("demo:digits-numpy", k=2, analyses=list(FEW), options=FEW)


def printed(run: Run, everything: bool = False) -> str:
    shown = io.StringIO()
    print_run(run, Terminal(Console(file=shown, width=WIDTH)), everything=everything)
    return shown.getvalue()


@pytest.mark.parametrize("everything", [False, True], ids=["brief", "verbose"])
def test_a_run_with_all_analyses(run: Run, everything: bool, capsys: pytest.CaptureFixture[str]) -> None:
    print_run(run, Plain(), everything=everything)
    plain, shown = capsys.readouterr().out, printed(run, everything)
    assert not unfit(shown)
    assert words(shown) == words(plain)


def test_the_certificate_takes_five_lines_and_each_verdict_two(run: Run) -> None:
    texts = [printed(run), printed(eigencore.analyze("demo:quadratic"))]
    for text in texts:
        problem, table, certificate, *_ = text.split("\n\n")
        assert problem.count("\n") <= 2
        assert table.lstrip().startswith("#")
        assert 3 <= certificate.strip().count("\n") + 1 <= 5
        assert "the certificate" not in certificate
        assert "certificate" in certificate
    for name, result in run.analyses.items():
        lines = textwrap.wrap(result.verdict, WIDTH, subsequent_indent="  ")
        assert len(lines) <= 2, f"{name}: {lines}"


LISTINGS = ["plugins", "problems", "backends", "kinds", "solvers", "attacks", "analyses"]


@pytest.mark.parametrize(
    "arguments",
    [
        *([name] for name in LISTINGS),
        ["solvers", "accel_power"],
        ["analyses", "robustness"],
        ["backends", "torch"],
        ["layers", "demo:digits-numpy", "-k", "6"],
        ["attack", "demo:digits-numpy", "--images", "20", "--eps", "0.05,0.123456789"],
        ["attack", "demo:digits-numpy", "--images", "20", "--attack", "deepfool"],
    ],
    ids=" ".join,
)
def test_a_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = on_terminal(monkeypatch, *arguments)
    assert main(arguments) == 0
    assert not unfit(shown)
    assert words(shown) == words(capsys.readouterr().out)


def test_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("joblib")
    monkeypatch.chdir(tmp_path)
    Path("file.py").write_text(MEMBERS)
    outcomes = [f"covariate_{i}" for i in range(4)]
    arguments = [
        "study",
        "file.py:networks",
        "--jobs",
        "1",
        "-k",
        "4",
        "--analyses",
        "trace",
        "--control",
        "none",
    ]
    for i in range(4):
        arguments += ["--metric", f"lambda_{i + 1}", "--outcome", outcomes[i]]
    shown = on_terminal(monkeypatch, *arguments)
    assert main(arguments) == 0
    assert not unfit(shown)
    assert words(shown) == words(capsys.readouterr().out)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(("columns", "rows"), TABLES.values(), ids=TABLES)
def test_a_table(columns: list[str], rows: list[tuple[object, ...]], width: int) -> None:
    shown, plain = io.StringIO(), io.StringIO()
    console: Page = Terminal(Console(file=shown, width=width))
    console.table(columns, rows)
    Terminal(Console(file=plain, width=1000)).table(columns, rows)
    text = shown.getvalue()
    widest = max(map(len, words(plain.getvalue())))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= max(width, widest + INDENT)
    assert words(text) == words(plain.getvalue())


def test_a_table_that_fits_is_not_changed_and_a_wider_one_repeats_its_first_column() -> None:
    cells, numeric = [["a", "1.5", "22.5"]], [False, True, True]
    assert fitted(["name", "x", "y"], cells, numeric, 17) == [([0, 1, 2], [4, 3, 4])]
    assert fitted(["name", "x", "y"], cells, numeric, 16) == [([0, 1], [4, 3]), ([0, 2], [4, 4])]
    assert fitted(["some name", "x", "y"], cells, numeric, 20) == [([0, 1, 2], [7, 3, 4])]


def test_a_failure_is_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    arguments = ["attack", "demo:quadratic"]
    plain = io.StringIO()
    for stream in (shown, plain):
        with monkeypatch.context() as patched:
            patched.setenv("COLUMNS", str(WIDTH))
            patched.setattr("sys.stderr", stream)
            assert main(arguments) == 2
    assert not unfit(shown.getvalue())
    assert max(map(len, plain.getvalue().splitlines())) > WIDTH
    removed = "\r\x1b[K"  # the line of progress
    assert shown.getvalue().replace(removed, "").split() == plain.getvalue().split()
