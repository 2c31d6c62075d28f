"""CITATION.cff agrees with pyproject.toml and has the required fields of its format."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CITATION = (ROOT / "CITATION.cff").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def value(key: str) -> str:
    """The value of a key; continuation lines are joined."""
    found = re.search(rf"^{key}: (?:>-\n)?((?:.+)(?:\n  .*)*)", CITATION, re.MULTILINE)
    assert found, f"CITATION.cff has no {key}"
    return " ".join(found[1].split())


def test_it_agrees_with_the_project() -> None:
    assert value("version") == PROJECT["version"]
    assert value("title") == PROJECT["name"]
    assert value("license") == PROJECT["license"]
    assert value("repository-code") == PROJECT["urls"]["Repository"]
    assert value("abstract") == f"{PROJECT['description']}."
    keywords = CITATION.partition("keywords:\n")[2]
    assert re.findall(r"^  - (.+)$", keywords, re.MULTILINE) == PROJECT["keywords"]


def test_it_has_what_the_format_asks_for() -> None:
    assert (value("cff-version"), value("type")) == ("1.2.0", "software")
    assert value("message")
    authors = re.search(r"^authors:\n((?:  .*\n)+)", CITATION, re.MULTILINE)
    assert authors
    assert re.findall(r"- name: (.+)", authors[1]) == [one["name"] for one in PROJECT["authors"]]
