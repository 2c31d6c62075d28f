"""The preconditioner reproduces the steps of the optimizer, from its state and from a checkpoint."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import eigencore
from eigencore.errors import OptionError, ProblemError, UnknownNameError
from kit.torch_networks import Tied, dense, difference, made_of

LR = 1e-2
OPTIMIZERS = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=LR),
    "SGD with momentum": lambda ps: torch.optim.SGD(ps, lr=LR, momentum=0.9),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=LR),
    "Adam, other settings": lambda ps: torch.optim.Adam(ps, lr=LR, betas=(0.8, 0.95), eps=1e-3),
    "Adam with amsgrad": lambda ps: torch.optim.Adam(ps, lr=LR, betas=(0.9, 0.5), amsgrad=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=LR, weight_decay=0.1),
    "AdamW with amsgrad": lambda ps: torch.optim.AdamW(ps, lr=LR, betas=(0.9, 0.5), amsgrad=True),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, lr=LR),
    "RMSprop, centered": lambda ps: torch.optim.RMSprop(ps, lr=LR, centered=True, eps=1e-4),
}


def flat(tensors):
    return torch.cat([x.detach().reshape(-1) for x in tensors])


def trained(make, name="mlp", factors=(3.0, 0.3, 1.0)):
    """A problem after some steps on losses of different size, its optimizer, and P from the last step."""
    one = made_of(name)
    model = one.problem.model
    selected = [p for p in model.parameters() if p.requires_grad]
    optimizer = make(selected)
    for step, factor in enumerate(factors):
        x, y = one.problem.data[step]
        optimizer.zero_grad()
        (factor * functional.cross_entropy(model.eval()(x), y)).backward()
        before, gradient = flat(selected), flat(p.grad for p in selected)
        optimizer.step()
    states = [optimizer.state[p] for p in selected]
    averaged = "exp_avg" in states[0] or states[0].get("momentum_buffer") is not None
    average = gradient
    if averaged:
        average = flat(s.get("exp_avg", s.get("momentum_buffer")) for s in states)
    decay = optimizer.defaults["weight_decay"] if isinstance(optimizer, torch.optim.AdamW) else 0.0
    change = flat(selected) - before * (1 - LR * decay)
    reference = dataclasses.replace(one.dense, model=model)  # at the weights after the steps
    return one.problem, reference, optimizer, -LR * average / change


@pytest.mark.parametrize("of", ["hessian", "ggn"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_steps_of_the_optimizer_are_reproduced(name, of):
    problem, reference, optimizer, P = trained(OPTIMIZERS[name])
    problem = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    A = dense(eigencore.bind(problem).operator("preconditioned", of=of))
    scale = P.rsqrt()
    assert difference(A, scale[:, None] * getattr(reference, of)() * scale) < 1e-9
    assert difference(A, A.T) < 1e-13
    if name.startswith("SGD"):
        assert difference(A, getattr(reference, of)()) < 1e-9
    else:
        assert P.max() / P.min() > 2


def saved(tmp_path, problem, optimizer, key="optimizer", **more):
    file = tmp_path / "checkpoint.pt"
    torch.save({"model": problem.model.state_dict(), key: optimizer.state_dict(), "epoch": 3, **more}, file)
    return file


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_gives_the_same_matrix(name, tmp_path):
    problem, reference, optimizer, P = trained(OPTIMIZERS[name])
    file = saved(tmp_path, problem, optimizer)
    with torch.no_grad():  # the file has the weights, not the given model
        model = copy.deepcopy(problem.model)
        for p in model.parameters():
            p.zero_()
    given = eigencore.Problem(model, problem.data, problem.loss, checkpoint=str(file))
    A = dense(eigencore.bind(given).operator("preconditioned"))
    scale = P.rsqrt()
    assert difference(A, scale[:, None] * reference.hessian() * scale) < 1e-9


@pytest.mark.parametrize("key", ["optimizer_state_dict", "optimizer_states", "optim", "optimizer_state"])
def test_the_names_under_which_training_scripts_save_the_state(key, tmp_path):
    problem, _, optimizer, P = trained(OPTIMIZERS["Adam"])
    file = saved(tmp_path, problem, optimizer, key=key)
    if key == "optimizer_states":  # a list, as Lightning saves it
        torch.save({"model": problem.model.state_dict(), key: [optimizer.state_dict()]}, file)
    given = eigencore.Problem(problem.model, problem.data, problem.loss, checkpoint=str(file))
    bound = eigencore.bind(given)
    P_ours = preconditioner_of(bound)
    torch.testing.assert_close(P_ours, P, rtol=1e-8, atol=0)


def preconditioner_of(bound):
    """P from the diagonal of the operator: with damping of the matrix before it is scaled, D I D = P^-1."""
    difference = dense(bound.operator("preconditioned", weight_decay=1.0)) - dense(
        bound.operator("preconditioned")
    )
    return 1 / difference.diagonal()


def test_names_in_a_checkpoint_decide_about_the_order(tmp_path):
    problem, _, optimizer, P = trained(lambda ps: torch.optim.Adam(ps, lr=LR))
    named = list(problem.model.named_parameters())[::-1]
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    order = {name: i for i, (name, _) in enumerate(problem.model.named_parameters())}
    # Two groups in another order than that of the model; the names are those of a wrapped model.
    groups = [
        {**group, "params": [i], "param_names": [f"module.{name}"]} for i, (name, _) in enumerate(named)
    ]
    renumbered = {i: state["state"][order[name]] for i, (name, _) in enumerate(named)}
    file = tmp_path / "named.pt"
    whole = {"model": problem.model.state_dict(), "optimizer": {"state": renumbered, "param_groups": groups}}
    torch.save(whole, file)
    given = eigencore.Problem(problem.model, problem.data, problem.loss, checkpoint=str(file))
    torch.testing.assert_close(preconditioner_of(eigencore.bind(given)), P, rtol=1e-8, atol=0)
    groups[0]["param_names"] = ["elsewhere.weight"]
    torch.save(whole, file)
    with pytest.raises(ProblemError, match=r"state of an optimizer for elsewhere\.weight, which is not in"):
        eigencore.bind(given).operator("preconditioned")


# -- copies ------------------------------------------------------------------------------------------------


def test_the_state_is_found_if_the_model_is_copied():
    problem, _, optimizer, _ = trained(OPTIMIZERS["Adam"])
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    exact = dense(eigencore.bind(given).operator("preconditioned"))
    single = dense(eigencore.bind(given, dtype="float32").operator("preconditioned"))
    assert single.dtype == torch.float32
    assert difference(single.double(), exact) < 1e-4
    wrapped = eigencore.Problem(
        nn.DataParallel(problem.model), problem.data, problem.loss, optimizer=optimizer
    )
    assert difference(dense(eigencore.bind(wrapped).operator("preconditioned")), exact) < 1e-12


def test_a_network_that_was_frozen_after_training():
    problem, _, optimizer, _ = trained(OPTIMIZERS["Adam"])
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    expected = dense(eigencore.bind(given).operator("preconditioned"))
    problem.model.requires_grad_(False)
    assert difference(dense(eigencore.bind(given).operator("preconditioned")), expected) < 1e-12


def test_tied_and_selected_parameters():
    problem, reference, optimizer, P = trained(OPTIMIZERS["RMSprop"], name="tied")
    assert isinstance(problem.model, Tied)
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    bound = eigencore.bind(given)
    scale = P.rsqrt()
    whole = scale[:, None] * reference.hessian() * scale
    assert difference(dense(bound.operator("preconditioned")), whole) < 1e-9
    assert difference(dense(bound.operator("preconditioned", "head.*")), whole[-15:, -15:]) < 1e-9


def test_several_groups_of_an_optimizer():
    def make(ps):
        return torch.optim.Adam(
            [{"params": ps[2:], "betas": (0.5, 0.9)}, {"params": ps[:2], "eps": 1e-2}], lr=LR
        )

    problem, reference, optimizer, P = trained(make)
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    scale = P.rsqrt()
    A = dense(eigencore.bind(given).operator("preconditioned"))
    assert difference(A, scale[:, None] * reference.hessian() * scale) < 1e-9


# -- refusals ----------------------------------------------------------------------------------------------


def refused(problem, message, params=None, **fields):
    given = eigencore.Problem(problem.model, problem.data, problem.loss, **fields)
    with pytest.raises(ProblemError, match=message) as raised:
        eigencore.bind(given).operator("preconditioned", params)
    assert raised.value.hint or "expected one of" in message or "those of none of" in message


def test_no_optimizer_or_one_that_is_not_known():
    problem, _, _, _ = trained(OPTIMIZERS["SGD"])
    refused(problem, "needs the optimizer that trained the model")
    unknown = torch.optim.Adagrad(problem.model.parameters())
    refused(problem, "is a Adagrad; expected one of SGD, RMSprop, Adam, AdamW", optimizer=unknown)

    class Mine(torch.optim.Adam):
        pass

    refused(problem, "is a Mine; expected one of", optimizer=Mine(problem.model.parameters()))


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_an_optimizer_without_a_step(make):
    problem, _, _, _ = trained(OPTIMIZERS["SGD"])
    optimizer = make(problem.model.parameters())
    refused(problem, r"no state for 0\.weight: it has not made a step", optimizer=optimizer)
    for p in problem.model.parameters():
        p.grad = torch.ones_like(p) if p is problem.model[2].weight else None
    optimizer.step()
    refused(problem, r"no state for 2\.bias", optimizer=optimizer, params="2.*")
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    assert eigencore.bind(given).operator("preconditioned", "2.weight").shape == (15, 15)


def test_the_optimizer_of_another_model():
    problem, _, _, _ = trained(OPTIMIZERS["SGD"])
    _, _, other, _ = trained(OPTIMIZERS["Adam"])
    refused(problem, r"the optimizer does not have 0\.weight", optimizer=other)
    some = torch.optim.SGD(problem.model[2].parameters(), lr=LR)
    refused(problem, r"the optimizer does not have 0\.weight", optimizer=some)
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=some)
    assert eigencore.bind(given).operator("preconditioned", "2.*").shape == (18, 18)


def test_checkpoints_from_which_the_preconditioner_is_not_known(tmp_path):
    problem, _, optimizer, _ = trained(OPTIMIZERS["Adam"])
    file = tmp_path / "weights.pt"
    torch.save(problem.model.state_dict(), file)
    refused(problem, r"weights\.pt has no state of an optimizer", checkpoint=str(file))
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    several = [{**group, "params": [0, 1]}, {**group, "params": [2, 3]}]
    file = saved(tmp_path, problem, optimizer, extra=1)
    torch.save({"model": problem.model.state_dict(), "optimizer": {**state, "param_groups": several}}, file)
    refused(problem, "2 groups of 4 parameters in total, and the model has 4 trainable", checkpoint=str(file))
    fewer = {**state, "param_groups": [{**group, "params": [0, 1, 2]}]}
    torch.save({"model": problem.model.state_dict(), "optimizer": fewer}, file)
    refused(problem, "1 groups? of 3 parameters", checkpoint=str(file))
    swapped = {**state, "state": {**state["state"], 0: state["state"][2], 2: state["state"][0]}}
    torch.save({"model": problem.model.state_dict(), "optimizer": swapped}, file)
    refused(problem, r"for 0\.weight has shape \(3, 5\); expected \(5, 4\)", checkpoint=str(file))


def test_a_preconditioner_without_an_inverse():
    problem, _, _, _ = trained(OPTIMIZERS["SGD"])
    optimizer = torch.optim.Adam(problem.model.parameters(), eps=0.0)
    for p in problem.model.parameters():
        p.grad = torch.ones_like(p)
    problem.model[2].bias.grad[1] = 0
    optimizer.step()
    problem.model[2].bias.data.nan_to_num_()  # 0/0 in the step of the optimizer itself
    refused(problem, r"the preconditioner of 2\.bias has numbers that are zero", optimizer=optimizer)


@pytest.mark.parametrize(
    "make",
    [torch.optim.Adagrad, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.Adadelta],
)
def test_a_checkpoint_of_an_unknown_optimizer(make, tmp_path):
    problem, _, _, _ = trained(OPTIMIZERS["SGD"])
    optimizer = make(problem.model.parameters())
    optimizer.step()
    file = saved(tmp_path, problem, optimizer)
    refused(problem, "those of none of SGD, RMSprop, Adam, AdamW", checkpoint=str(file))


def test_unknown_options_are_refused():
    problem, _, optimizer, _ = trained(OPTIMIZERS["Adam"])
    given = eigencore.Problem(problem.model, problem.data, problem.loss, optimizer=optimizer)
    bound = eigencore.bind(given)
    with pytest.raises(UnknownNameError, match="'by'"):
        bound.operator("preconditioned", by="weights")
    with pytest.raises(OptionError, match=r"preconditioned\.of"):
        bound.operator("preconditioned", of="fisher")
