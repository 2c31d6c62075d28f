"""The blocks of code in the documentation: how they are parsed, run, and compared with the pages.

The blocks of a page run one after the other, in one process and in a folder of their own. A block of
Python or TOML whose first line is a comment with a file name is written to that file. Of the shell lines,
those that begin with `eigen` run. A block of text directly after a block of code shows what that block
printed.

tests/docs/ runs every block through this module, and docs/outputs.py regenerates the blocks of output.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from eigencore.cli import main
from eigencore.registry import catalogue as registry_module

ROOT = Path(__file__).parents[1]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
PLUGIN_PAGE = "docs/write-a-plugin.md"
BACKEND_PAGE = "docs/write-a-backend.md"
NOTEBOOK_PAGE = "docs/tutorial.md"
SLURM_PAGE = "docs/how-to/slurm.md"
# Pages whose blocks are run by a test of their own.
ELSEWHERE = {
    "README.md": "tests/docs/test_readme.py",
    PLUGIN_PAGE: "tests/docs/test_write_a_plugin.py",
    BACKEND_PAGE: "tests/docs/test_write_a_backend.py",
    NOTEBOOK_PAGE: "tests/docs/test_notebook.py",
    SLURM_PAGE: "tests/docs/test_slurm.py",
    "docs/how-to/jax.md": "tests/plugins/jax/test_jax_page.py",
}
# Shell lines that are not run here: they install packages, need a GPU, publish, or start the test suite.
NOT_RUN = {
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "python -m pip install --constraint constraints.txt '.[all]'",
    "python -m pip install '.[all]'",
    "eigen analyze my_model.py:make --device cuda",
    # CONTRIBUTING.md: setting up, testing, generating pages, releasing
    "python3 -m venv .venv && "
    ".venv/bin/python -m pip install --constraint constraints.txt --editable '.[test]'",
    "python -m pip install pre-commit",
    "pre-commit install",
    "python -m pytest -n 2",
    "python -m pytest -n 2 -m 'not slow' tests/core tests/bad_input",
    "bash .ci/run",
    "python3.11 -m venv .venv-lowest",
    ".venv-lowest/bin/python -m pip install --constraint constraints-lowest.txt --editable '.[test]'",
    ".venv-lowest/bin/python -m pytest -n 2",
    "python docs/outputs.py",
    "python docs/first_screen.py",
    "python docs/reference.py",
    "python docs/gallery.py",
    "NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict",
    "python -m http.server --directory site",
    "python benchmarks/tables.py",
    "python docs/studies/large_batches.py",
    "python docs/studies/placebo.py",
    "eigen study docs/studies/large_batches.py:networks --out rows.jsonl --set network.images=none "
    "--set network.eps=0.1",
    'git commit -am "Version 0.1.0"',
    'git tag -a v0.1.0 -m "Version 0.1.0"',
    "python -m pip install build twine",
    "python -m build",
    "python -m twine check --strict dist/*",
    "python3 -m venv /tmp/eigencore-release",
    '/tmp/eigencore-release/bin/python -m pip install "dist/eigencore-0.1.0-py3-none-any.whl[all]"',
    "(cd /tmp && eigencore-release/bin/eigen plugins && eigencore-release/bin/eigen analyze)",
    "python -m twine upload dist/*",
    "git push origin main v0.1.0",
    "python -m pip install mike",
    "NO_MKDOCS_2_WARNING=1 mike deploy --update-aliases 0.1 latest",
    "mike set-default latest",
    "git push origin gh-pages",
}
COMPLETION = 'eval "$(_EIGEN_COMPLETE=bash_source eigen)"'
INSTALL = "pip install --editable '.[test]'\n"

FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
NUMBER = r"<?-?\d[\d,]*(?:\.\d+)*(?:e[+-]?\d+)?"  # versions such as 2.4.6 are matched, too


# -- parsing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: the word after the opening fence.
        code: its lines, without their common indentation.
        line: the number of the line with the opening fence.
        after: whether only blank lines separate it from the previous block.
        where: its lines between the fences, as a slice of the page's text.
        indent: the indentation of the fences.
    """

    language: str
    code: str
    line: int
    after: bool
    where: slice
    indent: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    found, end = [], 0
    for match in FENCED.finditer(text):
        found.append(
            Block(
                match["language"],
                re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE),
                line=text.count("\n", 0, match.start()) + 1,
                after=not text[end : match.start()].strip(),
                where=slice(*match.span("code")),
                indent=match["indent"],
            )
        )
        end = match.end()
    return found


def commands(code: str) -> list[tuple[str, int]]:
    """The lines of a shell block, each with the exit code that its comment states, 0 without a comment."""
    lines = code.replace("\\\n", " ").splitlines()
    parsed = [re.fullmatch(r"(.*?)(?:\s+#(?: exit code (\d+))?.*)?", line) for line in lines if line.strip()]
    return [(" ".join(one[1].split()), int(one[2] or 0)) for one in parsed if one]


