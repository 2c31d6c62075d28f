"""Each gate passes on sound networks and attacks, and warns or fails on others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import eigencore
from eigencore_robustness.under_attack import attack_gates, distance_gates, gates
from eigencore_robustness.under_attack.gates import GateOutcome
from eigencore_robustness.under_attack.gradient_watch import GradientWatch
from eigencore_robustness.under_attack.line_integrals import integral_error


def attack(survived: int, of: int = 200, eps: float = 0.1) -> SimpleNamespace:
    success = np.arange(of) >= survived
    return SimpleNamespace(attack="pgd", success=success, accuracy=1 - success.mean(), eps=eps)


HEALTHY = (
    "softplus",
    "ReLU",
    "tanh",
    "convolution, batch normalisation, SiLU",
    "adversarially trained",
    "distilled",
    "logits times 10,000",
    "logits times 1e-6",
)


# -- each gate on its own ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("share", "outcome"), [(0, "PASS"), (1e-4, "WARN"), (0.01, "WARN"), (0.02, "FAIL"), (1, "FAIL")]
)
def test_zero_gradients(share, outcome):
    assert attack_gates.gradients_are_nonzero(share).outcome == outcome


@pytest.mark.parametrize(("error", "outcome"), [(0.03, "PASS"), (0.1, "WARN"), (0.3, "FAIL")])
def test_margins_that_are_not_integrals(error, outcome):
    assert attack_gates.margins_are_integrals(error, 0.1).outcome == outcome


@pytest.mark.parametrize(
    ("survivors", "least", "outcome"),
    [
        ([190, 100, 0], 0.0, "PASS"),
        ([190, 100, 40], 0.005, "PASS"),
        ([190, 100, 15], 0.075, "WARN"),
        ([190, 100, 60], 0.3, "FAIL"),
        ([100, 130, 0], 0.0, "FAIL"),
    ],
    ids=["zero", "nearly zero", "of a constant prediction", "above it", "rises"],
)
def test_the_accuracy_must_fall_to_zero(survivors, least, outcome):
    found = [attack(survived, eps=eps) for survived, eps in zip(survivors, (0.1, 0.2, 0.5), strict=True)]
    assert attack_gates.accuracy_falls_with_eps(found, least, constant_accuracy=0.1).outcome == outcome


@pytest.mark.parametrize(("gain", "outcome"), [(0, "PASS"), (1, "PASS"), (3, "WARN"), (20, "FAIL")])
def test_more_steps(gain, outcome):
    found = attack_gates.more_steps_fool_few({0.1: 0, 0.2: gain}, 200)
    assert found.outcome == outcome
    assert ("at eps 0.2" in found.observed) == (gain > 0)


@pytest.mark.parametrize(
    ("fooled", "tried", "left", "outcome"),
    [
        (0, 100, 100, "PASS"),
        (2, 100, 100, "PASS"),
        (4, 100, 100, "WARN"),
        (9, 100, 100, "FAIL"),
        (2, 100, 450, "WARN"),
        (0, 0, 0, "PASS"),
    ],
)
def test_an_attack_without_gradients_counts_for_all_that_are_left(fooled, tried, left, outcome):
    n = 200 if left < 200 else 500
    assert attack_gates.gradients_are_not_needed(fooled, tried, left, n, 0.1).outcome == outcome


@pytest.mark.parametrize(("beyond", "outcome"), [(3, "PASS"), (6, "WARN"), (40, "FAIL")])
def test_smallest_perturbations_that_are_longer_than_those_of_pgd(beyond, outcome):
    smallest = SimpleNamespace(
        norm="Linf",
        distance=np.where(np.arange(200) < 100 + beyond, 0.104, 0.05),
        attacks=[SimpleNamespace(attack="fmn")],
    )
    assert attack_gates.smallest_agree_with_fixed(smallest, [attack(100)]).outcome == outcome
    smallest.distance = np.minimum(smallest.distance, 0.102)  # within the slack
    assert attack_gates.smallest_agree_with_fixed(smallest, [attack(100)]).outcome is GateOutcome.PASS


@pytest.mark.parametrize(("unbroken", "outcome"), [(0, "PASS"), (1, "WARN"), (2, "WARN"), (3, "FAIL")])
def test_samples_that_no_attack_fools(unbroken, outcome):
    assert distance_gates.all_are_fooled(unbroken, 200, "L2").outcome == outcome


@pytest.mark.parametrize(("shorter", "outcome"), [(0.01, "PASS"), (0.03, "WARN"), (0.1, "FAIL")])
def test_a_longer_search(shorter, outcome):
    assert distance_gates.longer_search_finds_no_shorter(shorter, 100).outcome == outcome


@pytest.mark.parametrize(("missed", "outcome"), [(0, "PASS"), (6, "PASS"), (15, "WARN"), (40, "FAIL")])
def test_balls_within_the_smallest_perturbation(missed, outcome):
    found = distance_gates.balls_of_smaller_radius_hold({0.1: missed, 0.2: 0}, {0.1: 100, 0.2: 100}, "L2")
    assert found.outcome == outcome


@pytest.mark.parametrize(("lost", "outcome"), [(0.0, "PASS"), (0.2, "WARN")])
def test_losses_that_a_low_precision_rounds(lost, outcome):
    assert gates.precision_suffices(False, lost).outcome == outcome
    assert gates.precision_suffices(True, lost).outcome is GateOutcome.PASS


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


# -- what the gates observe --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_changes_of_a_margin_are_the_integrals_of_its_gradient(two_layers, activation):
    """Also along segments on which the network is far from linear, and not if the gradient is another one."""
    classifier = two_layers(activation).classifier()
    x, y = classifier.samples()
    assert integral_error(classifier, x, y, 0.5, 0) < 0.05
    assert integral_error(Halved(classifier), x, y, 0.5, 0) == pytest.approx(0.5, abs=0.05)


class Halved(GradientWatch):
    """A classifier whose gradients are half of its own."""

    def value_and_grad(self, objective, x, y):
        value, gradient = super().value_and_grad(objective, x, y)
        return value, gradient / 2


def test_the_gradients_of_an_attack_are_counted_as_it_follows_them(two_layers):
    """Of the attack's own loss: a cross-entropy that is zero in this precision has a zero gradient."""
    bound = two_layers("relu", scale=1e4)
    x, y = bound.classifier().samples()
    watch = GradientWatch(bound.classifier())
    watched = eigencore.attack(bound, "pgd", eps=0.1, classifier=watch)
    plain = eigencore.attack(bound, "pgd", eps=0.1)
    np.testing.assert_array_equal(watched.inputs, plain.inputs)
    assert watch.zero_share == 0
    watch.value_and_grad(eigencore.objectives.CrossEntropy(), x, y)
    assert 0 < watch.zero_share < 1


