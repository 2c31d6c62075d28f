"""`--config FILE` of the commands that compute, and `eigen show DIR --config`, which repeats a run."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import tomli_w

import eigencore
from eigencore.cli import eigen, main
from eigencore.errors import ResultError
from eigencore.operators import as_operator
from eigencore.runs import config_text

COMMANDS = ("analyze", "layers", "attack", "density", "trace", "diagonal", "norms", "study")

PROBLEMS = """
import numpy as np

def diagonal(n: int = 40, top: float = 9.0, path=None):
    return np.diag(np.append(np.arange(1.0, n), n + top))

def network():
    import torch
    from torch import nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.randint(3, (40,))
    return model, list(zip(x.split(10), y.split(10))), nn.CrossEntropyLoss()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with problems in mine.py."""
    (tmp_path / "mine.py").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """run(*arguments) -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return (code, *capsys.readouterr())

    return call


# -- each option means the same in a file ------------------------------------------------------------------

# For each type of option: two values in a file, and how the command line gives them.
VALUES: dict[str, tuple[tuple[Any, list[str]], tuple[Any, list[str]]]] = {
    "integer": ((3, ["3"]), (7, ["7"])),
    "float": ((0.25, ["0.25"]), (2, ["2"])),
    "text": (("some text", ["some text"]), ("other", ["other"])),
    "complete": (("none", ["none"]), (0.5, ["0.5"])),
    "save_every": (("none", ["none"]), (60, ["60"])),
    "html": (("one.html", ["one.html"]), ("two.htm", ["two.htm"])),
    "eps": (([0.1, "8/255"], ["0.1,8/255"]), (0.5, ["0.5"])),
    "group": (({"a": ["x*", "y"], "b": "z"}, ["a=x*,y", "b=z"]), (["c=w"], ["c=w"])),
    "multiple": ((["one", "two"], ["one", "two"]), ("three", ["three"])),
    "analyses": ((["density", "trace"], ["density,trace"]), ("none", ["none"])),
    "set": (
        ({"lanczos": {"basis": 30}, "problem": {"n": 5}}, ["lanczos.basis=30", "problem.n=5"]),
        ({"lanczos": {"basis": 40}, "problem": {"n": 6}}, ["lanczos.basis=40", "problem.n=6"]),
    ),
}


def command(name: str) -> click.Command:
    _, found, _ = eigen.resolve_command(click.Context(eigen), [name])
    assert found is not None
    return found


def key(parameter: click.Parameter) -> str:
    names = [parameter.name] if isinstance(parameter, click.Argument) else parameter.opts
    return max(map(str, names), key=len).lstrip("-").replace("-", "_")


def values(parameter: click.Parameter) -> tuple[tuple[Any, list[str]], tuple[Any, list[str]]]:
    if key(parameter) in VALUES:
        return VALUES[key(parameter)]
    if isinstance(parameter.type, click.Choice):
        first, *_, last = [one for one in parameter.type.choices if one != parameter.default] * 2
        return (first, [first]), (last, [last])
    if getattr(parameter, "multiple", False) or parameter.nargs == -1:
        return VALUES["multiple"]
    if parameter.type.name in ("integer", "float"):
        return VALUES[parameter.type.name]
    return VALUES["text"]


def parsed(name: str, *arguments: str) -> dict[str, Any]:
    """What a command is called with. Options of entries are compared as text."""
    with command(name).make_context(name, list(arguments), parent=click.Context(eigen)) as context:
        found = dict(context.params)
    found["options"] = {
        entry: {option: str(value) for option, value in options.items()}
        for entry, options in found["options"].items()
    }
    return found


def on_the_command_line(parameter: click.Parameter, texts: list[str]) -> list[str]:
    if isinstance(parameter, click.Argument):
        return texts
    return [word for text in texts for word in (parameter.opts[0], text)]


PARAMETERS = [
    pytest.param(name, parameter, id=f"{name} {key(parameter)}")
    for name in COMMANDS
    for parameter in command(name).params
    if key(parameter) not in ("config", "log", "resume")  # which are not passed to the command
]


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_an_option_means_the_same_in_a_file(name: str, parameter: click.Parameter, folder: Path):
    if key(parameter) == "html":
        pytest.importorskip("matplotlib")
    before = (name == "study" and key(parameter) != "members") or key(parameter) == "checkpoints"
    others = ["x.py:f"] if before else []
    file = ["--config", "run.toml"]
    if getattr(parameter, "is_flag", False):
        for value in (True, False):
            (folder / "run.toml").write_text(tomli_w.dumps({key(parameter): value}))
            assert parsed(name, *others, *file) == parsed(name, *others, *parameter.opts[: int(value)])
        return
    first, second = values(parameter)
    for value, words in (first, second):
        (folder / "run.toml").write_text(tomli_w.dumps({key(parameter): value}))
        given = parsed(name, *others, *on_the_command_line(parameter, words))
        assert given != parsed(name, *(others or ["x.py:f"] * (name == "study")))
        assert parsed(name, *others, *file) == given
        # The command line precedes the file, in any position.
        for _, texts in (first, second):
            words = on_the_command_line(parameter, texts)
            wins = parsed(name, *others, *words)
            assert parsed(name, *others, *words, *file) == wins
            assert parsed(name, *others, *file, *words) == wins


