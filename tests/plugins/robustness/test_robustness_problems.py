"""The analysis on problems of every form: without float64, frozen, with one logit, with named outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import eigencore
import eigencore_numpy.backend
from eigencore.interfaces import Bound, Problem
from kit.faults import float32_only

torch = pytest.importorskip("torch")
CE = torch.nn.functional.cross_entropy


def study(problem: Problem, **keywords: Any) -> eigencore.Run:
    return eigencore.analyze(problem, k=1, options={"robustness": {"images": None}}, **keywords)


def samples(count: int = 60, classes: int = 3) -> tuple[Any, Any]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = torch.rand(count, 1, 4, 4)
    return x, torch.stack([x[:, 0, i, i] for i in range(classes)], 1).argmax(1)


def network(outputs: int = 3) -> Any:
    """Confident, so that the curvatures of most samples are small."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 9), torch.nn.Tanh(), torch.nn.Linear(9, outputs)
        )
        x, y = samples(classes=max(outputs, 2))
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(250):
            optimizer.zero_grad()
            z = net(x)
            loss = CE(z, y) if outputs > 1 else bce(z[:, 0], y)
            loss.backward()
            optimizer.step()
    net.zero_grad()
    return net


def bce(z: Any, y: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(z, y.to(z.dtype))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(network(), [samples()], torch.nn.CrossEntropyLoss(), bounds=(0.0, 1.0))


@pytest.fixture(scope="module")
def found(problem: Problem) -> eigencore.Run:
    run = study(problem)
    assert run.manifest["failed"] == {}
    return run


def test_the_weight_curvature_of_a_float32_network_is_that_of_its_float64_copy(
    problem: Problem, found: eigencore.Run
) -> None:
    """Along the same vector: to more digits than float32 has."""
    bound, exact = eigencore.bind(problem), eigencore.bind(problem, dtype="float64")
    v, correct = found.eigen.vectors[:, 0], found.analyses["robustness"].columns["correct"]
    x, y = exact.classifier().samples()
    expected = exact.sample_curvature(eigencore.objectives.CrossEntropy(), v.double(), x, y).numpy()
    column = found.analyses["robustness"].columns["weight_curvature"]
    np.testing.assert_allclose(column[correct], expected[correct], rtol=1e-10, atol=1e-16)
    single = bound.sample_curvature(eigencore.objectives.CrossEntropy(), v, x, y).double().numpy()
    assert np.abs(single - expected)[correct].max() > 1e-9 * np.abs(expected[correct]).max()


def test_a_backend_without_float64_gives_the_columns_in_float32_and_says_so(
    digits_problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits_problem.validation[0]
    problem = replace(digits_problem, validation=[(x[:60], y[:60])])
    exact = eigencore.analyze(problem, k=1, dtype="float32", analyses="robustness").analyses["robustness"]
    bind = eigencore_numpy.backend.bind
    asked = []

    def narrow(*arguments: Any, **keywords: Any) -> Bound:
        asked.append(1)
        return float32_only(bind(*arguments, **keywords))

    monkeypatch.setattr(eigencore_numpy.backend, "bind", narrow)
    run = eigencore.analyze(problem, k=1, dtype="float32", analyses="robustness")
    assert asked
    assert run.manifest["failed"] == {}
    result = run.analyses["robustness"]
    observed = {gate: observed for gate, _, observed in result.tables["gates"].rows}
    assert "has no float64" in observed["precision"]
    assert ("precision", "PASS", "margins and curvatures are computed in float64") in exact.tables[
        "gates"
    ].rows
    for name in ("loss", "r1", "lambda_max", "weight_curvature"):
        np.testing.assert_allclose(
            result.columns[name],
            exact.columns[name],
            rtol=1e-2,
            atol=1e-4 * np.nanmax(np.abs(exact.columns[name])),
        )
        assert not np.array_equal(result.columns[name], exact.columns[name], equal_nan=True)


def test_a_frozen_network_gives_the_same_numbers(problem: Problem, found: eigencore.Run) -> None:
    net = network().requires_grad_(False)
    run = study(replace(problem, model=net))
    np.testing.assert_array_equal(run.eigen.values, found.eigen.values)
    assert run.analyses["robustness"].tables == found.analyses["robustness"].tables
    assert "all weights, which the given model has frozen" in run.manifest["backend_description"]
    assert not any(p.requires_grad for p in net.parameters())
    attacked = eigencore.attack(eigencore.bind(replace(problem, model=net)), "pgd", eps=0.1)
    assert attacked.accuracy == eigencore.attack(eigencore.bind(problem), "pgd", eps=0.1).accuracy


def test_one_logit_gives_the_same_numbers_as_two() -> None:
    net, (x, y) = network(1), samples(classes=2)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any) -> Any:
            z = self.net(x)
            return torch.cat([torch.zeros_like(z), z], 1)

    one = Problem(net, [(x, y[:, None].float())], torch.nn.BCEWithLogitsLoss(), bounds=(0.0, 1.0))
    two = Problem(Both(), [(x, y)], torch.nn.CrossEntropyLoss(), bounds=(0.0, 1.0))
    runs = [study(problem, dtype="float64") for problem in (one, two)]
    assert [run.manifest["failed"] for run in runs] == [{}, {}]
    mine, theirs = (run.analyses["robustness"] for run in runs)
    assert 0.1 < mine.columns["distance"][mine.columns["correct"]].mean() < 2
    assert (mine.columns["found_by"] == theirs.columns["found_by"]).mean() > 0.8  # attacks may tie
    for name, column in theirs.columns.items():
        if name == "found_by":
            continue
        scale = np.nanmax(np.abs(np.where(np.isfinite(column), column, 0)))
        np.testing.assert_allclose(mine.columns[name], column, rtol=1e-6, atol=1e-8 * scale)


def test_bounds_of_each_channel_bound_attacks_and_radii() -> None:
    """A channel that may hardly move makes the others move further."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = 0.2 + 0.1 * torch.rand(60, 3, 2, 2)
        x[:, 2] = 0.25
        net = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)
        )
    with torch.no_grad():
        net[3].bias -= net(x).mean(0)
        y = net(x).argmax(1)
    low, high = np.array([0.0, 0.0, 0.249]), np.array([1.0, 1.0, 0.251])
    runs = [
        study(Problem(net, [(x, y)], torch.nn.CrossEntropyLoss(), bounds=bounds))
        for bounds in ((0.0, 1.0), (np.zeros(3), np.ones(3)), (low, high))
    ]
    wide, same, narrow = (run.analyses["robustness"].columns for run in runs)
    for name in ("distance", "r1_in_box"):
        np.testing.assert_array_equal(same[name], wide[name])
        both = np.isfinite(narrow[name]) & np.isfinite(wide[name])
        assert (narrow[name][both] >= wide[name][both] * (1 - 1e-2)).all()
        assert (narrow[name][both] > wide[name][both] * 1.01).sum() > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ResNet", "ViT"])
@pytest.mark.parametrize("form", ["pairs", "mappings"])
def test_a_classifier_of_transformers(kind: str, form: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"num_labels": 3, "num_channels": 1}
    if kind == "ResNet":
        config = transformers.ResNetConfig(
            embedding_size=4,
            hidden_sizes=[4, 6],
            depths=[1, 1],
            layer_type="basic",
            hidden_act="silu",
            **sizes,
        )
    else:
        config = transformers.ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            image_size=8,
            patch_size=4,
            **sizes,
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
        x = torch.rand(12, 1, 8, 8)
        with torch.no_grad():
            y = model(x).logits.argmax(1)
    data = [(x, y)] if form == "pairs" else [{"pixel_values": x, "labels": y}]

    def loss(outputs: Any, batch: Any) -> Any:
        return CE(outputs.logits, batch) if form == "pairs" else outputs(**batch).loss

    run = study(Problem(model, data, loss, bounds=(0.0, 1.0)), max_matvecs=60)
    assert run.manifest["failed"] == {}
    assert run.manifest["skipped"] == {}
    columns = run.analyses["robustness"].columns
    assert columns["correct"].all()
    assert np.isfinite(columns["r1"]).all()


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("ggn", {}, "operator ggn, not of the Hessian"),
        ("hessian", {"damping": 0.5}, "operator hessian with damping"),
    ],
)
def test_what_is_left_out_for_another_operator_is_reported(
    digits_problem: Problem, kind: str, options: dict[str, float], named: str
) -> None:
    x, y = digits_problem.validation[0]
    problem = replace(digits_problem, validation=[(x[:60], y[:60])])
    run = eigencore.analyze(problem, k=1, kind=kind, analyses="robustness", options={kind: options})
    result = run.analyses["robustness"]
    (warning,) = result.warnings
    assert named in warning
    assert "the increase of the loss along the eigenvectors are left out" in warning
    assert "weight_curvature" not in result.columns
    assert not any("mean increase of the loss" in name for name in result.tables)
    gates = {name: observed for name, _, observed in result.tables["gates"].rows}
    assert f"1 of 1 converged of the operator {kind}, " in gates["eigenpairs"]
