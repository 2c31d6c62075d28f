"""The bundled backends pass every check of `eigencore.testing`; each broken one is caught by its law."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pytest

from eigencore.entries import DEFAULT_KIND, Capability, KindEntry
from eigencore.errors import CapabilityError, UnknownNameError
from eigencore.interfaces import Bound, Problem
from eigencore.objectives import CrossEntropy
from eigencore.problems import bind, find_problem
from eigencore.registry import registry
from eigencore.testing import backend_checks, check_backend
from eigencore.testing.backends.checks import IF_OFFERED
from eigencore.testing.backends.differences import (
    check_first_derivative,
    check_second_derivative,
    skip_unless_any,
)
from eigencore.testing.checks import Check
from eigencore_numpy.network import TwoLayer
from kit.broken_backends import (
    OF_A_KIND,
    SPECIMENS,
    doubles_the_product,
    drops_the_last_sample,
    flips_the_sign,
)
from kit.broken_classifiers import halves_the_product, negates_the_gradient
from kit.faults import BackendSpecimen, float32_only, with_attributes

D, H, C, SIZES = 6, 5, 4, (7, 5, 3)


def arrays_of(seed: int = 0) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """The weights of two layers and labelled samples in ragged batches."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape) for shape in ((H, D), H, (C, H), C)]
    return weights, [(rng.standard_normal((size, D)), rng.integers(0, C, size)) for size in SIZES]


def on_numpy(activation: str = "softplus", **changed: object) -> Problem:
    weights, data = arrays_of()
    made = {"model": TwoLayer(*weights, activation), "data": data, "loss": CrossEntropy(), "backend": "numpy"}
    return Problem(**(made | changed))  # type: ignore[arg-type]


def on_torch(activation: str = "softplus", **changed: object) -> Problem:
    """The same network and samples."""
    torch = pytest.importorskip("torch")
    (W1, b1, W2, b2), data = arrays_of()
    between = {"softplus": torch.nn.Softplus, "relu": torch.nn.ReLU}[activation]()
    model = torch.nn.Sequential(torch.nn.Linear(D, H), between, torch.nn.Linear(H, C)).double()
    for layer, W, b in ((model[0], W1, b1), (model[2], W2, b2)):
        layer.weight.data, layer.bias.data = torch.from_numpy(W), torch.from_numpy(b)
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data]
    made = {"model": model, "data": batches, "loss": torch.nn.CrossEntropyLoss(), "backend": "torch"}
    return Problem(**(made | changed))  # type: ignore[arg-type]


def few_digits() -> Problem:
    """demo:digits with some of its training images, in small ragged batches, and some of its test images."""
    from eigencore_demo.digits import make

    problem = make()
    (x, y), *_ = problem.data
    ((held_out, labels),) = problem.validation
    data = [(x[:16], y[:16]), (x[16:24], y[16:24]), (x[24:30], y[24:30])]
    return replace(problem, data=data, validation=[(held_out[:40], labels[:40])])


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "numpy-softplus": on_numpy,
    "numpy-relu": functools.partial(on_numpy, "relu"),
    "numpy-sum": functools.partial(on_numpy, reduction="sum"),
    "numpy-bounds": functools.partial(on_numpy, bounds=(-4.0, 4.0), validation=arrays_of(1)[1]),
    "torch-softplus": on_torch,
    "torch-relu": functools.partial(on_torch, "relu"),
    "torch-bounds": functools.partial(on_torch, bounds=(-4.0, 4.0)),
}
EVERY_LAW = [law.__name__ for _, laws in IF_OFFERED for law in laws] + ["wrong_derivatives_are_refused"]


class DoubledHessian(CrossEntropy):
    """Its product with the Hessian is not the derivative of its gradient."""

    def hvp(self, logits, y, v):
        return 2 * super().hvp(logits, y, v)


def detached(outputs: Any, y: Any) -> Any:
    """A sum of squares with one factor detached, so that half of its gradient is missing."""
    return (outputs * outputs.detach()).mean()


def wrong_loss(problem: Problem) -> Any:
    return DoubledHessian() if problem.backend == "numpy" else detached


@functools.cache
def checks_of(name: str, dtype: str) -> dict[str, Check]:
    problem = PROBLEMS[name]()
    return {
        check.name: check for check in backend_checks(problem, dtype=dtype, wrong_loss=wrong_loss(problem))
    }


