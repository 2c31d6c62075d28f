"""The command: its output, its exit codes, and that no failure prints a traceback."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import eigencore
from eigencore.cli import main

EIGEN = [sys.executable, "-c", "import sys; from eigencore.cli import main; sys.exit(main())"]
NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
QUADRATIC = ("analyze", "demo:quadratic", "--set", "problem.n=60")

PROBLEMS = """
import sys, time
import numpy as np
from eigencore.interfaces import Problem
from eigencore.operators import FunctionOperator, as_operator

def chatty():
    print("loading")
    return np.diag(np.arange(1.0, 61))

def slow():
    A = as_operator(np.diag(np.linspace(1, 2, 2000)))
    def apply(V):
        print("product", file=sys.stderr, flush=True)
        time.sleep(0.02)
        return A.matmat(V)
    return Problem(operator=FunctionOperator(apply, 2000, xp=A.xp, dtype=A.dtype, device="cpu", matmat=apply))

def stuck():
    print("product", file=sys.stderr, flush=True)
    time.sleep(60)

def skew():
    return np.triu(np.ones((60, 60)))

def fails():
    raise RuntimeError("no data here")

def dies(at=12):
    values = np.arange(1.0, 61)
    made = []
    def apply(v):
        made.append(v)
        if len(made) >= at:
            raise ValueError("my own text")
        return values * v
    return Problem(operator=as_operator(apply, n=60))

def dies_late():
    from eigencore import solve
    return dies(int(solve(np.diag(np.arange(1.0, 61)), 4, certify="none").matvecs) + 2)
"""

PLUGIN = """
from eigencore.figures import Table
from eigencore.results import AnalysisResult
import sys

@hookimpl
def eigen_analyses():
    return [AnalysisEntry(name="look", summary="made up", load="plugged_extra:look")]

@hookimpl
def eigen_commands():
    return [CommandEntry(name=name, summary=f"the command {name}", load=f"plugged_extra_commands:{name}")
            for name in ("hello", "crash", "junk")]

def look(context, options):
    yield AnalysisResult(verdict="it looks fine", numbers={"rho": 0.25},
                         tables={"by class": Table(("class", "share"), (("a", 0.5), ("b", 0.25)))})
    if context.seed == 13:
        raise RuntimeError("unlucky")
"""

COMMANDS = """
import click

@click.command()
@click.option("--code", type=int, default=0)
def hello(code):
    click.echo("hello there")
    return code

@click.command()
def crash():
    raise ValueError("crashed")

junk = 42
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with problems in mine.py."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text(PROBLEMS)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "here"
    sys.modules.pop("mine", None)


@pytest.fixture
def run(capsys):
    """run(*arguments) -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def process(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*EIGEN, *arguments], **{"text": True, **pipes, **more})


# -- light and lazy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["plugins"], ["solvers"], ["analyze", "--help"], []]
)
def test_help_and_listings_import_nothing_heavy(arguments):
    heavy = ("torch", "numpy", "scipy", "rich")
    code = f"""
import sys
from eigencore.cli import main
code = main({arguments})
sys.exit([name for name in {heavy} if name in sys.modules] or code)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_a_plugins_command_is_listed_by_its_entry_and_imported_when_invoked(plug, run):
    installed = plug("extra", PLUGIN)
    (installed / "plugged_extra_commands.py").write_text(COMMANDS)
    code, out, _ = run("--help")
    assert code == 0
    assert re.search(r"hello +the command hello", out)
    assert "plugged_extra_commands" not in sys.modules
    assert run("hello") == (0, "hello there\n", "")
    assert run("hello", "--code", "3")[0] == 3
    assert run("hello", "--help")[0] == 0
    assert "plugged_extra_commands" in sys.modules


def test_a_failed_command_of_a_plugin_is_a_failed_plugin(plug, run):
    installed = plug("extra", PLUGIN)
    (installed / "plugged_extra_commands.py").write_text(COMMANDS)
    assert run("crash") == (4, "", "eigen: the command crash failed: ValueError: crashed\n")
    assert run("junk") == (4, "", "eigen: the command junk is of type int; expected a click.Command\n")


