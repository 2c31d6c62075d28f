"""The sharpness of minibatches against the same numbers computed by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import eigencore
from eigencore.cli import main
from eigencore.errors import UsageError
from eigencore.testing import analysis_checks

DRAWS = 6


@pytest.fixture(scope="module")
def problem() -> eigencore.Problem:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    x = torch.randn(25, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (25,), generator=generator)
    data = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 25, 8)]
    return eigencore.Problem(model, data, torch.nn.CrossEntropyLoss(), backend="torch")


def by_hand(problem, index):
    """Gradient and Hessian of one batch, dense."""
    x, y = problem.data[index]
    parameters = dict(problem.model.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def loss(flat):
        pieces = dict(zip(parameters, flat.split(sizes), strict=True))
        shaped = {name: piece.reshape(parameters[name].shape) for name, piece in pieces.items()}
        return problem.loss(torch.func.functional_call(problem.model, shaped, (x,)), y)

    flat = torch.cat([p.detach().reshape(-1) for p in parameters.values()]).requires_grad_()
    (g,) = torch.autograd.grad(loss(flat), flat)
    return g.numpy(), torch.autograd.functional.hessian(loss, flat).numpy()


def run_of(problem, **options):
    return eigencore.analyze(
        problem, k=0, analyses="batch_sharpness", options={"batch_sharpness": {"draws": DRAWS, **options}}
    ).analyses["batch_sharpness"]


def test_every_number_is_that_of_the_batch(problem):
    found = run_of(problem)
    bound = eigencore.bind(problem)
    assert len(found.columns["sharpness"]) == DRAWS
    numerators, denominators = [], []
    for draw in range(DRAWS):
        gradient = bound.gradient(minibatch=(draw, 0, 1)).numpy()
        dense = [by_hand(problem, index) for index in range(4)]
        (index,) = [i for i, (g, _) in enumerate(dense) if np.allclose(g, gradient, atol=1e-12)]
        g, H = dense[index]
        numerators.append(g @ H @ g)
        denominators.append(g @ g)
        assert found.columns["sharpness"][draw] == pytest.approx(g @ H @ g / (g @ g), rel=1e-9)
        assert found.columns["gradient_norm"][draw] == pytest.approx(np.linalg.norm(g), rel=1e-9)
        assert found.columns["lambda_max"][draw] == pytest.approx(np.linalg.eigvalsh(H)[-1], rel=1e-3)
    rows = {row[0]: row[1:] for row in found.tables["sharpness"].rows}
    ratios = np.array(numerators) / np.array(denominators)
    assert rows["mean of ratios"][0] == pytest.approx(ratios.mean())
    assert rows["ratio of means"][0] == pytest.approx(np.mean(numerators) / np.mean(denominators))
    assert rows["mean of ratios"][0] != pytest.approx(rows["ratio of means"][0], rel=1e-3)
    for value, low, high in rows.values():
        assert low < value < high


def test_the_intervals_cover_the_mean_over_all_draws(problem):
    """The truth is the mean over batches, which are drawn alike; at 95 %, over 40 seeds."""
    x, y = (torch.cat(parts) for parts in zip(*problem.data, strict=True))
    problem = replace(problem, data=[(x[i : i + 4], y[i : i + 4]) for i in range(0, 24, 4)])
    sizes = np.full(6, 1 / 6)
    dense = [by_hand(problem, index) for index in range(6)]
    numerators = np.array([g @ H @ g for g, H in dense])
    denominators = np.array([g @ g for g, _ in dense])
    truth = {
        "mean of ratios": np.sum(sizes * numerators / denominators),
        "ratio of means": np.sum(sizes * numerators) / np.sum(sizes * denominators),
    }
    covered = dict.fromkeys(truth, 0)
    bound = eigencore.bind(problem)
    for seed in range(40):
        run = eigencore.analyze(
            bound,
            k=0,
            seed=seed,
            analyses=["batch_sharpness"],
            options={"batch_sharpness": {"draws": 20, "largest": False}},
        )
        for name, _, low, high in run.analyses["batch_sharpness"].tables["sharpness"].rows:
            covered[name] += low <= truth[name] <= high
    assert min(covered.values()) >= 34


def test_the_mean_largest_eigenvalue_is_reported_apart_from_that_of_all_data(problem):
    run = eigencore.analyze(problem, k=2, which="LA", analyses="batch_sharpness")
    found = run.analyses["batch_sharpness"]
    assert found.numbers["lambda_max_of_all_data"] == pytest.approx(run.eigen.values[0])
    rows = {row[0]: row[1] for row in found.tables["sharpness"].rows}
    assert rows["mean largest eigenvalue"] > run.eigen.values[0]
    assert found.matvecs > 20 * 5 / 25


def test_a_limit_keeps_the_minibatches_so_far(problem):
    run = eigencore.analyze(
        problem,
        k=0,
        analyses="batch_sharpness",
        max_matvecs=3,
        options={"batch_sharpness": {"draws": 40, "largest": False}},
    )
    found = run.analyses["batch_sharpness"]
    assert 2 <= found.numbers["minibatches"] < 40
    assert "stopped by max_matvecs=3" in found.warnings[0]
    assert not run.manifest["finished"]


def test_a_problem_without_minibatches_is_refused():
    with pytest.raises(UsageError, match="needs minibatches, weight_loss"):
        eigencore.analyze("demo:quadratic", k=0, analyses="batch_sharpness")


@pytest.mark.parametrize(
    "check",
    analysis_checks("batch_sharpness", "demo:digits-numpy", draws=2),
    ids=lambda check: check.name,
)
def test_conforms(check):
    check()


def test_the_command(capsys):
    arguments = ["analyze", "demo:digits-numpy", "-k", "0", "--analyses", "batch_sharpness"]
    assert main([*arguments, "--set", "batch_sharpness.draws=3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["analyses"]["batch_sharpness"]
    assert told["columns"] == ["sharpness", "gradient_norm", "lambda_max"]
    assert len(told["tables"]["sharpness"]["rows"]) == 3
