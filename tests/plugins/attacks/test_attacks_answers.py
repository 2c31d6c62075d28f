"""What the attacks find: exact distances to hyperplanes, and the effect of each option."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eigencore import attack
from eigencore.entries import Capability
from eigencore.errors import UsageError
from eigencore.objectives import CrossEntropy
from eigencore.testing.attacks.classifiers import Dense, distances
from eigencore.testing.libraries import Library, library
from eigencore_attacks.apgd import after_checkpoint, checkpoint_steps, start_ascent
from eigencore_attacks.pgd import PGDOptions, step_sizes

NUMPY = library("numpy-float64")


def bound_to(classifier: Any) -> Any:
    capabilities = frozenset({Capability.LOGITS, Capability.INPUT_GRADIENT})
    return SimpleNamespace(capabilities=capabilities, classifier=lambda dtype=None: classifier)


def plane(where: Library, d: int = 30, samples: int = 40, bounds: Any = None) -> Dense:
    rng = np.random.default_rng(5)
    x = rng.uniform(0.3, 0.7, (samples, d))
    W = rng.standard_normal((2, d)) / 3
    return Dense(where, W, -W @ np.full(d, 0.5), x, bounds)


# -- distances to hyperplanes ------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize(
    ("name", "options"),
    [("ddn", {}), *((name, {"norm": norm}) for name in ("fmn", "deepfool") for norm in ("L2", "Linf"))],
)
def test_the_distance_to_a_hyperplane_is_exact(
    name: str, options: dict[str, str], array_library: Library, bounds: Any
) -> None:
    classifier = plane(array_library, bounds=bounds)
    exact = distances(classifier, np.asarray(classifier.samples()[1]), options.get("norm", "L2"))
    found = attack(bound_to(classifier), name, samples=classifier.samples(), **options)
    assert np.all(found.success)
    ratio = found.distance / exact
    assert ratio.min() > 1 - 1e-5
    assert ratio.max() < 1.01


@pytest.mark.parametrize("name", ["pgd", "fgsm", "apgd", "apgd_t"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_attack_succeeds_exactly_where_eps_exceeds_the_distance(
    name: str, norm: str, array_library: Library
) -> None:
    classifier = plane(array_library, bounds=(0.0, 1.0))
    exact = distances(classifier, np.asarray(classifier.samples()[1]), norm)
    for eps in np.quantile(exact, [0.25, 0.5, 0.75]):
        found = attack(bound_to(classifier), name, eps=float(eps), norm=norm)
        assert np.all(found.success[exact < 0.99 * eps])
        assert not np.any(found.success[exact > 1.01 * eps])


# -- options -----------------------------------------------------------------------------------------------


def saturated(where: Library) -> Dense:
    """A classifier whose logits are so large that the cross-entropy has no gradient in this precision."""
    classifier = plane(where)
    return replace(classifier, W=1e5 * classifier.W, b=1e5 * classifier.b)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("name", ["pgd", "fgsm", "apgd"])
def test_a_saturated_network_is_fooled_nevertheless(name: str, loss: str) -> None:
    classifier = saturated(library("numpy-float32"))
    x, y = classifier.samples()
    _, gradient = classifier.value_and_grad(CrossEntropy(), x, y)
    assert np.mean(~gradient.any(axis=1)) > 0.9
    exact = distances(classifier, y, "Linf")
    found = attack(bound_to(classifier), name, eps=1.05 * float(exact.max()), loss=loss)
    assert np.all(found.success)


def test_dlr_needs_three_classes() -> None:
    with pytest.raises(UsageError, match="DLR needs at least three classes"):
        attack(bound_to(plane(NUMPY)), "pgd", eps=0.1, loss="dlr")


def rugged() -> Dense:
    """A classifier whose decision boundaries have many small bends and are hard to find."""
    rng = np.random.default_rng(8)
    x, U = rng.uniform(size=(300, 8)), 12 * rng.standard_normal((40, 8))
    return Dense(NUMPY, rng.standard_normal((4, 40)), np.zeros(4), x, (0.0, 1.0), (U, -U @ np.full(8, 0.5)))


@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("pgd", {"steps": 2}, {"steps": 40}),
        ("pgd", {"steps": 10, "step": 0.02}, {"steps": 10, "step": 0.25}),
        ("pgd", {"steps": 5}, {"steps": 5, "restarts": 10}),
        ("apgd", {"steps": 1}, {"steps": 40}),
        ("apgd", {"steps": 3}, {"steps": 3, "restarts": 10}),
        ("apgd_t", {"steps": 1}, {"steps": 20}),
        ("square", {"queries": 20}, {"queries": 500}),
        ("apgd_t", {"steps": 5, "targets": 1}, {"steps": 5, "targets": 3}),
    ],
)
def test_more_work_makes_an_attack_stronger(name: str, less: Any, more: Any) -> None:
    weak, strong = (attack(bound_to(rugged()), name, eps=0.1, **options) for options in (less, more))
    assert strong.success.sum() >= weak.success.sum() + 3


@pytest.mark.parametrize("name", ["pgd", "apgd", "fgsm"])
def test_each_loss_gives_its_own_answer(name: str) -> None:
    found = {
        loss: attack(bound_to(rugged()), name, eps=0.02, loss=loss).inputs
        for loss in ("cross_entropy", "margin", "dlr")
    }
    assert not np.array_equal(found["cross_entropy"], found["margin"])
    assert not np.array_equal(found["cross_entropy"], found["dlr"])


def test_ddn_with_more_steps_or_a_larger_gamma_finds_smaller_perturbations() -> None:
    bound = bound_to(rugged())
    few, many = (attack(bound, "ddn", steps=steps) for steps in (20, 300))
    assert np.median(many.distance) < np.median(few.distance)
    assert np.all(many.success)
    quick, slow = (attack(bound, "ddn", steps=20, gamma=gamma) for gamma in (0.1, 0.01))
    assert np.median(quick.distance) < np.median(slow.distance)


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize(
    ("name", "less", "more"),
    [
        ("fmn", {"steps": 10}, {"steps": 100}),
        ("fmn", {"steps": 20, "gamma": 0.001}, {"steps": 20, "gamma": 0.1}),
        ("deepfool", {"steps": 2}, {"steps": 20}),
        ("deepfool", {"targets": 1}, {"targets": 3}),
    ],
)
def test_more_work_finds_smaller_perturbations(name: str, norm: str, less: Any, more: Any) -> None:
    far, near = (attack(bound_to(rugged()), name, norm=norm, **options) for options in (less, more))
    assert np.all(near.success)
    assert np.mean(near.distance) < 0.999 * np.mean(np.minimum(far.distance, 1.0))


@pytest.mark.parametrize("name", ["fmn", "deepfool"])
def test_the_distances_are_as_small_as_those_of_ddn_with_many_steps(name: str) -> None:
    best = attack(bound_to(rugged()), "ddn", steps=1000)
    found = attack(bound_to(rugged()), name)
    assert np.median(found.distance) < 1.03 * np.median(best.distance)


def test_ddn_with_too_small_an_initial_norm_finds_nothing() -> None:
    found = attack(bound_to(plane(NUMPY)), "ddn", steps=5, init_norm=1e-4)
    assert not found.success.any()
    assert np.array_equal(found.inputs, plane(NUMPY).inputs)


class SizesOfBatches:
    """A classifier that lists the sizes of the batches whose gradients it computes."""

    def __init__(self, classifier: Dense):
        self._classifier, self.sizes = classifier, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def value_and_grad(self, objective: Any, x: Any, y: Any, /) -> Any:
        self.sizes.append(len(x))
        return self._classifier.value_and_grad(objective, x, y)


# -- independence of samples, and steps --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fgsm", "ddn", "fmn", "deepfool"])
def test_a_sample_does_not_depend_on_the_others(name: str) -> None:
    """Nor does it matter to the remaining samples which samples are fooled early."""
    classifier = rugged()
    x, y = classifier.samples()
    # Random starts depend on the place in the batch.
    eps = {"eps": 0.03} if name == "fgsm" else {"restarts": 1} if name == "fmn" else {}
    whole = attack(bound_to(classifier), name, **eps)
    for rows in (slice(0, 1), slice(7, 9)):
        part = attack(bound_to(classifier), name, samples=(x[rows], y[rows]), **eps)
        # The steps of fmn are long to its last one, so that they magnify rounding.
        np.testing.assert_allclose(part.inputs, whole.inputs[rows], atol=1e-3 if name == "fmn" else 1e-9)


@pytest.mark.parametrize("name", ["pgd", "apgd", "apgd_t"])
def test_fooled_samples_leave_when_the_batch_has_halved_and_do_not_change_the_others(name: str) -> None:
    """Samples that are fooled early are appended, so that the others keep their random starts."""
    classifier = replace(rugged(), inputs=rugged().inputs[:40])
    x, y = classifier.samples()
    alone = attack(bound_to(classifier), name, eps=0.05)
    edge = np.flatnonzero(attack(bound_to(classifier), "fgsm", eps=0.02).success)
    edge = np.tile(edge, 20)
    both = np.concatenate([x, x[edge]]), np.concatenate([y, y[edge]])
    counted = SizesOfBatches(classifier)
    together = attack(bound_to(counted), name, eps=0.05, samples=both)
    assert np.array_equal(together.success[:40], alone.success)
    # Many steps magnify the rounding of a batch of another size.
    np.testing.assert_allclose(together.inputs[:40], alone.inputs, atol=1e-4 if name == "apgd_t" else 1e-9)
    sizes = list(dict.fromkeys(counted.sizes))
    assert len(sizes) > 1
    assert all(2 * fewer <= more for more, fewer in pairwise(sizes))
    assert sizes[-1] < 2 * np.sum(~together.success)


def test_the_steps_can_cross_the_ball() -> None:
    for steps in (5, 10, 40, 100):
        sizes = step_sizes(PGDOptions(steps=steps))
        assert sum(sizes) >= 2.5
        assert sizes == sorted(sizes, reverse=True)
    assert step_sizes(PGDOptions(steps=3, step=0.25)) == [0.25] * 3


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoint_steps(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoint_steps(1) == [1]


def test_a_step_is_halved_by_either_condition() -> None:
    """A sample whose step is halved continues from its best iterate."""
    d, xp = 2, NUMPY.xp
    ascent = start_ascent(xp, np.zeros((4, d)), np.full(4, -5.0), np.ones((4, d)))
    ascent = ascent._replace(
        at=np.ones((4, d)),
        value=np.full(4, -6.0),
        best=np.full((4, d), 7.0),
        best_value=np.array([-1.0, -1.0, -5.0, -5.0]),
        rises=np.array([10.0, 7.0, 10.0, 10.0]),
        halved=np.array([False, False, False, True]),
    )
    after = after_checkpoint(xp, ascent, 10)
    # In turn: enough rises; too few rises; no better loss with whole steps; no better loss with halved steps,
    # which is allowed.
    assert after.halved.tolist() == [False, True, True, False]
    assert after.step[:, 0].tolist() == [2, 1, 1, 2]
    assert after.at[:, 0].tolist() == [1, 7, 7, 1]
    assert after.value.tolist() == [-6, -1, -5, -6]
    assert not after.rises.any()
    assert np.array_equal(after.checkpoint_value, ascent.best_value)
