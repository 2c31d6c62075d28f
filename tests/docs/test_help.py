"""Every help page fits a terminal of 80 columns and explains every option."""

from __future__ import annotations

import re

import click
import pytest

from eigencore.cli import OWN, eigen, main
from eigencore.registry import load

PAGES = [(), *((name,) for name in OWN)]


def named(command: tuple[str, ...]) -> str:
    return " ".join(("eigen", *command))


@pytest.fixture(params=PAGES, ids=named)
def page(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*request.param, "--help"]) == 0
    return capsys.readouterr().out


def test_it_fits_80_columns(page: str) -> None:
    assert page.startswith("Usage: eigen")
    assert max(map(len, page.splitlines())) < 80


def test_it_describes_the_command_in_whole_sentences(page: str) -> None:
    described = page.split("\n\n")[1]
    assert re.match(r"  [A-Z]", described)
    assert described.endswith(".")
    assert "..." not in page.partition("\n")[2]  # click marks cut text by it


def test_every_option_is_explained(page: str) -> None:
    options = page.partition("Options:\n")[2].split("\n\n")[0]
    items = re.split(r"\n(?=  -)", options.rstrip())
    assert items
    for item in items:
        name, _, explanation = item.strip().partition("  ")
        assert len(explanation.split()) >= 2, f"{name} has no help"


def test_every_command_is_listed_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    for name, entry in OWN.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", listed, re.MULTILINE)


@pytest.mark.parametrize("name", OWN)
def test_usage_shows_the_arguments(name: str) -> None:
    command = load(OWN[name])
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    pieces = command.collect_usage_pieces(click.Context(command, parent=click.Context(eigen)))
    assert len(pieces) == 1 + len(arguments)
