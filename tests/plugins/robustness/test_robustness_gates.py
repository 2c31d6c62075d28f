"""Each gate passes on sound networks and attacks, and warns or fails on others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import eigencore
from eigencore.objectives import CrossEntropy
from eigencore_robustness import gates
from eigencore_robustness.gates import GateOutcome


def attack(survived: int, of: int = 200, eps: float = 0.1) -> SimpleNamespace:
    success = np.arange(of) >= survived
    return SimpleNamespace(success=success, accuracy=1 - success.mean(), eps=eps)


def test_logits_that_change_fail():
    z = np.ones((3, 2))
    assert gates.logits_are_deterministic(z, z.copy()).outcome is GateOutcome.PASS
    assert gates.logits_are_deterministic(z, z + 1e-9).outcome is GateOutcome.FAIL


def test_probabilities_fail_and_positive_logits_do_not():
    z = np.array([[2.0, 1.0, 0.5], [0.1, 3.0, 0.4]])
    assert gates.outputs_are_logits(z).outcome is GateOutcome.PASS
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert gates.outputs_are_logits(p).outcome is GateOutcome.FAIL
    assert gates.outputs_are_logits(np.log(p)).outcome is GateOutcome.PASS


@pytest.mark.parametrize(("zeros", "outcome"), [(0, "PASS"), (1, "WARN"), (2, "FAIL"), (100, "FAIL")])
def test_zero_gradients(zeros, outcome):
    norms = np.where(np.arange(100) < zeros, 0.0, 1e-30)
    assert gates.gradients_are_nonzero(norms).outcome == outcome


@pytest.mark.parametrize(
    ("survivors", "outcome"),
    [
        ([190, 100, 0], "PASS"),
        ([190, 100, 1], "PASS"),
        ([190, 100, 15], "WARN"),
        ([190, 100, 60], "FAIL"),
        ([100, 130, 0], "FAIL"),
    ],
    ids=["zero", "nearly zero", "of a constant prediction", "above it", "rises"],
)
def test_the_accuracy_must_fall_to_zero(survivors, outcome):
    found = [attack(survived, eps=eps) for survived, eps in zip(survivors, (0.1, 0.2, 0.5), strict=True)]
    assert gates.accuracy_falls_with_eps(found, constant_accuracy=0.1).outcome == outcome


@pytest.mark.parametrize(("gain", "outcome"), [(0, "PASS"), (1, "PASS"), (3, "WARN"), (20, "FAIL")])
def test_more_steps(gain, outcome):
    assert (
        gates.attack_has_converged([attack(150), attack(100)], [attack(150), attack(100 - gain)]).outcome
        == outcome
    )


def test_noise_that_is_stronger_than_the_attack_fails():
    assert gates.attack_beats_noise(0.9, attack(100), 10).outcome is GateOutcome.PASS
    assert gates.attack_beats_noise(0.4, attack(100), 10).outcome is GateOutcome.FAIL


def test_unknown_bounds_warn():
    known = gates.bounds_are_known((np.zeros(3), np.ones(3)))
    assert (known.outcome, known.observed) == (GateOutcome.PASS, "inputs stay between 0 and 1")
    per_entry = gates.bounds_are_known((np.array([-2.1179, -1.8044]), np.array([2.2489, 2.64])))
    assert per_entry.observed == "inputs stay between -2.12..-1.8 and 2.25..2.64"
    assert gates.bounds_are_known(None).outcome is GateOutcome.WARN


@pytest.mark.parametrize(
    ("converged", "share", "outcome"), [(3, 1.0, "PASS"), (2, 1.0, "WARN"), (3, 0.9, "WARN")]
)
def test_eigenpairs_that_did_not_converge_warn(converged, share, outcome):
    eigen = SimpleNamespace(converged=np.arange(3) < converged, k=3)
    assert gates.eigenpairs_converged(eigen, share).outcome == outcome


def robustness(problem, **options):
    run = eigencore.analyze(problem, k=1, analyses="robustness", options={"robustness": options})
    assert run.manifest["failed"] == {}
    return run.analyses["robustness"]


def outcomes(result) -> dict[str, str]:
    return {name: outcome for name, outcome, _ in result.tables["gates"].rows}


def saturated(problem, factor: float):
    """Returns the same network in float32 with its logits times a factor, so that the softmax saturates."""
    network = problem.model
    larger = type(network)(
        network.W1, network.b1, factor * network.W2, factor * network.b2, network.activation
    ).astype(np.float32)
    x, y = problem.validation[0]
    return eigencore.Problem(
        model=larger,
        data=[(x.astype(np.float32), y)],
        loss=CrossEntropy(),
        bounds=(0.0, 1.0),
        backend="numpy",
    )


def test_a_sound_network_passes_all_gates(digits_problem):
    assert set(outcomes(robustness(digits_problem, images=100)).values()) == {"PASS"}


def test_logits_times_ten_thousand_fail_a_gate_and_the_verdict_names_it(digits_problem):
    found = robustness(saturated(digits_problem, 1e4), images=100)
    assert outcomes(found)["gradients"] == "FAIL"
    assert found.verdict.startswith("No conclusion about the network (failed gate: gradients")


def test_quantised_inputs_fail_a_gate(digits_problem):
    torch = pytest.importorskip("torch")

    class Quantised(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(torch.round(x * 4) / 4)

    network = digits_problem.model
    linear = [torch.nn.Linear(64, len(network.b1)), torch.nn.Linear(len(network.b1), 10)]
    for layer, (W, b) in zip(linear, [(network.W1, network.b1), (network.W2, network.b2)], strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(W).float(), torch.tensor(b).float()
    layers = torch.nn.Flatten(), linear[0], torch.nn.Softplus(), linear[1]
    model = Quantised(torch.nn.Sequential(*layers))
    x, y = digits_problem.validation[0]
    data = [(torch.tensor(x).float(), torch.tensor(y))]
    problem = eigencore.Problem(
        model=model, data=data, loss=torch.nn.CrossEntropyLoss(), bounds=(0.0, 1.0), backend="torch"
    )
    found = robustness(problem, images=60)
    assert outcomes(found)["gradients"] == "FAIL"
    assert found.verdict.startswith("No conclusion about the network")
