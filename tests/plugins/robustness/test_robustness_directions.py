"""Shares of perturbations along eigenvectors and gradients, their placebos, and curvature on the way."""

from __future__ import annotations

import numpy as np
import pytest

import eigencore
from eigencore.objectives import CrossEntropy, Margin
from eigencore.results import AttackResult
from eigencore_numpy.network import TwoLayer
from eigencore_robustness.directions.direction_report import (
    alignment_sentences,
    alignment_table,
    shares_left_out,
)
from eigencore_robustness.directions.perturbation_path import (
    MOST,
    POINTS,
    PerturbationPath,
    perturbation_path,
)
from eigencore_robustness.over_inputs.alignments import (
    SHARES,
    SPANS,
    alignments,
    partners,
    perturbations,
    random_share,
    share,
    without_placebos,
)
from eigencore_robustness.over_inputs.input_eigenpairs import TILT
from eigencore_robustness.over_inputs.sample_columns import sample_columns
from eigencore_robustness.under_attack.attacker import Attacker
from eigencore_robustness.under_attack.smallest_perturbations import smallest_perturbations
from kit.quadratic_network import QuadraticNetwork


def quiet(text: str) -> None:
    pass


def columns_of(classifier, x, y, moved, seed: int = 0):
    found = perturbations(classifier, x, y, moved, 256, seed)
    return sample_columns(classifier, x, y, 16, seed, quiet, found).columns


def bowl(spectrum) -> QuadraticNetwork:
    """At x = 0, the Hessian of the loss of class 0 is a positive multiple of diag(spectrum)."""
    d = len(spectrum)
    Q = np.stack([-np.diag(spectrum), np.zeros((d, d))])
    return QuadraticNetwork(Q, np.zeros((2, d)), np.array([1.0, 0.0]))


# -- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "first", "three"),
    [
        ([1, 0, 0, 0, 0], 1.0, 1.0),
        ([-2, 0, 0, 0, 0], 1.0, 1.0),
        ([0, 0, 3, 0, 0], 0.0, 1.0),
        ([0, 0, 0, 0, 1], 0.0, 0.0),
        ([3, 0, 0, 4, 0], 0.36, 0.36),
    ],
)
def test_a_quadratic_network_with_known_eigenvectors(delta, first, three):
    network, x, y = bowl([9.0, 5.0, 3.0, 2.0, 1.0]), np.zeros((4, 5)), np.zeros(4, dtype=int)
    columns = columns_of(network, x, y, x + np.array(delta, dtype=float))
    assert np.allclose(columns["share_v1"], first, atol=1e-3)
    assert np.allclose(columns["share_v3"], three, atol=1e-3)
    # At the top of the bowl both gradients are zero and have no direction.
    assert np.isnan(columns["share_gradient"]).all()
    assert np.isnan(columns["share_margin_gradient"]).all()


def test_repeated_eigenvalues_leave_single_vectors_undetermined_and_not_their_span():
    x, y = np.zeros((6, 5)), np.zeros(6, dtype=int)
    delta = np.random.default_rng(0).standard_normal((6, 5))
    columns = columns_of(bowl([4.0, 4.0, 4.0, 1.0, 0.5]), x, y, x + delta)
    assert np.isnan(columns["share_v1"]).all()
    expected = (delta[:, :3] ** 2).sum(axis=1) / (delta**2).sum(axis=1)
    assert np.allclose(columns["share_v3"], expected, atol=1e-9)


def test_only_positive_eigenvalues_belong_to_a_span():
    """With two classes the Hessian of a linear network has rank one: v_1 is along the gradient."""
    rng = np.random.default_rng(1)
    network = QuadraticNetwork(np.zeros((2, 7, 7)), rng.standard_normal((2, 7)), np.zeros(2))
    x, delta = rng.standard_normal((9, 7)), rng.standard_normal((9, 7))
    y = network.logits(x).argmax(axis=1)
    columns = columns_of(network, x, y, x + delta)
    w = network.w[1] - network.w[0]
    expected = (delta @ w) ** 2 / (w @ w) / (delta**2).sum(axis=1)
    for name in SHARES:
        assert np.allclose(columns[name], expected, rtol=1e-6)
    assert (columns["share_v3_rank"] == 1).all()
    table = {one.name: one for one in alignments(columns, 7, 0)}
    assert (
        table["share_v3"].random == table["share_v1"].random == pytest.approx(random_share(np.ones(1), 7)[0])
    )


