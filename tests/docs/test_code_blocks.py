"""Every block of code in the pages runs as it is written, and prints what the page says that it prints.

Blocks of Python run one after the other, a page in one process and in a folder of its own; one whose first
line is a comment with a file's name is that file. Lines of shell that begin with `eigen` run there too. A
block of text right after one of these shows what it printed.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from eigencore.cli import main
from eigencore.registry import catalogue as registry_module

ROOT = Path(__file__).parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
# Pages with a test of their own, which runs their blocks.
ELSEWHERE = {
    "README.md": "tests/docs/test_readme.py",
    "docs/write-a-plugin.md": "tests/docs/test_write_a_plugin.py",
}
# The lines of shell that no test of the pages runs: they install, need a GPU, or run the tests themselves.
NOT_RUN = {
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "python -m pip install --constraint constraints.txt '.[all]'",
    "python -m pip install '.[all]'",
    "eigen analyze my_model.py:make --device cuda",
    "python -m pytest -n 2",
    "python -m pytest -m 'not slow'",
    "bash .ci/run",
}
COMPLETION = 'eval "$(_EIGEN_COMPLETE=bash_source eigen)"'

FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
NUMBER = r"<?-?\d[\d,]*(?:\.\d+)*(?:e[+-]?\d+)?"  # a version is one too


@dataclass(frozen=True)
class Block:
    """`after`: only blank lines stand between it and the block before."""

    language: str
    code: str
    line: int
    after: bool


def blocks(text: str) -> list[Block]:
    found, end = [], 0
    for match in FENCED.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match["language"], code, line, not text[end : match.start()].strip()))
        end = match.end()
    return found


def commands(code: str) -> list[tuple[str, int]]:
    """The lines of a block of shell, each with the exit code that a comment behind it tells, else 0."""
    lines = code.replace("\\\n", " ").splitlines()
    told = [re.fullmatch(r"(.*?)(?:\s+#(?: exit code (\d+))?.*)?", line) for line in lines if line.strip()]
    return [(" ".join(one[1].split()), int(one[2] or 0)) for one in told if one]


def own_pages() -> Iterator[Any]:
    for name, text in PAGES.items():
        here = blocks(text)
        if name not in ELSEWHERE and any(block.language in ("python", "sh") for block in here):
            slow = any(re.search(r"demo:(digits\b(?!-)|mnist)", block.code) for block in here)
            yield pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that a page's Python is, in a folder of its own; nothing of it stays behind."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(registry_module, "_switched_off", set())
    monkeypatch.chdir(tmp_path)
    modules, handlers, level = set(sys.modules), logging.root.handlers[:], logging.root.level
    yield module
    registry_module.registry.cache_clear()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("name", list(own_pages()))
def test_the_blocks_of_a_page_run(name: str, page: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    printed = ""
    for block in blocks(PAGES[name]):
        where = f"{name}, line {block.line}"
        if block.language == "python":
            run_python(block, name, page)
            printed = capsys.readouterr().out
        elif block.language == "sh":
            printed = run_shell(block, where, capsys)
        elif block.after:
            assert_shows(block.code, printed, where)


def run_python(block: Block, name: str, page: ModuleType) -> None:
    file = re.match(r"# (\w+\.py)\n", block.code)
    if file is not None:
        Path(file[1]).write_text(block.code)
        return
    # Moved down to where it stands, so that a traceback shows the page's own lines.
    exec(compile("\n" * block.line + block.code, ROOT / name, "exec"), vars(page))


def run_shell(block: Block, where: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Returns what was printed, less what went into files."""
    printed = ""
    for command, code in commands(block.code):
        if command in NOT_RUN or command == COMPLETION:
            continue
        line, _, file = command.partition(" > ")
        program, *arguments = shlex.split(line)
        assert program == "eigen", f"{where}: {command} is not run by any test"
        assert main(arguments) == code, f"{where}: {command}"
        out = capsys.readouterr().out
        if file:
            Path(file).write_text(out)
        else:
            printed += out
    return printed


