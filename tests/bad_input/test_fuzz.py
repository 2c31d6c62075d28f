"""Random input works or is refused with a clear error; any other exception is a bug.

EIGEN_FUZZ=10000 sets the total number of inputs, which are the same each time.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import eigencore
from eigencore import cli
from eigencore.cli.failures import USER_ERRORS
from eigencore.cli.print_run import print_run
from eigencore.entries import Entry
from eigencore.errors import EigencoreError, ResultError
from eigencore.figures import Figure, Table
from eigencore.options import OptionSpec, check, describe, option, resolve
from eigencore.problems import find_factory
from eigencore.registry import load_options, registry
from eigencore.results import AnalysisResult, Run
from eigencore.runs import config_text, from_json, load, save, to_json
from eigencore.runs.folder import ARRAYS, RESULT, VECTORS

TESTS = 8
EXAMPLES = -(-int(os.environ.get("EIGEN_FUZZ", "1400")) // TESTS)
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

texts = st.text(max_size=12)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 10**400, float("nan"), float("inf")])
scalars = st.none() | st.booleans() | numbers | texts
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def attempt(call: Callable[[], Any], refused: type[EigencoreError] = EigencoreError) -> tuple[Any, str]:
    """The result of a call, or the message of the error with which it is refused."""
    try:
        return call(), ""
    except refused as error:
        return None, str(error)


class Silent:
    """A page that formats everything and shows nothing."""

    def line(self, text: str = "", style: str = "") -> None:
        text.strip()

    def table(self, columns: Any, rows: Any) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            from eigencore.cli.page import Plain

            Plain().table(columns, rows)


@functools.cache
def sound() -> Run:
    """A run that uses every part of a result."""
    found = AnalysisResult(
        verdict="fine",
        title="look",
        numbers={"rho": 0.5, "n": 3, "none": None},
        tables={"by class": Table(("class", "share"), (("a", 0.5), ("b", None)))},
        columns={"x": np.arange(4.0), "label": np.array(["a", "b", "c", "d"])},
        figures=(Figure("scatter", "t", "x", "y", {"x": np.arange(2.0), "y": np.arange(2.0)}),),
        warnings=("beware",),
    )
    run = eigencore.analyze("demo:quadratic", k=3, analyses="none", options={"problem": {"n": 20}})
    return Run(run.eigen, {"look": found}, run.manifest)


# -- saved results -----------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


@functools.cache
def all_places() -> list[tuple[Any, ...]]:
    return list(places(json.loads(to_json(sound()))))


@fuzzed
@given(st.data())
def test_a_result_with_other_values(data: st.DataObject):
    document = json.loads(to_json(sound()))
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(all_places()))
        with contextlib.suppress(LookupError, TypeError):  # it was removed before
            inside = functools.reduce(lambda value, key: value[key], path, document)
            what = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
            if what == "replace":
                inside[last] = data.draw(plain)
            elif what == "remove":
                del inside[last]
            elif isinstance(inside, list):
                inside.append(inside[last])
    columns = {f"look/{name}": column for name, column in sound().analyses["look"].columns.items()}
    run, refusal = attempt(
        lambda: from_json(json.dumps(document), sound().eigen.vectors, columns), ResultError
    )
    if not refusal:
        print_run(run, Silent())
        attempt(lambda: tomllib.loads(config_text(run)), ResultError)
        assert json.loads(to_json(run))


@fuzzed
@given(
    plain | st.dictionaries(st.sampled_from(["schema", "eigenvalues", "run", "operator"]), plain | st.just(1))
)
def test_any_json_in_place_of_a_result(value: Any):
    with contextlib.suppress(ResultError):
        from_json(json.dumps(value), np.zeros((1, 1)), {})


@fuzzed
@given(
    st.sampled_from([RESULT, VECTORS, ARRAYS]),
    st.one_of(
        st.binary(max_size=64),
        st.floats(0, 1),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    ),
)
def test_files_with_other_bytes(name: str, damage: Any):
    """All bytes are others, the end is missing, or a few bytes are others."""
    with tempfile.TemporaryDirectory() as place:
        save(sound(), place)
        whole = (Path(place) / name).read_bytes()
        if isinstance(damage, bytes):
            damaged = damage
        elif isinstance(damage, float):
            damaged = whole[: int(damage * len(whole))]
        else:
            changed = bytearray(whole)
            for where, byte in damage:
                changed[int(where * len(whole))] = byte
            damaged = bytes(changed)
        (Path(place) / name).write_bytes(damaged)
        run, refusal = attempt(lambda: load(place), ResultError)
        if refusal:
            assert place in refusal
        else:
            print_run(run, Silent())


# -- options -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """Options of all kinds."""

    whole: int | None = option(None, low=3, high=100, help="", when="")
    number: float | Literal["auto"] = option("auto", low=0, high=1, help="", when="")
    switch: bool = option(True, help="", when="")
    path: Path | None = option(None, help="", when="")
    label: str = option("", help="", when="")
    radii: tuple[float, ...] | None = option(None, help="", when="")
    anything: Any = option(None, help="", when="")


@functools.cache
def declared() -> dict[str, type]:
    entries = [one.entry for one in registry().entries(Entry) if one.entry.options]
    return {"made": Made} | {entry.name: load_options(entry) for entry in entries}


odd = st.sampled_from(
    [object(), np.array([1, 2]), np.float32(0.5), np.int8(3), b"1", {1}, int, 1j, "1_0", "٣"]
)


@fuzzed
@given(st.data())
def test_options_of_any_value(data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(declared())))
    names = st.sampled_from([spec.name for spec in describe(declared()[name])]) | texts
    values = st.dictionaries(
        names, plain | odd | st.from_regex(r"[-+0-9.e_ ]{1,8}", fullmatch=True), max_size=3
    )
    given_to = data.draw(values)
    made, refusal = attempt(lambda: resolve(declared()[name], given_to, entry=name))
    assert name in refusal if refusal else isinstance(made, declared()[name])


@fuzzed
@given(
    st.lists(
        st.builds(
            OptionSpec,
            texts,
            st.lists(st.sampled_from([int, float, bool, str, Path, list, dict, type(None)])).map(tuple),
            st.lists(scalars, max_size=2).map(tuple),
            st.none(),
            low=st.none() | st.floats(allow_nan=False),
            high=st.none() | st.floats(allow_nan=False),
            required=st.booleans(),
        ),
        max_size=3,
    ),
    st.dictionaries(texts, plain | odd, max_size=3),
)
def test_options_of_any_declaration(specs: list[OptionSpec], values: dict[str, Any]):
    given_to = {spec.name: value for spec, value in zip(specs, values.values(), strict=False)}
    with contextlib.suppress(EigencoreError):
        check(tuple(specs), {**values, **given_to}, entry="made")


# -- names -------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        "demo",
        "quadratic",
        ":",
        ".",
        "/",
        "@",
        "eigencore",
        ".py",
        "json",
        "dumps",
        "..",
        "~",
        "",
        " ",
        "*",
        "\0",
        "-",
    ]
)


@fuzzed
@given(st.lists(pieces | texts, max_size=6).map("".join))
def test_names_of_problems(name: str):
    found, refusal = attempt(lambda: find_factory(name))
    assert refusal or callable(found)


# -- arguments ---------------------------------------------------------------------------------------------

GOOD = {
    "-k": ["1", "3", "20"],
    "--tol": ["0.1", "1e-9"],
    "--seed": ["7", "0"],
    "--which": ["LM", "sa", "BE"],
    "--solver": ["lanczos", "arpack", "deflated_power", "accel_power", "lobpcg"],
    "--certify": ["none", "sketch", "full"],
    "--max-matvecs": ["1", "5", "40", "inf"],
    "--max-seconds": ["0.001", "1"],
    "--analyses": ["none"],
    "--set": ["lanczos.basis=8", "problem.n=9", "problem.outliers=2"],
    "--out": ["run", "deep/run"],
}
BAD = {
    "-k": ["21", "0", "-1", "many", "1e3"],
    "--tol": ["0", "nan", "-1"],
    "--seed": ["-7", "x"],
    "--which": ["XX"],
    "--solver": ["lanzcos", "pgd"],
    "--max-matvecs": ["0", "nan"],
    "--max-seconds": ["-1"],
    "--analyses": ["robustness", ",", "none,none"],
    "--kind": ["hessian", "ggn"],
    "--params": ["*", "head"],
    "--backend": ["torch", "numpy", "none"],
    "--device": ["cpu", "cuda", "gpu"],
    "--dtype": ["float32", "float16"],
    "--set": ["lanczos.basis=1", "arpack.ncv=9", "problem.n=0", "a.b", "=", ".="],
    "--out": ["file/run", "file", ".", ""],
}
LISTS = ("plugins", "problems", "backends", "solvers", "attacks", "analyses")


def pairs(of: dict[str, list[str]]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([(flag, value) for flag, values in of.items() for value in values])


def flags() -> st.SearchStrategy[list[str]]:
    """Valid flags, and sometimes an invalid one among them."""
    odd = st.one_of(
        pairs(BAD),
        st.tuples(st.sampled_from(sorted(GOOD | BAD)), texts),
        st.sampled_from([*GOOD, "--help", "--", "-x", "--version"]).map(lambda flag: (flag,)),
        texts.map(lambda text: (text,)),
    )
    good = st.lists(pairs(GOOD) | st.just(("--json",)), max_size=4)
    several = good | st.tuples(good, odd, good).map(lambda found: [*found[0], found[1], *found[2]])
    return several.map(lambda found: [token for group in found for token in group])


commands = st.one_of(
    st.tuples(st.just(["analyze", "demo:quadratic", "--set", "problem.n=20", "--max-seconds", "2"]), flags()),
    st.tuples(st.sampled_from(LISTS).map(lambda name: [name]), flags() | st.lists(st.sampled_from(
        ["lanczos", "pgd", "torch", "demo:quadratic", "robustness", "--json"]), max_size=2)),
    st.tuples(st.just(["show"]), st.sampled_from([["run"], ["file"], ["."], []]) | flags()),
    st.tuples(st.just([]), flags()),
    st.tuples(st.lists(texts, max_size=2), st.just([])),
)  # fmt: skip


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Collects the errors that the command reports."""
    errors: list[BaseException] = []
    report = cli.report
    monkeypatch.setattr(cli, "report", lambda error, given: (errors.append(error), report(error, given))[1])
    return errors


