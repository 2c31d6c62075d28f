"""Checkpoints: their weights replace the model's own in a copy; other files raise errors that say why."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import eigencore
from eigencore.cli import main
from eigencore.errors import ProblemError, UsageError
from eigencore.problems import find_problem
from eigencore_torch.backend import TorchOptions, bind


@pytest.fixture
def trained(small):
    """The network of `small` with other weights."""
    model = small().model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.1)
    return model


@pytest.fixture
def save(tmp_path):
    def write(what, name="weights.pt"):
        torch.save(what, tmp_path / name)
        return str(tmp_path / name)

    return write


WRAPS = {
    "alone": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.5)},
    "parallel": lambda state: {"module." + name: value for name, value in state.items()},
    "compiled": lambda state: {"_orig_mod." + name: value for name, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_operator_is_that_of_the_checkpoints_weights(wrap, small, trained, save, hessian):
    expected = hessian(small(model=trained))
    file = save(WRAPS[wrap](trained.state_dict()))
    problem = small(checkpoint=file)
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    torch.testing.assert_close(hessian(problem), expected, rtol=0, atol=0)
    torch.testing.assert_close(dict(problem.model.state_dict()), before, rtol=0, atol=0)
    assert float((hessian(small()) - expected).abs().max()) > 0.01


def test_the_description_names_the_checkpoint(small, trained, save):
    bound = bind(small(checkpoint=save(trained.state_dict(), "epoch 9.pt")), TorchOptions())
    assert bound.description.endswith("float64, weights of epoch 9.pt, evaluation mode")


def test_the_given_model_can_be_trained_further(small, trained, save):
    problem = small(checkpoint=save(trained.state_dict()))
    operator = bind(problem, TorchOptions()).operator()
    v = torch.ones(59, dtype=torch.float64)
    before = operator.matvec(v)
    with torch.no_grad():
        problem.model[0].weight.zero_()
    torch.testing.assert_close(operator.matvec(v), before, rtol=0, atol=0)


def test_buffers_are_loaded_too(small, save, hessian):
    def model():
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()

    seen = model()
    seen.train()(small().data[0][0])
    found = hessian(small(model=model(), checkpoint=save(seen.state_dict())))
    torch.testing.assert_close(found, hessian(small(model=seen)), rtol=0, atol=0)


def test_digits_beyond_the_models_own_type_are_kept(small, trained, save, hessian):
    """The checkpoint is read after the change of type."""
    expected, file = hessian(small(model=trained)), save(trained.state_dict())
    single = small(dtype=torch.float32, checkpoint=file)
    single.data[:] = small().data
    torch.testing.assert_close(hessian(single, dtype="float64"), expected, rtol=0, atol=0)
    exact = trained.to(torch.bfloat16).float()
    halved = small(dtype=torch.float32, checkpoint=save(trained.state_dict()))
    wide = small(dtype=torch.float32, model=exact)
    torch.testing.assert_close(hessian(halved), hessian(wide), rtol=0, atol=0)


def test_a_loss_that_is_a_method_of_the_model_uses_the_copy(small, save, hessian):
    class Own(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def loss(self, model, batch):
            assert self is model
            return nn.functional.cross_entropy(self.body(batch["x"]), batch["y"])

    data = [{"x": x, "y": y} for x, y in small().data]
    other = Own(nn.Linear(4, 3).double())
    model = Own(nn.Linear(4, 3).double())
    found = hessian(small(model=model, data=data, loss=model.loss, checkpoint=save(other.state_dict())))
    expected = hessian(small(model=other, data=data, loss=other.loss))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_loss_that_refers_to_the_given_model_is_refused(small, trained, save, hessian):
    problem = small()

    def decayed(outputs, y):
        decay = sum(p.square().sum() for p in problem.model.parameters())
        return nn.functional.cross_entropy(outputs, y) + 0.1 * decay

    assert hessian(small(model=problem.model, loss=decayed)).trace() > hessian(problem).trace()
    for way in ({"dtype": "float32"}, {}):
        held = small(model=problem.model, loss=decayed, checkpoint=save(trained.state_dict()))
        with pytest.raises(ProblemError, match="uses the weights of the given model") as caught:
            bind(held, TorchOptions(), **way).operator()
        assert "loss(model, batch)" in caught.value.hint


# -- files that are not checkpoints ------------------------------------------------------------------------


def refused(problem, match, error=ProblemError):
    with pytest.raises(error, match=match) as caught:
        bind(problem, TorchOptions())
    return caught.value.hint


def test_files_that_do_not_exist(small, tmp_path):
    hint = refused(small(checkpoint="gone.pt"), "the checkpoint file gone.pt does not exist", UsageError)
    assert "relative paths are resolved from" in hint
    refused(small(checkpoint=str(tmp_path)), "is a folder; expected a checkpoint file", UsageError)


JUNK = {
    "text": b"hello there",
    "empty": b"",
    "zip": b"PK\x03\x04 and no more",
    "pickle": pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("name", JUNK)
def test_files_that_are_not_checkpoints(name, small, tmp_path):
    file = tmp_path / name
    file.write_bytes(JUNK[name])
    refused(
        small(checkpoint=str(file)), f"{name} (is not a checkpoint that PyTorch can read|contains a list)"
    )


def test_a_truncated_file(small, trained, save):
    file = Path(save(trained.state_dict()))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(small(checkpoint=str(file)), "is not a checkpoint that PyTorch can read, or it is incomplete")


class Evil:
    def __reduce__(self):
        return sys.exit, (3,)


@pytest.mark.parametrize("extra", [Evil(), np.float64(0.5), nn.Linear(2, 2)], ids=["evil", "numpy", "model"])
def test_python_objects_are_not_run(extra, small, trained, save):
    file = save({"state_dict": trained.state_dict(), "extra": extra})
    hint = refused(
        small(checkpoint=file), r"contains Python objects besides the weights \(.*\), and loading them"
    )
    assert "torch.save(model.state_dict(), FILE)" in hint


def test_a_file_without_weights(small, save):
    refused(
        small(checkpoint=save({"epoch": 3, "lr": 0.1})), "contains the keys epoch, lr; expected a state_dict"
    )
    refused(small(checkpoint=save([1.0])), "contains a list; expected a state_dict")


def test_names_that_do_not_fit(small, trained, save):
    state = trained.state_dict()
    state["2.wieght"] = state.pop("2.weight")
    hint = refused(
        small(checkpoint=save(state)), r"lacks 2.weight and has 2.wieght, which the model does not have"
    )
    assert hint == "Check the names; the closest are 2.wieght for 2.weight."
    wide = nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    refused(
        small(model=wide, checkpoint=save({"zz": torch.ones(2)})), "lacks 0.weight, .* and 7 more and has zz"
    )


def test_shapes_that_do_not_fit(small, save):
    other = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    hint = refused(
        small(checkpoint=save(other.state_dict())),
        r"has shape \(.*9.*\) in .*weights.pt; expected \(.*7.*\) as in the model",
    )
    assert "settings" in hint


def test_numbers_that_are_not_finite(small, trained, save):
    state = trained.state_dict()
    state["2.bias"][1] = torch.nan
    assert "diverged" in refused(small(checkpoint=save(state)), "2.bias contains NaN or infinite values in")


def test_a_model_that_cannot_be_copied(small, trained, save):
    problem = small(checkpoint=save(trained.state_dict()))
    problem.model.extra = problem.model[0].weight * 2  # a tensor with a graph
    assert "load_state_dict" in refused(problem, "can't be copied")


# -- on the command line -----------------------------------------------------------------------------------

FILE = """
import torch
from torch import nn

