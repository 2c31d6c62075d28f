"""Every example runs as its first lines describe; what it prints is true, and so is what the gallery has."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph

import eigencore
from eigencore.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = Path(__file__).parents[2] / "docs"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
TESTED = {
    "any_matrix.py",
    "edge_of_stability.py",
    "from_python.py",
    "gpt2_tiny.py",
    "lora_tiny.py",
    "my_model.py",
    "own_solver.py",
    "robustness_study.py",
    "training_run.py",
}
OUTDATED = "docs/gallery/ shows other words: run `python docs/gallery.py`"
NUMBER = r"-?\d+\.?\d*(?:e[+-]?\d+)?"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own for each test, in which `examples/` is the folder of the checkout."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(DOCS)
    yield
    sys.modules.pop("my_model", None)


@pytest.fixture(params=["now", "kept"])
def printed(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """printed(name) runs an example and returns the lines that it prints, or those that the gallery shows."""

    def run(name: str) -> list[str]:
        if request.param == "kept":
            return kept(name).splitlines()
        made = runpy.run_path(str(EXAMPLES / name))["main"]()
        out = capsys.readouterr().out
        titles = [figure.title for figure in eigencore.report(made).figures]
        assert titles.count(import_module("gallery").PICTURES[name.removesuffix(".py")]) == 1
        assert words(kept(name)) == words(out), OUTDATED
        return out.splitlines()

    return run


def kept(name: str) -> str:
    """What docs/gallery.py has kept of what an example prints."""
    return (DOCS / "gallery" / name).with_suffix(".txt").read_text()


def words(text: str) -> list[str]:
    """A text without its numbers, which depend on the machine, and without the rules of tables."""
    return re.sub(r"─+|[<+-]?\d[\d.,]*(e[+-]?\d+)?", " ", text).split()


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, line)]


def how_to_run(name: str) -> list[str]:
    """The commands that an example's docstring gives."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text()), clean=False) or ""
    return [line.strip() for line in docstring.splitlines() if line.startswith("    ")]


def test_every_example_is_tested_here_and_shown_with_a_picture() -> None:
    assert set(NAMES) == TESTED
    stems = {name.removesuffix(".py") for name in NAMES}
    files = {path.name for path in (DOCS / "gallery").iterdir()}
    assert files == {f"{stem}.{suffix}" for stem in stems for suffix in ("svg", "txt")}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_asks_a_question_and_says_how_to_run_it(name: str) -> None:
    first = (ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or "").splitlines()[0]
    assert first.endswith("?")
    for command in how_to_run(name):
        assert re.match(rf"(python examples/{name}$|eigen analyze examples/{name}:\w+)", command)
    assert how_to_run(name)


def test_a_model_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    make = runpy.run_path(str(EXAMPLES / "my_model.py"))["make"]
    early = make(steps=50)
    torch.save(early.model.state_dict(), "weights.pt")
    results, texts = [], []
    for command in how_to_run("my_model.py"):
        assert main([*shlex.split(command, comments=True)[1:], "--out", "run"]) == 0
        results.append(json.loads(Path("run/result.json").read_text()))
        texts.append(capsys.readouterr().out)
    assert words(kept("my_model.py")) == words(texts[0]), OUTDATED
    plain, layer, wide, checkpoint = results
    assert plain["operator"]["n"] == 30 * 32 + 32 + 32 * 32 + 32 + 32 * 2 + 2
    assert layer["operator"]["n"] == 30 * 32 + 32
    assert len(layer["eigenvalues"]) == 10
    assert wide["operator"]["n"] == 30 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2
    assert checkpoint["eigenvalues"] == pytest.approx(eigencore.analyze(early).eigen.values, rel=1e-5)
    assert checkpoint["eigenvalues"] != pytest.approx(plain["eigenvalues"], rel=1e-2)
    # The largest eigenvalue of a principal submatrix is below that of the matrix.
    assert 0 < layer["eigenvalues"][0] < plain["eigenvalues"][0]


def test_from_python(printed: Callable[[str], list[str]]) -> None:
    lines = printed("from_python.py")
    fields = dict(line.split(" ", 1) for line in lines)
    values = numbers(fields["eigenvalues"])
    assert values == sorted(values, reverse=True)
    assert len(values) == len(numbers(fields["residuals"])) == 4
    quotient = next(line for line in lines if "Rayleigh quotient" in line)
    assert numbers(quotient)[-1] == pytest.approx(values[0], rel=1e-3)
    shares = [numbers(line)[-1] for line in lines if line.endswith("%") and line.startswith("    ")]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(100, abs=0.5)
    ends = {which: numbers(line)[1:] for line in lines for which in ("LA", "SA") if f", {which}:" in line}
    assert ends["SA"][0] < 0 < ends["LA"][0] < values[0]


