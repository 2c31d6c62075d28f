"""Folders that a run can't be saved in, and results that can't be read."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import QUADRATIC, Row, nothing

import eigencore
from eigencore.errors import EigencoreError, ResultError, UsageError
from eigencore.runs import from_json
from eigencore.runs.folder import ARRAYS, RESULT, VECTORS


def saved_in(
    out: str,
    *words: str,
    given: str = "",
    error: type[EigencoreError] = UsageError,
    prepare: Callable[[Path], object] = lambda folder: None,
) -> Row:
    return Row(
        given or f"out is {out}",
        error,
        words,
        lambda: eigencore.analyze("demo:quadratic", analyses="none", options={"problem": {"n": 60}}, out=out),
        (*QUADRATIC, "--out", out),
        prepare=prepare,
    )


def put(name: str, text: str = "mine") -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return prepare


def a_run(folder: Path) -> Path:
    """An intact run, in the folder `run`."""
    eigencore.analyze(
        "demo:quadratic", k=2, analyses="none", options={"problem": {"n": 20}}, out=folder / "run"
    )
    return folder / "run"


def damaged(given: str, *words: str, damage: Callable[[Path], object]) -> Row:
    """A damaged run, for `load` and `eigen show`."""
    return Row(
        given,
        ResultError,
        words,
        lambda: eigencore.load("run"),
        ("show", "run"),
        prepare=lambda folder: damage(a_run(folder)),
    )


def edited(given: str, *words: str, edit: Callable[[dict[str, Any]], object]) -> Row:
    def damage(run: Path) -> None:
        document = json.loads((run / RESULT).read_text())
        edit(document)
        (run / RESULT).write_text(json.dumps(document))

    return damaged(given, *words, damage=damage)


def cut(name: str) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: len(whole) // 2])

    return damage


def no_run(place: str, *words: str, **more: Any) -> Row:
    return Row(
        more.pop("given", f"a run in {place}"),
        ResultError,
        words,
        lambda: eigencore.load(place),
        ("show", place),
        **more,
    )


class Trap:
    """A pickle of this creates a folder when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("sprung",)


