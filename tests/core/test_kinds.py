"""Kinds of operator by name: on the command line, with their options, in the results of a run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import eigencore
from eigencore.cli import main
from eigencore.errors import OptionError, UnknownNameError, UsageError
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore_numpy.network import TwoLayer

FILE = """
import numpy as np
from eigencore import Problem
from eigencore.objectives import CrossEntropy
from eigencore_numpy.network import TwoLayer

def make():
    rng = np.random.default_rng(0)
    network = TwoLayer(*(rng.standard_normal(shape) for shape in ((5, 6), 5, (4, 5), 4)))
    data = [(rng.standard_normal((15, 6)), rng.integers(0, 4, 15))]
    return Problem(network, data, CrossEntropy(), backend="numpy", name="small")
"""


@pytest.fixture
def run(capsys):
    """run(*arguments) -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def file(tmp_path):
    (tmp_path / "small.py").write_text(FILE)
    return f"{tmp_path / 'small.py'}:make"


def small(**fields):
    rng = np.random.default_rng(0)
    network = TwoLayer(*(rng.standard_normal(shape) for shape in ((5, 6), 5, (4, 5), 4)))
    data = [(rng.standard_normal((15, 6)), rng.integers(0, 4, 15))]
    return Problem(network, data, CrossEntropy(), backend="numpy", name="small", **fields)


def values(kind="hessian", params=None, **options):
    operator = eigencore.bind(small()).operator(kind, params, **options)
    found = np.linalg.eigvalsh(operator.matmat(np.eye(operator.shape[0])))
    return found[np.argsort(-np.abs(found))]


# -- listings ----------------------------------------------------------------------------------------------


def test_the_kinds_of_every_backend_are_listed(run):
    code, out, err = run("kinds")
    assert (code, err) == (0, "")
    assert re.search(r"^  name +backend +summary +plugin$", out, re.MULTILINE)
    assert re.search(r"^  ggn +numpy +the generalised Gauss-Newton .* numpy$", out, re.MULTILINE)
    assert re.search(r"^  ggn +torch +the generalised Gauss-Newton .* torch$", out, re.MULTILINE)
    listed = json.loads(run("kinds", "--json")[1])["kinds"]
    assert [one["name"] for one in listed] == sorted(one["name"] for one in listed)
    (fisher,) = (one for one in listed if one["name"] == "fisher")
    assert (fisher["backend"], fisher["semidefinite"], fisher["over_weights"]) == ("torch", True, True)
    assert not any("load" in one or "options" in one for one in listed)


def test_a_name_on_several_backends_and_on_one(run):
    code, out, _ = run("kinds", "ggn")
    assert code == 0
    assert {"numpy", "torch"} <= set(re.findall(r"^ggn on (\w+) · ", out, re.MULTILINE))
    assert "--set ggn.damping=VALUE   a number; default 0.0" in out
    for name in ("numpy:ggn", "numpy:ggn@eigencore"):
        code, out, _ = run("kinds", name)
        assert code == 0
        assert re.findall(r"^ggn on (\w+) · ", out, re.MULTILINE) == ["numpy"]


def test_the_json_of_kinds_is_one_object(run):
    several = json.loads(run("kinds", "hessian", "--json")[1])["kinds"]
    assert {one["backend"] for one in several} >= {"numpy", "torch"}
    assert all(
        [option["name"] for option in one["options"]] == ["weight_decay", "damping"] for one in several
    )
    one = json.loads(run("kinds", "numpy:hessian", "--json")[1])
    assert (one["name"], one["backend"], one["set"]) == ("hessian", "numpy", "hessian")


@pytest.mark.parametrize(
    ("name", "near"), [("hessain", "hessian"), ("numpy:fisher", ""), ("ggn@elsewhere", "")]
)
def test_an_unknown_kind(run, name, near):
    code, out, err = run("kinds", name)
    assert (code, out) == (2, "")
    assert f"unknown kind of operator: '{name}'" in err
    assert near in err
    code, out, _ = run("kinds", name, "--json")
    assert code == 2
    assert name in json.loads(out)["error"]["message"]


def test_a_backend_lists_its_kinds(run):
    code, out, _ = run("backends", "numpy")
    assert code == 0
    assert "  kinds: ggn, hessian" in out
    assert json.loads(run("backends", "numpy", "--json")[1])["kinds"] == ["ggn", "hessian"]


def test_a_kind_on_a_backend_that_is_not_installed_is_listed(plug, run):
    plug(
        "kinds",
        """
        @hookimpl
        def eigen_kinds():
            return [KindEntry(backend="tinygrad", name="far", summary="far away", load="a:b", options="a:c")]
        """,
    )
    code, out, err = run("kinds")
    assert (code, err) == (0, "")
    assert re.search(r"^  far +tinygrad +far away +kinds$", out, re.MULTILINE)
    assert run("plugins")[0] == 0
    code, _, err = run("kinds", "far")
    assert code == 4
    assert "far can't be loaded from a:c" in err


