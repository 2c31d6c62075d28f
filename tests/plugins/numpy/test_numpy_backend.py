"""A problem bound to NumPy: batches, data types and names, and the errors for invalid input."""

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

D, H = 6, 5  # the inputs and the hidden units of the small problem


def product(problem, **keywords):
    operator = bind(problem, **keywords).operator()
    return operator.matvec(np.random.default_rng(5).standard_normal(operator.shape[0]))


# -- the operator ------------------------------------------------------------------------------------------


def test_analyze_finds_the_eigenvalues_of_the_dense_hessian(small):
    problem = small()
    run = eigencore.analyze(problem, k=2, solver="lanczos", analyses="none", tol=1e-8)
    operator = bind(problem).operator()
    spectrum = np.linalg.eigvalsh(operator.matmat(np.eye(operator.shape[0])))
    largest = spectrum[np.argsort(-np.abs(spectrum))[:2]]
    np.testing.assert_allclose(run.eigen.values, largest, rtol=1e-7)


def test_it_multiplies_by_at_and_in_scipy(small):
    operator = bind(small(dtype=np.float32)).operator()
    V = np.random.default_rng(0).standard_normal((operator.shape[0], 3)).astype(np.float32)
    np.testing.assert_array_equal(operator @ V, operator.matmat(V))
    assert (operator.to_scipy() @ V).dtype == np.float32
    np.testing.assert_array_equal(operator.to_scipy() @ V, operator @ V)
    sample, _ = operator.minibatch(0, 0)
    np.testing.assert_array_equal(sample @ V[:, 0], sample.matvec(V[:, 0]))


def test_the_operator_does_not_depend_on_the_batches(small, all_samples):
    problem = small()
    np.testing.assert_allclose(
        product(problem), product(replace(problem, data=[all_samples(problem)])), rtol=0, atol=1e-14
    )
    reversed_order = replace(problem, data=problem.data[::-1])
    np.testing.assert_allclose(product(problem), product(reversed_order), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("reduction", "factor"), [("infer", 1), ("mean", 1), ("sum", 15)])
def test_the_reduction_is_that_of_the_problem(reduction, factor, small):
    problem = small(reduction=reduction)
    np.testing.assert_allclose(product(problem), factor * product(small()), rtol=0, atol=1e-12)
    assert bind(problem).loss() == pytest.approx(factor * bind(small()).loss(), rel=1e-14)


@pytest.mark.parametrize("params", [None, "?1", ["b2", "W1"]])
def test_vectors_in_the_shapes_of_parameters(small, params):
    problem = small()
    bound = bind(problem)
    operator = bound.operator(params=params)
    v = 1e-2 * np.random.default_rng(0).standard_normal(operator.shape[0])
    pieces = operator.unflatten(v)
    assert list(pieces) == [one.name for one in bound.layout(params)]
    moved = {name: getattr(problem.model, name) + piece for name, piece in pieces.items()}
    assert bind(replace(problem, model=replace(problem.model, **moved))).loss() == bound.loss(v, params)
    np.testing.assert_array_equal(operator.flatten(pieces), v)


def is_first_layer(name):
    return name.endswith("1")


def test_params_of_every_kind_select_the_same_block_and_are_recorded(small, tmp_path):
    problem, runs = small(), {}
    texts = {"*1": "*1", "re:1$": "re:1$", is_first_layer: f"{__name__}.is_first_layer"}
    for params, text in {**texts, ("W1", is_first_layer): f"W1, {__name__}.is_first_layer"}.items():
        run = eigencore.analyze(problem, k=2, params=params, analyses="none", out=tmp_path / str(len(runs)))
        again = eigencore.load(run.folder)
        assert again.manifest["operator"]["params"] == text
        runs[text] = run.eigen
        assert run.eigen.n == D * H + H
        np.testing.assert_array_equal(run.eigen.values, runs["*1"].values)
    assert again.manifest["arguments"]["params"] == ["W1", f"<{__name__}.is_first_layer>"]


def test_the_loss_is_the_mean_of_the_objective(small, all_samples):
    problem = small()
    x, y = all_samples(problem)
    expected = CrossEntropy().value(problem.model.logits(x), y).mean()
    assert bind(problem).loss() == pytest.approx(expected, rel=1e-14)


