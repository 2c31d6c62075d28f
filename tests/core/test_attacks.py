"""attack: what it refuses, does not change and counts, and how it evaluates the inputs of an attack."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eigencore import Problem, attack, bind
from eigencore.entries import Capability
from eigencore.errors import (
    CapabilityError,
    OptionError,
    PluginError,
    ProblemError,
    UnknownNameError,
    UsageError,
)
from eigencore.testing.attacks.classifiers import Dense, FailingClassifier, curved
from eigencore.testing.libraries import Library, library

NUMPY = library("numpy-float64")


def bound_to(classifier: Any, *offered: Capability) -> Any:
    """The parts of a bound problem that an attack uses."""
    return SimpleNamespace(
        capabilities=frozenset(offered or (Capability.LOGITS, Capability.INPUT_GRADIENT)),
        classifier=lambda dtype=None: classifier,
    )


@pytest.fixture
def classifier() -> Dense:
    return curved(NUMPY)


@pytest.fixture
def bound(classifier: Dense) -> Any:
    return bound_to(classifier)


UNTOUCHED = bound_to(FailingClassifier(curved(NUMPY), 0))  # raises in its first pass


# -- what is refused before any pass -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keywords", "error", "message"),
    [
        ("pdg", {"eps": 0.1}, UnknownNameError, "unknown attack: 'pdg'\nDid you mean pgd"),
        ("pgd", {}, UsageError, "eps is None; pgd needs a radius"),
        ("pgd", {"eps": -0.1}, UsageError, "eps is -0.1; pgd needs"),
        ("pgd", {"eps": float("nan")}, UsageError, "eps is nan"),
        ("pgd", {"eps": float("inf")}, UsageError, "eps is inf"),
        ("pgd", {"eps": "0.1"}, UsageError, "eps is '0.1'"),
        ("pgd", {"eps": True}, UsageError, "eps is True"),
        ("pgd", {"eps": []}, UsageError, "eps is empty; pgd needs at least one radius"),
        ("pgd", {"eps": [0.1, -1]}, UsageError, "eps is -1; pgd needs a radius"),
        ("ddn", {"eps": [0.1]}, UsageError, "eps is 0.1; ddn takes no radius"),
        (
            "ddn",
            {"eps": 0.1},
            UsageError,
            "eps is 0.1; ddn takes no radius: it searches for the smallest perturbation\nLeave eps out",
        ),
        ("ddn", {"images": 0}, UsageError, "images is 0; expected a whole number of at least 1"),
        ("ddn", {"batch": 0}, UsageError, "batch is 0"),
        ("ddn", {"batch": 2.5}, UsageError, "batch is 2.5"),
        ("ddn", {"seed": -1}, UsageError, "seed is -1"),
        (
            "pgd",
            {"eps": 0.1, "steps": 0},
            OptionError,
            "pgd.steps is 0; expected a whole number of at least 1",
        ),
        ("pgd", {"eps": 0.1, "norm": "L1"}, OptionError, "pgd.norm is 'L1'; expected 'Linf' or 'L2'"),
        ("ddn", {"norm": "Linf"}, UnknownNameError, "unknown option of ddn: 'norm'"),
        ("pgd", {"eps": 0.1, "stepps": 3}, UnknownNameError, "Did you mean steps or step"),
    ],
)
def test_invalid_requests_are_refused(name: str, keywords: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        attack(UNTOUCHED, name, **keywords)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((np.zeros((3, 9)), [0, 1, 2]), "inputs have shape (3, 9); expected (N, 10)"),
        ((np.zeros((0, 10)), []), "inputs have shape (0, 10)"),
        ((np.zeros(10), [0]), "inputs have shape (10,)"),
        ((np.zeros((3, 10)), [0, 1]), "the labels have shape (2,); expected (3,), one for each input"),
        ((np.zeros((2, 10)), [0, 3]), "the labels are [0. 3.]; expected whole numbers from 0 to 2"),
        ((np.zeros((2, 10)), [0, 0.5]), "whole numbers from 0 to 2"),
        ((np.zeros((2, 10)), [0, -1]), "whole numbers from 0 to 2"),
        (np.zeros((3, 10)), "can't be read as a pair of inputs and labels"),
        (("x", "y"), "can't be read as a pair of inputs and labels"),
    ],
)
def test_malformed_samples_are_refused(samples: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        attack(UNTOUCHED, "pgd", eps=0.1, samples=samples)
    assert message in str(raised.value)


def test_samples_outside_the_bounds_are_refused() -> None:
    with pytest.raises(
        ProblemError, match=r"range from 0 to 2, 1 outside the problem's bounds\nSet Problem\(bounds="
    ):
        attack(UNTOUCHED, "pgd", eps=0.1, samples=(np.linspace(0, 2, 20).reshape(2, 10), [0, 1]))


def test_a_problem_that_is_an_operator_has_nothing_to_attack() -> None:
    with pytest.raises(CapabilityError, match="needs input_gradient, logits; this problem offers products"):
        attack(Problem(operator=np.eye(3)), "pgd", eps=0.1)


def test_a_problem_that_is_no_classification_is_refused_with_the_reason() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(9, 4)
    bound = bind(Problem(torch.nn.Linear(4, 2), [(x, x[:, :2])], torch.nn.MSELoss()))
    with pytest.raises(CapabilityError, match=r"pgd needs .*\n.*expected a pair of floating-point inputs"):
        attack(bound, "pgd", eps=0.1)


def test_a_problem_that_offers_too_little_is_refused(classifier: Dense) -> None:
    bound = bound_to(classifier, Capability.PRODUCTS)
    with pytest.raises(
        CapabilityError, match="pgd needs input_gradient, logits; this problem offers products"
    ):
        attack(bound, "pgd", eps=0.1)


# -- what it returns ---------------------------------------------------------------------------------------


def test_success_and_distance_are_those_of_the_inputs(array_library: Library) -> None:
    classifier = curved(array_library)
    found = attack(bound_to(classifier), "pgd", eps=0.1)
    x, y = classifier.samples()
    predicted = np.asarray(classifier.xp.argmax(classifier.logits(found.inputs), axis=1))
    assert np.array_equal(found.success, predicted != np.asarray(y))
    assert 0 < found.success.sum() < len(found.success)
    far = np.abs(np.asarray(found.inputs, dtype=float) - np.asarray(x, dtype=float)).max(axis=1)
    np.testing.assert_allclose(found.distance[found.success], far[found.success], rtol=1e-5)
    assert np.all(np.isinf(found.distance[~found.success]))
    assert found.accuracy == 1 - found.success.mean()
    assert (found.attack, found.norm, found.eps, found.seed) == ("pgd", "Linf", 0.1, 0)
    assert found.options["steps"] == 40


def test_misclassified_samples_are_not_changed(bound: Any, classifier: Dense) -> None:
    x, y = classifier.samples()
    labels = np.where(np.arange(len(y)) < 5, (y + 1) % 3, y)
    found = attack(bound, "ddn", samples=(x, labels))
    assert np.array_equal(found.correct, np.arange(len(y)) >= 5)
    assert np.array_equal(found.inputs[:5], x[:5])
    assert np.all(found.success)
    assert np.all(found.distance[:5] == 0)
    assert np.all(found.distance[5:] > 0)


def test_if_all_samples_are_misclassified_none_is_attacked(bound: Any, classifier: Dense) -> None:
    x, y = classifier.samples()
    found = attack(bound, "pgd", eps=0.1, samples=(x, (y + 1) % 3))
    assert (found.accuracy, found.backward) == (0.0, 0)


def test_passes_are_counted_in_samples(bound: Any, classifier: Dense) -> None:
    found = attack(bound, "ddn", steps=7)
    many = len(classifier.inputs)
    assert found.backward == 7 * many
    # The core's evaluation before and after; the attack's own of its last iterate, and ten bisections.
    assert found.forward == (7 + 2 + 1 + 10) * many


def test_a_ball_of_radius_zero(bound: Any) -> None:
    found = attack(bound, "pgd", eps=0)
    assert (found.accuracy, found.backward) == (1.0, 0)


def test_several_radii_give_what_each_of_them_gives(bound: Any) -> None:
    for radii in ([0.1, 0.05], (0.1,), np.array([0.1, 0.05])):
        found = attack(bound, "pgd", eps=radii)
        assert [one.eps for one in found] == list(radii)
        for one in found:
            alone = attack(bound, "pgd", eps=one.eps)
            assert one.inputs.tobytes() == alone.inputs.tobytes()
            assert (one.forward, one.backward) == (alone.forward, alone.backward)


def test_a_problem_is_bound_once_for_all_radii(monkeypatch: pytest.MonkeyPatch) -> None:
    from eigencore.problems import binding

    calls, bind_once = [], binding.bind
    monkeypatch.setattr(binding, "bind", lambda problem: (calls.append(problem), bind_once(problem))[1])
    pytest.importorskip("sklearn")
    found = attack("demo:digits-numpy", "fgsm", eps=[0.05, 0.1], images=20)
    assert (len(found), len(calls)) == (2, 1)


def test_samples_of_the_classifier_s_own_library_stay_on_its_device(
    array_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eigencore import arrays

    classifier, shapes, to_host = curved(array_library), list[tuple[int, ...]](), arrays.to_host
    x, y = classifier.samples()
    expected = to_host(attack(bound_to(classifier), "pgd", eps=0.1).inputs)
    monkeypatch.setattr(arrays, "to_host", lambda z: (shapes.append(tuple(z.shape)), to_host(z))[1])
    found = attack(bound_to(classifier), "pgd", eps=0.1, samples=(x, y))
    assert np.array_equal(to_host(found.inputs), expected)
    assert all(len(shape) < 2 for shape in shapes)


def test_the_first_images_in_batches(bound: Any, classifier: Dense) -> None:
    news: list[Any] = []
    found = attack(bound, "ddn", images=5, batch=2, progress=news.append)
    assert [(one.what, one.done, one.total, one.unit) for one in news] == [
        ("ddn", done, 5, "samples") for done in (0, 2, 4, 5)
    ]
    assert found.inputs.shape == (5, 10)
    whole = attack(bound, "ddn", images=5)
    np.testing.assert_allclose(found.inputs, whole.inputs, atol=1e-12)
    given = attack(bound, "ddn", samples=classifier.samples(), images=5)
    assert np.array_equal(given.inputs, whole.inputs)


def test_samples_of_any_shape_and_library() -> None:
    torch = pytest.importorskip("torch")

    class Square(Dense):
        shape = (2, 5)  # type: ignore[assignment]

    flat = curved(NUMPY)
    square = Square(**vars(flat))
    x, y = flat.samples()
    expected = attack(bound_to(flat), "ddn").inputs
    for samples in (
        (x, y),
        (x.reshape(-1, 2, 5), y.astype(np.int32)),
        (x.tolist(), y.tolist()),
        (torch.from_numpy(x).reshape(-1, 2, 5), torch.from_numpy(y)),
    ):
        found = attack(bound_to(square), "ddn", samples=samples)
        assert found.inputs.shape == (len(x), 2, 5)
        assert np.array_equal(found.inputs.reshape(len(x), 10), expected)


def test_a_classifier_can_be_given(bound: Any, classifier: Dense) -> None:
    other = replace(classifier, b=np.array([1e3, 0.0, 0.0]))
    assert attack(bound, "fgsm", eps=1, classifier=other).accuracy == 1
    assert attack(bound, "fgsm", eps=1).accuracy < 1


def test_the_same_seed_gives_the_same_bytes(bound: Any) -> None:
    one, same, other = (attack(bound, "pgd", eps=0.05, steps=2, seed=seed).inputs for seed in (0, 0, 1))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_batches_have_random_numbers_of_their_own(bound: Any, classifier: Dense) -> None:
    x, y = classifier.samples(1)
    twice = attack(
        bound, "pgd", eps=1e-3, steps=1, step=1e-3, samples=(np.concatenate([x, x]), np.tile(y, 2)), batch=1
    )
    assert not np.array_equal(twice.inputs[0], twice.inputs[1])


def test_ctrl_c_passes_through(classifier: Dense) -> None:
    with pytest.raises(KeyboardInterrupt):
        attack(bound_to(FailingClassifier(classifier, 5, KeyboardInterrupt)), "pgd", eps=0.1)


def test_logits_that_are_not_finite(classifier: Dense) -> None:
    bound = bound_to(replace(classifier, b=np.array([np.nan, 0.0, 0.0])))
    with pytest.raises(ProblemError, match="logits are not finite"):
        attack(bound, "pgd", eps=0.1, samples=(classifier.inputs, np.zeros(len(classifier.inputs), int)))


# -- attacks that break the rules --------------------------------------------------------------------------

ROGUES = """
@hookimpl
def eigen_attacks():
    return [
        AttackEntry(
            name=name, summary="", load=f"plugged_rogues:{name}", goal="fixed_eps", norms=("Linf",)
        )
        for name in ("far", "over", "lost", "short", "nothing")
    ]

def far(classifier, x, y, options, /, *, eps, seed):
    return classifier.xp.clip(x + 1.001 * eps, 0, 1)

def over(classifier, x, y, options, /, *, eps, seed):
    return x + eps

def lost(classifier, x, y, options, /, *, eps, seed):
    return x * float("nan")

def short(classifier, x, y, options, /, *, eps, seed):
    return x[1:]

def nothing(classifier, x, y, options, /, *, eps, seed):
    return None
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("far", "left the ball: the Linf distance is 0.1001; eps is 0.1"),
        ("over", "left the bounds by 0.1"),
        ("lost", r"returned \(12, 10\); expected finite numbers of shape \(12, 10\)"),
        ("short", r"returned \(11, 10\); expected finite numbers of shape \(12, 10\)"),
        ("nothing", r"returned NoneType; expected finite numbers"),
    ],
)
def test_an_attack_that_breaks_the_rules(plug: Any, bound: Any, name: str, message: str) -> None:
    plug("rogues", ROGUES)
    with pytest.raises(PluginError, match=message):
        attack(bound, name, eps=0.1)
