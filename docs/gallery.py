"""The gallery: every file of examples/ as a page with what it prints and its source.

    python docs/gallery.py [NAME ...]

runs the examples, or those of these names, and writes what they print, and a picture of what they return, to
docs/gallery/. An example whose packages are not installed is left as it is. docs/site_hooks.py makes the
pages of the site from these files, and tests/docs/test_examples.py fails if an example prints something else.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from docstrings import escaped

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "gallery"
WIDTH = 88
# The examples in the order of the page, with the title of the figure that is drawn of each.
PICTURES = {
    "my_model": "Predicted and true smallest perturbation",
    "from_python": "Convergence",
    "any_matrix": "Eigenvalues",
    "training_run": "Sharpness",
    "edge_of_stability": "Largest eigenvalues",
    "robustness_study": "Predicted and true smallest perturbation",
    "gpt2_tiny": "Convergence",
    "lora_tiny": "Eigenvalues",
    "own_solver": "Convergence",
}
# Runs an example, or a command that saves its run, and draws a figure of the result.
RUN = """
import runpy, sys
sys.path.insert(0, "examples")
runpy.run_path(sys.argv[1])["main"]().plot(sys.argv[2], only=sys.argv[3])
"""
SHOW = """
import sys
import eigencore
eigencore.load(sys.argv[1]).plot(sys.argv[2], only=sys.argv[3])
"""
COMMANDS = re.compile(r"^( {4}.*\n?)+", re.MULTILINE)
INDEX = """# Examples

Each example is one file that asks one question. The pages show the file and what it printed; tests run every
example, and check that the numbers are true.

<div class="grid cards" markdown>

{cards}
</div>
"""


@dataclass(frozen=True)
class Example:
    """A file of examples/."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def docstring(self) -> str:
        return ast.get_docstring(ast.parse(self.text)) or ""

    @property
    def question(self) -> str:
        return self.docstring.partition("\n")[0]

    @property
    def command(self) -> str:
        """The first command that the docstring gives: how to run it."""
        found = COMMANDS.search(self.docstring)
        assert found, f"{self.path} does not say how to run it"
        return found[0].splitlines()[0].partition("  #")[0].strip()

    @property
    def output(self) -> Path:
        """The file with what the command printed."""
        return FOLDER / f"{self.path.stem}.txt"

    @property
    def picture(self) -> Path:
        """The file with the figure of `PICTURES`."""
        return self.output.with_suffix(".svg")

    def page(self) -> str:
        """Its page, as Markdown."""
        about = self.docstring.removeprefix(self.question)
        pieces, commands = COMMANDS.split(about)[::2], [found[0] for found in COMMANDS.finditer(about)]
        text = escaped(pieces[0])
        for block, piece in zip(commands, pieces[1:], strict=True):
            lines = [line.removeprefix("    ") for line in block.splitlines()]
            text += fenced("sh", "\n".join(lines)) + escaped(piece)
        shown = fenced("text", f"$ {self.command}\n{self.output.read_text()}")
        source = re.sub(r'\A""".*?"""\n\n', "", self.text, flags=re.DOTALL)
        picture = f"![{PICTURES[self.path.stem]}](../docs/gallery/{self.picture.name})"
        parts = [
            f"# {self.question}",
            text,
            "## Output",
            shown,
            picture,
            "## Source",
            fenced("python", source),
        ]
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def run(self) -> str | None:
        """Runs the command, draws a picture, and returns what is printed; None if a package is missing."""
        drawn = [str(self.picture), PICTURES[self.path.stem]]
        words = shlex.split(self.command)
        if words[0] == "python":
            return python("-c", RUN, str(self.path), *drawn)
        with tempfile.TemporaryDirectory() as folder:
            printed = python("-m", "eigencore", *words[1:], "--out", folder)
            python("-c", SHOW, folder, *drawn)
        return printed


def python(*arguments: str) -> str | None:
    """What Python prints with these arguments; None if a package is missing."""
    environment = {**os.environ, "COLUMNS": str(WIDTH)}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if ran.returncode and "ModuleNotFoundError: No module named" in ran.stderr:
        print(f"left as it is: {ran.stderr.strip().splitlines()[-1]}")
        return None
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


EXAMPLES = {name: Example(ROOT / "examples" / f"{name}.py") for name in PICTURES}


def index() -> str:
    """The page that lists the examples; its links are paths in the repository."""
    cards = [
        f"- [{example.question}](examples/{example.path.name})\n\n"
        f"    ![{PICTURES[name]}](docs/gallery/{example.picture.name})\n"
        for name, example in EXAMPLES.items()
    ]
    return INDEX.format(cards="\n".join(cards))


def fenced(language: str, text: str) -> str:
    text = text.strip("\n")
    return f"```{language}\n{text}\n```\n"


def main() -> int:
    for name in sys.argv[1:] or EXAMPLES:
        printed = EXAMPLES[name].run()
        if printed is not None:
            EXAMPLES[name].output.write_text(printed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
