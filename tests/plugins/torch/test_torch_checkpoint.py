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


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def averaged(state):
    """What AveragedModel saves."""
    return {"n_averaged": torch.tensor(7), **prefixed("module.", state)}


def lightning(state, prefix="model."):
    """A file by Lightning, with the network under one attribute of its module, and the state of a metric."""
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {
            **prefixed(prefix, state),
            "loss_fn.weight": torch.ones(3),
            "metric.seen": torch.ones(1),
        },
        "loops": {},
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"params": [0]}]}],
        "hyper_parameters": {"lr": 0.1, "layers": [4, 7]},
    }


# What a file contains, and how the description of the bound problem continues after its name.
WRAPS = {
    "alone": (lambda state: state, ""),
    "state_dict": (lambda state: {"epoch": 3, "state_dict": state}, ""),
    "model": (lambda state: {"model": state, "optimizer": {"state": {}}}, ""),
    "net": (lambda state: {"net": state, "acc": 0.9}, ""),
    "module": (lambda state: {"module": state, "lr_scheduler": None}, ""),
    "model_state_dict": (lambda state: {"model_state_dict": state, "loss": torch.tensor(0.5)}, ""),
    "parallel": (lambda state: prefixed("module.", state), ""),
    "compiled": (lambda state: prefixed("_orig_mod.", state), ""),
    "compiled, parallel": (lambda state: {"model": prefixed("module._orig_mod.", state)}, ""),
    "parallel, compiled": (lambda state: prefixed("_orig_mod.module.", state), ""),
    "a stack": (lambda state: {"state_dict": prefixed("model.module._orig_mod.net.", state)}, ""),
    "parts": (
        lambda state: {
            f"0.module.{n[2:]}" if n[0] == "0" else f"2._orig_mod.{n[2:]}": x for n, x in state.items()
        },
        "",
    ),
    "averaged": (averaged, ", without its entries n_averaged"),
    "averaged, parallel": (
        lambda state: {"model": prefixed("module.", averaged(state))},
        ", without its entries module.n_averaged",
    ),
    "lightning": (lightning, ", without its entries loss_fn.weight, metric.seen"),
    "lightning, another attribute": (
        lambda state: lightning(state, "backbone."),
        " under state_dict: backbone., without its entries loss_fn.weight, metric.seen",
    ),
    "lightning, compiled": (
        lambda state: lightning(state, "model._orig_mod."),
        ", without its entries loss_fn.weight, metric.seen",
    ),
    "another prefix": (lambda state: prefixed("network.", state), " under network."),
    "an average alone": (
        lambda state: {"model_ema": prefixed("module.", state)},
        " under model_ema: module.",
    ),
    "an average besides": (
        lambda state: {"state_dict_ema": {n: x + 1 for n, x in state.items()}, "state_dict": state},
        "",
    ),
    "an average in the same dict": (
        lambda state: {
            **prefixed("ema_model.", {n: x + 1 for n, x in state.items()}),
            **prefixed("model.", state),
        },
        ", without its entries ema_model.0.weight, ema_model.0.bias, ema_model.2.weight, ema_model.2.bias",
    ),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_operator_is_that_of_the_checkpoints_weights(wrap, small, trained, save, hessian):
    expected = hessian(small(model=trained))
    content, note = WRAPS[wrap]
    problem = small(checkpoint=save(content(trained.state_dict())))
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    torch.testing.assert_close(hessian(problem), expected, rtol=0, atol=0)
    torch.testing.assert_close(dict(problem.model.state_dict()), before, rtol=0, atol=0)
    assert float((hessian(small()) - expected).abs().max()) > 0.01
    assert bind(problem, TorchOptions()).description.endswith(
        f", weights of weights.pt{note}, evaluation mode"
    )


@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_model_takes_a_plain_file_and_the_other_way_round(whole, small, trained, save, hessian):
    def compiled(model):
        if whole:
            return torch.compile(model, backend="eager")
        model[0] = torch.compile(model[0], backend="eager")
        return model

    expected, plain = hessian(small(model=trained)), save(trained.state_dict(), "plain.pt")
    found = hessian(small(model=compiled(small().model), checkpoint=plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    file = save(compiled(trained).state_dict(), "compiled.pt")
    assert any("_orig_mod" in name for name in torch.load(file))
    for model in (small().model, compiled(small().model)):
        found = hessian(small(model=model, checkpoint=file))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_model_whose_own_parts_have_the_names_of_wrappers(small, trained, save, hessian):
    class Own(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.weight = module, nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x):
            return self.module(x) * self.weight

    def own(model):
        return Own(nn.Sequential(model[0], nn.Tanh(), Own(model[2])))

    expected = hessian(small(model=own(trained)))
    for wrap in (lambda state: state, averaged, lightning):
        file = save(wrap(own(trained).state_dict()))
        found = hessian(small(model=own(small().model), checkpoint=file))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_old_files_that_lack_what_only_training_needs(small, save, hessian):
    norm = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    state = {name: x for name, x in norm.state_dict().items() if "num_batches_tracked" not in name}
    for wrap in (lambda state: state, lambda state: prefixed("module.", state), lightning):
        with torch.random.fork_rng([]):
            model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
        found = hessian(small(model=model, checkpoint=save(wrap(state))))
        torch.testing.assert_close(found, hessian(small(model=norm)), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_that_a_layer_itself_translates(prefix, small, save, hessian):
    """The present weight normalisation reads files of the former one."""
    old, new = small().model, small().model
    nn.utils.weight_norm(old[0])
    nn.utils.parametrizations.weight_norm(new[0])
    with torch.no_grad():
        old[0].weight_g.mul_(1.5)
    file = save(prefixed(prefix, old.state_dict()))
    found = hessian(small(model=new, checkpoint=file), "2.*")
    torch.testing.assert_close(found, hessian(small(model=old), "2.*"), rtol=0, atol=1e-12)
    assert float((found - hessian(small(), "2.*")).abs().max()) > 1e-3


def test_tied_weights_that_were_saved_once(small, save, hessian):
    class Tied(nn.Module):
        def __init__(self, seed):
            super().__init__()
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                self.first, self.second, self.head = (nn.Linear(4, n).double() for n in (4, 4, 3))
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))

    state, expected = Tied(1).state_dict(), hessian(small(model=Tied(1)))
    both = dict(state)
    for kept in ("first.weight", "second.weight"):
        once = {
            name: x for name, x in state.items() if name == kept or ".weight" not in name or "head" in name
        }
        found = hessian(small(model=Tied(2), checkpoint=save(prefixed("module.", once))))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    both["second.weight"] = both["second.weight"] + 1
    refused(
        small(model=Tied(2), checkpoint=save(both)),
        "first.weight and second.weight are one weight in the model, but differ in",
    )


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


def test_what_is_left_over_is_named_on_both_sides(small, trained, save):
    state = trained.state_dict()
    refused(
        small(checkpoint=save({**state, "3.weight": torch.ones(2)})),
        r"does not match the model: it has 3\.weight, which the model does not have",
    )
    # Entries with the prefix belong to the network; those without it are named only if others are missing.
    refused(
        small(checkpoint=save(lightning({**state, "3.weight": torch.ones(2)}))),
        r"it has model\.3\.weight, which the model does not have",
    )
    del state["0.bias"]
    refused(
        small(checkpoint=save(lightning(state))),
        r"it lacks 0\.bias and has loss_fn\.weight, metric\.seen, which the model does not have",
    )
    other = {"zz": torch.ones(2)}
    refused(small(checkpoint=save({"model": other, "net": state})), r"it lacks 0\.bias\nBuild")
    state["0.bais"] = torch.ones(7)
    hint = refused(
        small(checkpoint=save(lightning(state))), r"it lacks 0\.bias and has model\.0\.bais, loss_fn"
    )
    assert hint == "Check the names; the closest are model.0.bais for 0.bias."
    refused(
        small(checkpoint=save({"n_averaged": torch.tensor(3)})), r"it lacks 0\.weight, .* and has n_averaged"
    )


def test_several_sets_of_weights_that_match(small, trained, save):
    state = trained.state_dict()
    two = {**prefixed("student.", state), **prefixed("teacher.", state)}
    hint = refused(
        small(checkpoint=save({"state_dict": two})),
        r"contains 2 sets of weights that match .*, under state_dict: student\., state_dict: teacher\.",
    )
    assert "in a file of its own" in hint
    refused(small(checkpoint=save({"model": state, "net": state})), "2 sets .* under model, net")
    two = {**prefixed("model.", state), **prefixed("net.", state)}
    refused(small(checkpoint=save(two)), r"2 sets .* under model\., net\.")


def test_an_average_never_stands_in_for_weights_that_do_not_fit(small, trained, save):
    state = trained.state_dict()
    broken = {name: x for name, x in state.items() if name != "2.bias"}
    refused(small(checkpoint=save({"state_dict": broken, "state_dict_ema": state})), r"it lacks 2\.bias")


def test_an_average_alone_that_does_not_fit(small, trained, save):
    state = trained.state_dict()
    del state["2.bias"]
    refused(small(checkpoint=save({"ema": state})), r"it lacks 2\.bias")
    refused(small(checkpoint=save({"ema": prefixed("teacher.", state)})), r"lacks .* and has teacher")


def test_types_that_would_not_keep_the_numbers(small, trained, save, hessian):
    class Coded(nn.Module):
        def __init__(self):
            super().__init__()
            self.code = nn.Parameter(torch.arange(12, dtype=torch.int8).reshape(3, 4), requires_grad=False)
            self.register_buffer("mask", torch.tensor([True, False, True, True]))
            self.out = nn.Linear(3, 3)

        def forward(self, x):
            return self.out(torch.tanh(nn.functional.linear(x * self.mask, self.code / 10.0)))

    state = Coded().state_dict()

    def of(**changed):
        return small(model=Coded(), dtype=torch.float32, checkpoint=save({**state, **changed}))

    expected = hessian(of())
    same = of(code=state["code"].float(), mask=state["mask"].to(torch.uint8))
    assert hessian(same).shape == expected.shape
    refused(of(code=state["code"] + 0.5), r"code is float32 in .*weights.pt; expected int8 as in the model")
    refused(of(code=state["code"].to(torch.int64) + 300), "code is int64 in")
    imaginary = torch.complex(state["out.weight"], state["out.weight"])
    refused(of(**{"out.weight": imaginary}), r"out\.weight is complex64 in .*; expected float32")
    refused(of(**{"out.weight": torch.ones(3, 3, dtype=torch.int8)}), r"out\.weight is int8 in")


def test_infinite_values_are_allowed_in_buffers_alone(small, save, hessian):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.zeros(3, dtype=torch.float64))
            self.out = nn.Linear(4, 3).double()

        def forward(self, x):
            return self.out(x) * self.mask.exp()

    state = Masked().state_dict()
    state["mask"] = torch.tensor([0.0, -torch.inf, 0.0], dtype=torch.float64)
    masked = Masked()
    masked.load_state_dict(state)
    found = hessian(small(model=Masked(), checkpoint=save(state)))
    torch.testing.assert_close(found, hessian(small(model=masked)), rtol=0, atol=0)
    state["mask"][0] = torch.nan
    refused(small(model=Masked(), checkpoint=save(state)), "mask contains NaN")
    eight = {"w": torch.full((3,), torch.nan).to(torch.float8_e4m3fn)}
    model = nn.Linear(4, 3)
    model.register_parameter("w", nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn), requires_grad=False))
    refused(
        small(model=model, dtype=torch.float32, checkpoint=save({**model.state_dict(), **eight})),
        "w contains NaN or infinite values",
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
    problem.model.extra = [problem.model[0].weight * 2]  # a tensor with a graph, out of reach
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
    code, plain = analyzed(f"nets.py:{factory}", "--out", "plain")
    assert code == 0
    code, output = analyzed(f"nets.py:{factory}", "--set", f"problem.checkpoint={file}", "--out", "loaded")
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
