"""What backends share: unbiased and reproducible draws, layouts, argument checks, and the digits."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import product
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest

from eigencore.errors import PluginError, ProblemError, UnknownNameError, UsageError
from eigencore.objectives import CrossEntropy
from eigencore.operators import as_operator
from eigencore.problems.sharing import (
    DIFFERENCES,
    Minibatch,
    bounds_excess,
    bounds_of_rows,
    check_bounds,
    check_cpu,
    check_dtype,
    check_objective,
    check_reduction,
    check_reiterable,
    clip_to_bounds,
    derivative_gaps,
    draw_minibatch,
    fixed_permutation,
    flat_slices,
    handwritten_digits,
    matching_names,
    params_text,
    requires_extras,
    select_names,
    split_batches,
    weight_minibatch,
)

WEIGHTS = (7.0, 5.0, 3.0)
NAMES = ["embed.weight", "layer.0.weight", "layer.0.bias", "head.weight"]


def estimate(minibatch: Minibatch, values: tuple[float, ...]) -> float:
    """The estimate of sum_b w_b values_b that a minibatch gives."""
    return sum(factor * WEIGHTS[b] * values[b] for b, factor in minibatch.factors.items())


# -- minibatches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_the_expectation_of_the_estimate_is_the_sum_over_all_batches(batches):
    values, total = (1.0, -2.0, 10.0), sum(WEIGHTS)
    draws = list(product(range(3), repeat=batches))
    probabilities = [prod(WEIGHTS[b] / total for b in draw) for draw in draws]
    estimates = [estimate(weight_minibatch(Counter(draw), WEIGHTS), values) for draw in draws]
    expected = sum(w * value for w, value in zip(WEIGHTS, values, strict=True))
    assert np.dot(probabilities, estimates) == pytest.approx(expected, rel=1e-14)
    assert max(estimates) - min(estimates) > 1  # or any factors would pass


def test_draws_have_probabilities_proportional_to_the_weights():
    draws = 4000
    counts = Counter(next(iter(draw_minibatch(WEIGHTS, step, 0, 1).factors)) for step in range(draws))
    for b, weight in enumerate(WEIGHTS):
        p = weight / sum(WEIGHTS)
        assert abs(counts[b] - draws * p) <= 4.5 * np.sqrt(draws * p * (1 - p))


def test_the_mean_of_many_draws_converges_to_the_sum():
    values = (1.0, -2.0, 10.0)
    estimates = [estimate(draw_minibatch(WEIGHTS, step, 1, 2), values) for step in range(4000)]
    expected = sum(w * value for w, value in zip(WEIGHTS, values, strict=True))
    assert abs(np.mean(estimates) - expected) <= 4.5 * np.std(estimates) / np.sqrt(4000)


def test_step_and_seed_determine_the_draw():
    weights = tuple(range(1, 50))
    assert draw_minibatch(weights, 3, 7, 5) == draw_minibatch(weights, 3, 7, 5)
    drawn = {tuple(draw_minibatch(weights, step, seed, 5).factors) for step in range(4) for seed in range(4)}
    assert len(drawn) == 16


def test_draws_are_the_same_in_every_version():
    """A change of these numbers would change the results of stochastic solvers."""
    assert draw_minibatch([256, 256, 157], 0, 0, 4).factors == {1: 669 / (4 * 256), 0: 3 * 669 / (4 * 256)}
    assert list(draw_minibatch(range(1, 50), 3, 7, 5).factors) == [16, 27, 26, 23, 25]


def test_the_draw_does_not_use_the_global_random_state():
    before = np.random.get_state()[1].copy()
    draw_minibatch(WEIGHTS, 0, 0, 5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_shares_add_up_and_a_batch_drawn_twice_counts_once():
    assert sum(weight_minibatch({b: 1}, WEIGHTS).share for b in range(3)) == pytest.approx(1)
    assert weight_minibatch({0: 2}, WEIGHTS) == weight_minibatch({0: 1}, WEIGHTS)
    assert weight_minibatch({0: 3, 1: 1, 2: 4}, WEIGHTS).share == 1
    assert 0 < draw_minibatch(WEIGHTS, 0, 0, 100).share <= 1


def test_batches_of_weight_zero_are_never_drawn():
    drawn = {b for step in range(50) for b in draw_minibatch([1, 0, 1], step, 0, 2).factors}
    assert drawn == {0, 2}


@pytest.mark.parametrize("arguments", [{"batches": 0}, {"step": -1}, {"seed": -1}])
def test_invalid_draws_are_refused(arguments):
    with pytest.raises(UsageError, match="expected batches >= 1, step >= 0 and seed >= 0"):
        draw_minibatch(WEIGHTS, **({"step": 0, "seed": 0, "batches": 1} | arguments))


@pytest.mark.parametrize("weights", [[], [0, 0]])
def test_data_without_weight_are_refused(weights):
    with pytest.raises(ProblemError, match="data is empty, or every batch has weight zero"):
        draw_minibatch(weights, 0, 0, 1)


# -- the layout of parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[], [5], [3, 1, 4, 1], [2, 0, 3]])
def test_slices_cover_the_flat_vector_without_overlap(sizes):
    slices = flat_slices(iter(sizes))
    assert [where.stop - where.start for where in slices] == sizes
    positions = np.concatenate([np.arange(sum(sizes))[where] for where in slices] or [np.arange(0)])
    np.testing.assert_array_equal(positions, np.arange(sum(sizes)))


@pytest.mark.parametrize(
    ("pattern", "selected"),
    [
        (None, NAMES),
        ("*", NAMES),
        ("layer.*", NAMES[1:3]),
        ("*.weight", [NAMES[0], NAMES[1], NAMES[3]]),
        ("head.weight", NAMES[3:]),
        ("h???.[wb]*", NAMES[3:]),
        ("head.*,embed.*", [NAMES[0], NAMES[3]]),
        (" *.bias , layer.* ", NAMES[1:3]),
        (["head.weight", "layer.*", "*.weight"], NAMES),
        (("layer.0.bias",), NAMES[2:3]),
        ("re:layer", NAMES[1:3]),
        ("re:^(head|embed)[.]", [NAMES[0], NAMES[3]]),
        ("re:.{5,5}[.]0.bias", NAMES[2:3]),
        ("head.*, re:b.{1,2}s$", NAMES[2:]),
        (["re:bias$", "head.*"], NAMES[2:]),
        (" re:bias", NAMES[2:3]),
        (lambda name: name.startswith("head"), NAMES[3:]),
        (lambda name: np.char.endswith(name, "bias")[()], NAMES[2:3]),
        (["layer.0.bias", "head.weight".__eq__], NAMES[2:]),
    ],
)
def test_patterns_select_names_in_their_order_and_once(pattern, selected):
    assert select_names(iter(NAMES), pattern) == selected


def test_a_name_that_is_also_a_glob_or_contains_commas_selects_itself():
    names = ["w[0]", "w0", "a,b", "a", "b"]
    assert select_names(names, "w[0]") == ["w[0]"]
    assert select_names(names, "w[0-9]") == ["w0"]
    assert select_names(names, "a,b") == ["a,b"]
    assert select_names(names, ["a,b", "b"]) == ["a,b", "b"]
    assert select_names(names, "[a,b]") == ["a", "b"]


@pytest.mark.parametrize("params", [["head.*", "haed.*"], "head.*,haed.*", ("haed.*", "head.*")])
def test_every_glob_must_match_a_name(params):
    with pytest.raises(UnknownNameError, match=r"unknown parameter: 'haed\.\*'"):
        select_names(NAMES, params)


@pytest.mark.parametrize("params", [[], (), 3, [1], {"head.*"}, np.ones(2), ["head.*", None]])
def test_params_that_are_no_patterns_are_refused(params):
    with pytest.raises(UsageError, match="expected a pattern of parameter names"):
        select_names(NAMES, params)


def raises(name):
    raise KeyError(name)


class Chooser:
    def __call__(self, name):
        return False


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            "re:a(b",
            "the regular expression 'a(b', which is invalid: missing ), unterminated subpattern at po",
        ),
        ("re:a(b", "at position 1"),
        (["head.*", "re:[z-a]"], "bad character range z-a at position 1"),
        ("re:*", "nothing to repeat at position 0"),
        (raises, "raises fails for the parameter 'embed.weight': KeyError: 'embed.weight'"),
        (
            re.compile("head").search,
            "search returns None for the parameter 'embed.weight'; expected True or Fa",
        ),
        (len, "the function builtins.len returns 12 for the parameter 'embed.weight'"),
        (str, "builtins.str returns 'embed.weight' for"),
        (lambda name: np.array([True]), "returns array([ True]) for the parameter"),
        (lambda name: False, "<lambda> selects none of the 4 parameters"),
        (lambda name: False, "each of their names: embed.weight, layer.0.weight, layer.0.bias, ..."),
        (Chooser(), "Chooser selects none of the 4"),
        (["head.*", Chooser()], "Chooser selects none of the 4"),
        ("re:haed", "unknown parameter: 're:haed'"),
    ],
)
def test_invalid_expressions_and_functions_are_refused(params, words):
    with pytest.raises(UsageError) as raised:
        select_names(NAMES, params)
    assert words in str(raised.value)


def test_params_as_text():
    assert params_text(None) is None
    assert params_text("head.*,re:a,b") == "head.*,re:a,b"
    assert params_text(("head.*", raises)) == f"head.*, {__name__}.raises"
    assert params_text(Chooser()) == f"{__name__}.Chooser"
    assert params_text(lambda name: True) == f"{__name__}.test_params_as_text.<locals>.<lambda>"


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("head.wieght", "head.weight"),
        ("layers.*", "layer.*"),
        ("layer.0", "layer.0.*"),
        ("layer.1.*", "layer.0.*"),
    ],
)
def test_a_pattern_that_matches_nothing_is_reported_with_the_nearest_names(pattern, near):
    with pytest.raises(UnknownNameError, match="unknown parameter: ") as caught:
        select_names(NAMES, pattern)
    assert "Did you mean" in caught.value.hint
    assert near in caught.value.hint
    assert matching_names(NAMES, pattern) == []


def test_patterns_distinguish_capital_letters():
    with pytest.raises(UnknownNameError):
        select_names(NAMES, "HEAD.*")


# -- argument checks ---------------------------------------------------------------------------------------


def test_available_values_are_accepted():
    for device in (None, "cpu"):
        check_cpu(device, "mine")
    for dtype in ("float32", "float64"):
        check_dtype(dtype)
    for reduction in ("infer", "mean", "sum"):
        check_reduction(reduction)
    check_objective(CrossEntropy())


class WithoutProducts:
    def value(self, logits, y): ...
    def grad(self, logits, y): ...


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (lambda: check_dtype("half"), UsageError, "dtype is 'half'; expected float32 or float64"),
        (
            lambda: check_cpu("cuda", "mine"),
            UsageError,
            "device is 'cuda'; the backend mine runs only on the",
        ),
        (lambda: check_reduction("median"), UsageError, "reduction is 'median'; expected 'infer', 'mean' or"),
        (lambda: check_objective(print), ProblemError, "without value, grad, hvp; expected an Objective"),
        (lambda: check_objective(WithoutProducts()), ProblemError, "a WithoutProducts without hvp; expected"),
    ],
    ids=["dtype", "device", "reduction", "function", "incomplete objective"],
)
def test_other_values_are_refused(check, error, message):
    with pytest.raises(error, match=message) as caught:
        check()
    assert caught.value.hint or error is UsageError


class Indexed:
    def __getitem__(self, index):
        return [1, 2][index]


class IterationCounter:
    """Data that count how often an iteration was started."""

    started = 0

    def __iter__(self):
        IterationCounter.started += 1
        return iter([])


@pytest.mark.parametrize(
    "data", [[], (1, 2), Indexed(), IterationCounter(), range(3)], ids=lambda d: type(d).__name__
)
def test_data_that_can_be_iterated_many_times_are_accepted(data):
    check_reiterable(data)
    assert IterationCounter.started == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "validation is a int, which can't be iterated; expected batches"),
        (None, "validation is a NoneType, which can't be iterated"),
        ("batches", "validation is a str, which can't be iterated"),
        (iter([1]), "validation is a list_iterator, which can be iterated only once; expected data that can"),
        ((x for x in "ab"), "validation is a generator, which can be iterated only once"),
    ],
    ids=["number", "None", "text", "iterator", "generator"],
)
def test_data_that_cannot_be_iterated_many_times_are_refused(data, message):
    with pytest.raises(ProblemError, match=message) as caught:
        check_reiterable(data, "validation", "a list or a loader")
    assert caught.value.hint.startswith("Give a list or a loader")


# -- demo data ---------------------------------------------------------------------------------------------


def test_a_missing_package_is_reported_with_the_extras_that_install_it():
    with (
        pytest.raises(PluginError, match=r"^demo:mine needs not_there, which is not installed\n") as caught,
        requires_extras("demo:mine", "torch,demo"),
    ):
        raise ModuleNotFoundError("No module named 'not_there.inner'", name="not_there.inner")
    assert caught.value.hint == 'Run: pip install "eigencore[torch,demo]"'
    with pytest.raises(ValueError, match="other"), requires_extras("demo:mine", "demo"):
        raise ValueError("other errors pass through")


def test_the_digits_are_those_of_scikit_learn_in_a_fixed_order():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = handwritten_digits()
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1797, 8, 8), np.float32, (1797,), np.int64)
    assert (x.min(), x.max()) == (0, 1)
    again, _ = handwritten_digits()
    np.testing.assert_array_equal(x, again)
    digits = datasets.load_digits()
    order = fixed_permutation(1797)
    np.testing.assert_array_equal(16 * x, digits.images[order])
    np.testing.assert_array_equal(y, digits.target[order])


def test_the_permutation_is_fixed():
    assert fixed_permutation(8).tolist() == [6, 2, 1, 7, 3, 0, 5, 4]
    assert sorted(fixed_permutation(100)) == list(range(100))


@pytest.mark.parametrize(("n", "sizes"), [(0, []), (4, [4]), (5, [4, 1]), (12, [4, 4, 4])])
def test_batches_are_consecutive_and_complete(n, sizes):
    x, y = np.arange(2 * n).reshape(n, 2), np.arange(n)
    batches = split_batches(x, y, 4)
    assert [len(labels) for _, labels in batches] == sizes
    if n:
        np.testing.assert_array_equal(np.concatenate([part for part, _ in batches]), x)
        np.testing.assert_array_equal(np.concatenate([part for _, part in batches]), y)


# -- bounds of the inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "expected"),
    [
        (-1, np.full((2, 3), -1)),
        ([-1, -2], [[-1] * 3, [-2] * 3]),
        ([-1, -2, -3], [[-1, -2, -3]] * 2),
        ([[-1], [-2]], [[-1] * 3, [-2] * 3]),
        (np.arange(-6, 0).reshape(2, 3), np.arange(-6, 0).reshape(2, 3)),
    ],
    ids=["a number", "per channel", "per column", "broadcast", "whole"],
)
def test_bounds_of_every_entry_of_a_row(low, expected, array_library):
    space = SimpleNamespace(xp=array_library.xp, dtype=array_library.dtype, device=None)
    found, high = bounds_of_rows((low, 5), (2, 3), space)
    np.testing.assert_array_equal(np.asarray(found), np.ravel(expected))
    np.testing.assert_array_equal(np.asarray(high), np.full(6, 5))
    assert found.dtype == high.dtype == array_library.dtype


def test_bounds_that_fit_in_two_ways_or_none():
    space = as_operator(np.eye(2))
    with pytest.raises(ProblemError, match=r"fit, along the first axis and along the last,.*\n.*\(2, 1\)"):
        bounds_of_rows(([0, 1], 2), (2, 2), space)
    assert bounds_of_rows(([1, 1], 2), (2, 2), space)[0].tolist() == [1] * 4
    with pytest.raises(ProblemError, match=r"bounds of shape \(4,\) do not fit inputs of shape \(2, 3\)"):
        bounds_of_rows(([0] * 4, 2), (2, 3), space)
    with pytest.raises(ProblemError, match="the lower one first"):
        bounds_of_rows(([[0], [0]], [1, 1, -1]), (2, 3), space)
    assert bounds_of_rows(None, (2, 3), space) is None


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), ([0, 0], [0, 0]), ([0, 0], [1, -1]), (0, np.inf), 3, "ab", (1,)]
)
def test_bounds_that_are_not_in_order(bounds):
    with pytest.raises(ProblemError, match="expected two finite numbers, the lower one first"):
        check_bounds(bounds)


def test_every_entry_is_clipped_to_its_own_bounds(array_library):
    low, high = (array_library.array(np.array(bound)) for bound in ([0.0, -1.0, 2.0], [1.0, 5.0, 2.0]))
    x = array_library.array(np.array([[-3.0, -3.0, -3.0], [0.5, 4.0, 2.0], [9.0, 9.0, 9.0]]))
    clipped = clip_to_bounds(x, (low, high))
    np.testing.assert_array_equal(np.asarray(clipped), [[0, -1, 2], [0.5, 4, 2], [1, 5, 2]])
    assert clipped.dtype == array_library.dtype
    assert clip_to_bounds(x, None) is x


def test_the_excess_over_bounds_is_that_of_the_worst_entry_beyond_rounding(array_library):
    low, high = (array_library.array(np.array(bound)) for bound in ([0.0, -1e3, 2.0], [1.0, 1e3, 2.0]))
    x = np.array([[0.5, 0.0, 2.0], [1.0, -1e3, 2.0]])
    for change, excess in (
        ([0, 0, 0], 0),
        ([5e-7, 1e-3, 0], 0),
        ([1e-3, 1e-3, 0], 1e-3),
        ([0, 0, 0.25], 0.25),
        ([0, -2.0, 0.25], 2.0),
    ):
        moved = x.copy()
        moved[1] += change
        assert bounds_excess(array_library.array(moved), (low, high)) == pytest.approx(excess, rel=0.02)
    assert bounds_excess(array_library.array(x[:0]), (low, high)) == 0


# -- derivatives -------------------------------------------------------------------------------------------

W = np.array([1.0, -2.0, 0.5, 3.0])
V = np.array([0.1, 0.5, -0.5, 0.7])


def gaps_of(loss, gradient, product, w=W):
    """The gaps, and how often the function was evaluated."""
    evaluated = []

    def at(t):
        evaluated.append(t)
        return loss(w + t * V), gradient(w + t * V)

    gaps = derivative_gaps(at, V, product, DIFFERENCES["float64"], float(np.linalg.norm(w)))
    return gaps, len(evaluated)


def quartic(w):
    return float(np.sum(w**4))


def test_right_derivatives_have_no_gap_and_cost_two_evaluations():
    gaps, evaluations = gaps_of(quartic, lambda w: 4 * w**3, 12 * W**2 * V)
    assert max(gaps[:2]) < 1e-8
    assert gaps.resolved
    assert evaluations == 2


@pytest.mark.parametrize("factor", [0.0, 0.99, 1.001, -1.0, 3.0])
def test_the_gaps_are_relative_and_each_shows_its_own_derivative(factor):
    expected = abs(1 - factor) / max(1, abs(factor))
    gaps, evaluations = gaps_of(quartic, lambda w: 4 * w**3, factor * 12 * W**2 * V)
    assert gaps.gradient < 1e-8
    assert gaps.product == pytest.approx(expected, rel=1e-4)
    assert evaluations == 8
    gaps, _ = gaps_of(quartic, lambda w: factor * 4 * w**3, factor * 12 * W**2 * V)
    assert gaps.gradient == pytest.approx(min(expected, 1e3 * abs(1 - factor)), rel=1e-4)
    assert gaps.product < 1e-8


def test_a_kink_within_the_first_step_does_not_matter():
    at_kink = W @ V + 1e-6

    def loss(w):
        return quartic(w) + max(0.0, w @ V - at_kink)

    def gradient(w):
        return 4 * w**3 + V * (w @ V > at_kink)

    gaps, evaluations = gaps_of(loss, gradient, 12 * W**2 * V)
    assert max(gaps[:2]) < 1e-4
    assert gaps.resolved
    assert 2 < evaluations < 8


@pytest.mark.parametrize(
    ("loss", "gradient", "curvature"),
    [
        (lambda w: float(W @ w), lambda w: W, 0.0),
        (lambda w: 1.0, lambda w: 1e-17 * w, 1e-18),
        (lambda w: 0.0, lambda w: 0 * w, 0.0),
        (lambda w: 1e6 + 1e-9 * quartic(w), lambda w: 4e-9 * w**3, 12e-9),
    ],
    ids=["linear", "constant", "zero", "large constant"],
)
def test_rounding_errors_are_no_gap(loss, gradient, curvature):
    gaps, _ = gaps_of(loss, gradient, curvature * W**2 * V)
    assert max(gaps[:2]) < 1e-4
    assert not gaps.resolved


def test_weights_of_zero_are_probed_and_differences_that_are_not_finite_show_nothing():
    zero = 0 * W
    assert max(gaps_of(lambda w: float(w @ w), lambda w: 2 * w, 2 * V, zero)[0][:2]) < 1e-8
    assert gaps_of(lambda w: float(w @ w), lambda w: 2 * w, V, zero)[0].product == pytest.approx(0.5)
    gaps, _ = gaps_of(lambda w: np.nan, lambda w: np.nan * w, V)
    assert np.isnan(gaps[:2]).all()
    assert not gaps.exceed(1e-4)
    assert not gaps.resolved


def test_gaps_are_described_in_percent():
    right, wrong = DIFFERENCES["float64"].tolerance, gaps_of(quartic, lambda w: 4 * w**3, 0 * V)[0]
    assert wrong.description(right) == (
        "along a random direction, the Hessian product differs by 100 % from the change of the gradient"
    )
    both = type(wrong)(0.00123, 0.456).description(right)
    assert "the gradient differs by 0.12 % from the change of the loss and the Hessian" in both
    assert "46 %" in both


def test_importing_the_module_imports_no_framework():
    code = (
        "import sys, eigencore.problems.sharing; "
        "print(*{'torch', 'sklearn', 'scipy', 'array_api_compat'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
