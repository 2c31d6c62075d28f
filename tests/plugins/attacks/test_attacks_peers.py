"""Comparison with foolbox's attacks on real networks: as strong at every eps, and as small perturbations."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from eigencore import attack, bind
from eigencore.problems import find_problem

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("mlxtend")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    foolbox = pytest.importorskip("foolbox")

pytestmark = pytest.mark.slow

PROBLEMS = ["demo:digits", "demo:mnist", "demo:mnist-robust"]
EPS = (0.02, 0.05, 0.1, 0.2, 0.3)
IMAGES = {"demo:digits": 200, "demo:mnist": 100, "demo:mnist-robust": 100}
FEW = 60
POINT = 0.01
PGD = {"40 steps": (40, 0.0625), "40 long steps": (40, 0.25), "100 steps": (100, 0.025)}


@cache
def bound(name: str) -> Any:
    return bind(find_problem(name))


@cache
def theirs(name: str) -> tuple[Any, Any, Any]:
    """Returns the network as a foolbox model, the images and the labels."""
    # A copy, because foolbox writes gradients into the weights of the network.
    model = copy.deepcopy(find_problem(name).model).requires_grad_(False)
    classifier = bound(name).classifier()
    x, y = classifier.samples(IMAGES[name])
    return foolbox.PyTorchModel(model, bounds=(0, 1)), x.reshape(-1, *classifier.shape), y


@cache
def accuracy_under_foolbox(name: str) -> Any:
    """Returns the accuracy at each eps under the strongest PGD of foolbox."""
    found = []
    for steps, step in PGD.values():
        torch.manual_seed(0)
        run = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=step)
        _, _, fooled = run(*theirs(name), epsilons=list(EPS))
        found.append(1 - fooled.double().mean(dim=1).numpy())
    return np.min(found, axis=0)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("kind", ["pgd", "apgd"])
def test_the_accuracy_is_at_most_one_point_above_that_under_the_best_pgd_of_foolbox(
    kind: str, name: str
) -> None:
    accuracies = [attack(bound(name), kind, eps=eps, images=IMAGES[name]).accuracy for eps in EPS]
    assert np.all(np.array(accuracies) <= accuracy_under_foolbox(name) + POINT)
    assert accuracies == sorted(accuracies, reverse=True)


@cache
def distance_under_foolbox(name: str, norm: str) -> Any:
    network, images, labels = theirs(name)
    run = foolbox.attacks.DDNAttack if norm == "L2" else foolbox.attacks.LinfDeepFoolAttack
    _, moved, _ = run(steps=100)(network, images, labels, epsilons=None)
    order = 2 if norm == "L2" else np.inf
    return torch.linalg.vector_norm((moved - images).flatten(1), dim=1, ord=order).numpy()


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("kind", "norm"),
    [("ddn", "L2"), ("fmn", "L2"), ("deepfool", "L2"), ("fmn", "Linf"), ("deepfool", "Linf")],
)
def test_the_smallest_perturbations_are_as_small_as_those_of_foolbox(kind: str, norm: str, name: str) -> None:
    options: dict[str, Any] = {} if kind == "ddn" else {"norm": norm}
    if kind == "deepfool":
        options["steps"] = 33  # with three targets, as many passes as the others
    found = attack(bound(name), kind, images=IMAGES[name], **options)
    assert found.success.all()
    expected = np.median(distance_under_foolbox(name, norm)[found.correct])
    assert np.median(found.distance[found.correct]) <= 1.03 * expected


@pytest.mark.parametrize("name", ["demo:digits", "demo:mnist-robust"])
def test_twice_the_steps_change_the_accuracy_by_half_a_point_at_most(name: str) -> None:
    for eps in (0.05, 0.1):
        once, twice = (
            attack(bound(name), "pgd", eps=eps, images=IMAGES[name], steps=steps) for steps in (40, 80)
        )
        assert abs(once.accuracy - twice.accuracy) <= 0.005


@pytest.mark.parametrize("name", ["demo:digits", "demo:mnist-robust"])
@pytest.mark.parametrize("kind", ["pgd", "fgsm", "apgd"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_perturbations_stay_in_the_ball_and_within_the_bounds(kind: str, norm: str, name: str) -> None:
    eps = 0.1 if norm == "Linf" else 0.3
    found = attack(bound(name), kind, eps=eps, norm=norm, images=FEW)
    images = theirs(name)[1][:FEW]
    change = (found.inputs.double() - images.double()).flatten(1)
    assert (
        float(torch.linalg.vector_norm(change, dim=1, ord=np.inf if norm == "Linf" else 2).max())
        <= eps + 1e-6
    )
    assert float(found.inputs.min()) >= 0
    assert float(found.inputs.max()) <= 1
    assert 0 < found.accuracy < found.correct.mean()