def test_a_direction_over_some_parameters_moves_only_those(small):
    problem = small()
    step = np.random.default_rng(6).standard_normal(5)
    moved = replace(problem, model=replace(problem.model, b1=problem.model.b1 + step))
    assert bind(problem).loss(step, "b1") == pytest.approx(bind(moved).loss(), rel=1e-14)
    classifier, expected = bind(problem).classifier(direction=step, params="b1"), bind(moved).classifier()
    x, _ = expected.samples()
    np.testing.assert_allclose(classifier.logits(x), expected.logits(x), rtol=1e-14)
    single = bind(problem).classifier("float32", direction=step, params="b1")
    np.testing.assert_allclose(single.logits(single.samples()[0]), expected.logits(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="a direction of shape"):
        bind(problem).classifier(direction=step)


def test_weights_and_data_are_copied_when_the_problem_is_bound(small):
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


def test_layout_reports_the_position_and_norm_of_each_parameter(small):
    model = small().model
    layout = bind(small()).layout()
    assert [one.name for one in layout] == ["W1", "b1", "W2", "b2"]
    for name, where, norm in layout:
        assert where.stop - where.start == getattr(model, name).size
        assert norm == pytest.approx(np.linalg.norm(getattr(model, name)))


def test_an_empty_block_has_an_empty_product(small):
    operator = bind(small()).operator()
    assert operator.matmat(np.zeros((operator.shape[0], 0))).shape == (operator.shape[0], 0)


# -- minibatches -------------------------------------------------------------------------------------------


def test_the_mean_of_the_minibatches_is_the_full_operator(small):
    """Over all draws of one batch, each with a probability proportional to its size."""
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


def test_a_batch_drawn_twice_counts_twice_in_the_mean_and_once_in_the_share(small):
    operator = bind(small()).operator()
    v = np.random.default_rng(8).standard_normal(operator.shape[0])
    total, shares = 0, []
    for step in range(3000):
        one, share = operator.minibatch(step, seed=1, batches=2)
        total, shares = total + one.matvec(v), [*shares, share]
    assert min(shares) < 8 / 15 - 1e-9  # the same batch twice
    full = operator.matvec(v)
    assert np.linalg.norm(total / 3000 - full) < 0.1 * np.linalg.norm(full)


@pytest.mark.parametrize("arguments", [{"batches": 0}, {"step": -1}, {"seed": -1}])
def test_invalid_minibatch_arguments_are_refused(arguments, small):
    with pytest.raises(UsageError, match="expected batches >= 1"):
        bind(small()).operator().minibatch(**({"step": 0, "seed": 0} | arguments))


# -- types, devices, names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("requested", [None, "float32", "float64"])
def test_all_arrays_have_the_requested_data_type(own, requested, small, all_samples):
    problem = small(dtype=own)
    bound = bind(problem, dtype=requested)
    expected = np.dtype(requested or own)
    operator, classifier = bound.operator(), bound.classifier()
    x, y = classifier.samples()
    arrays = [
        operator.matvec(np.ones(operator.shape[0], expected)),
        classifier.logits(x),
        *classifier.value_and_grad(CrossEntropy(), x, y),
        classifier.input_products(Margin(), x, y)(x),
        bound.sample_curvature(CrossEntropy(), np.ones(operator.shape[0], expected), x, y),
        x,
    ]
    assert {one.dtype for one in arrays} == {expected, operator.dtype, classifier.dtype}
    assert str(expected) in bound.description


def test_float32_agrees_with_float64(small):
    exact = product(small(dtype=np.float32), dtype="float64")
    assert np.linalg.norm(product(small(dtype=np.float32)) - exact) < 1e-5 * np.linalg.norm(exact)


def test_all_capabilities_are_offered(small):
    assert bind(small()).capabilities == set(Capability)


def test_images_are_rows_and_keep_their_shape(small):
    flat = small()
    images = replace(flat, data=[(x.reshape(-1, 2, 3), y) for x, y in flat.data])
    classifier = bind(images).classifier()
    assert classifier.shape == (2, 3)
    assert classifier.samples()[0].shape == (15, 6)
    np.testing.assert_array_equal(product(flat), product(images))


def test_samples_are_the_validation_data_if_the_problem_has_any(small):
    problem = small(bounds=(-5.0, 5.0))
    x, y = bind(problem).classifier().samples(4)
    np.testing.assert_array_equal(x, problem.data[0][0][:4])
    np.testing.assert_array_equal(y, problem.data[0][1][:4])
    held_out = replace(problem, validation=problem.data[1:2])
    classifier = bind(held_out).classifier()
    np.testing.assert_array_equal(classifier.samples()[0], problem.data[1][0])
    assert classifier.classes == 4
    np.testing.assert_array_equal(classifier.bounds, [np.full(6, -5.0), np.full(6, 5.0)])
    np.testing.assert_array_equal(product(problem), product(held_out))


def test_unknown_names_are_reported_with_the_nearest_ones(small):
    bound = bind(small())
    with pytest.raises(
        UnknownNameError, match="unknown kind of operator on the backend numpy: 'hesian'"
    ) as caught:
        bound.operator("hesian")
    assert "hessian" in caught.value.hint
    x, y = bound.classifier().samples()
    for call in (
        lambda: bound.operator(params="W3"),
        lambda: bound.layout("W3"),
        lambda: bound.loss(np.zeros(30), "W3"),
        lambda: bound.sample_curvature(CrossEntropy(), np.zeros(30), x, y, "W3"),
    ):
        with pytest.raises(UnknownNameError, match="unknown parameter: 'W3'") as caught:
            call()
        assert "Did you mean W" in caught.value.hint


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"device": "cuda"}, "device is 'cuda'; the backend numpy runs only on the CPU"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected float32 or float64"),
    ],
)
def test_devices_and_data_types_that_are_not_available_are_refused(requested, message, small):
    with pytest.raises(UsageError, match=message):
        bind(small(), **requested)
    with pytest.raises(UsageError, match="dtype is 'half'"):
        bind(small()).classifier("half")


