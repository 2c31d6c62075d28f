"""`network` and `ranks`: numbers against dense matrices and closed forms, and what leaves them unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import eigencore
from eigencore import Problem, analyze, bind
from eigencore.objectives import CrossEntropy
from eigencore.results import AnalysisResult
from eigencore_robustness.networks.network import NAMES
from eigencore_robustness.over_inputs.input_fisher import fisher_norms
from eigencore_robustness.under_attack.worst_inputs import worst_inputs

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # in PyTorch's forward mode

EPS = 0.1
BATCH = 17  # the samples do not divide into batches of equal size


class Clusters(nn.Module):
    """Inputs (b, 6), three classes, two layers."""

    def __init__(self, activation: nn.Module, factor: float = 1.0):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)
        self.activation, self.factor = activation, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.factor * self.second(self.activation(self.first(x)))
        return out


@pytest.fixture(scope="module")
def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (60,), generator=generator)
    centres = torch.rand(3, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(60, 6, generator=generator, dtype=torch.float64)
    return (centres[y] + 0.15 * noise).clamp(0, 1), y


def trained(samples: tuple[Tensor, Tensor], activation: nn.Module) -> Clusters:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Clusters(activation).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(model(samples[0]), samples[1]).backward()
            optimizer.step()
    model.zero_grad()
    return model


def problem_of(model: nn.Module, samples: tuple[Tensor, Tensor], **more: Any) -> Problem:
    data = list(zip(*(part.split(25) for part in samples), strict=True))
    return Problem(model, data, nn.CrossEntropyLoss(), bounds=(0.0, 1.0), **more)


def found(problem: Any, analysis: str = "network", k: int = 0, **options: Any) -> AnalysisResult:
    given = {"batch": BATCH, **({"eps": EPS} if analysis == "network" else {}), **options}
    run = analyze(problem, k, analyses=analysis, seed=4, options={analysis: given})
    assert not run.failed
    return run.analyses[analysis]


def dense(model: nn.Module, x: Tensor, y: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The Hessian of the mean cross-entropy over the weights, and the weights."""
    parameters = {name: one.detach() for name, one in model.named_parameters()}
    sizes = [one.numel() for one in parameters.values()]

    def loss(w: Tensor) -> Tensor:
        parts = {
            name: part.reshape(parameters[name].shape)
            for name, part in zip(parameters, w.split(sizes), strict=True)
        }
        return cross_entropy(torch.func.functional_call(model, parts, (x,)), y)

    w = torch.cat([one.reshape(-1) for one in parameters.values()])
    return torch.func.hessian(loss)(w).numpy(), w.numpy()


def largest(H: Any) -> float:
    return float(np.linalg.eigvalsh(H)[-1])


@pytest.mark.parametrize("k", [0, 1])
def test_eigenvalues_are_those_of_dense_hessians_at_clean_and_worst_inputs(samples: Any, k: int) -> None:
    model = trained(samples, nn.Tanh())
    problem = problem_of(model, samples)
    numbers = found(problem, k=k).numbers
    classifier = bind(problem).classifier("float64")
    inputs, losses = worst_inputs(classifier, *classifier.samples(), EPS, BATCH, 4)
    for name, x in (("clean", samples[0]), ("robust", inputs)):
        H, w = dense(model, x, samples[1])
        scaled = np.abs(w)[:, None] * H * np.abs(w)
        of_scaled = "lambda_scaled" if name == "clean" else "lambda_robust_scaled"
        assert numbers[f"lambda_{name}"] == pytest.approx(largest(H), rel=1e-5)
        assert numbers[of_scaled] == pytest.approx(largest(scaled), rel=1e-5)
    with torch.no_grad():
        clean = float(cross_entropy(model(samples[0]), samples[1]))
        robust = float(cross_entropy(model(inputs), samples[1]))
    assert numbers["train_loss"] == pytest.approx(clean, rel=1e-12)
    assert numbers["train_robust_loss"] == pytest.approx(robust, rel=1e-12)
    # There is no validation data here, so that the samples are those of the loss.
    assert numbers["robust_loss"] == pytest.approx(float(losses.mean()), rel=1e-12)
    assert tuple(numbers) == NAMES


