"""A problem on NumPy: what it makes of batches, types and names, and what it says of what it can't use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import eigencore
from eigencore.entries import Capability
from eigencore.errors import ProblemError, UnknownNameError, UsageError
from eigencore.interfaces import MinibatchOperator
from eigencore.objectives import CrossEntropy, Margin
from eigencore_numpy.backend import bind
from eigencore_numpy.network import TwoLayer


def product(problem, **keywords):
    operator = bind(problem, **keywords).operator()
    return operator.matvec(np.random.default_rng(5).standard_normal(operator.shape[0]))


# -- the operator ------------------------------------------------------------------------------------------


def test_it_comes_through_the_door_that_everybody_uses(small):
    problem = small()
    run = eigencore.analyze(problem, k=2, solver="lanczos", analyses="none", tol=1e-8)
    operator = bind(problem).operator()
    spectrum = np.linalg.eigvalsh(operator.matmat(np.eye(operator.shape[0])))
    largest = spectrum[np.argsort(-np.abs(spectrum))[:2]]
    np.testing.assert_allclose(run.eigen.values, largest, rtol=1e-7)


def test_the_batches_do_not_matter(small, together):
    problem = small()
    np.testing.assert_allclose(
        product(problem), product(replace(problem, data=[together(problem)])), rtol=0, atol=1e-14
    )
    backwards = replace(problem, data=problem.data[::-1])
    np.testing.assert_allclose(product(problem), product(backwards), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("reduction", "factor"), [("infer", 1), ("mean", 1), ("sum", 15)])
def test_the_reduction_is_what_the_problem_says(reduction, factor, small):
    problem = small(reduction=reduction)
    np.testing.assert_allclose(product(problem), factor * product(small()), rtol=0, atol=1e-12)
    assert bind(problem).loss() == pytest.approx(factor * bind(small()).loss(), rel=1e-14)


def test_the_loss_is_the_mean_of_the_objective(small, together):
    problem = small()
    x, y = together(problem)
    expected = CrossEntropy().value(problem.model.logits(x), y).mean()
    assert bind(problem).loss() == pytest.approx(expected, rel=1e-14)


def test_a_direction_over_some_parameters_moves_only_those(small):
    problem = small()
    step = np.random.default_rng(6).standard_normal(5)
    moved = replace(problem, model=replace(problem.model, b1=problem.model.b1 + step))
    assert bind(problem).loss(step, "b1") == pytest.approx(bind(moved).loss(), rel=1e-14)


def test_weights_and_data_are_those_of_the_time_of_binding(small):
    problem = small()
    bound = bind(problem)
    v = np.ones(bound.operator().shape[0])
    before = bound.operator().matvec(v), bound.loss(), bound.classifier().logits(problem.data[0][0])
    x = problem.data[0][0].copy()
    problem.model.W1[:] = 0
    for inputs, labels in problem.data:
        inputs[:], labels[:] = 0, 0
    after = bound.operator().matvec(v), bound.loss(), bound.classifier().logits(x)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_layout_tells_where_each_parameter_lies_and_its_norm(small):
    model = small().model
    layout = bind(small()).layout()
    assert [one.name for one in layout] == ["W1", "b1", "W2", "b2"]
    for name, where, norm in layout:
        assert where.stop - where.start == getattr(model, name).size
        assert norm == pytest.approx(np.linalg.norm(getattr(model, name)))


def test_a_block_of_no_vectors_has_no_products(small):
    operator = bind(small()).operator()
    assert operator.matmat(np.zeros((operator.shape[0], 0))).shape == (operator.shape[0], 0)


# -- minibatches -------------------------------------------------------------------------------------------


def test_minibatches_have_the_whole_as_their_mean(small):
    """Over all draws of one batch, each as likely as its size says."""
    problem = small()
    operator = bind(problem).operator()
    assert isinstance(operator, MinibatchOperator)
    v = np.random.default_rng(7).standard_normal(operator.shape[0])
    found = {}
    for step in range(30):
        one, share = operator.minibatch(step, seed=0)
        assert not isinstance(one, MinibatchOperator)
        found[round(15 * share)] = one.matvec(v)
    assert sorted(found) == [3, 5, 7]
    mean = sum(size / 15 * Av for size, Av in found.items())
    np.testing.assert_allclose(mean, operator.matvec(v), rtol=0, atol=1e-13)


def test_a_batch_drawn_twice_counts_twice_and_costs_once(small):
    operator = bind(small()).operator()
    v = np.random.default_rng(8).standard_normal(operator.shape[0])
    total, shares = 0, []
    for step in range(3000):
        one, share = operator.minibatch(step, seed=1, batches=2)
        total, shares = total + one.matvec(v), [*shares, share]
    assert min(shares) < 8 / 15 - 1e-9  # the same one twice
    whole = operator.matvec(v)
    assert np.linalg.norm(total / 3000 - whole) < 0.1 * np.linalg.norm(whole)


@pytest.mark.parametrize("asked", [{"batches": 0}, {"step": -1}, {"seed": -1}])
def test_minibatches_that_can_not_be_drawn_are_refused(asked, small):
    with pytest.raises(UsageError, match="expected batches of at least 1"):
        bind(small()).operator().minibatch(**({"step": 0, "seed": 0} | asked))


# -- types, devices, names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("asked", [None, "float32", "float64"])
def test_everything_is_in_the_type_that_was_asked_for(own, asked, small, together):
    problem = small(dtype=own)
    bound = bind(problem, dtype=asked)
    expected = np.dtype(asked or own)
    operator, classifier = bound.operator(), bound.classifier()
    x, y = classifier.samples()
    made = [
        operator.matvec(np.ones(operator.shape[0], expected)),
        classifier.logits(x),
        *classifier.value_and_grad(CrossEntropy(), x, y),
        classifier.input_products(Margin(), x, y)(x),
        bound.sample_curvature(CrossEntropy(), np.ones(operator.shape[0], expected), x, y),
        x,
    ]
    assert {one.dtype for one in made} == {expected, operator.dtype, classifier.dtype}
    assert str(expected) in bound.description


def test_float32_agrees_with_float64(small):
    exact = product(small(dtype=np.float32), dtype="float64")
    assert np.linalg.norm(product(small(dtype=np.float32)) - exact) < 1e-5 * np.linalg.norm(exact)


def test_all_that_can_be_needed_is_offered(small):
    assert bind(small()).capabilities == set(Capability)


def test_images_are_rows_and_keep_their_shape(small):
    flat = small()
    images = replace(flat, data=[(x.reshape(-1, 2, 3), y) for x, y in flat.data])
    classifier = bind(images).classifier()
    assert classifier.shape == (2, 3)
    assert classifier.samples()[0].shape == (15, 6)
    np.testing.assert_array_equal(product(flat), product(images))


def test_samples_are_the_validation_data_where_there_are_any(small):
    problem = small(bounds=(-5.0, 5.0))
    x, y = bind(problem).classifier().samples(4)
    np.testing.assert_array_equal(x, problem.data[0][0][:4])
    np.testing.assert_array_equal(y, problem.data[0][1][:4])
    held_out = replace(problem, validation=problem.data[1:2])
    classifier = bind(held_out).classifier()
    np.testing.assert_array_equal(classifier.samples()[0], problem.data[1][0])
    assert (classifier.bounds, classifier.classes) == ((-5.0, 5.0), 4)
    np.testing.assert_array_equal(product(problem), product(held_out))


def test_names_that_are_not_there_are_told_with_the_nearest(small):
    bound = bind(small())
    with pytest.raises(UnknownNameError, match="no kind of operator named 'hesian'") as caught:
        bound.operator("hesian")
    assert "hessian" in caught.value.hint
    x, y = bound.classifier().samples()
    for ask in (
        lambda: bound.operator(params="W3"),
        lambda: bound.layout("W3"),
        lambda: bound.loss(np.zeros(30), "W3"),
        lambda: bound.sample_curvature(CrossEntropy(), np.zeros(30), x, y, "W3"),
    ):
        with pytest.raises(UnknownNameError, match="no parameter named 'W3'") as caught:
            ask()
        assert "Did you mean W" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"device": "cuda"}, "device is 'cuda'; the backend numpy works on the cpu"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected float32 or float64"),
    ],
)
def test_devices_and_types_that_are_not_there_are_refused(asked, words, small):
    with pytest.raises(UsageError, match=words):
        bind(small(), **asked)
    with pytest.raises(UsageError, match="dtype is 'half'"):
        bind(small()).classifier("half")


# -- what can't be used ------------------------------------------------------------------------------------


def test_a_model_of_another_type_is_refused(small):
    with pytest.raises(ProblemError, match="the model is a function; expected an eigencore_numpy"):
        bind(small(model=lambda x: x))


def changed(small, **weights):
    return small(model=replace(small().model, **weights))


@pytest.mark.parametrize(
    "weights",
    [
        {"b1": np.zeros(4)},
        {"W2": np.zeros((4, 6))},
        {"b2": np.zeros((4, 1))},
        {"W1": np.zeros(5)},
        {"W1": np.zeros((5, 0))},
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_told(weights, small):
    with pytest.raises(ProblemError, match=r"don't fit together: W1 \(.*b2 \(.*expected \(h, d\)"):
        bind(changed(small, **weights))


def test_weights_that_are_not_finite_are_named(small):
    W2 = small().model.W2.copy()
    W2[0, :2] = np.nan, np.inf
    with pytest.raises(ProblemError, match="W2 has 2 weights that are NaN or infinite"):
        bind(changed(small, W2=W2))


def test_an_activation_that_is_not_known_is_told_with_the_nearest(small):
    with pytest.raises(UnknownNameError, match="no activation named 'softpuls'") as caught:
        bind(changed(small, activation="softpuls"))
    assert "softplus" in caught.value.hint


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128, object])
def test_weights_of_other_types_are_refused(dtype, small):
    model = small().model
    other = TwoLayer(*(getattr(model, name).astype(dtype) for name in ("W1", "b1", "W2", "b2")))
    with pytest.raises(ProblemError, match="expected float32 or float64"):
        bind(small(model=other))


def test_whole_numbers_are_weights_where_a_type_is_asked_for(small):
    model = small().model
    whole = model.each(lambda name, weights: np.sign(weights).astype(np.int64))
    assert bind(small(model=whole), dtype="float64").operator().dtype == np.float64


def test_a_loss_without_derivatives_is_refused(small):
    with pytest.raises(
        ProblemError, match="the loss, a function, has no value, grad, hvp; expected"
    ) as caught:
        bind(small(loss=lambda logits, y: 0.0))
    assert "CrossEntropy" in caught.value.hint


def test_weight_and_unknown_reductions_are_refused(small):
    with pytest.raises(UsageError, match="weight has no meaning"):
        bind(small(weight=len))
    with pytest.raises(UsageError, match="reduction is 'median'"):
        bind(small(reduction="median"))


X, Y = np.zeros((3, 6)), np.zeros(3, dtype=np.int64)
WRONG_DATA = {
    "nothing": ([], "data is empty"),
    "no samples": ([(X[:0], Y[:0])], "data is empty"),
    "no iterable": (3, "data is a int; expected batches"),
    "one-shot": (iter([(X, Y)]), "that can be walked over only once"),
    "a bare pair": ((X, Y), "batch 0 of data is a ndarray; expected a pair"),
    "too narrow": ([(X, Y), (X[:, :5], Y)], r"inputs of batch 1 of data are float64 \(3, 5\)"),
    "words": ([(np.full((3, 6), "a"), Y)], "expected numbers"),
    "ragged": ([([[1.0], [1.0, 2.0]], Y)], "batch 0 of data is no pair of arrays"),
    "NaN": ([(X, Y), (np.full((3, 6), np.nan), Y)], "batch 1 of data holds inputs that are NaN"),
    "labels too large": ([(X, Y + 4)], "run from 4 to 4; the model tells 4 classes apart, so 0 to 3"),
    "labels too small": ([(X, Y - 1)], "run from -1 to -1"),
    "float labels": ([(X, Y.astype(float))], r"labels of batch 0 of data are float64 \(3,\); expected whole"),
    "too few labels": ([(X, Y[:2])], r"are int64 \(2,\); expected whole numbers \(3,\)"),
    "two shapes": ([(X.reshape(3, 2, 3), Y), (X, Y)], r"inputs of shape \(2, 3\) and \(6,\)"),
}


@pytest.mark.parametrize(("data", "words"), WRONG_DATA.values(), ids=WRONG_DATA)
def test_data_that_can_not_be_used_are_told(data, words, small):
    with pytest.raises(ProblemError, match=words):
        bind(small(data=data))


def test_validation_data_are_looked_over_under_their_own_name(small):
    with pytest.raises(ProblemError, match="batch 0 of validation run from 4"):
        bind(small(validation=[(X, Y + 4)])).classifier()


def test_arguments_of_the_wrong_shape_are_told(small):
    bound = bind(small())
    classifier = bound.classifier()
    with pytest.raises(UsageError, match=r"inputs of shape \(3, 5\); expected \(b, 6\)"):
        classifier.logits(X[:, :5])
    with pytest.raises(UsageError, match=r"labels of shape \(2,\); expected \(3,\)"):
        classifier.value_and_grad(CrossEntropy(), X, Y[:2])
    with pytest.raises(UsageError, match=r"labels of shape \(2,\); expected \(3,\)"):
        bound.sample_curvature(CrossEntropy(), np.zeros(59), X, Y[:2])
    with pytest.raises(UsageError, match=r"vectors of shape \(1, 6\); expected \(3, 6\)"):
        classifier.input_products(CrossEntropy(), X, Y)(X[:1])
    with pytest.raises(UsageError, match=r"a direction of shape \(3,\); expected \(59,\)"):
        bound.loss(np.zeros(3))
    with pytest.raises(UsageError, match=r"a direction of shape \(1,\)"):
        bound.operator().matvec(np.zeros(1))