def test_a_plugin_does_not_replace_our_commands(plug, run):
    installed = plug("extra", PLUGIN.replace('"hello"', '"show"'))
    (installed / "plugged_extra_commands.py").write_text(COMMANDS.replace("hello", "show"))
    code, _, err = run("show", "nowhere")
    assert code == 1
    assert "no folder" in err


# -- disabling plugins --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["-p", "no:extra", "--help"], ["--help", "-p", "no:extra"]])
def test_a_plugin_can_be_disabled_at_any_position_of_the_option(plug, run, arguments):
    plug("extra", PLUGIN)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "show" in out
    assert "hello" not in out
    assert "plugged_extra" not in sys.modules
    code, out, _ = run("-p", "no:extra", "plugins", "extra", "--json")
    assert code == 0
    assert json.loads(out)["plugins"][0]["status"] == "disabled"


def test_the_environment_disables_plugins_too(plug, run, monkeypatch):
    plug("extra", PLUGIN)
    assert "hello" in run("--help")[1]
    eigencore.registry.registry.cache_clear()
    monkeypatch.setenv("EIGEN_DISABLE_PLUGINS", "extra,krylov")
    assert "hello" not in run("--help")[1]
    code, _, err = run("solvers", "lanczos")
    assert code == 2
    assert "krylov is disabled" in err


@pytest.mark.parametrize(
    ("value", "message"), [("krylov", "expected no:NAME"), ("no:krilov", "Did you mean krylov")]
)
def test_a_wrong_value_of_p_is_reported(plug, run, value, message):
    code, _, err = run("-p", value, "solvers")
    assert code == 2
    assert message in err


# -- listings ----------------------------------------------------------------------------------------------

PLURALS = {
    "problems": "demo:quadratic",
    "backends": "torch",
    "solvers": "lanczos",
    "kinds": "ggn",
    "attacks": "pgd",
    "analyses": "robustness",
    "plugins": "krylov",
}


@pytest.mark.parametrize("plural", PLURALS)
def test_listings(run, plural):
    code, out, err = run(plural)
    assert (code, err) == (0, "")
    assert PLURALS[plural] in out
    code, out, err = run(plural, "--json")
    assert (code, err) == (0, "")
    names = [entry["name"] for entry in json.loads(out)[plural]]
    assert names == sorted(names)
    assert PLURALS[plural] in names


def test_a_solvers_options_with_range_default_and_when_to_change_them(run):
    code, out, _ = run("solvers", "lanczos")
    assert code == 0
    assert re.search(r"--set lanczos.basis=VALUE +a whole number of at least 3, or none; default none", out)
    assert "when to change it" in out
    option = json.loads(run("solvers", "lanczos", "--json")[1])["options"][0]
    assert option["name"] == "basis"
    assert option["default"] is None
    assert option["range"] == "a whole number of at least 3, or none"
    assert option["when"]


def test_a_problems_keywords(run):
    assert "--set problem.n=VALUE   a whole number; default 2000" in run("problems", "demo:quadratic")[1]


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("anlyze",), "analyze"),
        (("solvers", "lanzcos"), "lanczos"),
        (("backends", "troch"), "torch"),
        (("problems", "demo:quadratik"), "demo:quadratic"),
        (("plugins", "krilov"), "krylov"),
        (("analyze", "demo:quadratik"), "demo:quadratic"),
        ((*QUADRATIC, "--solver", "lanzcos"), "lanczos"),
        ((*QUADRATIC, "--set", "lanczos.bassis=3"), "basis"),
        ((*QUADRATIC, "--set", "lanzcos.basis=3"), "lanczos"),
        (("analyze", "demo:quadratic", "--set", "problem.nn=3"), "Did you mean n?"),
        pytest.param(("analyze", "--kind", "hesian"), "hessian", marks=NEEDS_TORCH),
        ((*QUADRATIC, "--sead", "3"), "--seed"),
    ],
    ids=" ".join,
)
def test_a_misspelt_name_suggests_the_right_one(run, arguments, near):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert near in err