def test_without_curvature_there_is_no_eigenvector():
    network, x, y = bowl([0.0] * 5), np.zeros((3, 5)), np.zeros(3, dtype=int)
    columns = columns_of(network, x, y, x + 1.0)
    assert np.isnan(columns["share_v1"]).all()
    found = {one.name: one for one in alignments(columns, 5, 0)}
    assert (found["share_v1"].own.estimate, found["share_v1"].own.left_out) == (None, 3)
    assert shares_left_out(found.values(), 3)["no share along v_1"] == 3
    assert alignment_table(found.values()).rows[0][0] == "v_1"
    assert alignment_sentences(found.values()) == ""


def test_shares_on_digits_are_those_of_dense_hessians(digits):
    classifier = digits.classifier("float64")
    x, y = classifier.samples(50)
    delta = np.random.default_rng(2).standard_normal(x.shape)
    columns = columns_of(classifier, x, y, x + delta)
    product = classifier.input_products(CrossEntropy(), x, y)
    H = np.stack([product(np.tile(e, (50, 1))) for e in np.eye(x.shape[1])], axis=2)
    V = np.linalg.eigh(H)[1][:, :, ::-1]
    along = np.einsum("bdk,bd->bk", V, delta) ** 2 / (delta**2).sum(axis=1)[:, None]
    for k in SPANS:
        assert np.allclose(columns[f"share_v{k}"], along[:, :k].sum(axis=1), atol=2 * TILT**2 + 0.02)
    unit = delta / np.linalg.norm(delta, axis=1, keepdims=True)
    for name, objective in (
        ("gradient", CrossEntropy()),
        ("margin_gradient", Margin(columns["r1_class"].astype(int))),
    ):
        _, g = classifier.value_and_grad(objective, x, y)
        cosine = (unit * g).sum(axis=1) / np.linalg.norm(g, axis=1)
        assert np.allclose(columns[f"share_{name}"], cosine**2, rtol=1e-9)


def test_a_rotation_of_the_inputs_changes_no_share(two_layers):
    """The network that first rotates its input back, on rotated samples and perturbations."""
    rng = np.random.default_rng(4)
    d = 8
    R = np.linalg.qr(rng.standard_normal((d, d)))[0]
    W1, b1, W2, b2 = (
        rng.standard_normal((16, d)),
        rng.standard_normal(16),
        rng.standard_normal((4, 16)),
        np.zeros(4),
    )
    x, delta = rng.standard_normal((12, d)), rng.standard_normal((12, d))
    found = []
    for rotation in (np.eye(d), R):
        network = TwoLayer(W1 @ rotation.T, b1, W2, b2, "softplus")
        rows = x @ rotation.T
        y = network.logits(rows).argmax(axis=1)
        problem = eigencore.Problem(model=network, data=[(rows, y)], loss=CrossEntropy(), backend="numpy")
        found.append(columns_of(eigencore.bind(problem).classifier(), rows, y, rows + delta @ rotation.T))
    assert np.isfinite(found[0]["share_v1"]).all()
    for name in SHARES:
        assert np.allclose(found[0][name], found[1][name], atol=1e-6, equal_nan=True)


# -- chance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "d"), [(1, 64), (3, 64), (1, 784), (9, 20), (5, 5)])
def test_random_directions_have_the_share_that_theory_gives(rank, d):
    rng = np.random.default_rng(5)
    V = np.linalg.qr(rng.standard_normal((d, rank)))[0].T
    shares = share(rng.standard_normal((4000, d)), np.broadcast_to(V, (4000, rank, d)))
    assert np.mean(shares) == pytest.approx(rank / d, rel=0.1)
    below = np.mean(shares <= random_share(np.array([rank]), d)[0] + 1e-12)
    assert below == (1.0 if rank == d else pytest.approx(0.5, abs=0.03))
    if rank == 1:
        assert random_share(np.ones(1), d)[0] ** 0.5 == pytest.approx(0.6745 / d**0.5, rel=0.02)