@pytest.mark.parametrize("law", EVERY_LAW)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_bundled_backend_conforms(name: str, dtype: str, law: str) -> None:
    checks_of(name, dtype)[law]()


@functools.cache
def checks_of_digits(name: str) -> dict[str, Check]:
    problem = few_digits() if name == "demo:digits" else find_problem(name)
    return {check.name: check for check in backend_checks(problem, wrong_loss=wrong_loss(problem))}


@pytest.mark.parametrize("law", EVERY_LAW)
@pytest.mark.parametrize("name", ["demo:digits", pytest.param("demo:digits-numpy", marks=pytest.mark.slow)])
def test_the_demos_conform(name: str, law: str) -> None:
    checks_of_digits(name)[law]()


# -- broken backends are caught ----------------------------------------------------------------------------


@functools.cache
def caught(specimen: BackendSpecimen) -> dict[str, str]:
    """The name of each check that the specimen fails, on inputs of shape (2, 3) -> its message."""
    found = {}
    problem = on_numpy(data=[(x.reshape(-1, 2, 3), y) for x, y in arrays_of()[1]])
    wrong = wrong_loss(problem)
    for check in backend_checks(problem, backend=specimen.backend, dtype=specimen.dtype, wrong_loss=wrong):
        try:
            with np.errstate():  # which a specimen changes
                check()
        except unittest.SkipTest:
            continue
        except AssertionError as failure:
            found[check.name] = str(failure)
    return found


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_a_broken_backend_is_caught(specimen: BackendSpecimen, capsys: pytest.CaptureFixture[str]) -> None:
    found = caught(specimen)
    assert specimen.caught_by in found
    assert "raises_nothing" not in found[specimen.caught_by]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_backend_without_a_fault_is_not_caught(dtype: str) -> None:
    assert not caught(BackendSpecimen(lambda bound: bound, "", dtype))


def test_every_law_catches_a_specimen() -> None:
    assert {specimen.caught_by for specimen in SPECIMENS} == set(EVERY_LAW)


# -- kinds of operator -------------------------------------------------------------------------------------

PROBLEMS_OF_KINDS: dict[str, Callable[[], Problem]] = {
    "numpy-softplus": on_numpy,
    "numpy-sum": functools.partial(on_numpy, reduction="sum"),
    "torch-softplus": on_torch,
    "torch-relu": functools.partial(on_torch, "relu"),
}
KINDS = {
    "numpy": ["ggn"],
    "torch": ["ggn", "fisher", "empirical_fisher", "scaled", "preconditioned", "input_hessian"],
}
OVER_THE_WEIGHTS = {
    "layout_covers_the_vector",
    "parameters_are_blocks_of_the_whole",
    "several_patterns_select_their_parameters",
    "minibatches_are_unbiased",
}
GGN = KindEntry(backend="specimen", name="ggn", summary="", load="", semidefinite=True)


def with_optimizer(problem: Problem) -> Problem:
    """The problem with an optimizer that has made a step of length zero."""
    if problem.backend == "numpy":
        return problem
    import torch

    optimizer = torch.optim.Adam(problem.model.parameters(), lr=0.0)
    for parameter in problem.model.parameters():
        parameter.grad = 0.1 + torch.rand_like(parameter)
    optimizer.step()
    return replace(problem, optimizer=optimizer)


def test_every_kind_is_examined() -> None:
    for backend, kinds in KINDS.items():
        bundled = {
            one.entry.name for one in registry().kinds(backend) if one.plugin.distribution == "eigencore"
        }
        assert bundled == {*kinds, DEFAULT_KIND}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in PROBLEMS_OF_KINDS for kind in KINDS[name.partition("-")[0]]],
)
def test_a_bundled_kind_conforms(name: str, kind: str, dtype: str) -> None:
    problem = with_optimizer(PROBLEMS_OF_KINDS[name]())
    checks = backend_checks(problem, kind=kind, dtype=dtype, wrong_loss=wrong_loss(problem))
    laws = {check.name for check in checks}
    assert (laws >= OVER_THE_WEIGHTS) == (kind != "input_hessian")
    entry = registry().find_kind(problem.backend or "torch", kind)
    assert ("products_are_semidefinite" in laws) == entry.semidefinite
    assert "products_match_differences_of_the_loss" not in laws
    for check in checks:
        check()