def assert_shows(told: str, printed: str, where: str) -> None:
    """The words are what was printed, with "..." for some, and so are its numbers, as far as `alike` says."""
    told, printed = (" ".join(re.sub("─+", "", text).split()) for text in (told, printed))
    parts = re.split(f"({NUMBER})", told)
    parts[0::2] = [re.escape(part).replace(re.escape("..."), ".*?") for part in parts[0::2]]
    numbers = parts[1::2]
    parts[1::2] = [f"({NUMBER})"] * len(numbers)
    match = re.fullmatch("".join(parts), printed)
    assert match, f"{where} does not show what was printed, which is\n{printed}"
    for shown, found in zip(numbers, match.groups(), strict=True):
        assert alike(shown, found), f"{where} shows {shown}, and printed was {found}"


def alike(shown: str, found: str) -> bool:
    """Counts are nearly the same, and numbers of three digits and more are.

    Another machine has other rounding errors and times, which are shorter, and other versions, which have
    two points.
    """
    if shown.count(".") > 1 or found.count(".") > 1:
        return True
    told, seen = (float(number.lstrip("<").replace(",", "")) for number in (shown, found))
    if re.fullmatch(r"-?\d+", shown):
        return abs(told - seen) <= max(1, 0.1 * told)
    digits = len(re.sub(r"e.*|\D", "", shown).lstrip("0"))
    return digits < 3 or abs(told - seen) <= max(1e-3, 10.0 ** (1 - digits)) * abs(told)


def test_words_and_numbers_are_compared() -> None:
    told = "a 12.34 and 20 in 0.1 s\n...\nv1.2.3 end"
    assert_shows(told, "a  12.341 and 21 in 7.9 s\n more\n words\nv4.5.6 end", "here")
    for right, wrong in (("12.34", "12.44"), ("20", "24"), ("a ", "b "), ("end", "")):
        with pytest.raises(AssertionError):
            assert_shows(told, told.replace(right, wrong, 1), "here")


@pytest.mark.parametrize("name", PAGES)
def test_blocks_are_of_a_language_that_is_run_or_text(name: str) -> None:
    known = {"python", "sh", "text"} | ({"toml"} if name in ELSEWHERE else set())
    assert {block.language for block in blocks(PAGES[name])} <= known
    prose = FENCED.sub("", PAGES[name])
    if name == "CONTRIBUTING.md":  # its picture of the house is no code
        prose = re.sub(r"## The house\n.*?(?=\n\nImports)", "", prose, flags=re.DOTALL)
    indented = re.findall(r"^ {4,}\S.*$", prose, re.MULTILINE)
    assert not indented, f"{name} has code that is not fenced: {indented[0]}"


def test_the_lines_that_are_not_run_are_these() -> None:
    shell = {
        command
        for name, text in PAGES.items()
        if name not in ELSEWHERE
        for block in blocks(text)
        if block.language == "sh"
        for command, _ in commands(block.code)
    }
    assert shell >= NOT_RUN
    assert all(command.startswith("eigen ") for command in shell - NOT_RUN - {COMPLETION})


@pytest.mark.parametrize("test", ELSEWHERE.values())
def test_the_other_pages_have_their_tests(test: str) -> None:
    assert (ROOT / test).exists()


def test_the_shell_completes() -> None:
    """The line of the page, typed into bash; then what bash asks for at `eigen analyze --max-<tab>`."""
    assert any(COMPLETION in text for text in PAGES.values())
    ask = 'COMP_WORDS=(eigen analyze --max-); COMP_CWORD=2; _eigen_completion eigen; echo "${COMPREPLY[@]}"'
    ran = subprocess.run(
        ["bash", "-euc", f"{COMPLETION}\ncomplete -p eigen\n{ask}"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    rule, completions = ran.stdout.splitlines()
    assert rule.endswith("_eigen_completion eigen")
    assert completions.split() == ["--max-matvecs", "--max-seconds"]