@fuzzed
@given(commands)
def test_arguments(reported: list[BaseException], folder: Path, parts: tuple[list[str], list[str]]):
    arguments = [*parts[0], *parts[1]]
    # The default problem takes seconds, and a plugin that is disabled remains disabled.
    assume(arguments[:1] != ["analyze"] or arguments[1:2] == ["demo:quadratic"])
    assume(not any(argument.startswith("-p") for argument in arguments))
    assume("--verbose" not in arguments)  # which prints tracebacks, in any place
    reported.clear()
    (folder / "file").touch()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    assert all(isinstance(error, USER_ERRORS) for error in reported)
    assert code in range(5)
    assert (code in (1, 2, 4)) == bool(reported)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    if reported and "--json" in arguments:
        assert json.loads(out.getvalue())["error"]["message"]


# -- configuration files -----------------------------------------------------------------------------------

KEYS = ("k", "tol", "seed", "which", "solver", "certify", "analyses", "params", "complete", "set", "json")
in_toml = st.recursive(
    st.booleans() | st.integers() | st.floats() | texts | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
in_set = st.dictionaries(
    st.sampled_from(["lanczos", "problem", "ggn"]) | texts,
    st.dictionaries(st.sampled_from(["basis", "n", "outliers"]) | texts, in_toml, max_size=2),
    max_size=2,
)
files = st.one_of(
    st.dictionaries(st.sampled_from(KEYS) | texts, in_toml, max_size=3).map(tomli_w.dumps).map(str.encode),
    in_set.map(lambda tables: tomli_w.dumps({"k": 2, "set": tables}).encode()),
    st.binary(max_size=12),
    texts.map(str.encode),
)


@fuzzed
@given(files)
def test_configuration_files(reported: list[BaseException], folder: Path, content: bytes):
    reported.clear()
    (folder / "run.toml").write_bytes(content)
    given = ["analyze", "demo:quadratic", "--config", "run.toml", "--set", "problem.n=20"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*given, "--max-seconds", "2", "--analyses", "none"])
    assert all(isinstance(error, USER_ERRORS) for error in reported)
    assert code in range(5)
    assert (code in (1, 2, 4)) == bool(reported)
    assert "Traceback" not in out.getvalue() + err.getvalue()