# -- whole networks ----------------------------------------------------------------------------------------


def robustness(problem, **options):
    run = eigencore.analyze(
        problem, k=1, complete=None, certify="none", analyses="robustness", options={"robustness": options}
    )
    assert run.manifest["failed"] == {}
    return run.analyses["robustness"]


def outcomes(result) -> dict[str, str]:
    return {name: outcome for name, outcome, _ in result.tables["gates"].rows}


def of_digits(model, images):
    torch = pytest.importorskip("torch")
    x, y, held_out, labels = masked_networks().digits()
    return eigencore.Problem(
        model,
        [(x[:200], y[:200])],
        torch.nn.CrossEntropyLoss(),
        validation=[(held_out[:images], labels[:images])],
        bounds=(0.0, 1.0),
    )


def masked_networks():
    pytest.importorskip("torch")
    from kit import masked_networks

    return masked_networks


def test_a_sound_network_passes_all_gates(digits_problem):
    assert set(outcomes(robustness(digits_problem, images=100)).values()) == {"PASS"}


@pytest.mark.parametrize("name", [*HEALTHY])
def test_healthy_networks_pass_all_gates(name):
    found = robustness(of_digits(masked_networks().HEALTHY[name](), 80))
    assert set(outcomes(found).values()) == {"PASS"}, found.tables["gates"].rows


# The gates that are meant for each of them; others may fail, too.
GATES_OF = {
    "rounded inputs": {"gradients", "integrals", "no gradients"},
    "half of the inputs rounded": {"integrals", "no gradients"},
    "rounded inputs, straight-through": {"integrals"},
    "staircase": {"integrals"},
    "gradients of other pixels": {"integrals", "no gradients"},
    "no gradient": {"gradients", "integrals", "no gradients", "fooled"},
    "shattered": {"integrals", "no gradients"},
    "decoy": {"integrals"},
    "saturated logits": {"gradients"},
    "clipped logits": {"gradients", "fooled"},
    "rounded logits": {"gradients", "integrals", "no gradients", "fooled"},
    "probabilities": {"logits"},
    "constant": {"gradients", "logits"},
}


@pytest.mark.parametrize("name", [*GATES_OF])
def test_networks_that_mask_their_gradients_fail_a_gate(name):
    kit = masked_networks()
    found = robustness(of_digits(kit.MASKED[name](kit.softplus()), 60))
    failed = {gate for gate, outcome in outcomes(found).items() if outcome == "FAIL"}
    assert failed >= GATES_OF[name]
    assert found.verdict.startswith("No conclusion about the network: ")
    assert found.remarks == ()


def test_a_network_with_noise_is_refused():
    kit = masked_networks()
    with pytest.raises(eigencore.EigencoreError, match="something that is random"):
        robustness(of_digits(kit.MASKED["noise"](kit.softplus()), 60))
    assert {*kit.MASKED} == {*GATES_OF, "noise"}
    assert {*kit.HEALTHY} == {*HEALTHY}


@pytest.mark.parametrize("scale", [1 / 255, 255.0, 2000.0])
def test_the_unit_of_the_inputs_changes_neither_gates_nor_distances(digits_problem, scale):
    """Without bounds, from which attacks would know the range."""
    network = digits_problem.model
    (x, y), *_ = digits_problem.validation
    results = []
    for factor in (1.0, scale):
        rescaled = type(network)(network.W1 / factor, network.b1, network.W2, network.b2, network.activation)
        problem = replace(
            digits_problem,
            model=rescaled,
            data=[(x[:60] * factor, y[:60])],
            validation=[(x[:60] * factor, y[:60])],
            bounds=None,
        )
        found = robustness(problem)
        assert [name for name, outcome in outcomes(found).items() if outcome != "PASS"] == ["bounds"]
        results.append(found.columns["distance"] / factor)
    np.testing.assert_allclose(np.median(results[1]), np.median(results[0]), rtol=5e-3)
