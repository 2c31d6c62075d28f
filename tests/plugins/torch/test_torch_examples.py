"""The examples in the plugin's docstrings run as they stand."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

import eigencore_torch

PLUGIN = Path(eigencore_torch.__file__).parent


def examples():
    """The code of each `Example:` block, with the name of its module and of its class or function."""
    for path in sorted(PLUGIN.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                _, heading, block = (ast.get_docstring(node) or "").partition("\nExample:\n")
                if heading:
                    yield pytest.param(textwrap.dedent(block), id=f"{path.stem}.{node.name}")


EXAMPLES = list(examples())


def test_there_are_examples():
    assert {
        "backend.bind",
        "bound.TorchBound",
        "classifier.TorchClassifier",
        "risk_operator.RiskOperator",
    } <= {example.id for example in EXAMPLES}


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code):
    exec(compile(code, "example", "exec"), {})
