"""Settings of all tests: the fixture for array libraries, and Ctrl-C as Python handles it by default."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ["eigencore.testing.fixtures"]


def pytest_configure(config: pytest.Config) -> None:
    """A shell starts background jobs with SIGINT ignored; tests that send it would then wait in vain."""
    if not callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)
