"""Plugins that are made up for a test and, like any other plugin, discovered by an installed entry point."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eigencore.registry import catalogue as registry_module

HEADER = """
from eigencore.hookspecs import hookimpl
from eigencore.interfaces import *
"""

Plug = Callable[[str, str], Path]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    """plug(name, code) installs a plugin for one test, and returns the folder for a PYTHONPATH."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("EIGEN_DISABLE_PLUGINS", raising=False)
    monkeypatch.setattr(registry_module, "_switched_off", set())
    before = set(sys.modules)

    def install(name: str, code: str) -> Path:
        (folder / f"plugged_{name}.py").write_text(HEADER + textwrap.dedent(code))
        info = folder / f"plugged_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugged-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[eigencore]\n{name} = plugged_{name}\n")
        importlib.invalidate_caches()
        registry_module.registry.cache_clear()
        return folder

    yield install
    registry_module.registry.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugged_") and name not in before]:
        del sys.modules[name]