# -- options -----------------------------------------------------------------------------------------------


def test_options_of_a_kind_on_the_command_line_and_in_the_manifest(run, file, tmp_path):
    folder = tmp_path / "run"
    arguments = ("-k", "3", "--tol", "1e-8", "--kind", "ggn", "--set", "ggn.damping=0.5", "--json")
    code, out, err = run("analyze", file, *arguments, "--analyses", "none", "--out", str(folder))
    assert code == 0, err
    found = json.loads(out)
    assert found["operator"]["kind"] == "ggn"
    np.testing.assert_allclose(found["eigenvalues"], values("ggn")[:3] + 0.5, rtol=1e-7)
    run_ = eigencore.load(folder)
    assert run_.manifest["options"]["ggn"] == {"weight_decay": 0.0, "damping": 0.5}
    assert run_.manifest["arguments"]["options"] == {"ggn": {"damping": "0.5"}}


def test_options_of_a_kind_from_python():
    asked = {"ggn": {"damping": 0.25, "weight_decay": 0.25}}
    found = eigencore.analyze(small(), 3, kind="ggn", tol=1e-8, analyses="none", options=asked)
    np.testing.assert_allclose(found.eigen.values, values("ggn")[:3] + 0.5, rtol=1e-7)
    assert found.manifest["options"]["ggn"] == {"damping": 0.25, "weight_decay": 0.25}
    plain = eigencore.analyze(small(), 3, kind="ggn", tol=1e-8, analyses="none")
    assert plain.manifest["options"]["ggn"] == {"damping": 0.0, "weight_decay": 0.0}


def test_the_operator_of_a_kind_with_options():
    problem = small()
    given = (problem.model, problem.data, problem.loss)
    operator = eigencore.operator(*given, backend="numpy", kind="ggn", kind_options={"damping": 2.0})
    trace = np.trace(operator.matmat(np.eye(59)))
    np.testing.assert_allclose(trace, values("ggn").sum() + 2 * 59, rtol=1e-12)
    with pytest.raises(UnknownNameError, match="Did you mean damping"):
        eigencore.operator(*given, backend="numpy", kind="ggn", kind_options={"dampng": 2.0})


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"kind": "ggn", "options": {"hessian": {"damping": 1}}}, UsageError, "hessian, which this run"),
        ({"kind": "ggn", "options": {"ggn": {"labels": 1}}}, UnknownNameError, "'labels'"),
        ({"options": {"hessian": {"weight_decay": -1}}}, OptionError, r"hessian\.weight_decay is -1"),
        ({"kind": "fisher"}, UnknownNameError, "kind of operator on the backend numpy: 'fisher'"),
    ],
)
def test_wrong_options_are_refused_before_any_product(keywords, error, message):
    with pytest.raises(error, match=message):
        eigencore.analyze(small(), 3, **keywords)


# -- in the results of a run -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "shown"),
    [
        ({}, True),
        ({"options": {"hessian": {"damping": 0.0}}}, True),
        ({"options": {"hessian": {"damping": "0"}}}, True),
        ({"kind": "ggn"}, False),
        ({"params": "W1"}, False),
        ({"options": {"hessian": {"damping": 0.5}}}, False),
        ({"options": {"hessian": {"weight_decay": "0.5"}}}, False),
    ],
    ids=str,
)
def test_exact_eigenvalues_are_those_of_the_hessian_only(keywords, shown):
    found = eigencore.analyze(small(spectrum=values()), 2, analyses="none", **keywords)
    assert (found.manifest["exact"] is not None) == shown
    if shown:
        np.testing.assert_allclose(found.manifest["exact"][:2], found.eigen.values, rtol=1e-3)


def test_an_analysis_knows_the_options_of_the_operator(plug):
    plug(
        "looks",
        """
        @hookimpl
        def eigen_analyses():
            return [AnalysisEntry(name="looks", summary="s", load="plugged_looks:looks")]

        def looks(context, options):
            from eigencore.results import AnalysisResult
            operator = context.bound.operator(context.kind, context.params, **context.kind_options)
            v = context.eigen.vectors[:, 0]
            yield AnalysisResult(verdict="v", title="t", numbers={"quotient": float(v @ operator.matvec(v))})
        """,
    )
    found = eigencore.analyze(
        small(), 1, kind="ggn", tol=1e-8, analyses="looks", options={"ggn": {"damping": 3.0}}
    )
    assert found.analyses["looks"].numbers["quotient"] == pytest.approx(found.eigen.values[0], rel=1e-10)
    assert found.eigen.values[0] > 3