def parts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    data = [(torch.randn(5, 4).double(), torch.randint(3, (5,))) for _ in range(3)]
    return model, data, nn.CrossEntropyLoss()

def make():
    import eigencore
    model, data, loss = parts()
    return eigencore.Problem(model=model, data=data, loss=loss, description="accuracy 12 %")

def own(checkpoint: str | None = None):
    model, data, loss = parts()
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
    return model, data, loss

def matrix():
    return torch.eye(3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nets.py").write_text(FILE)
    yield tmp_path
    sys.modules.pop("nets", None)


@pytest.fixture
def analyzed(folder, capsys):
    """Runs `eigen analyze`; returns its exit code and its JSON output."""

    def run(*arguments):
        code = main(["analyze", "-k", "2", "--analyses", "none", "--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("factory", ["make", "parts", "own"])
def test_on_the_command_line(factory, analyzed, trained, save):
    file = save(trained.state_dict())
    code, plain = analyzed(f"nets.py:{factory}")
    assert code == 0
    code, output = analyzed(f"nets.py:{factory}", "--set", f"problem.checkpoint={file}")
    assert code == 0
    assert output["eigenvalues"] != plain["eigenvalues"]
    assert output["run"]["digest"] != plain["run"]["digest"]
    assert output["run"]["options"]["problem"] == {"checkpoint": file}
    _, again = analyzed("nets.py:own", "--set", f"problem.checkpoint={file}")
    assert output["eigenvalues"] == again["eigenvalues"]


def test_the_factorys_description_of_its_own_weights_is_not_used_for_a_checkpoint(analyzed, trained, save):
    _, output = analyzed("nets.py:make", "--set", f"problem.checkpoint={save(trained.state_dict())}")
    assert output["run"]["problem_description"] == ""
    assert output["run"]["backend_description"].endswith("weights of weights.pt, evaluation mode")


def test_refusals_on_the_command_line(analyzed):
    code, output = analyzed("nets.py:make", "--set", "problem.checkpoint=gone.pt")
    assert (code, output["error"]["message"]) == (2, "the checkpoint file gone.pt does not exist")
    code, output = analyzed("nets.py:matrix", "--set", "problem.checkpoint=gone.pt")
    assert code == 2
    assert "checkpoint can't be used" in output["error"]["message"]
    code, output = analyzed("nets.py:make", "--set", "problem.chekpoint=gone.pt")
    assert code == 2
    assert "Did you mean checkpoint?" in output["error"]["hint"]


def test_in_python(folder, trained, save):
    file = save(trained.state_dict())
    by_name = eigencore.analyze("nets.py:make", 2, analyses=(), options={"problem": {"checkpoint": file}})
    made = find_problem("nets.py:make", {"checkpoint": Path(file)})
    assert made.checkpoint == Path(file)
    problem = eigencore.Problem(model=made.model, data=made.data, loss=made.loss, checkpoint=Path(file))
    by_problem = eigencore.analyze(problem, 2, analyses=())
    np.testing.assert_array_equal(by_name.eigen.values, by_problem.eigen.values)