def test_a_training_run(printed: Callable[[str], list[str]]) -> None:
    heading, *rows, total = printed("training_run.py")
    assert heading.split()[:4] == ["step", "loss", "lambda_1", "2/lr"]
    steps, losses, sharpness, edge, cold, warm = zip(*map(numbers, rows), strict=True)
    assert list(steps) == list(range(0, 600, 50))
    assert losses[-1] < losses[0] / 2
    assert sharpness[0] < edge[0]  # it starts below the edge of stability
    assert all(0.8 < value / edge[0] < 1.3 for value in sharpness[-5:])  # and reaches it
    assert cold[0] == warm[0]
    spent = sum(cold[1:]), sum(warm[1:])
    assert tuple(numbers(total)[:2]) == spent
    assert spent[1] < spent[0]


def test_the_edge_of_stability(printed: Callable[[str], list[str]]) -> None:
    heading, *rows = printed("edge_of_stability.py")
    assert heading.split()[:4] == ["step", "loss", "lambda_1", "lambda_2"]
    looks = {int(row[0]): row for row in map(numbers, rows)}
    assert list(looks) == list(range(100, 1501, 100))
    largest = {step: row[2] / row[-2] for step, row in looks.items()}  # relative to 2 / learning rate
    assert [looks[step][-2] for step in (200, 300)] == [2.5, 5.0]
    assert abs(largest[200] - 1) < 0.2  # at the edge
    assert largest[300] < 0.75  # the learning rate was halved
    assert all(abs(largest[step] - 1) < 0.1 for step in (1300, 1400, 1500))  # at the new edge
    assert looks[1500][1] < looks[100][1] / 3


def test_any_matrix(printed: Callable[[str], list[str]]) -> None:
    graph, _, pixels = printed("any_matrix.py")
    images = load_digits().data
    share = PCA(5).fit(images).explained_variance_ratio_
    assert numbers(pixels.partition(":")[2]) == pytest.approx(share, abs=1e-4)
    neighbours = sparse.csr_array(kneighbors_graph(images, n_neighbors=10))
    neighbours = neighbours.maximum(neighbours.T).toarray()
    scale = 1 / np.sqrt(neighbours.sum(axis=1))
    spectrum = np.linalg.eigvalsh(scale[:, None] * neighbours * scale)[::-1]
    expected = [*spectrum[:4], *spectrum[-4:]]
    assert numbers(graph.partition(":")[2]) == pytest.approx(expected, abs=1e-4)


def test_a_solver_of_ones_own(printed: Callable[[str], list[str]]) -> None:
    answer, cost, checks = printed("own_solver.py")  # it raises if a check fails
    spectrum = np.linalg.eigvalsh(np.cov(load_digits().data.T))[::-1]
    assert numbers(answer.partition("]")[0]) == pytest.approx(spectrum[:3], abs=1e-3)
    assert numbers(cost)[0] > numbers(cost)[1]  # it takes more products than lanczos
    assert numbers(checks)[0] > 80


@pytest.mark.slow
def test_a_robustness_study(printed: Callable[[str], list[str]]) -> None:
    lines = printed("robustness_study.py")
    attacked = [numbers(line) for line in lines if line.startswith("accuracy under")]
    eps, accuracies, gradients = zip(*attacked, strict=True)
    assert eps == (0, 0.05, 0.1, 0.2)
    assert list(accuracies) == sorted(accuracies, reverse=True)
    assert accuracies[0] > 97
    assert accuracies[-1] < 5
    assert gradients[0] == 0
    gates = [line for line in lines if re.match("  (PASS|WARN|FAIL) ", line)]
    assert len(gates) >= 8
    assert all("PASS" in gate for gate in gates)
    verdict = next(line for line in lines if line.startswith("r1 ranks the distances"))
    assert "Beyond loss, gradient norm and r1, r1 within bounds adds information" in verdict
    assert "cautious radius" not in verdict  # for a network with ReLUs
    at = lines.index("rank correlation with the smallest perturbation:")
    ranks = {name: float(rho) for name, rho in map(str.split, lines[at + 1 : at + 7])}
    assert max(ranks, key=lambda name: abs(ranks[name])) == "r1"
    assert f"rho {ranks['r1']:.2f}" in verdict
    fragile = [numbers(line) for line in lines[-3:]]
    distances, first_order = zip(*(row[-2:] for row in fragile), strict=True)
    assert list(distances) == sorted(distances)
    assert all(0 < r1 < 2 * distance for r1, distance in zip(first_order, distances, strict=True))


def test_a_tiny_gpt2(printed: Callable[[str], list[str]]) -> None:
    pytest.importorskip("transformers")
    exact, differences, description = printed("gpt2_tiny.py")
    values = numbers(exact)[:3]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 1
    assert numbers(differences)[:3] == pytest.approx(values, rel=1e-3)
    assert all(" converged, floor" in line for line in (exact, differences))
    assert "labels[:, 1:] != -100 (shifted)" in description


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_tiny_gpt2_with_lora(printed: Callable[[str], list[str]]) -> None:
    pytest.importorskip("peft")
    lora, everything = printed("lora_tiny.py")
    assert numbers(lora)[0] == 2 * 2 * (16 + 48)
    assert numbers(everything)[0] == 7024
    assert numbers(everything)[1] > numbers(lora)[1]
