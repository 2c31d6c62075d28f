from __future__ import annotations

import eigencore
import numpy as np
import pytest
from eigencore.errors import OptionError
from eigencore.testing import solver_checks


@pytest.mark.parametrize("check", solver_checks("davidson", libraries=["numpy-float64", "strict-float64"]))
def test_conforms(check):
    check()


def test_a_larger_basis_needs_fewer_products():
    A = np.diag(np.linspace(1, 2, 500) ** 2)
    small, large = (eigencore.solve(A, k=3, solver="davidson", basis=basis, tol=1e-8) for basis in (12, 60))
    assert small.status == large.status == "converged"
    assert large.matvecs < small.matvecs


def test_a_basis_that_is_too_small_is_refused():
    with pytest.raises(OptionError, match=r"davidson\.basis is 4; k = 3 needs a basis of at least 6"):
        eigencore.solve(np.diag(np.arange(1.0, 100.0)), k=3, solver="davidson", basis=4)
