"""Attacks of foolbox and AutoAttack as attacks of eigencore: they answer as those libraries alone do."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import attack
from eigencore.entries import AttackEntry
from eigencore.errors import PluginError, UsageError
from eigencore.registry import registry
from eigencore.testing import attack_checks
from eigencore.testing.attacks.subject import AttackSubject
from eigencore.testing.checks import Check

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

FEW = 30
ADAPTED = [
    one.entry for one in registry().entries(AttackEntry) if one.entry.extra in ("foolbox", "autoattack")
]
NO_BOUNDS = "the library needs one lower and one upper bound of all entries"
UNBOUNDED = ("stays_in_the_bounds", "succeeds_within_reach", "is_independent_of_units")
IN_A_BALL = (*UNBOUNDED, "stays_in_the_ball")


def need(extra: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("foolbox" if extra == "foolbox" else "pyautoattack")


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any, Any]:
    problem = eigencore.problems.find_problem("demo:digits")
    bound = eigencore.bind(problem)
    classifier = bound.classifier()
    x, y = classifier.samples(FEW)
    return bound, copy.deepcopy(problem.model).requires_grad_(False), x.reshape(-1, *classifier.shape), y


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_foolbox_s_pgd_is_that_of_foolbox(digits: tuple[Any, Any, Any, Any], norm: str) -> None:
    foolbox = need("foolbox")
    bound, model, images, labels = digits
    eps = 0.1 if norm == "Linf" else 0.4
    torch.manual_seed(0)
    run = getattr(foolbox.attacks, f"{norm}PGD")(steps=40, rel_stepsize=1 / 16, random_start=False)
    expected = run(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=eps)[2].numpy()
    found = attack(bound, "foolbox_pgd", eps=eps, norm=norm, images=FEW)
    assert 0.2 < found.accuracy < 0.9
    assert abs(int(found.success.sum()) - int(expected.sum())) <= 1  # random starts


@pytest.mark.parametrize(
    ("name", "theirs"), [("ddn", "DDNAttack"), ("deepfool", "L2DeepFoolAttack"), ("fmn", "L2FMNAttack")]
)
def test_foolbox_s_distances_are_those_of_foolbox(
    digits: tuple[Any, Any, Any, Any], name: str, theirs: str
) -> None:
    foolbox = need("foolbox")
    bound, model, images, labels = digits
    torch.manual_seed(0)
    run = getattr(foolbox.attacks, theirs)(steps=30)
    moved = run(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)[0]
    expected = torch.linalg.vector_norm((moved - images).flatten(1), dim=1).double().numpy()
    found = attack(bound, f"foolbox_{name}", images=FEW, steps=30)
    chosen = found.correct & found.success
    assert chosen.sum() > FEW / 2
    np.testing.assert_allclose(found.distance[chosen], expected[chosen], rtol=1e-3)


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_t", "fab_t", "square"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_autoattack_s_attacks_leave_what_they_leave_alone(
    digits: tuple[Any, Any, Any, Any], name: str, norm: str
) -> None:
    need("autoattack")
    from pyautoattack import autopgd_base, fab_pt, square

    bound, model, images, labels = digits
    eps, more = 0.1 if norm == "Linf" else 0.4, {"n_iter": 20}
    make: Any = {
        "apgd_ce": autopgd_base.APGDAttack,
        "apgd_t": autopgd_base.APGDAttack_targeted,
        "fab_t": fab_pt.FABAttack_PT,
        "square": square.SquareAttack,
    }[name]
    if name == "square":
        more = {"n_queries": 100, "p_init": 0.8}
    if name == "fab_t":
        more |= {"targeted": True}
    correct = model(images).argmax(1) == labels
    theirs = make(model, eps=eps, norm=norm, seed=0, device="cpu", **more)
    moved = theirs.perturb(images[correct], labels[correct])
    left = int((model(moved).argmax(1) == labels[correct]).sum())
    options = {"queries": 100} if name == "square" else {"steps": 20}
    found = attack(bound, f"autoattack_{name}", eps=eps, norm=norm, images=FEW, **options)
    assert abs(int((~found.success).sum()) - left) <= 1


def test_inputs_in_another_range_and_another_library(digits: tuple[Any, Any, Any, Any]) -> None:
    """The NumPy backend, and inputs within 0 and 255: the same samples are fooled."""
    need("foolbox")
    _, model, images, labels = digits

    class Pixels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any) -> Any:
            return self.inner(x / 255)

    wide = eigencore.Problem(Pixels(), [(255 * images, labels)], torch.nn.CrossEntropyLoss(), bounds=(0, 255))
    one = attack(wide, "foolbox_ddn", steps=30)
    other = attack(digits[0], "foolbox_ddn", steps=30, images=FEW)
    np.testing.assert_allclose(one.distance, 255 * other.distance, rtol=1e-3)
    found = attack("demo:digits-numpy", "foolbox_ddn", steps=30, images=FEW)
    own = attack("demo:digits-numpy", "ddn", steps=30, images=FEW)
    assert np.median(found.distance) == pytest.approx(np.median(own.distance), rel=0.03)


@pytest.mark.parametrize("entry", ADAPTED, ids=lambda entry: entry.name)
def test_global_generators_are_restored_and_bounds_are_needed(
    entry: AttackEntry, digits: tuple[Any, Any, Any, Any]
) -> None:
    need(entry.extra)
    short = {"queries": 10} if entry.name.endswith("square") else {"steps": 2}
    eps = {"eps": 0.05} if entry.goal == "fixed_eps" else {}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = (attack(digits[0], entry.name, images=5, **eps, **short).inputs for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, other)
    free = eigencore.Problem(digits[1], [digits[2:]], torch.nn.CrossEntropyLoss())
    with pytest.raises(UsageError, match="needs the bounds of the inputs"):
        attack(free, entry.name, **eps, **short)


@pytest.mark.parametrize("entry", ADAPTED, ids=lambda entry: entry.name)
def test_without_the_library_the_error_says_what_to_install(
    entry: AttackEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "foolbox" if entry.extra == "foolbox" else "pyautoattack"
    for name in [one for one in sys.modules if one.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    for module in ("foolbox_attacks", "autoattack"):
        monkeypatch.delitem(sys.modules, f"eigencore_attacks.adapters.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    eps = {"eps": 0.05} if entry.goal == "fixed_eps" else {}
    with pytest.raises(PluginError, match=f"needs {missing}, which is not installed") as raised:
        attack("demo:digits-numpy", entry.name, **eps)
    assert f"[{entry.extra}]" in str(raised.value.hint)


def checks() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import foolbox  # noqa: F401
        except ImportError:
            return
    for name, options, refused in (
        ("foolbox_pgd", {"steps": 10}, IN_A_BALL),
        ("foolbox_ddn", {"steps": 30}, UNBOUNDED),
    ):
        known = dict.fromkeys(refused, NO_BOUNDS)
        for check in attack_checks(
            name, libraries=["torch-float32", "numpy-float64"], known_failures=known, **options
        ):
            yield pytest.param(check, id=f"{name}-{check.__name__}")


@pytest.mark.parametrize("check", list(checks()))
def test_an_adapted_attack_passes_the_check(check: Check[AttackSubject]) -> None:
    check()