def test_an_unknown_name_reports_plugins_that_failed_to_load(plug, run):
    plug("extra", "import no_such_package")
    _, _, err = run(*QUADRATIC, "--solver", "mine")
    assert "Plugin extra failed to load" in err
    assert "no_such_package" in err
    assert "failed to load: extra; `eigen plugins` shows why" in run("solvers")[2]
    code, out, _ = run("plugins")
    assert code == 0
    assert re.search(r"extra +broken +plugged-extra 1.0", out)
    assert "no_such_package" in out


# -- analyze -----------------------------------------------------------------------------------------------


def test_the_screen(plug, run):
    plug("extra", PLUGIN)
    code, out, err = run(*QUADRATIC, "-k", "4", "--seed", "2", "--set", "lanczos.basis=16")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("demo:quadratic · ")
    assert re.fullmatch(r"numpy .* cpu float64 · lanczos, basis 16 · seed 2", lines[1])
    assert lines[3].split() == ["#", "eigenvalue", "exact", "estimated", "residual", "converged"]
    for rank, row in enumerate(lines[4:8], start=1):
        number, value, exact, _, converged = row.split()
        assert (int(number), converged) == (rank, "yes")
        assert float(value) == pytest.approx(float(exact), rel=1e-3)
    assert lines[9] == "all 4 pairs converged (relative tolerance 0.001)"
    assert re.fullmatch(r"\d+ products in .* s \(.*3 to certify\)", lines[10])
    assert re.fullmatch(r"certificate \(99 %\): the 4 values are together .* 4 eigenvalues", lines[11])
    assert re.fullmatch(r"complete \(99 %\): none larger in magnitude than .* was missed", lines[12])
    assert out.index("\nit looks fine\n") < out.index("  a        0.50\n") < out.index("\n  rho: 0.25\n")
    assert out.rstrip().endswith("run by default: look; --analyses none turns this off")
    assert "  a        0.50\n" in out


def test_exact_residuals_are_not_called_estimated(run):
    out = run(*QUADRATIC, "-k", "4", "--certify", "full")[1]
    assert "residual norm" in out
    assert "estimated" not in out
    assert "certificate: the 4 values are together within" in out
    bare = run(*QUADRATIC, "--certify", "none")[1]
    assert "no certificate\ncomplete (99 %): none larger in magnitude than" in bare
    assert "\nnot proved: that the values are near eigenvalues (certify is none)\n" in bare
    neither = run(*QUADRATIC, "--certify", "none", "--complete", "none")[1]
    assert "no certificate\nnot proved: that the values are near" in neither
    assert "and that no eigenvalue larger in magnitude was missed\n" in neither


def test_the_json_is_one_object_and_equals_the_file(run, folder):
    code, out, err = run(*QUADRATIC, "--json", "--out", "new/run")
    assert (code, err) == (0, "")
    assert out.encode() == (folder / "new/run/result.json").read_bytes()
    result = json.loads(out)
    assert result["problem"] == "demo:quadratic"
    assert result["status"] == "converged"
    assert len(result["eigenvalues"]) == len(result["exact"]) == 5
    assert run("show", "new/run", "--json") == (0, out, "")
    assert eigencore.load("new/run").eigen.values.tolist() == result["eigenvalues"]


def read_csv(text: str) -> dict[str, list[str]]:
    header, *rows = list(csv.reader(text.splitlines()))
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def assert_is_table_of(table: dict[str, list[str]], eigen) -> None:
    assert list(table) == ["eigenvalue", "residual", "converged"]
    assert list(map(float, table["eigenvalue"])) == eigen.values.tolist()  # all digits
    assert list(map(float, table["residual"])) == eigen.residuals.tolist()
    assert table["converged"] == [str(one) for one in eigen.converged.tolist()]


def test_the_eigenvalues_as_csv_in_a_file(run, folder):
    code, out, err = run(*QUADRATIC, "--csv", "table.csv", "--out", "run")
    assert (code, err) == (0, "")
    assert "eigenvalue" in out.splitlines()[3]  # the text is printed as well
    written = (folder / "table.csv").read_bytes()
    assert_is_table_of(read_csv(written.decode()), eigencore.load("run").eigen)
    assert run("show", "run", "--csv", "again.csv") == (0, out, "")
    assert (folder / "again.csv").read_bytes() == written
    code, as_json, _ = run("show", "run", "--json", "--csv", "again.csv")
    assert (code, json.loads(as_json)["status"]) == (0, "converged")


