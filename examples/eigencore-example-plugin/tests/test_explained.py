from __future__ import annotations

import eigencore
import numpy as np
import pytest
from eigencore.testing import analysis_checks


@pytest.mark.parametrize("check", analysis_checks("explained"))
def test_conforms(check):
    check()


def explained(spectrum, k, probes):
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(len(spectrum), len(spectrum))))[0]
    run = eigencore.analyze(
        (Q * spectrum) @ Q.T, k, tol=1e-8, analyses="explained", options={"explained": {"probes": probes}}
    )
    return run.analyses["explained"]


def test_the_share_is_that_of_the_spectrum():
    spectrum = np.append([9.0, -8.0, 7.0], np.linspace(-1, 1, 97))
    found = explained(spectrum, 3, 200)
    truth = np.sum(spectrum[:3] ** 2) / np.sum(spectrum**2)
    assert abs(found.numbers["share"] - truth) < 4 * found.numbers["standard_error"]
    assert f"{100 * found.numbers['share']:.1f} %" in found.verdict


def test_more_probes_reduce_the_standard_error():
    spectrum = np.linspace(1, 2, 100)
    few, many = explained(spectrum, 3, 5), explained(spectrum, 3, 500)
    assert many.numbers["standard_error"] < few.numbers["standard_error"] / 3


def test_all_eigenpairs_explain_everything():
    assert explained(np.array([3.0, 2.0, 1.0]), 3, 2).numbers["share"] == pytest.approx(1)


def test_without_a_converged_pair_it_fails_with_a_reason():
    run = eigencore.analyze("demo:quadratic", max_matvecs=6, certify="none", analyses="explained")
    assert "no eigenpair has converged" in run.manifest["failed"]["explained"]