def test_a_placebo_does_not_look_aligned():
    """Perturbations along the sample's own first eigenvector, which differs from sample to sample."""
    rng = np.random.default_rng(6)
    n, d = 60, 40
    network = QuadraticNetwork(rng.standard_normal((2, d, d)) / d, np.zeros((2, d)), np.array([0.3, 0.0]))
    network.Q = network.Q + network.Q.transpose(0, 2, 1)
    x = rng.standard_normal((n, d))
    y = network.logits(x).argmax(axis=1)
    V = np.linalg.eigh(network.hessians(CrossEntropy(), x, y))[1]
    noise = rng.standard_normal((n, d)) / (5 * d**0.5)
    columns = columns_of(network, x, y, x + V[:, :, -1] + noise)
    first = next(one for one in alignments(columns, d, 0) if one.name == "share_v1")
    assert first.own.low > 0.9
    assert first.of_others.high < 0.1
    assert first.random < 0.02


def test_perturbations_along_one_direction_look_aligned_for_every_sample():
    """The placebo of samples with the same classes shows it, and so does that of others."""
    network, x, y = (
        bowl([9.0, 5.0, 3.0, 2.0, 1.0, *np.zeros(20)]),
        np.zeros((40, 25)),
        np.zeros(40, dtype=int),
    )
    noise = 0.01 * np.random.default_rng(7).standard_normal(x.shape)
    found = alignments(columns_of(network, x, y, x + np.eye(25)[0] + noise), 25, 0)[0]
    assert min(found.own.low, found.of_others.low, found.of_same_classes.low) > 0.9 > 0.1 > found.random


def test_partners_are_others_of_the_same_group():
    groups = np.array([0, 0, 1, -1, 0, 2, 1, -1, 0])
    for seed in range(20):
        found = partners(groups, np.random.default_rng(seed))
        assert (found[[3, 5, 7]] == -1).all()
        rows = np.flatnonzero(found >= 0)
        assert (found[rows] != rows).all()
        assert (groups[found[rows]] == groups[rows]).all()
        assert len(set(found[rows])) == len(rows)


def test_the_placebo_of_the_same_classes_keeps_label_and_target(digits):
    classifier = digits.classifier("float64")
    x, y = classifier.samples(80)
    moved = classifier.samples()[0][100:180]  # other digits
    found = perturbations(classifier, x, y, moved, 32, 0)
    logits = classifier.logits(moved)
    logits[np.arange(80), y] = -np.inf
    assert (found.reached == logits.argmax(axis=1)).all()
    own = {row.tobytes(): i for i, row in enumerate(moved - x)}
    kept = 0
    for i in range(80):
        assert own[found.of_others[i].tobytes()] != i
        if np.isfinite(found.of_same_classes[i]).all():
            j = own[found.of_same_classes[i].tobytes()]
            assert j != i
            assert (y[i], found.reached[i]) == (y[j], found.reached[j])
            kept += 1
    assert 10 < kept < 80


def test_an_input_that_fools_nothing_is_not_a_perturbation():
    """An attack may return an input that it moved without success."""
    x, y = np.zeros((3, 2)), np.zeros(3, dtype=int)
    success = {"deepfool": np.array([True, False, True]), "fmn": np.array([True, False, False])}

    def attack(name: str, **more: object) -> AttackResult:
        far = 1.0 if name == "deepfool" else 0.5
        return AttackResult(
            attack=name,
            inputs=x + far,
            labels=y,
            correct=np.ones(3, dtype=bool),
            success=success[name],
            distance=np.where(success[name], far, np.inf),
            norm="L2",
            eps=None,
            seed=0,
            forward=0,
            backward=0,
            seconds=0.0,
        )

    attacker = Attacker(attack, bowl([1.0, 1.0]), x, y, 2, 0)
    found = smallest_perturbations(attacker, "L2", inputs=True)
    assert (found.inputs == np.array([[0.5, 0.5], [0, 0], [1, 1]])).all()
    assert found.names.tolist() == ["fmn", "", "deepfool"]
    assert found.distance.tolist() == [0.5, np.inf, 1.0]