def test_the_eigenvalues_as_csv_on_stdout(run):
    code, out, err = run(*QUADRATIC, "--csv", "-", "--max-matvecs", "9", "--out", "run")
    assert (code, err) == (3, "")
    eigen = eigencore.load("run").eigen
    assert not eigen.converged.all()
    assert_is_table_of(read_csv(out), eigen)
    assert run("show", "run", "--csv", "-") == (0, out, "")


def test_csv_and_json_do_not_share_stdout(run):
    code, out, err = run(*QUADRATIC, "--csv", "-", "--json")
    assert (code, err) == (2, "")
    assert "--csv - and --json both print on stdout" in json.loads(out)["error"]["message"]


def test_a_table_that_can_not_be_written_at_the_end_is_reported(run, folder, monkeypatch):
    monkeypatch.setattr("eigencore.cli.run_command.check_csv", lambda *given: None)
    code, out, err = run(*QUADRATIC, "--csv", "nowhere/table.csv")
    assert (code, "certificate" in out) == (1, True)
    assert "the table can't be written to nowhere/table.csv: " in err


def test_show_prints_what_analyze_printed(run):
    code, out, _ = run(*QUADRATIC, "--out", "run")
    assert run("show", "run") == (code, out, "")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Each test runs in an empty folder, so that nothing is written into the checkout."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def test_without_out_nothing_is_written(run):
    run(*QUADRATIC)
    assert not list(Path.cwd().iterdir())


