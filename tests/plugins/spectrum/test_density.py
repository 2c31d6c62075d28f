"""The density against known spectra: its band, atoms, shares and moments; and what a stopped run keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest

import eigencore
from eigencore.cli import main
from eigencore.errors import EigencoreError, UsageError
from eigencore.figures import Figure
from eigencore.testing.libraries import Library, installed
from eigencore_spectrum.axis import Axis

RNG = np.random.default_rng(7)
OUTLIERS = np.array([40.0, 25.0, 12.0, -9.0])
HESSIAN_LIKE = np.concatenate([OUTLIERS, np.zeros(40), RNG.normal(0, 0.5, 76)])
SPECTRA = {
    "Hessian-like": HESSIAN_LIKE,
    "uniform": np.linspace(-1, 1, 120),
    "copies": np.concatenate([np.full(30, 2.0), RNG.normal(0, 0.3, 90)]),
    "1/i": 1 / np.arange(1, 121),
}


def exact(values, x):
    return np.searchsorted(np.sort(values), x, side="right") / len(values)


def rotated(values, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (Q * values) @ Q.T


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [0, 4])
def test_the_band_holds_the_distribution_function(name, k):
    """At 95 %, each of 12 seeds; the bounds of the quadratures make it wider than it would have to be."""
    values = SPECTRA[name]
    A, missed = np.diag(values), 0
    for seed in range(12):
        found = eigencore.density(A, k=k, seed=seed, probes=3, steps=12, points=48)
        truth = exact(values, found.grid)
        missed += not (np.all(found.low <= truth + 1e-12) and np.all(truth <= found.high + 1e-12))
        assert np.all(found.low <= found.cdf) & np.all(found.cdf <= found.high)
        assert found.numbers["band"] == pytest.approx(np.max(found.high - found.low) / 2)
    assert missed <= 1


def test_a_band_without_the_error_of_random_vectors_would_be_too_narrow():
    """The power of the test above: on a spectrum that quadrature resolves, this error alone remains."""
    values, missed = np.repeat([0.0, 1.0], 60), 0
    for seed in range(40):
        found = eigencore.density(np.diag(values), k=0, seed=seed, probes=2, steps=12, points=16)
        error = found.numbers["sampling_error"]
        truth = exact(values, found.grid)
        inside = np.abs(found.cdf - truth).max()
        missed += inside > error / 2
        assert inside <= error * 1.2
    assert missed > 5


def test_outliers_are_atoms_at_the_right_place_with_the_right_weight():
    A = rotated(HESSIAN_LIKE)
    found = eigencore.density(A, k=4, tol=1e-8, probes=2, steps=10)
    values, weights = zip(*found.atoms.rows, strict=True)
    np.testing.assert_allclose(values, sorted(OUTLIERS, reverse=True), rtol=1e-10)
    np.testing.assert_allclose(weights, 1 / 120)
    assert found.numbers["width"] > 0
    assert np.interp(11.9, found.grid, found.cdf) - np.interp(3.0, found.grid, found.cdf) < 0.01


def test_float32_and_float64_agree():
    A = rotated(HESSIAN_LIKE)
    one, other = (
        eigencore.density(A.astype(t), k=4, probes=3, steps=10, seed=2) for t in (np.float32, np.float64)
    )
    x = np.linspace(-2, 2, 50)
    first, second = (np.interp(x, found.grid, found.cdf) for found in (one, other))
    assert np.max(np.abs(first - second)) < 0.02
    for name in ("negative", "near zero", "outlying"):
        shares = [
            next(row for row in found.tables["shares"].rows if row[0] == name) for found in (one, other)
        ]
        assert shares[0][1] == pytest.approx(shares[1][1], abs=0.02)


def test_repeated_eigenvalues_are_no_ghosts():
    found = eigencore.density(rotated(SPECTRA["copies"]), k=0, probes=4, steps=40, points=400)
    near = np.interp([1.8, 2.2], found.grid, found.cdf)
    assert near[1] - near[0] == pytest.approx(30 / 120, abs=found.numbers["sampling_error"])
    assert near[1] == pytest.approx(1, abs=1e-9)


def test_shares_and_moments_are_those_of_the_spectrum():
    found = eigencore.density(rotated(HESSIAN_LIKE), k=4, tol=1e-6, probes=6, steps=40)
    limits = {"near_zero": 1e-3 * 40, "outlying": 0.1 * 40}
    truth = {
        "negative": np.mean(-limits["near_zero"] > HESSIAN_LIKE),
        "near zero": np.mean(np.abs(HESSIAN_LIKE) <= limits["near_zero"]),
        "outlying": np.mean(np.abs(HESSIAN_LIKE) > limits["outlying"]),
    }
    for name, share, low, high, number in found.tables["shares"].rows:
        assert low <= truth[name] <= high
        assert number == pytest.approx(120 * share)
        assert share == pytest.approx(truth[name], abs=0.06)
    for power, (_, value, low, high) in enumerate(found.tables["moments"].rows, start=1):
        right = np.mean(HESSIAN_LIKE**power)
        assert low - 1e-9 <= value <= high + 1e-9
        assert value == pytest.approx(right, rel=0.1, abs=0.05)


def test_the_density_integrates_to_the_share_that_is_no_atom():
    for axis in ("linear", "log"):
        found = eigencore.density(rotated(HESSIAN_LIKE), k=4, probes=2, steps=10, axis=axis, points=2000)
        assert np.trapezoid(found.density, found.grid) == pytest.approx(116 / 120, rel=1e-2)


def test_more_vectors_and_steps_narrow_the_band():
    bands = [
        eigencore.density(np.diag(SPECTRA["uniform"]), k=0, probes=probes, steps=steps).numbers["band"]
        for probes, steps in ((2, 5), (2, 20), (12, 20))
    ]
    assert bands[0] > bands[1] > bands[2]


@pytest.mark.parametrize("library", installed(), ids=str)
def test_every_library(library: Library):
    found = eigencore.density(library.array(np.diag(SPECTRA["1/i"])), k=3, probes=2, steps=8, block=2)
    same = eigencore.density(np.diag(SPECTRA["1/i"]), k=3, probes=2, steps=8, block=2)
    assert found.matvecs == pytest.approx(same.matvecs, abs=8)
    np.testing.assert_allclose(
        np.interp(SPECTRA["1/i"], found.grid, found.cdf),
        np.interp(SPECTRA["1/i"], same.grid, same.cdf),
        atol=0.02,
    )


# -- what is given -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[3.0], [3.0, -1.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 0.0]], ids=str)
@pytest.mark.parametrize("k", [0, 1])
def test_small_and_degenerate_spectra(values, k):
    found = eigencore.density(np.diag(values), k=k, probes=2, steps=5)
    assert np.all(np.isfinite(found.density))
    truth = exact(np.array(values), found.grid)
    assert np.all(found.low <= truth + 1e-12)
    assert np.all(truth <= found.high + 1e-12)


def test_all_eigenvalues_known_leave_nothing_to_estimate():
    found = eigencore.density(np.diag([3.0, 2.0, 1.0]), k=3)
    assert len(found.atoms.rows) == 3
    assert found.numbers["vectors"] == 0
    assert found.numbers["band"] <= 1 / 3


def test_pairs_of_an_earlier_solve_are_used_and_foreign_ones_are_refused():
    A = rotated(HESSIAN_LIKE)
    pairs = eigencore.solve(A, k=4, tol=1e-6)
    found = eigencore.density(A, eigen=pairs, probes=2, steps=6)
    assert len(found.atoms.rows) == 4
    assert found.matvecs == 12
    with pytest.raises(UsageError, match="does not belong to this operator"):
        eigencore.density(rotated(HESSIAN_LIKE, seed=1), eigen=pairs)
    with pytest.raises(UsageError, match="size 120"):
        eigencore.density(np.eye(3), eigen=pairs)


def test_errors_of_the_operator_reach_the_caller():
    with pytest.raises(eigencore.EigencoreError, match="not symmetric"):
        eigencore.density(np.triu(np.ones((50, 50))) + np.diag(np.arange(50.0)), k=0)
    with pytest.raises(eigencore.EigencoreError, match="not finite"):
        eigencore.density(np.diag([1.0, np.nan, 2.0]), k=0)
    with pytest.raises(UsageError, match="step"):
        eigencore.density(np.eye(4), k=0, step=3)


# -- stopped runs ------------------------------------------------------------------------------------------


def test_a_limit_keeps_what_there_is_with_a_wider_band():
    A, bands = np.diag(SPECTRA["uniform"]), []
    for most in (2, 3, 9, 25, 60, 200):
        found = eigencore.density(A, k=0, probes=5, steps=20, max_matvecs=most)
        assert found.matvecs <= most
        assert bool(found.warnings) == (most < 100)
        truth = exact(SPECTRA["uniform"], found.grid)
        assert np.all(found.low <= truth + 1e-12) & np.all(truth <= found.high + 1e-12)
        bands.append(found.numbers["band"])
    assert bands == sorted(bands, reverse=True)
    assert (
        "stopped by max_matvecs=60 after 60 products"
        in eigencore.density(A, k=0, probes=5, steps=20, max_matvecs=60).warnings[0]
    )


def test_a_limit_before_the_first_result_says_so():
    with pytest.raises(EigencoreError, match="density has no result: it was stopped by max_matvecs=1"):
        eigencore.density(np.eye(50) + np.diag(np.arange(50.0)), k=0, max_matvecs=1)


def test_ctrl_c_keeps_what_there_is():
    def press(line):
        if "vector 3" in str(line):
            raise KeyboardInterrupt

    A = np.diag(SPECTRA["uniform"])
    with pytest.raises(KeyboardInterrupt):
        eigencore.density(A, k=0, probes=5, steps=5, progress=press)


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_prints_what_its_json_holds(capsys, tmp_path):
    arguments = ["density", "demo:quadratic", "-k", "4", "--probes", "2", "--steps", "10", "--seed", "3"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    screen = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    density = read["analyses"]["density"]
    assert set(density["columns"]) == {"grid", "density", "cdf", "low", "high"}
    assert density["verdict"] in screen
    for name, table in density["tables"].items():
        assert name in screen
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    run = eigencore.load(tmp_path / "run")
    figure = run.analyses["density"].figures[1]
    assert isinstance(figure, Figure)
    assert len(figure.bands["share"][0]) == len(figure.series["x"])
    assert main(["show", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == screen


def test_the_command_without_eigenpairs(capsys, tmp_path):
    arguments = ["density", "demo:quadratic", "-k", "0", "--probes", "2", "--steps", "6"]
    assert main([*arguments, "--json", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["eigenvalues"] is None
    assert (tmp_path / "run/result.json").read_text() == out
    run = eigencore.load(tmp_path / "run")
    assert run.pairs is None
    with pytest.raises(EigencoreError, match="this run has no eigenpairs"):
        print(run.eigen)
    assert len(run.analyses["density"].columns["grid"]) == 256
    assert main([*arguments, "--csv", "-"]) == 0
    assert capsys.readouterr().out.startswith("grid,density,cdf,low,high\n")
    assert main([*arguments, "--max-matvecs", "8"]) == 3
    assert "stopped by max_matvecs=8" in capsys.readouterr().out


def test_a_log_axis_is_chosen_where_a_linear_one_would_show_nothing():
    assert eigencore.density(rotated(HESSIAN_LIKE), k=4, probes=2).numbers["axis"] == "symlog"
    assert eigencore.density(np.diag(SPECTRA["uniform"]), k=0, probes=2).numbers["axis"] == "linear"
    axis = Axis("symlog", 0.1)
    x = np.array([-5.0, 0.0, 0.01, 3.0])
    np.testing.assert_allclose(axis.back(axis.to(x)), x)


def test_the_eigenvalues_of_a_zero_operator_are_near_zero():
    found = eigencore.density(np.zeros((20, 20)))
    assert dict(row[:2] for row in found.tables["shares"].rows)["near zero"] == 1.0