@pytest.mark.parametrize("specimen", OF_A_KIND, ids=str)
def test_a_broken_kind_is_caught(specimen: BackendSpecimen) -> None:
    checks = backend_checks(on_numpy, backend=specimen.backend, kind=GGN)
    (check,) = (one for one in checks if one.name == specimen.caught_by)
    with pytest.raises(AssertionError):
        check()


def test_a_kind_without_a_fault_is_not_caught() -> None:
    check_backend(on_numpy, backend=BackendSpecimen(lambda bound: bound, "").backend, kind=GGN)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'gnn'"):
        backend_checks(on_numpy, kind="gnn")


# -- a backend without float64 -----------------------------------------------------------------------------


def without_float64(
    problem: Callable[[], Problem], fault: Callable[[Bound], Bound] = float32_only
) -> list[Check]:
    backend = BackendSpecimen(fault, "").backend
    with pytest.warns(UserWarning, match=r"has no float64: derivatives are compared with finite differences"):
        return backend_checks(problem, backend=backend, dtype="float32")


@pytest.mark.parametrize("name", ["numpy-softplus", "numpy-relu", "numpy-bounds", "torch-softplus"])
def test_a_backend_without_float64_conforms(name: str) -> None:
    skipped = []
    for check in without_float64(PROBLEMS[name]):
        try:
            check()
        except unittest.SkipTest as skip:
            skipped.append((check.name, str(skip)))
    assert skipped == [("agrees_with_float64", "the backend has no float64 to compare with")]


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (doubles_the_product, "products_match_differences_of_the_loss"),
        (negates_the_gradient, "gradients_match_differences"),
        (halves_the_product, "input_products_match_differences_of_gradients"),
        (flips_the_sign, "sample_curvature_is_that_of_the_sample_alone"),
        (drops_the_last_sample, "sample_curvatures_add_up_to_the_operator"),
    ],
)
def test_wrong_derivatives_are_caught_without_float64(fault: Callable[[Bound], Bound], law: str) -> None:
    (check,) = (
        one for one in without_float64(on_numpy, lambda bound: float32_only(fault(bound))) if one.name == law
    )
    with pytest.raises(AssertionError, match=r"finite differences|the sample curvature is"):
        check()


def test_a_precision_that_is_not_listed_must_be_refused() -> None:
    def fault(bound: Bound) -> Bound:
        return with_attributes(bound, precisions=("float32",))

    (check,) = (
        one for one in without_float64(on_numpy, fault) if one.name == "listed_precisions_are_available"
    )
    with pytest.raises(AssertionError, match="nothing was raised; expected UsageError"):
        check()


# -- the precision of the weights --------------------------------------------------------------------------

PRECISION = "operators_have_the_precision_of_the_weights"


def test_weights_that_are_converted_silently_are_caught() -> None:
    """Without a data type, as in JAX by default, float64 weights are converted; nothing else is wrong."""

    def shortens(problem: Problem, options: Any, *, device: Any = None, dtype: Any = None) -> Bound:
        return bind(problem, device=device, dtype=dtype or "float32")

    caught = []
    for check in backend_checks(on_numpy, backend=shortens):
        try:
            check()
        except AssertionError as failure:
            caught.append((check.name, str(failure)))
    ((law, message),) = caught
    assert law == PRECISION
    assert message == "the operator bound without a data type, for float64 weights, has the data type float32"


def test_weights_of_an_unavailable_precision_must_be_refused() -> None:
    def float32_of_all(problem: Problem, options: Any, *, device: Any = None, dtype: Any = None) -> Bound:
        return float32_only(bind(problem, device=device, dtype=dtype or "float32"))

    with pytest.warns(UserWarning, match="has no float64"):
        checks = backend_checks(on_numpy, backend=float32_of_all)
    (check,) = (one for one in checks if one.name == PRECISION)
    with pytest.raises(AssertionError, match="nothing was raised; expected EigencoreError"):
        check()


# -- selection and messages of the checks ------------------------------------------------------------------