def test_every_command_that_computes_has_the_option():
    named = eigen.list_commands(click.Context(eigen))
    computing = {one for one in named if "seed" in {parameter.name for parameter in command(one).params}}
    assert computing >= {*COMMANDS}
    for name in computing:
        assert "config" in {parameter.name for parameter in command(name).params}


def test_dashes_and_underscores_are_the_same(folder: Path):
    for text in ("max-matvecs = 5", "max_matvecs = 5"):
        (folder / "run.toml").write_text(text)
        assert parsed("analyze", "--config", "run.toml")["max_matvecs"] == 5


def test_options_of_entries_are_merged_with_those_of_the_command_line(folder: Path):
    (folder / "run.toml").write_text("[set.lobpcg]\na = 1\nb = 2\n[set.problem]\nc = 3")
    found = parsed("analyze", "--config", "run.toml", "--set", "lobpcg.b=7", "--set", "arpack.d=4")
    assert found["options"] == {"lobpcg": {"a": "1", "b": "7"}, "problem": {"c": "3"}, "arpack": {"d": "4"}}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ([], {"lanczos", "problem", "trace"}),
        (["--solver", "lanczos"], {"lanczos", "problem", "trace"}),
        (["--solver", "arpack"], {"problem", "trace"}),
        (["demo:quadratic"], {"lanczos", "problem", "trace"}),
        (["demo:digits"], {"lanczos", "trace"}),
        (["--analyses", "density"], {"lanczos", "problem"}),
        (["--analyses", "density,trace"], {"lanczos", "problem", "trace"}),
        (["--analyses", "none"], {"lanczos", "problem"}),
        (["--analyses", "none", "--solver", "arpack", "demo:digits"], set()),
    ],
    ids=lambda one: " ".join(sorted(one)) if isinstance(one, set) else " ".join(one),
)
def test_options_of_what_the_command_line_replaces_do_not_apply(
    given: list[str], left: set[str], folder: Path
):
    (folder / "run.toml").write_text(
        'problem = "demo:quadratic"\nset.lanczos.basis = 30\nset.problem.n = 60\nset.trace.products = 9\n'
        "set.pgd.steps = 3"
    )
    found = {*parsed("analyze", "--config", "run.toml", *given)["options"]}
    assert found == left | ({"pgd"} if "none" not in given else set())


def test_by_on_the_command_line_replaces_the_groups_of_a_file(folder: Path, run):
    (folder / "run.toml").write_text('group.all = ["*"]\nproblem = "mine.py:network"\nprobes = 0')
    pytest.importorskip("torch")
    for more, blocks in (([], ["all"]), (["--by", "module"], ["0", "2"])):
        code, out, _ = run("layers", "--config", "run.toml", "--json", *more)
        assert code == 0
        assert [block["name"] for block in json.loads(out)["blocks"]] == blocks


def test_flags_of_a_file_also_hold_on_failure(folder: Path, run):
    (folder / "run.toml").write_text('problem = "mine.py:diagonal"\njson = true\nk = 0\nanalyses = "none"')
    code, out, err = run("analyze", "--config", "run.toml")
    error = json.loads(out)["error"]
    assert (code, err, error["hint"].startswith("Options were read from run.toml.")) == (2, "", True)
    (folder / "run.toml").write_text('problem = "mine.py:diagonal"\nverbose = true\nk = 0')
    assert "Traceback" in run("analyze", "--config", "run.toml")[2]
    (folder / "run.toml").write_text('problem = "mine.py:diagonal"\nverbose = false\nk = 0')
    assert "Traceback" not in run("analyze", "--config", "run.toml")[2]


def test_a_byte_order_mark_is_no_error(folder: Path, run):
    (folder / "run.toml").write_text('problem = "mine.py:diagonal"\nanalyses = "none"', "utf-8-sig")
    assert run("analyze", "--config", "run.toml")[0] == 0


# -- a run is repeated -------------------------------------------------------------------------------------

QUADRATIC = "demo:quadratic --set problem.n=60"
RUNS = {
    "lanczos": f"analyze {QUADRATIC} -k 3 --seed 7",
    "a budget, and options of several entries": f"analyze {QUADRATIC} --solver accel_power --max-matvecs 60 "
    "--set accel_power.momentum=0.5 -k 2 --complete none --certify full --tol 1e-7",
    "a file": "analyze mine.py:diagonal --which BE -k 4 --set problem.top=2.5",
    "a matrix": "analyze matrix.npy -k 2 --solver arpack",
    "density": f"density {QUADRATIC} -k 2 --probes 3 --steps 8",
    "trace": f"trace {QUADRATIC} --products 30 --rtol none",
    "kind, params and analyses": "analyze demo:digits-numpy --kind ggn --set ggn.damping=0.5 --params W2,b* "
    "--set robustness.images=30 --set pgd.steps=3 -k 2",
    "samples": "trace demo:digits-numpy --samples 400 -k 1",
    "rtol": "analyze mine.py:network --rtol 0.2 -k 1 --seed 5",
    "a kind of PyTorch": "analyze mine.py:network --kind scaled --params re:[02].weight --analyses none",
}