# -- invalid problems --------------------------------------------------------------------------------------


def test_a_model_of_another_type_is_refused(small):
    with pytest.raises(ProblemError, match="the model is a function; expected an eigencore_numpy"):
        bind(small(model=lambda x: x))


def with_weights(small, **weights):
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
def test_inconsistent_shapes_are_reported(weights, small):
    with pytest.raises(
        ProblemError, match=r"shapes of the weights are inconsistent: W1 \(.*b2 \(.*expected \(h, d\)"
    ):
        bind(with_weights(small, **weights))


def test_a_parameter_with_weights_that_are_not_finite_is_named(small):
    W2 = small().model.W2.copy()
    W2[0, :2] = np.nan, np.inf
    with pytest.raises(ProblemError, match="W2 contains NaN or infinite weights: 2 of 20"):
        bind(with_weights(small, W2=W2))


def test_an_unknown_activation_is_reported_with_the_nearest_one(small):
    with pytest.raises(UnknownNameError, match="unknown activation: 'softpuls'") as caught:
        bind(with_weights(small, activation="softpuls"))
    assert "softplus" in caught.value.hint


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128, object])
def test_weights_of_other_data_types_are_refused(dtype, small):
    model = small().model
    other = TwoLayer(*(getattr(model, name).astype(dtype) for name in ("W1", "b1", "W2", "b2")))
    with pytest.raises(ProblemError, match="expected float32 or float64"):
        bind(small(model=other))


def test_integer_weights_are_converted_to_a_requested_data_type(small):
    model = small().model
    integers = model.map(lambda name, weights: np.sign(weights).astype(np.int64))
    assert bind(small(model=integers), dtype="float64").operator().dtype == np.float64


def test_a_loss_without_derivatives_is_refused(small):
    with pytest.raises(
        ProblemError, match="the loss is a function without value, grad, hvp; expected an Objective"
    ) as caught:
        bind(small(loss=lambda logits, y: 0.0))
    assert "CrossEntropy" in caught.value.hint


def test_weight_and_unknown_reductions_are_refused(small):
    with pytest.raises(UsageError, match="weight does not apply to an objective"):
        bind(small(weight=len))
    with pytest.raises(UsageError, match="reduction is 'median'"):
        bind(small(reduction="median"))


X, Y = np.zeros((3, 6)), np.zeros(3, dtype=np.int64)
INVALID_DATA = {
    "nothing": ([], "data is empty"),
    "no samples": ([(X[:0], Y[:0])], "data is empty"),
    "not iterable": (3, "data is a int, which can't be iterated; expected batches"),
    "iterator": (iter([(X, Y)]), "which can be iterated only once; expected data that can be"),
    "a bare pair": ((X, Y), "batch 0 of data is a ndarray; expected a pair"),
    "too narrow": ([(X, Y), (X[:, :5], Y)], r"inputs of batch 1 of data are float64 \(3, 5\)"),
    "text": ([(np.full((3, 6), "a"), Y)], "expected numbers"),
    "ragged": ([([[1.0], [1.0, 2.0]], Y)], "batch 0 of data is not a pair of arrays"),
    "NaN": ([(X, Y), (np.full((3, 6), np.nan), Y)], "batch 1 of data has inputs that are NaN"),
    "labels too large": ([(X, Y + 4)], "range from 4 to 4; the model has 4 classes, so labels from 0 to 3"),
    "labels too small": ([(X, Y - 1)], "range from -1 to -1"),
    "float labels": (
        [(X, Y.astype(float))],
        r"labels of batch 0 of data are float64 \(3,\); expected int",
    ),
    "too few labels": ([(X, Y[:2])], r"are int64 \(2,\); expected integers \(3,\)"),
    "two shapes": ([(X.reshape(3, 2, 3), Y), (X, Y)], r"inputs of shape \(2, 3\) and \(6,\)"),
}


@pytest.mark.parametrize(("data", "message"), INVALID_DATA.values(), ids=INVALID_DATA)
def test_invalid_data_are_reported(data, message, small):
    with pytest.raises(ProblemError, match=message):
        bind(small(data=data))


def test_validation_data_are_checked_under_their_own_name(small):
    with pytest.raises(ProblemError, match="batch 0 of validation range from 4"):
        bind(small(validation=[(X, Y + 4)])).classifier()


def test_arguments_of_the_wrong_shape_are_reported(small):
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


def test_both_precisions_are_listed(small):
    assert bind(small(), None).precisions == ("float32", "float64")
