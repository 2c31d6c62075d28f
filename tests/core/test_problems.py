"""Problems are found by name and bound to a backend; what is invalid is refused with a helpful error."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.entries import Capability
from eigencore.errors import (
    OptionError,
    PluginError,
    ProblemError,
    UnknownNameError,
    UsageError,
)
from eigencore.interfaces import MinibatchOperator, Problem
from eigencore.operators import FunctionOperator, as_operator
from eigencore.problems import as_problem, backend_of, bind, find_kind, find_problem

FILE = """
import sys
from dataclasses import dataclass
import numpy as np
from eigencore.interfaces import Problem
import neighbour

@dataclass
class Data:
    n: int

def whole(n: int = 4, top: float = 2.0, mode: str = "x"):
    return Problem(operator=np.diag([top] + [1.0] * (n - 1)), description=mode)

def named(): return Problem(operator=np.eye(2), name="my own")
def parts(): return ("model", ["data"], "loss")
def matrix(): return np.eye(3)
def needy(path): return np.eye(path)
def raises(): raise RuntimeError("no data here")
def quits(): sys.exit("bye")
def refuses():
    from eigencore.errors import OptionError
    raise OptionError("problem.n is odd")
def own(checkpoint=None): return Problem(operator=np.eye(2), description=str(checkpoint))
def junk(): return [1, 2]
def pair(): return ("model", "data")
answer = 42
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with files that define problems."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "neighbour.py").write_text("here = True")
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "one.py").write_text("import numpy\ndef make(): return numpy.eye(2)\ndef _own(): pass")
    (tmp_path / "broken.py").write_text("import numpy\n\nprint('a'")
    (tmp_path / "fails.py").write_text("1 / 0")
    (tmp_path / "script.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "lacks.py").write_text("import no_such_package")
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# -- finding -----------------------------------------------------------------------------------------------


def test_a_registered_problem_with_keywords():
    problem = find_problem("demo:quadratic", {"n": "50", "outliers": 3})
    assert problem.name == "demo:quadratic"
    assert np.shape(problem.spectrum) == (50,)


def test_a_checkpoint_is_passed_to_a_factory_that_takes_one_else_stored_in_the_problem(folder):
    own = find_problem("mine.py:own", {"checkpoint": "best.pt"})
    assert (own.description, own.checkpoint) == ("best.pt", None)
    plain = find_problem("mine.py:whole", {"checkpoint": "best.pt", "mode": "accuracy 98 %"})
    assert (plain.description, plain.checkpoint) == ("", "best.pt")
    assert find_problem("mine.py:whole", {"checkpoint": "none"}).checkpoint is None


@pytest.mark.parametrize("place", ["mine.py", "./mine.py", "{folder}/mine.py"])
def test_a_factory_in_a_file(folder, place):
    name = f"{place.format(folder=folder)}:whole"
    problem = find_problem(name, {"n": "6", "top": "5"})
    assert problem.name == name
    assert problem.operator.shape == (6, 6)
    assert problem.operator[0, 0] == 5.0


def test_the_values_that_a_factory_may_return(folder):
    assert find_problem("mine.py:named").name == "my own"
    parts = find_problem("mine.py:parts")
    assert (parts.model, parts.data, parts.loss) == ("model", ["data"], "loss")
    assert find_problem("mine.py:matrix").operator.shape == (3, 3)


def test_a_file_is_read_again_and_does_not_replace_a_module_of_its_name(folder):
    import random

    (folder / "random.py").write_text("def make():\n    import numpy\n    return numpy.eye(2)")
    assert find_problem("random.py:make").operator.shape == (2, 2)
    assert sys.modules["random"] is random
    (folder / "mine.py").write_text("def make():\n    import numpy\n    return numpy.eye(4)")
    assert find_problem("mine.py:make").operator.shape == (4, 4)
    (folder / "mine.py").write_text("def make():\n    import numpy\n    return numpy.eye(5) # longer")
    assert find_problem("mine.py:make").operator.shape == (5, 5)


@pytest.mark.parametrize(
    ("name", "keywords", "error", "words"),
    [
        ("demo:quadratc", {}, UnknownNameError, "Did you mean demo:quadratic"),
        ("demo:quadratc", {}, UnknownNameError, "There is no installed module named 'demo' either."),
        ("quadratic", {}, UnknownNameError, "unknown problem: 'quadratic'"),
        ("", {}, UnknownNameError, "unknown problem: ''"),
        ("demo:quadratic@elsewhere", {}, UnknownNameError, "demo:quadratic@eigencore"),
        ("nowhere.py:make", {}, UsageError, "no file nowhere.py"),
        ("mine.py", {}, UsageError, "Write mine.py:FACTORY, where FACTORY is one of whole, named, parts"),
        ("neighbour.py", {}, UsageError, r"Write neighbour.py:FACTORY\."),
        ("one.py", {}, UsageError, r"Write one.py:make\."),
        ("broken.py", {}, UsageError, r"Write broken.py:FACTORY\."),
        (
            "weights.pt",
            {},
            UsageError,
            r"a file of weights(.|\n)*FILE.py:FUNCTION --set problem.checkpoint=w",
        ),
        ("mine.py:hole", {}, UnknownNameError, "Did you mean whole"),
        ("mine:whole", {}, UnknownNameError, "To use the file mine.py of the working .* mine.py:whole"),
        ("json:zzz", {}, UnknownNameError, "unknown factory in json: "),
        ("mine.py:answer", {}, UsageError, "is of type int; expected a factory"),
        ("mine.py:", {}, UnknownNameError, "unknown factory in mine.py: "),
        ("broken.py:make", {}, ProblemError, "SyntaxError"),
        ("fails.py:make", {}, ProblemError, "ZeroDivisionError"),
        ("script.py:make", {}, ProblemError, "SystemExit"),
        ("lacks.py:make", {}, ProblemError, "No module named 'no_such_package'"),
        ("mine.py:raises", {}, ProblemError, "RuntimeError: no data here"),
        ("mine.py:quits", {}, ProblemError, "bye"),
        ("mine.py:refuses", {}, OptionError, "problem.n is odd"),
        ("mine.py:junk", {}, ProblemError, "returned a value of type list: .* expected a Problem"),
        ("mine.py:pair", {}, ProblemError, "returned a tuple of length 2"),
        ("mine.py:whole", {"m": "3"}, UnknownNameError, "unknown option of problem: 'm'"),
        ("mine.py:whole", {"n": "many"}, OptionError, "problem.n is 'many'; expected a whole number"),
        ("mine.py:needy", {}, OptionError, "problem needs a value for path"),
    ],
)
def test_the_error_says_what_is_wrong(folder, name, keywords, error, words):
    with pytest.raises(error, match=words):
        find_problem(name, keywords)


@pytest.mark.parametrize("on_path", [[], [""], ["{folder}"]], ids=["absent", "as ''", "first"])
def test_a_misspelt_name_runs_no_file_of_the_working_directory(folder, monkeypatch, on_path):
    """The interpreter itself puts the working directory on sys.path."""
    (folder / "demo.py").write_text("raise SystemExit('it ran')")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr(sys, "path", [place.format(folder=folder) for place in on_path] + sys.path)
    with pytest.raises(UnknownNameError, match=r"demo:quadratic(.|\n)*write demo.py:quadratc\."):
        find_problem("demo:quadratc")
    for name in ("package:make", "package.module:make", "nothing:make"):
        with pytest.raises(UnknownNameError, match="no installed module"):
            find_problem(name)


def test_an_installed_module_is_found_wherever_it_lies(folder, monkeypatch):
    """Also in the working directory, if that is on sys.path for another reason, and in a package."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    assert find_problem("mine:whole", {"n": "6"}).operator.shape == (6, 6)
    for name, error in (("fails:make", "ZeroDivisionError"), ("lacks:make", "no_such_package")):
        with pytest.raises(ProblemError, match=error):
            find_problem(name)
    (folder / "elsewhere" / "own").mkdir(parents=True)
    (folder / "elsewhere" / "own" / "__init__.py").write_text("")
    (folder / "elsewhere" / "own" / "problems.py").write_text("import numpy\ndef make(): return numpy.eye(3)")
    monkeypatch.setattr(sys, "path", [str(folder / "elsewhere"), *sys.path])
    assert find_problem("own.problems:make").operator.shape == (3, 3)


def test_a_failed_import_leaves_no_module_behind(folder):
    with pytest.raises(ProblemError):
        find_problem("fails.py:make")
    assert "fails" not in sys.modules


def test_the_error_of_a_factory_is_the_cause(folder):
    with pytest.raises(ProblemError) as failure:
        find_problem("mine.py:raises")
    assert isinstance(failure.value.__cause__, RuntimeError)


# -- binding an operator -----------------------------------------------------------------------------------


class Sampled(FunctionOperator):
    def minibatch(self, step: int, seed: int, batches: int = 1) -> tuple[Sampled, float]:
        return self, 0.5


def test_an_operator_needs_no_backend():
    A = np.diag([3.0, 1.0])
    bound = bind(Problem(operator=A))
    assert bound.capabilities == {Capability.PRODUCTS}
    assert bound.description == f"numpy {np.__version__} cpu float64"
    assert np.array_equal(bound.operator().matvec(np.ones(2)), [3, 1])


def test_an_operator_with_minibatches_offers_them():
    plain = as_operator(np.eye(2))
    sampled = Sampled(lambda v: v, 2, xp=plain.xp, dtype=plain.dtype, device="cpu")
    assert isinstance(sampled, MinibatchOperator)
    bound = bind(Problem(operator=sampled))
    assert bound.capabilities == {Capability.PRODUCTS, Capability.MINIBATCHES}
    assert bound.operator() is sampled


@pytest.mark.parametrize(
    "arguments", [{"backend": "torch"}, {"device": "cpu"}, {"dtype": "float32"}, {"memory": "2GiB"}], ids=str
)
def test_arguments_that_an_operator_cannot_use_are_refused(arguments):
    name = next(iter(arguments))
    with pytest.raises(UsageError, match=f"{name} can't be used: it is given directly as an operator"):
        bind(Problem(operator=np.eye(2), name="it"), **arguments)


def test_an_operator_has_no_other_kinds_and_no_parameters():
    bound = bind(Problem(operator=np.eye(2)))
    with pytest.raises(UsageError, match="kind can't be used: the problem is given directly as an operator"):
        bound.operator("ggn")
    with pytest.raises(
        UsageError, match="params can't be used: the problem is given directly as an operator"
    ):
        bound.operator(params="*")


@pytest.mark.parametrize(
    ("problem", "error", "words"),
    [
        (7, ProblemError, r"the problem is a value of type int: 7; expected a Problem, .*\nConstruct one"),
        ((1, 2), ProblemError, "a tuple of length 2"),
        (Problem(), ProblemError, "lacks model, data, loss"),
        (Problem(model=1, data=[2]), ProblemError, "lacks loss"),
        (Problem(operator=np.eye(2), loss=1), ProblemError, "an operator and also loss"),
        (Problem(operator=np.ones((2, 3))), UsageError, r"shape \(2, 3\)"),
        (Problem(operator="matrix"), UsageError, "of type str; expected a linear operator"),
    ],
)
def test_an_incomplete_problem_is_refused(problem, error, words):
    with pytest.raises(error, match=words):
        bind(problem)


# -- binding on a backend ----------------------------------------------------------------------------------

BACKEND = """
from dataclasses import dataclass
from eigencore.options import option
import numpy as np

@hookimpl
def eigen_backends():
    return [BackendEntry(name="toy", summary="a toy", load="plugged_toy:bind",
                         options="plugged_toy:Options")]

@hookimpl
def eigen_kinds():
    return [KindEntry(backend="toy", name=name, summary=name, load="plugged_toy:kind")
            for name in ("hessian", "ggn")]

@dataclass(frozen=True)
class Options:
    scale: float = option(1.0, low=0, help="a factor", when="never")

@dataclass
class Toy:
    arguments: tuple
    scale: float
    capabilities = frozenset({Capability.PRODUCTS})
    description = "toy"
    def operator(self, kind="hessian", params=None):
        from eigencore.operators import as_operator
        return as_operator(self.scale * np.diag(self.arguments[0].model))

def bind(problem, options, *, device=None, dtype=None):
    return Toy((problem, device, dtype), options.scale)
"""
MODEL = Problem(model=[1.0, 2.0], data=[1], loss=1)


class Layered(dict):
    """A class of this module, in the place of a framework's."""


def test_the_backend_of_the_model_s_class_is_found_where_none_is_named(plug):
    declared = BACKEND.replace(
        'summary="a toy",', f'summary="a toy", models=({__name__.partition(".")[0]!r},),'
    )
    plug("toy", declared)
    for model in (Layered(), (len, {"layers": [Layered()]})):
        problem = Problem(model=model, data=[1], loss=1)
        assert backend_of(problem).name == "toy"
        assert backend_of(problem, "numpy").name == "numpy"
        assert backend_of(replace(problem, backend="numpy")).name == "numpy"
    assert backend_of(MODEL).name == "torch"


def test_a_model_of_several_backends_needs_a_name(plug):
    declared = BACKEND.replace(
        'summary="a toy",', f'summary="a toy", models=({__name__.partition(".")[0]!r},),'
    )
    plug("toy", declared)
    plug("other", declared.replace('name="toy"', 'name="other"').replace('backend="toy"', 'backend="other"'))
    with pytest.raises(UsageError, match="several backends: other, toy"):
        backend_of(Problem(model=Layered(), data=[1], loss=1))


def test_the_backend_receives_the_problem_options_device_and_dtype(plug):
    plug("toy", BACKEND)
    bound = bind(MODEL, backend="toy", device="there", dtype="float32", scale="3")
    assert bound.arguments == (MODEL, "there", "float32")
    assert np.array_equal(bound.operator().matvec(np.ones(2)), [3, 6])


def test_the_backend_is_the_given_one_else_that_of_the_problem_else_the_default(plug):
    plug("toy", BACKEND)
    own = Problem(model=1, data=[1], loss=1, backend="toy")
    assert backend_of(own).name == "toy"
    assert backend_of(own, "torch").name == "torch"
    assert backend_of(MODEL).name == "torch"
    assert backend_of(Problem(operator=np.eye(2))) is None


def test_a_checkpoint_is_refused_if_nothing_can_load_it(plug):
    plug("toy", BACKEND)
    with pytest.raises(
        UsageError, match=r"backend toy can't load checkpoints, but the problem has one: a\.pt"
    ):
        bind(Problem(model=[1.0], data=[1], loss=1, checkpoint="a.pt"), backend="toy")
    with pytest.raises(UsageError, match="checkpoint can't be used: it is given directly"):
        bind(Problem(operator=np.eye(2), checkpoint="a.pt", name="it"))


def test_options_and_names_of_backends_are_validated(plug):
    plug("toy", BACKEND)
    with pytest.raises(UnknownNameError, match="Did you mean scale"):
        bind(MODEL, backend="toy", scales=1)
    with pytest.raises(OptionError, match="at least 0"):
        bind(MODEL, backend="toy", scale=-1)
    with pytest.raises(UnknownNameError, match="Did you mean toy"):
        bind(MODEL, backend="toi")
    with pytest.raises(UnknownNameError, match=r"unknown kind of operator on the backend toy: .*\n.*hessian"):
        find_kind(backend_of(MODEL, "toy"), "hesian")


def test_a_backend_that_cannot_be_loaded_is_a_failed_plugin(plug):
    plug("toy", BACKEND.replace("plugged_toy:bind", "plugged_toy:binds"))
    with pytest.raises(PluginError, match="toy can't be loaded"):
        bind(MODEL, backend="toy")


def test_operator_is_bind_in_one_call(plug):
    plug("toy", BACKEND)
    operator = eigencore.operator([1.0, 2.0], [1], 1, backend="toy", scale=2.0)
    assert np.array_equal(operator.matvec(np.ones(2)), [2, 4])
    with pytest.raises(UnknownNameError, match="Did you mean ggn"):
        eigencore.operator([1.0, 2.0], [1], 1, backend="toy", kind="gnn")


def test_as_problem_converts_the_values_that_a_factory_may_return():
    assert as_problem(MODEL) is MODEL
    assert as_problem(([1.0, 2.0], [1], 1)) == MODEL
    assert as_problem(np.eye(2)).operator.shape == (2, 2)
    with pytest.raises(ProblemError, match="the problem is a value of type int: 3; expected"):
        as_problem(3)


def test_a_problem_can_be_bound_by_name() -> None:
    assert bind("demo:quadratic").operator().shape == (2000, 2000)
    with pytest.raises(UnknownNameError, match="demo:quadratik"):
        bind("demo:quadratik")


def test_model_data_and_loss_are_positional():
    assert Problem("model", ["data"], "loss") == Problem(model="model", data=["data"], loss="loss")
    with pytest.raises(TypeError, match="positional"):
        Problem("model", ["data"], "loss", "validation")


def test_an_operator_has_its_own_precision_only():
    for dtype in ("float32", "float64"):
        assert bind(Problem(operator=np.eye(2, dtype=dtype))).precisions == (dtype,)


@pytest.mark.parametrize("name", ["backend", "device", "dtype"])
def test_an_argument_given_as_an_option_of_the_backend_is_named(name: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(UsageError, match=f"{name} is not an option of the backend, but an argument"):
        eigencore.analyze("demo:digits-numpy", k=1, options={"numpy": {name: "float64"}})