def test_the_other_numbers_are_those_of_the_parts(samples: Any) -> None:
    problem = problem_of(trained(samples, nn.Tanh()), samples)
    numbers = found(problem).numbers
    bound = bind(problem)
    attacked = eigencore.attack(bound, "pgd", eps=EPS, norm="Linf", batch=BATCH, seed=4)
    nearest = np.min(
        [
            eigencore.attack(bound, name, batch=BATCH, seed=4, norm="L2").distance
            for name in ("deepfool", "fmn")
        ],
        axis=0,
    )
    assert numbers["robust_accuracy"] == pytest.approx(attacked.accuracy)
    assert numbers["median_distance"] == pytest.approx(float(np.median(nearest)), rel=1e-6)
    count = int((~attacked.success).sum())
    interval = stats.binomtest(count, 60).proportion_ci(0.95, method="exact")
    assert (numbers["robust_accuracy_low"], numbers["robust_accuracy_high"]) == pytest.approx(tuple(interval))
    columns = found(problem, "ranks").columns
    correct = attacked.correct
    every = np.zeros(60)
    every[correct] = columns["r1"]
    assert numbers["median_r1"] == pytest.approx(float(np.median(every)), rel=1e-9)
    curvature = []
    for x, y in zip(*samples, strict=True):
        H = torch.func.hessian(lambda z, y=y: cross_entropy(problem.model(z[None]), y[None]))(x)
        curvature.append(largest(H.detach().numpy()))
    assert numbers["median_lambda_input"] == pytest.approx(float(np.median(curvature)), rel=1e-4)


def test_worst_inputs_of_a_linear_network_are_known_exactly() -> None:
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(6, 2).double()
    x = torch.rand(40, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(2, (40,), generator=generator)  # many are misclassified, and are moved as well
    classifier = bind(problem_of(model, (x, y))).classifier("float64")
    inputs, losses = worst_inputs(classifier, x, y, EPS, BATCH, 0)
    direction = torch.sign(model.weight[1 - y] - model.weight[y]).detach()
    exact = (x + EPS * direction).clamp(0, 1)
    assert torch.allclose(inputs, exact, atol=1e-12)
    with torch.no_grad():
        assert np.allclose(losses, cross_entropy(model(exact), y, reduction="none"), rtol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1e3])
def test_worst_inputs_are_in_the_ball_and_no_better_than_random_ones(samples: Any, factor: float) -> None:
    """With a factor of 1,000, the loss of most samples and its gradient are zero to rounding."""
    model = trained(samples, nn.Tanh())
    model.factor = factor
    classifier = bind(problem_of(model, samples)).classifier("float64")
    x, y = classifier.samples()
    inputs, losses = worst_inputs(classifier, x, y, EPS, BATCH, 0)
    assert float((inputs - x).abs().max()) <= EPS + 1e-12
    assert float(inputs.min()) >= 0
    assert float(inputs.max()) <= 1
    assert np.allclose(losses, CrossEntropy().value(classifier.logits(inputs), y).detach())
    rng, corners = torch.Generator().manual_seed(0), []
    for _ in range(50):
        noise = EPS * torch.sign(torch.randn(x.shape, generator=rng, dtype=x.dtype))
        logits = classifier.logits((x + noise).clamp(0, 1))
        corners.append(CrossEntropy().value(logits, y).detach().numpy())
    worst = np.max(corners, axis=0)
    # A single start may end in a local maximum.
    assert np.mean(losses >= worst * (1 - 1e-3) - 1e-12) > 0.9
    assert losses.mean() > worst.mean() - 1e-3


def test_scaled_eigenvalues_do_not_change_when_layers_are_rescaled(samples: Any) -> None:
    before, after = (trained(samples, nn.ReLU()) for _ in range(2))
    with torch.no_grad():
        after.first.weight *= 4
        after.first.bias *= 4
        after.second.weight /= 4
    one, other = (found(problem_of(model, samples)).numbers for model in (before, after))
    for name in NAMES:
        if name in ("lambda_clean", "lambda_robust"):
            assert abs(one[name] - other[name]) > 0.2 * one[name]
        else:
            assert one[name] == pytest.approx(other[name], rel=2e-3), name


def test_a_factor_on_the_logits_moves_curvature_and_no_distance(samples: Any) -> None:
    model = trained(samples, nn.ReLU())
    small, large = [], []
    for factor, into in ((0.03, small), (3.0, large)):
        model.factor = factor
        into += [
            found(problem_of(model, samples)).numbers,
            found(problem_of(model, samples), "ranks").numbers,
        ]
    for name in ("clean_accuracy", "robust_accuracy", "median_r1"):
        assert small[0][name] == pytest.approx(large[0][name], rel=1e-9), name
    assert small[0]["median_distance"] == pytest.approx(large[0]["median_distance"], rel=1e-2)
    assert small[1]["rho_r1"] == pytest.approx(large[1]["rho_r1"], abs=0.02)
    assert small[0]["median_lambda_input"] > 5 * large[0]["median_lambda_input"]
    assert abs(small[1]["rho_fisher"] - large[1]["rho_fisher"]) > 0.05


def test_misclassified_samples_have_distance_zero(samples: Any) -> None:
    x, y = samples
    wrong = torch.where(torch.arange(60) < 40, (y + 1) % 3, y)
    numbers = found(problem_of(trained(samples, nn.Tanh()), (x, y), validation=[(x, wrong)])).numbers
    assert numbers["clean_accuracy"] < 0.5
    assert numbers["median_distance"] == numbers["median_r1"] == 0
    assert numbers["robust_loss"] > 1 > numbers["train_loss"]