def only_products(bound: Bound) -> Bound:
    def refuse(*arguments: object) -> NoReturn:
        raise CapabilityError("it offers products only")

    offered = frozenset({Capability.PRODUCTS})
    return with_attributes(bound, capabilities=offered, classifier=refuse, loss=refuse, layout=refuse)


def test_the_checks_follow_the_capabilities() -> None:
    few = backend_checks(on_numpy, backend=BackendSpecimen(only_products, "").backend)
    assert {check.name for check in few} == {law.__name__ for law in IF_OFFERED[0][1]}
    for check in few:
        check()
    every = backend_checks(on_numpy, wrong_loss=DoubledHessian())
    assert {check.name for check in every} == set(EVERY_LAW)
    assert {check.name for check in backend_checks(on_numpy)} == set(EVERY_LAW[:-1])
    assert set(Capability) == set().union(*(needs for needs, _ in IF_OFFERED))


def test_a_classifier_that_is_not_offered_and_does_not_raise_is_caught() -> None:
    """Its classifier and loss return where they have to raise."""
    products = frozenset({Capability.PRODUCTS})
    backend = BackendSpecimen(lambda bound: with_attributes(bound, capabilities=products), "").backend
    (check,) = (
        one for one in backend_checks(on_numpy, backend=backend) if one.name == "invalid_requests_are_refused"
    )
    with pytest.raises(AssertionError, match="nothing was raised; expected CapabilityError"):
        check()


def test_a_problem_that_is_an_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="is an operator and needs no backend; expected one with a model"):
        backend_checks(Problem(operator=np.diag([3.0, 2.0, 1.0])))


def test_a_problem_is_given_by_name_as_a_function_or_as_itself() -> None:
    for problem in ("demo:digits-numpy", on_numpy, on_numpy()):
        assert backend_checks(problem, backend="numpy")
    with pytest.raises(UnknownNameError):
        backend_checks(on_numpy, backend="nampy")


def test_check_backend_names_every_failed_check() -> None:
    check_backend(on_numpy, backend="numpy")
    with pytest.raises(
        AssertionError, match=r"checks failed\n(.*\n)*.*differences_of_the_loss/numpy-[\d.]+-cpu-float64: "
    ):
        check_backend(on_numpy, backend=BackendSpecimen(doubles_the_product, "").backend)


def test_a_known_failure_is_skipped_with_its_reason() -> None:
    known = {"gradients_match_differences": "its gradient has the wrong sign"}
    backend = BackendSpecimen(negates_the_gradient, "").backend
    (check,) = (
        one for one in backend_checks(on_numpy, backend=backend, known_failures=known) if one.known_failure
    )
    with pytest.raises(unittest.SkipTest, match="its gradient has the wrong sign"):
        check()
    with pytest.raises(ValueError, match="'gradient'"):
        backend_checks(on_numpy, backend="numpy", known_failures={"gradient": "misspelt"})


# -- finite differences ------------------------------------------------------------------------------------


def test_a_derivative_with_an_error_of_a_hundredth_is_wrong() -> None:
    def f(t: float) -> np.ndarray:
        return np.exp(t * np.array([1.0, 2.0]))

    right = np.array([1.0, 2.0])
    assert check_first_derivative(right, f, 1.0, "f")
    assert check_second_derivative(right**2, f, 1.0, "f")
    message = r"f: .* was reported; finite differences give .*\(1 of 2 values are wrong\)"
    for factor in (0.99, 1.01, -1.0, 0.0, np.nan):
        for check, derivative in ((check_first_derivative, right), (check_second_derivative, right**2)):
            with pytest.raises(AssertionError, match=message):
                check(derivative * np.array([1.0, factor]), f, 1.0, "f")


def test_a_kink_within_large_steps_does_not_matter() -> None:
    def f(t: float) -> np.ndarray:
        return np.array([max(t, 3e-6) + 10 * t])

    assert check_first_derivative(np.array([10.0]), f, 1.0, "f")


def test_a_function_that_does_not_change_shows_nothing() -> None:
    flat = check_first_derivative(np.zeros(2), lambda t: np.ones(2), 1.0, "f")
    assert not flat
    with pytest.raises(unittest.SkipTest, match="f: nothing changes"):
        skip_unless_any([flat], "f")
    skip_unless_any([flat, True], "f")
