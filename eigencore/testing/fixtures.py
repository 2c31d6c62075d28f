"""A pytest plugin with one fixture, for tests that run on every array library.

To use it, add this line to the conftest.py at the root of the tests:

    pytest_plugins = ["eigencore.testing.fixtures"]

pytest imports this module before any test. It therefore imports nothing heavy, and looks for the array
libraries only if a test requests the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eigencore.testing.libraries import Library


@pytest.fixture
def array_library(request: pytest.FixtureRequest) -> Library:
    """Each installed array library, in float64 and float32 (`eigencore.testing.libraries`).

    Example:
        def test_zeros(array_library):
            assert array_library.xp.zeros(3, dtype=array_library.dtype).shape == (3,)
    """
    library: Library = request.param
    return library


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "array_library" in metafunc.fixturenames:
        from eigencore.testing.libraries import installed

        metafunc.parametrize("array_library", installed(), ids=str, indirect=True)
