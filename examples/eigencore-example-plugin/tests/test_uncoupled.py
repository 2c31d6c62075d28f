from __future__ import annotations

import json

import eigencore
import pytest
from eigencore.cli import main
from eigencore.registry import registry
from eigencore.testing import backend_checks

torch = pytest.importorskip("torch")


def problem():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
        x, y = torch.randn(15, 4).double(), torch.randint(3, (15,))
    batches = list(zip(x.split((7, 5, 3)), y.split((7, 5, 3)), strict=True))
    return eigencore.Problem(model=model, data=batches, loss=torch.nn.CrossEntropyLoss(), name="small")


def dense(operator):
    return operator.matmat(torch.eye(operator.shape[0], dtype=operator.dtype))


@pytest.mark.parametrize(
    "check",
    backend_checks(problem, backend="torch", kind="uncoupled"),
    ids=lambda check: check.__name__,
)
def test_conforms(check):
    check()


def test_it_is_the_block_diagonal_of_the_hessian():
    bound = eigencore.bind(problem())
    hessian = dense(bound.operator())
    blocks = [hessian[part.where, part.where] for part in bound.layout()]
    expected = torch.block_diag(*blocks)
    torch.testing.assert_close(dense(bound.operator("uncoupled")), expected, rtol=0, atol=1e-15)
    assert not torch.allclose(hessian, expected)
    damped = dense(bound.operator("uncoupled", damping=0.5))
    torch.testing.assert_close(damped, expected + 0.5 * torch.eye(len(expected)), rtol=0, atol=1e-15)


def test_it_is_listed_as_a_kind_of_the_torch_backend(capsys):
    assert registry().find_kind("torch", "uncoupled").load.startswith("eigencore_example_plugin.")
    assert main(["kinds", "--json"]) in (0, None)
    listed = {(kind["backend"], kind["name"]): kind for kind in json.loads(capsys.readouterr().out)["kinds"]}
    assert listed["torch", "uncoupled"]["plugin"] == "example@eigencore-example-plugin"
    assert {("torch", "hessian"), ("softmax", "hessian")} <= set(listed)
    assert main(["kinds", "uncoupled"]) in (0, None)
    assert "--set uncoupled.damping=VALUE" in capsys.readouterr().out
    assert main(["backends", "torch"]) in (0, None)
    assert "uncoupled" in capsys.readouterr().out


def test_it_is_solved_from_the_command(tmp_path, capsys):
    file = tmp_path / "small.py"
    file.write_text(
        "import eigencore, torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()\n"
        "    data = [(torch.randn(15, 4).double(), torch.randint(3, (15,)))]\n"
        "    return eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())\n"
    )
    asked = ["--kind", "uncoupled", "-k", "3", "--tol", "1e-8", "--set", "uncoupled.damping=1", "--json"]
    assert main(["analyze", f"{file}:make", "--analyses", "none", *asked]) in (0, None)
    told = json.loads(capsys.readouterr().out)
    assert told["operator"]["kind"] == "uncoupled"
    assert told["status"] == "converged"
    run = eigencore.analyze(f"{file}:make", 3, kind="uncoupled", tol=1e-8, analyses="none")
    assert [value - 1 for value in told["eigenvalues"]] == pytest.approx(list(run.eigen.values), rel=1e-6)


def test_a_misspelt_kind_is_reported_with_the_nearest_name():
    with pytest.raises(eigencore.EigencoreError, match="Did you mean uncoupled"):
        eigencore.bind(problem()).operator("uncopled")