ROWS = [
    *(
        Row(given, UsageError, words, command=(*QUADRATIC, *flags), prepare=prepare)
        for given, words, flags, prepare in (
            ("a table in no folder", ("there is no folder nowhere",), ("--csv", "nowhere/a.csv"), nothing),
            ("a table in place of a folder", ("--csv is 'here'",), ("--csv", "here"), put("here/mine.txt")),
            ("a table without a name", ("--csv is ''", "or - for stdout"), ("--csv", ""), nothing),
            (
                "a table below a file",
                ("there is no folder mine.txt",),
                ("--csv", "mine.txt/a"),
                put("mine.txt"),
            ),
        )
    ),
    # -- folders that a run can't be saved in
    saved_in("file", "file is a file", prepare=put("file")),
    saved_in("file/below", "file is a file", prepare=put("file")),
    saved_in("/dev/full", "/dev/full is a file"),
    saved_in("/dev/full/run", "/dev/full is a file"),
    saved_in("/proc/run", "/proc/run can't be created"),
    saved_in("", "out is ''", given="out is empty"),
    saved_in("x" * 300, "can't be created", "name too long", given="out has a name that is too long"),
    saved_in("a\0b", "can't be created", "null", given="out has a zero byte"),
    saved_in(
        "dangling",
        "dangling can't be created",
        prepare=lambda folder: (folder / "dangling").symlink_to("x/y"),
    ),
    saved_in("loop", "loop can't be created", prepare=lambda folder: (folder / "loop").symlink_to("loop")),
    saved_in("used", "contains notes.txt, which is not part of a run", prepare=put("used/notes.txt")),
    saved_in(
        "used",
        "is not a result of this version of eigencore",
        given="out holds another result.json",
        prepare=put(f"used/{RESULT}", "{}"),
    ),
    saved_in(
        "used",
        "is not a result of this version of eigencore",
        given="out holds a result of a later eigencore",
        prepare=put(f"used/{RESULT}", '{"schema": 2, "eigenvalues": []}'),
    ),
    saved_in(
        "used",
        "is not a result of this version of eigencore",
        given="out holds a result.json of ten thousand brackets",
        prepare=put(f"used/{RESULT}", "[" * 10_000),
    ),
    Row("out is a number", UsageError, ("out is 3",), lambda: eigencore.analyze(np.eye(9), out=3)),
    # -- results that can't be read
    no_run("nowhere", "no folder nowhere"),
    no_run(".", f"no {RESULT} in ."),
    no_run("file", "no folder file", prepare=put("file")),
    no_run("", "no result.json in .", given="a run in a folder without a name"),
    no_run("a\0b", "no folder a", given="a run in a folder with a zero byte in its name"),
    no_run("x" * 300, "no folder xxx", given="a run in a folder with a name that is too long"),
    Row("show without a folder", UsageError, ("DIR",), command=("show",)),
    damaged("a result cut short", "run:", "not JSON", damage=cut(RESULT)),
    damaged("vectors cut short", "run", "can't be read", damage=cut(VECTORS)),
    damaged("no vectors", "run", VECTORS, damage=lambda run: (run / VECTORS).unlink()),
    damaged("an empty result", "not JSON", damage=lambda run: (run / RESULT).write_text("")),
    damaged(
        "a result in bytes", "run can't be read", damage=lambda run: (run / RESULT).write_bytes(b"\xff\xfe")
    ),
    damaged(
        "a foreign result",
        "not a result of eigencore",
        damage=lambda run: (run / RESULT).write_text('{"a": 1}'),
    ),
    damaged(
        "a result that is a list",
        "not a result of eigencore",
        damage=lambda run: (run / RESULT).write_text("[]"),
    ),
    damaged(
        "a result of ten thousand brackets",
        "run:",
        damage=lambda run: (run / RESULT).write_text("[" * 10_000),
    ),
    damaged(
        "vectors of another run", "(20, 2)", damage=lambda run: np.save(run / VECTORS, np.zeros((20, 3)))
    ),
    damaged(
        "vectors that are whole numbers",
        "int64",
        damage=lambda run: np.save(run / VECTORS, np.zeros((20, 2), int)),
    ),
    damaged(
        "pickled vectors",
        "can't be read",
        damage=lambda run: (run / VECTORS).write_bytes(pickle.dumps(Trap())),
    ),
    damaged(
        "vectors of pickled objects",
        "can't be read",
        damage=lambda run: np.save(run / VECTORS, np.array([[Trap()]], object), allow_pickle=True),
    ),
    damaged(
        "a foreign arrays.npz", "can't be read", damage=lambda run: (run / ARRAYS).write_bytes(b"PK\x03\x04")
    ),
    edited("a later schema", "schema 2", "reads schema 1", edit=lambda document: document.update(schema=2)),
    edited("no residuals", "residuals", edit=lambda document: document.pop("residuals")),
    edited("an eigenvalue too few", "differ in length", edit=lambda document: document["eigenvalues"].pop()),
    edited("a residual too few", "differ in length", edit=lambda document: document["residuals"].pop()),
    edited("exact values too few", "differ in length", edit=lambda document: document["exact"].pop()),
    edited(
        "text in place of an eigenvalue",
        "got `str` - at `$.eigenvalues[0]`",
        edit=lambda document: document.update(eigenvalues=["nine", 4]),
    ),
    edited(
        "text in place of k",
        "Expected `int`, got `str` - at `$.k`",
        edit=lambda document: document.update(k="two"),
    ),
    edited(
        "a number in place of the advice",
        "Expected `str`, got `int` - at `$.advice`",
        edit=lambda document: document.update(advice=3),
    ),
    edited("an unknown status", "'done'", edit=lambda document: document.update(status="done")),
    edited(
        "a number in the notes",
        "Expected `str`, got `int` - at `$.notes[0]`",
        edit=lambda document: document.update(notes=[3]),
    ),
    edited(
        "text in the history",
        "Expected `float`, got `str` - at `$.history[0].seconds`",
        edit=lambda document: document["history"][0].update(seconds="x"),
    ),
    edited("no certificate", "certificate", edit=lambda document: document.update(certificate=None)),
    edited("a missing column", "'a/x'", edit=lambda document: document.update(analyses={"a": ANALYSIS})),
    *(
        Row(given, UsageError, words, python, command, prepare=a_run)
        for given, words, python, command in (
            (
                "one run to compare",
                ("1 run;",),
                lambda: eigencore.compare(["run"]),
                ("compare", "run"),
            ),
            (
                "a run that is compared with itself",
                ("two runs are named run",),
                lambda: eigencore.compare(["run", "run"]),
                ("compare", "run", "run"),
            ),
            (
                "figures in a format that is not drawn",
                ("a.jpg ends in .jpg", ".pdf, .svg, .png"),
                lambda: eigencore.load("run").plot("a.jpg"),
                ("show", "run", "--plot", "a.jpg"),
            ),
            (
                "a page in no folder",
                ("there is no folder nowhere",),
                lambda: eigencore.load("run").to_html("nowhere/a.html"),
                ("show", "run", "--html", "nowhere/a.html"),
            ),
            (
                "a page in place of a folder",
                ("is a folder",),
                lambda: eigencore.load("run").to_html("run"),
                ("show", "run", "--html", "run"),
            ),
            (
                "a report of an object of another type",
                ("no report of an object of type int",),
                lambda: eigencore.report(3),
                None,
            ),
            (
                "options of figures without figures",
                ("--set is given without --plot FILE",),
                None,
                ("show", "run", "--set", "plot.width=3"),
            ),
            (
                "an option that is not one of figures",
                ("expected plot.OPTION=VALUE",),
                None,
                ("show", "run", "--plot", "a.pdf", "--set", "pgd.steps=3"),
            ),
        )
    ),
    Row(
        "a folder without a run to compare",
        ResultError,
        ("no folder nowhere",),
        command=("compare", "nowhere", "b"),
    ),
    Row("from_json without JSON", ResultError, ("not JSON",), lambda: from_json("{", np.zeros((1, 1)), {})),
    Row(
        "from_json with a later schema",
        ResultError,
        ("schema",),
        lambda: from_json('{"schema": 9, "eigenvalues": 1}', np.zeros((1, 1)), {}),
    ),
]
ANALYSIS = {
    "verdict": "",
    "title": "",
    "numbers": {},
    "tables": {},
    "figures": [],
    "warnings": [],
    "columns": ["x"],
}
