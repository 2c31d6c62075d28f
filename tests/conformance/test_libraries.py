"""The array libraries of the kits: by name, or by module and data type."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eigencore.testing import solver_checks
from eigencore.testing.libraries import Library, installed, library
from kit.block_krylov import block_krylov


def test_a_library_is_given_by_its_module_and_data_type() -> None:
    own = library(("array_api_compat.numpy", "float32"))
    assert own == Library("array_api_compat.numpy", "float32")
    assert own.array(np.ones(2)).dtype == np.float32
    checks = solver_checks(block_krylov, libraries=["numpy-float64", ("array_api_strict", "float32")])
    assert {check.subject.where for check in checks} == {"numpy-float64", "array_api_strict-float32"}
    next(check for check in checks if check.__name__ == "hessian-k5/array_api_strict-float32")()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-float64", "no array library named 'no-float64' is installed; available: numpy-float64"),
        (("no_such_module", "float32"), "no_such_module can't be imported"),
        (("array_api_strict", "float33"), "no array library with the data type float33"),
        (("json", "float32"), "json is no array library with the data type float32"),
    ],
)
def test_what_is_no_library_is_refused(given: str | tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        library(given)


def test_jax_has_float64_only_if_that_is_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from eigencore.testing import libraries

    def names() -> set[str]:
        return {str(one) for one in installed() if one.name == "jax"}

    monkeypatch.setattr(libraries, "find_spec", lambda module: module)
    for enabled, expected in ((False, {"jax-float32"}), (True, {"jax-float32", "jax-float64"})):
        config = SimpleNamespace(jax_enable_x64=enabled)
        monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(config=config))
        assert names() == expected
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    assert names() == {"jax-float32"}
    monkeypatch.setenv("JAX_ENABLE_X64", "True")
    assert names() == {"jax-float32", "jax-float64"}