def test_samples_that_were_not_moved_have_no_share():
    network = bowl([9.0, 5.0, 3.0, 2.0, 1.0])
    x, y = np.zeros((5, 5)), np.zeros(5, dtype=int)
    moved = x.copy()
    moved[[0, 3]] = np.eye(5)[0]
    columns = columns_of(network, x, y, moved)
    assert np.isfinite(columns["share_v1"]).tolist() == [True, False, False, True, False]
    assert np.isfinite(columns["share_v1_of_others"]).tolist() == [True, False, False, True, False]
    assert set(without_placebos(columns)) & {"share_v1", "share_v1_of_others"} == {"share_v1"}


# -- the path ----------------------------------------------------------------------------------------------


def test_the_path_has_the_eigenvalues_of_dense_hessians():
    rng = np.random.default_rng(8)
    n, d, classes = 20, 6, 3
    Q = rng.standard_normal((classes, d, d))
    network = QuadraticNetwork(
        Q + Q.transpose(0, 2, 1), rng.standard_normal((classes, d)), rng.random(classes)
    )
    x, delta = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    y = network.logits(x).argmax(axis=1)
    moved = x + delta
    moved[4] = x[4]  # one that was not moved
    found = perturbations(network, x, y, moved, 7, 0)
    path = perturbation_path(network, x, y, moved, found.reached, 7, 0)
    kept = np.delete(np.arange(n), 4)
    assert path.samples == n - 1
    margin = Margin(found.reached[kept])
    for i, t in enumerate(POINTS):
        at, labels = (x + t * delta)[kept], y[kept]
        z = network.logits(at)
        top = np.linalg.eigvalsh(network.hessians(CrossEntropy(), at, labels))[:, -1]
        nu = np.linalg.eigvalsh(-network.hessians(margin, at, labels))[:, -1]
        assert np.allclose(path.values["loss"][i], CrossEntropy().value(z, labels), atol=1e-12)
        assert np.allclose(path.values["margin"][i], margin.value(z, labels), atol=1e-12)
        assert np.allclose(path.values["lambda_max"][i], top, rtol=1e-5, atol=1e-12)
        assert np.allclose(path.values["nu"][i], nu, rtol=1e-5)
    # The margin is quadratic, so that its curvature is the same everywhere.
    assert path.change("nu") == pytest.approx(1, rel=1e-5)
    start, end = (path.values["lambda_max"][i] for i in (0, -1))
    assert path.change("lambda_max") == np.median((end / start)[start > 0])
    assert path.change("lambda_max") != pytest.approx(np.median((start / end)[start > 0]), rel=0.01)
    low, middle, high = path.quartiles("lambda_max")
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert middle[0] == pytest.approx(np.median(path.values["lambda_max"][0]))


def test_eigenvalues_that_did_not_converge_are_left_out_and_counted():
    values = {name: np.arange(10.0).reshape(5, 2) + 1 for name in ("loss", "margin", "lambda_max", "nu")}
    values["nu"][0], values["lambda_max"][1, 0] = np.nan, np.nan
    path = PerturbationPath(values)
    assert path.unconverged == 3
    assert np.isnan(path.quartiles("nu")[:, 0]).all()
    assert path.quartiles("lambda_max")[1].tolist() == [1.5, 4.0, 5.5, 7.5, 9.5]
    assert path.change("nu") is None
    assert path.change("lambda_max") == np.median([9 / 1, 10 / 2])


def test_the_path_takes_a_bounded_number_of_samples():
    network = bowl([9.0, 5.0, 3.0, 2.0, 1.0])
    x, y = np.zeros((3 * MOST, 5)), np.zeros(3 * MOST, dtype=int)
    path = perturbation_path(network, x, y, x + 1.0, y + 1, 64, 0)
    assert path.samples == MOST