def test_output_of_a_problem_goes_to_stderr(run, folder):
    code, out, err = run("analyze", "mine.py:chatty", "--json")
    assert code == 0
    assert err == "loading\n"
    assert json.loads(out)["problem"] == "mine.py:chatty"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        ((*QUADRATIC, "--max-matvecs", "6"), 3, None),
        ((*QUADRATIC, "--seed", "13"), 4, None),
        (("analyze", "mine.py:fails"), 1, "ProblemError"),
        (("analyze", "mine.py:skew"), 1, "NotSymmetricError"),
        (("show", "nowhere"), 1, "ResultError"),
        (("analyze", "nowhere.py:make"), 2, "UsageError"),
        ((*QUADRATIC, "-k", "0"), 2, "UsageError"),
        ((*QUADRATIC, "-k", "many"), 2, "UsageError"),
        ((*QUADRATIC, "--which", "XX"), 2, "UsageError"),
        ((*QUADRATIC, "--no-such-option"), 2, "UsageError"),
        ((*QUADRATIC, "--set", "basis=3"), 2, "UsageError"),
        ((*QUADRATIC, "--set", "lanczos.basis"), 2, "UsageError"),
        ((*QUADRATIC, "--set", "arpack.ncv=9"), 2, "UsageError"),
        ((*QUADRATIC, "--set", "lanczos.basis=1"), 2, "OptionError"),
        ((*QUADRATIC, "--backend", "torch"), 2, "UsageError"),
        ((*QUADRATIC, "--analyses", "look,nothing"), 2, "UnknownNameError"),
        ((*QUADRATIC, "--out", "file/below"), 2, "UsageError"),
        (("nonsense",), 2, "UnknownNameError"),
        (("show",), 2, "UsageError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_exit_codes_and_failures(plug, run, folder, arguments, code, kind, as_json):
    plug("extra", PLUGIN)
    (folder / "file").write_text("")
    ended, out, err = run(*arguments, *(["--json"] if as_json else []))
    assert ended == code
    assert "Traceback" not in err
    if as_json:
        document = json.loads(out)
        assert err == ""
        assert (document.get("error") or {}).get("type") == kind
        if kind is not None:
            assert document["error"].keys() == {"type", "message", "hint", "culprit"}
            assert document["error"]["message"]
    elif kind is not None:
        assert err.startswith("eigen: ")


def test_a_failed_analysis_is_reported_with_the_eigenpairs(plug, run):
    plug("extra", PLUGIN)
    code, out, _ = run(*QUADRATIC, "--seed", "13")
    assert code == 4
    assert "\nit looks fine\n" in out
    assert "\nwarning: failed with RuntimeError: unlucky; this is its last result\n" in out
    assert "yes" in out


def test_the_exit_code_of_a_failed_analysis_does_not_depend_on_its_text(plug, run):
    plug("extra", PLUGIN.replace('RuntimeError("unlucky")', "type('UsageError', (Exception,), {})('mine')"))
    code, out, err = run(*QUADRATIC, "--seed", "13", "--verbose")
    assert code == 4
    assert "failed with UsageError: mine" in out
    assert err.startswith("Traceback (most recent call last):\n")
    assert 'plugged_extra.py", line ' in err
    assert err.endswith("UsageError: mine\n")
    assert run(*QUADRATIC, "--seed", "13")[2] == ""


@pytest.mark.parametrize(("problem", "culprit"), [("dies", "operator"), ("dies_late", "certificate")])
def test_the_error_names_its_culprit(run, folder, problem, culprit):
    code, out, _ = run("analyze", f"mine.py:{problem}", "-k", "4", "--json")
    document = json.loads(out)
    assert (code, document["error"]["culprit"]) == (1, culprit)
    assert document["error"]["message"] == "a product failed: ValueError: my own text"
    assert len(document["partial"]["eigenvalues"]) == 4


def test_advice_and_hints_name_options_of_the_command(run):
    code, out, _ = run(*QUADRATIC, "-k", "8", "--max-matvecs", "12", "--solver", "deflated_power")
    assert code == 3
    assert re.search(r"aise --max-matvecs to \d+, or use --solver lanczos\.\n", out)
    advice = json.loads(run(*QUADRATIC, "-k", "8", "--max-matvecs", "12", "--json")[1])["advice"]
    assert re.search(r"aise max_matvecs to \d+\.$", advice)


def test_analyses_none(plug, run):
    plug("extra", PLUGIN)
    assert json.loads(run(*QUADRATIC, "--analyses", "none", "--json")[1])["analyses"] == {}
    assert list(json.loads(run(*QUADRATIC, "--analyses", "look", "--json")[1])["analyses"]) == ["look"]


def test_verbose_prints_the_traceback(run, folder):
    _, out, err = run("analyze", "mine.py:fails", "--verbose", "--json")
    assert "Traceback" in err
    assert "mine.py" in err
    assert json.loads(out)["error"]["type"] == "ProblemError"


def test_eigenpairs_computed_before_a_failure_are_printed(run, monkeypatch):
    from eigencore.errors import ResultError

    def full(run: Any, folder: Path) -> None:
        raise ResultError("no space left", partial=run.eigen)

    monkeypatch.setattr("eigencore.pipeline.run.save", full)
    code, out, err = run(*QUADRATIC, "--out", "run")
    assert (code, err) == (1, "eigen: no space left\n")
    assert out.startswith("eigenpairs computed before the failure:")
    assert "converged" in out
    document = json.loads(run("analyze", "--resume", "run", "--json")[1])  # which computes nothing again
    assert document["error"]["message"] == "no space left"
    assert len(document["partial"]["eigenvalues"]) == 5


def test_replacing_an_earlier_run_is_reported(run):
    assert run(*QUADRATIC, "--out", "run")[2] == ""
    code, _, err = run(*QUADRATIC, "--out", "run")
    assert (code, err) == (0, "replaced the earlier run in run\n")


def test_an_unfinished_run_beside_a_finished_one_is_reported(run):
    assert run(*QUADRATIC, "--out", "run")[0] == 0
    code, _, err = run(*QUADRATIC, "--out", "run", "--max-matvecs", "4")
    kept = "run holds a finished run, which was kept; this unfinished run is saved in run-unfinished\n"
    assert (code, err) == (3, kept)
    assert "converged" in run("show", "run")[1]
    assert "have not converged" in run("show", "run-unfinished")[1]


# -- signals, pipes and terminals --------------------------------------------------------------------------


def wait_for_products(ran: subprocess.Popen[str], how_many: int = 12) -> None:
    assert ran.stderr is not None
    for _ in range(how_many):
        assert ran.stderr.readline() == "product\n"


@pytest.mark.parametrize(
    ("sent", "ignored", "code"),
    [(signal.SIGINT, False, 130), (signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143)],
    ids=["SIGINT", "SIGTERM", "SIGTERM to a background job"],
)
def test_an_interrupted_run_prints_its_eigenpairs(folder, sent, ignored, code):
    def ignore() -> None:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    arguments = ("analyze", "mine.py:slow", "--tol", "1e-9", "--json", "--out", "run")
    ran = process(*arguments, preexec_fn=ignore)
    wait_for_products(ran)
    ran.send_signal(sent)
    out, err = ran.communicate(timeout=600)
    assert ran.returncode == code
    assert set(err.split()) <= {"product"}
    result = json.loads(out)
    assert result["status"] == "interrupted"
    assert len(result["eigenvalues"]) == 5
    assert out.encode() == (folder / "run/result.json").read_bytes()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_before_there_is_a_result(folder, sent, code):
    ran = process("analyze", "mine.py:stuck", "--json")
    wait_for_products(ran, 1)
    ran.send_signal(sent)
    out, err = ran.communicate(timeout=600)
    assert (ran.returncode, err) == (code, "")
    assert json.loads(out)["error"]["type"] == "Interrupted"


@pytest.mark.parametrize("arguments", [("--help",), QUADRATIC, ("bad",)], ids=" ".join)
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stderr too"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_broken_pipe_is_silent(arguments, both, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    more = {"stderr": subprocess.STDOUT} if both else {}
    ran = process(*arguments, stdout=writing, env=environment, **more)
    os.close(writing)
    _, err = ran.communicate(timeout=600)
    if arguments == ("bad",):  # prints nothing on stdout
        assert ran.returncode in ((2, 141) if both else (2,))
    else:
        assert (ran.returncode, err or "") == (141, "")


def on_terminal(*arguments: str, stream: str) -> tuple[int, str, str]:
    """Runs with stdout or stderr on a terminal: exit code, text on the terminal, text on the other stream."""
    master, slave = pty.openpty()
    other = "stderr" if stream == "stdout" else "stdout"
    ran = process(
        *arguments, **{stream: slave, other: subprocess.PIPE, "env": {**os.environ, "TERM": "xterm"}}
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux raises it at the end of a terminal's output
            break
        if not chunk:
            break
        shown += chunk
    rest = ran.communicate(timeout=600)
    os.close(master)
    return ran.returncode, shown.decode(), rest[0 if other == "stdout" else 1]


def test_progress_is_drawn_on_a_terminal_only_and_removed_at_the_end(folder):
    code, shown, out = on_terminal("analyze", "mine.py:chatty", "-k", "3", stream="stderr")
    assert code == 0
    assert re.search(r"\d+ products? · \d of 3 converged", shown)
    assert shown.endswith("\r\x1b[K")
    assert "eigenvalue" in out
    assert "\x1b" not in out


def test_on_a_terminal_rich_draws_a_table_with_the_same_text(folder):
    code, shown, err = on_terminal("analyze", "mine.py:chatty", "-k", "3", stream="stdout")
    assert (code, err) == (0, "loading\n")
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"1 +60(\.0+)? .* yes", text)
    assert "─" in text


def test_version_and_no_command(run):
    assert run("--version") == (0, f"eigen {eigencore.__version__}\n", "")
    assert run()[1] == run("--help")[1]


def test_python_m_runs_the_command():
    ran = subprocess.run(
        [sys.executable, "-m", "eigencore", "--version"], capture_output=True, text=True, timeout=600
    )
    assert (ran.returncode, ran.stdout) == (0, f"eigen {eigencore.__version__}\n")
    failed = subprocess.run([sys.executable, "-m", "eigencore", "bad"], capture_output=True, timeout=600)
    assert failed.returncode == 2
