"""The pytest plugin: a fixture for tests that run on every array library.

pytest imports this file in every project of an environment that has eigencore; so it imports nothing heavy,
and looks for the libraries only where a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eigencore.testing.libraries import Library


@pytest.fixture
def array_library(request: pytest.FixtureRequest) -> Library:
    """Every array library that is installed, in float64 and float32 (`eigencore.testing.libraries`)."""
    library: Library = request.param
    return library


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "array_library" in metafunc.fixturenames:
        from eigencore.testing.libraries import installed

        metafunc.parametrize("array_library", installed(), ids=str, indirect=True)