def numbers(place: str) -> dict[str, Any]:
    """The eigenvalues, how they were found, and what the analyses computed, from a folder."""
    saved = json.loads(Path(place, "result.json").read_text())
    names = ("eigenvalues", "residuals", "matvecs", "status", "certificate", "sampling")
    found = {name: saved.get(name) for name in names}
    analyses = {name: (one["numbers"], one["verdict"]) for name, one in saved["analyses"].items()}
    return {**found, "analyses": analyses, "options": saved["run"]["options"]}


@pytest.mark.parametrize("given", RUNS.values(), ids=RUNS.keys())
def test_the_file_of_show_repeats_the_run_to_the_last_bit(given: str, folder: Path, run):
    for name, package in (("digits-numpy", "sklearn"), ("mine.py:network", "torch")):
        if name in given:
            pytest.importorskip(package)
    np.save("matrix.npy", np.diag(np.arange(1.0, 50.0)))
    code, _, err = run(*given.split(), "--out", "first")
    assert code in (0, 3), err
    (folder / "run.toml").write_text(run("show", "first", "--config")[1])
    again, _, err = run("analyze", "--config", "run.toml", "--out", "second")
    assert (again, err) == (code, "")
    assert numbers("first") == numbers("second")
    vectors = [Path(place, "vectors.npy") for place in ("first", "second")]
    if vectors[0].exists():
        np.testing.assert_array_equal(*map(np.load, vectors))
    # The file of the second run is the same: nothing was lost.
    assert run("show", "second", "--config")[1] == (folder / "run.toml").read_text()


def test_the_file_has_what_decides_the_numbers(folder: Path, run):
    """Also what the command line left to defaults, which may be others in a later version."""
    assert run("analyze", *QUADRATIC.split(), "-k", "2", "--out", "saved")[0] == 0
    text = run("show", "saved", "--config")[1]
    content = tomllib.loads(text)
    assert content.pop("set").keys() == {"problem", "lanczos"}
    assert content == {
        "problem": "demo:quadratic",
        "k": 2,
        "solver": "lanczos",
        "kind": "hessian",
        "which": "LM",
        "tol": 1e-3,
        "complete": 0.99,
        "seed": 0,
        "certify": "sketch",
        "analyses": "none",
    }
    assert f"{eigencore.load('saved').manifest['threads']} thread" in text
    assert f"numpy {np.__version__}" in text


def test_a_problem_of_python_has_to_be_named(folder: Path, run):
    first = eigencore.analyze(np.diag(np.append(np.arange(1.0, 40), 49.0)), 3, out="saved")
    text = run("show", "saved", "--config")[1]
    assert "# problem was given from Python, as numpy.ndarray: name a function that returns it" in text
    (folder / "run.toml").write_text(text)
    code, _, err = run("analyze", "--config", "run.toml")
    assert (code, "there is no file FILE.py" in err) == (2, True)
    (folder / "run.toml").write_text(text.replace('"FILE.py:FUNCTION"', '"mine.py:diagonal"'))
    assert run("analyze", "--config", "run.toml", "--out", "second")[0] == 0
    assert eigencore.load("second").eigen.values.tolist() == first.eigen.values.tolist()


def test_other_objects_of_python_are_named(folder: Path, run):
    def first_only(name: str) -> bool:
        return name == "W1"

    pytest.importorskip("sklearn")
    found = eigencore.analyze("demo:digits-numpy", 1, params=[first_only, "b1"], analyses="none")
    text = config_text(found)
    assert f"# params was given from Python, as {first_only.__module__}." in text
    again = eigencore.analyze(np.eye(9), k=1, eigen=eigencore.solve(np.eye(9), k=1), analyses="none")
    assert "eigenpairs that were given from Python" in config_text(again)
    eigencore.solve(as_operator(np.eye(9)), k=1).save(folder / "alone")
    with pytest.raises(ResultError, match="does not have the arguments"):
        config_text(eigencore.load(folder / "alone"))


def test_none_is_text_in_the_file(folder: Path, run):
    """An untyped keyword whose default is None, too."""
    eigencore.analyze("mine.py:diagonal", 2, complete=None, options={"problem": {"path": None}}, out="saved")
    content = tomllib.loads(run("show", "saved", "--config")[1])
    assert (content["complete"], content["set"]["problem"]["path"]) == ("none", "none")
    (folder / "run.toml").write_text(tomli_w.dumps(content))
    assert run("analyze", "--config", "run.toml", "--out", "second")[0] == 0
    assert eigencore.load("second").manifest["options"]["problem"] == {"path": None}


@pytest.mark.parametrize("other", [["--json"], ["--csv", "-"]], ids=" ".join)
def test_show_prints_one_thing(other: list[str], folder: Path, run):
    assert run("analyze", *QUADRATIC.split(), "-k", "1", "--out", "saved")[0] == 0
    code, out, err = run("show", "saved", "--config", *other)
    assert code == 2
    assert "can't be given together" in out + err
