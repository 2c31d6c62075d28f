"""Turns on the fixture of eigencore for tests that run on every array library."""

from __future__ import annotations

pytest_plugins = ["eigencore.testing.fixtures"]