@pytest.mark.parametrize("case", ["a mapping", "a bound problem", "one logit"])
def test_what_the_robust_loss_cannot_be_computed_of_is_none_with_a_warning(samples: Any, case: str) -> None:
    x, y = samples
    model = trained(samples, nn.Tanh())
    problem: Any = problem_of(model, samples)
    if case == "a mapping":
        batch = {"pixel_values": x, "labels": y}
        loss = lambda model, batch: cross_entropy(model(batch["pixel_values"]), batch["labels"])  # noqa: E731
        problem = replace(problem, data=[batch], loss=loss, call="loss(model, batch)")
    elif case == "a bound problem":
        problem = bind(problem)
    else:
        single = nn.Linear(6, 1).double()
        target = (y > 0).double()[:, None]
        problem = Problem(single, [(x, target)], nn.BCEWithLogitsLoss(), bounds=(0.0, 1.0))
    result = found(problem)
    assert result.numbers["lambda_robust"] is result.numbers["train_robust_loss"] is None
    assert result.numbers["lambda_clean"] is not None
    assert any("no numbers of the robust loss over the data" in warning for warning in result.warnings)


def test_a_loss_that_batches_of_inputs_and_labels_do_not_give_is_found_out(samples: Any) -> None:
    """The loss weighs batches by their length, which batches of another length would change."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, y) * len(y) ** 0.5

    problem = replace(problem_of(trained(samples, nn.Tanh()), samples), loss=loss, reduction="mean")
    result = found(problem)
    assert result.numbers["lambda_robust"] is None
    assert any("the loss of batches (inputs, labels) is" in warning for warning in result.warnings)


# -- ranks -------------------------------------------------------------------------------------------------


def test_fisher_norms_are_those_of_dense_matrices(samples: Any) -> None:
    model = trained(samples, nn.Tanh())
    classifier = bind(problem_of(model, samples)).classifier("float64")
    norms = fisher_norms(classifier, *classifier.samples(), BATCH)
    for x, norm in zip(samples[0], norms, strict=True):
        J = torch.func.jacrev(lambda z: model(z[None])[0])(x).detach()
        p = torch.softmax(model(x[None])[0], 0).detach()
        fisher = J.T @ (torch.diag(p) - torch.outer(p, p)) @ J
        assert norm == pytest.approx(largest(fisher.numpy()), rel=1e-8)


def test_the_fisher_norm_of_a_certain_network_is_no_rounding_error() -> None:
    """For two classes it is p (1 - p) ||grad margin||^2, down to probabilities of 1e-40."""
    model = nn.Linear(1, 2).double()
    with torch.no_grad():
        model.weight[:] = torch.tensor([[90.0], [0.0]])
        model.bias[:] = 0
    x = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    classifier = bind(problem_of(model, (x, torch.zeros(11, dtype=torch.int64)))).classifier("float64")
    norms = fisher_norms(classifier, *classifier.samples(), BATCH)
    margin = 90 * x[:, 0].numpy()
    assert norms == pytest.approx(90**2 * np.exp(-margin) / (1 + np.exp(-margin)) ** 2, rel=1e-9, abs=0)


def test_ranks_are_spearmans_correlations_with_the_distance(samples: Any) -> None:
    result = found(problem_of(trained(samples, nn.Tanh()), samples), "ranks")
    distance = result.columns["distance"]
    for name in ("r1", "lambda_input", "fisher", "nu", "gradient_norm", "loss", "margin"):
        column = result.columns[name]
        assert result.numbers[f"rho_{name}"] == pytest.approx(stats.spearmanr(column, distance).statistic)
        assert result.numbers[f"median_{name}"] == pytest.approx(float(np.median(column)))
    ranked = stats.rankdata(np.stack([result.columns[name] for name in ("r1", "loss", "margin")]), axis=1)
    controls = np.vstack([ranked[1:], np.ones(len(distance))]).T
    rests = [
        column - controls @ np.linalg.lstsq(controls, column, rcond=None)[0]
        for column in (ranked[0], stats.rankdata(distance))
    ]
    partial = float(np.corrcoef(*rests)[0, 1])
    assert result.numbers["given_loss_margin_r1"] == pytest.approx(partial)
    assert "given_r1_r1" not in result.numbers


def test_a_piecewise_linear_network_has_no_nu_and_its_curvature_is_the_fisher_norm(samples: Any) -> None:
    result = found(problem_of(trained(samples, nn.ReLU()), samples), "ranks")
    assert not any("nu" in name for name in result.numbers)
    assert result.columns["lambda_input"] == pytest.approx(result.columns["fisher"], rel=1e-5)