# -- running a page ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def isolated(folder: Path) -> Iterator[ModuleType]:
    """A module to run a page's Python in, with `folder` as the working directory.

    On exit, search paths, log handlers, disabled plugins and modules imported from `folder` are restored.
    """
    module = ModuleType("page")
    before, handlers, level = set(sys.modules), logging.root.handlers[:], logging.root.level
    sys.modules["page"] = module
    try:
        with (
            patch.object(sys, "path", sys.path[:]),
            patch.object(registry_module, "_switched_off", set()),
            contextlib.chdir(folder),
        ):
            yield module
    finally:
        registry_module.registry.cache_clear()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        for name in set(sys.modules) - before:
            if name == "page" or str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
                del sys.modules[name]


def outputs(name: str, page: ModuleType) -> Iterator[tuple[Block, str]]:
    """Runs the blocks of a page in order; yields each block of output with what was actually printed.

    Args:
        name: the page, a key of `PAGES`.
        page: the module of `isolated`.

    Raises:
        AssertionError: a command ended with another exit code than the page states.
    """
    printed, stream = "", io.StringIO()
    for block in blocks(PAGES[name]):
        where = f"{name}, line {block.line}"
        if file := re.match(r"# (\w+\.(?:py|toml))\n", block.code):
            Path(file[1]).write_text(block.code)
        elif block.language in ("python", "sh"):
            with contextlib.redirect_stdout(stream):
                if block.language == "python":
                    run_python(block, name, page)
                else:
                    run_shell(block, where)
            printed = stream.getvalue()
            stream.seek(0)
            stream.truncate()
        elif block.after:
            yield block, printed


def run_python(block: Block, name: str, page: ModuleType) -> None:
    # Blank lines in front, so that a traceback shows the line numbers of the page.
    exec(compile("\n" * block.line + block.code, ROOT / name, "exec"), vars(page))


def run_shell(block: Block, where: str) -> None:
    for command, code in commands(block.code):
        if command in NOT_RUN or command == COMPLETION:
            continue
        line, _, file = command.partition(" > ")
        program, *arguments = shlex.split(line)
        assert program == "eigen", f"{where}: no test runs {command}"
        with contextlib.ExitStack() as stack:
            if file:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(file, "w"))))
            ended = main(arguments)
        assert ended == code, f"{where}: {command} ended with exit code {ended}; expected {code}"


# -- following the pages that build plugins ----------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """Somebody who follows `PLUGIN_PAGE` or `BACKEND_PAGE` in a folder: writes its files, runs its commands.

    pip is not run: the metadata that pip would write for the page's own pyproject.toml is written by hand.
    tests/packaging builds and installs the same packages with pip, and runs their tests.
    """

    folder: Path

    def follow(self, block: Block) -> str:
        """Does what a block says.

        Returns:
            What its command printed, with the command itself on top for a block of text.
        """
        path = re.match(r"# (\S+\.(?:py|toml))\n", block.code)
        if path is not None:
            file = self.folder / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code)
            return ""
        if block.code == INSTALL:
            self.install()
            return ""
        if block.language == "text":
            command, _, _ = block.code.removeprefix("$ ").partition("\n")
            return f"$ {command}\n{self.run('bash', '-euc', command)}"
        return self.run(*(["bash", "-euc"] if block.language == "sh" else [sys.executable, "-c"]), block.code)

    def install(self) -> None:
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        name, version = project["name"], project["version"]
        info = self.folder / "src" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = project["entry-points"]["eigencore"]
        lines = [f"{plugin} = {module}" for plugin, module in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[eigencore]", *lines]))

    def run(self, *command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        sources = [str(self.folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sources)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
        return ran.stdout


# -- comparing what a page shows with what was printed -----------------------------------------------------


def assert_shows(shown: str, printed: str, where: str) -> None:
    """Fails unless `shown` is what was printed.

    "..." stands for any omitted text. Line breaks, rules, runs of spaces and the padding of arrays are not
    compared, and numbers are compared by `alike`.
    """
    shown, printed = (" ".join(re.sub("─+", "", text).split()) for text in (shown, printed))
    shown, printed = (re.sub(r"(?<=\[) | (?=\])", "", text) for text in (shown, printed))
    parts = re.split(f"({NUMBER})", shown)
    parts[0::2] = [re.escape(part).replace(re.escape("..."), ".*?") for part in parts[0::2]]
    numbers = parts[1::2]
    parts[1::2] = [f"({NUMBER})"] * len(numbers)
    match = re.fullmatch("".join(parts), printed)
    assert match, f"{where} does not show what was printed, which is\n{printed}"
    for number, found in zip(numbers, match.groups(), strict=True):
        assert alike(number, found), f"{where} shows {number}, but {found} was printed"


def alike(shown: str, found: str) -> bool:
    """Whether two numbers agree as far as they can on another machine.

    Counts may differ by a tenth or by one. Other numbers must agree if they have three or more digits;
    shorter ones are times and rounding errors, which depend on the machine. Versions, which have two points,
    are not compared.
    """
    if shown.count(".") > 1 or found.count(".") > 1:
        return True
    a, b = (float(number.lstrip("<").replace(",", "")) for number in (shown, found))
    if re.fullmatch(r"-?\d+", shown):
        return abs(a - b) <= max(1, 0.1 * a)
    digits = len(re.sub(r"e.*|\D", "", shown).lstrip("0"))
    return digits < 3 or abs(a - b) <= max(1e-3, 10.0 ** (1 - digits)) * abs(a)
