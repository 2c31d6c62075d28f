"""The blocks of an operator: each equals a solve over its parameters, and what they miss is found."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import Problem, bind, layers, solve
from eigencore.errors import CapabilityError, Interrupted, UnknownNameError, UsageError
from eigencore.interfaces import Parameter
from eigencore.operators import as_operator
from eigencore.problems.sharing import select_names

NAMES = {"a": 40, "b": 3, "m.c": 25, "m.d": 12}


class Planted:
    """A bound problem whose operator is a given matrix over four parameters."""

    capabilities = frozenset(eigencore.interfaces.Capability)
    precisions = ("float64",)
    description = "planted"

    def __init__(self, A: np.ndarray):
        self.A = A

    def layout(self, params: Any = None) -> tuple[Parameter, ...]:
        chosen, start = [], 0
        for name in select_names(list(NAMES), params):
            chosen.append(Parameter(name, slice(start, start + NAMES[name]), 2.0))
            start += NAMES[name]
        return tuple(chosen)

    def operator(self, kind: str = "hessian", params: Any = None) -> Any:
        starts = dict(zip(NAMES, np.cumsum([0, *NAMES.values()]), strict=False))
        rows = [
            np.arange(n) + starts[name] for name, n in NAMES.items() if name in select_names(NAMES, params)
        ]
        where = np.concatenate(rows)
        return as_operator(self.A[np.ix_(where, where)])

    classifier = None


def planted(coupling: float = 0.0) -> Planted:
    """A matrix of blocks with known spectra; coupling ties the first vectors of the blocks a and m.c."""
    rng = np.random.default_rng(1)
    n = sum(NAMES.values())
    A, start, first = np.zeros((n, n)), 0, []
    for number, size in enumerate(NAMES.values()):
        Q = np.linalg.qr(rng.standard_normal((size, size)))[0]
        spectrum = np.concatenate([[4.0 - 0.5 * number], np.linspace(-1, 1, size - 1)])
        A[start : start + size, start : start + size] = Q * spectrum @ Q.T
        first.append(np.pad(Q[:, 0], (start, n - start - size)))
        start += size
    u, v = first[0], first[2]
    return Planted(A + coupling * (np.outer(u, v) + np.outer(v, u)))


def test_every_block_equals_a_solve_over_its_parameters() -> None:
    pytest.importorskip("sklearn")
    for name, by in (("demo:digits-numpy", "parameter"), ("demo:digits-numpy", {"x": "W1,b2", "y": "b1"})):
        bound = bind(name)
        result = layers(bound, 2, by=by, tol=1e-6, seed=4)
        for block in result.blocks:
            alone = solve(bound.operator(params=list(block.parameters)), min(2, block.n), tol=1e-6, seed=4)
            np.testing.assert_allclose(block.eigen.values, alone.values, rtol=1e-5)
            assert block.eigen.certificate.complete is True
            assert block.n == alone.n


def test_traces_and_norms_are_within_their_error_bars() -> None:
    A = planted(1.0)
    inside, total = 0, 0
    for seed in range(40):
        for block, (start, stop) in zip(
            layers(A, seed=seed, whole=False, complete=None).blocks,
            ((0, 40), (40, 43), (43, 68), (68, 80)),
            strict=True,
        ):
            B = A.A[start:stop, start:stop]
            exact = np.trace(B), np.linalg.norm(B)
            for estimate, truth in zip((block.trace, block.frobenius), exact, strict=True):
                assert estimate is not None
                if block.n <= 8:
                    assert estimate.half_width == 0
                    assert estimate.value == pytest.approx(truth, rel=1e-12)
                else:
                    inside += abs(estimate.value - truth) <= estimate.half_width
                    total += 1
    # 95 % intervals: at most 5 % + 4 standard errors are missed.
    assert inside / total >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / total)


def test_a_planted_coupling_is_found() -> None:
    free, coupled = layers(planted(), tol=1e-8), layers(planted(2.0), tol=1e-8)
    np.testing.assert_allclose(free.values[:, 0], [4.0, 3.5, 3.0, 2.5], atol=1e-6)
    assert free.whole is not None
    assert coupled.whole is not None
    assert free.couplings is not None
    assert coupled.couplings is not None
    # Without a coupling, the blocks are all there is.
    assert free.whole.values[0] == pytest.approx(4.0)
    np.testing.assert_allclose(free.couplings, np.diag([4.0, 0, 0, 0]), atol=1e-5)
    # [[4, 2], [2, 3]] has the eigenvalue 3.5 + sqrt(.25 + 4).
    largest = 3.5 + np.sqrt(4.25)
    assert coupled.whole.values[0] == pytest.approx(largest)
    np.testing.assert_allclose(coupled.values[:, 0], [4.0, 3.5, 3.0, 2.5], atol=1e-6)
    assert coupled.couplings.sum() == pytest.approx(largest)
    x = np.linalg.eigh([[4.0, 2.0], [2.0, 3.0]])[1][:, 1]
    assert coupled.couplings[0, 2] == pytest.approx(2 * x[0] * x[1], abs=1e-5)
    share = 100 * (1 - np.trace(coupled.couplings) / largest)
    assert f"coupling between them ({share:.0f} %)" in coupled.verdict
    assert "(0 %)" in free.verdict


def test_blocks_by_module_and_by_group() -> None:
    A = planted()
    assert [block.name for block in layers(A, by="module", whole=False, probes=0).blocks] == ["a", "b", "m"]
    result = layers(A, by={"one": ["a", "b"], "two": "m.*"}, whole=False, probes=0)
    assert [block.parameters for block in result.blocks] == [("a", "b"), ("m.c", "m.d")]
    assert [block.n for block in result.blocks] == [43, 37]
    np.testing.assert_allclose(result.values[:, 0], [4.0, 3.0], rtol=1e-3)
    assert result.blocks[0].weight_norm == pytest.approx(np.sqrt(8))
    assert result.blocks[0].trace is None
    assert result.whole is None


def test_the_table_has_a_row_for_each_block() -> None:
    result = layers(planted(1.0), 5)
    assert list(result.columns)[:3] == ["block", "weights", "eigenvalue 1"]
    assert result.columns["block"].tolist() == list(NAMES)
    assert np.isnan(result.values[1, 3:]).all()  # b has three weights
    pytest.importorskip("pandas")
    frame = result.to_pandas().set_index("block")
    assert list(frame.index) == list(NAMES)
    assert frame.loc["a", "weights"] == 40


def test_what_has_not_converged_is_said() -> None:
    def guess(operator: Any, request: Any, options: Any, *, state: Any = None) -> Any:
        """Right for blocks of one or two of its parameters, wrong for the others."""
        n = operator.shape[0]
        values, V = np.linalg.eigh(operator.matmat(np.eye(n)))
        first = request.order(values)
        wrong = 0.0 if n in (3, 12) else 0.3
        yield eigencore.Snapshot(values[first] + wrong, np.full(request.k, wrong), lambda: V[:, first], 4.0)

    result = layers(planted(1.0), solver=guess, whole=False, probes=0)
    assert result.unconverged == ("a", "m.c")
    assert result.verdict.endswith("Not converged: a, m.c.")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"by": "layer"}, UsageError, "by is 'layer'; expected 'parameter', 'module', or a mapping"),
        ({"by": {}}, UsageError, "at least one group"),
        ({"by": {"one": "a", "two": "a,b"}}, UsageError, "a is in the groups one and two"),
        ({"by": {"one": "b"}, "params": "a"}, UsageError, "the group one has no parameters among those"),
        ({"by": {"one": "x*"}}, UnknownNameError, r"x\*"),
        ({"probes": -1}, UsageError, "probes is -1"),
        ({"k": 0}, UsageError, "k is 0"),
        ({"which": "XX"}, UsageError, "XX"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        layers(planted(), **arguments)


def test_a_matrix_has_no_layers() -> None:
    with pytest.raises(CapabilityError, match="parameters"):
        layers(Problem(operator=np.eye(4)))


def test_ctrl_c_keeps_what_was_computed() -> None:
    A, calls = planted(1.0), 0
    operator = A.operator()

    def product(V: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            signal.raise_signal(signal.SIGINT)
        return A.A @ V

    interrupted = eigencore.operators.FunctionOperator(
        product, operator.shape[0], xp=operator.xp, dtype=operator.dtype, device="cpu", matmat=product
    )
    A.operator = lambda kind="hessian", params=None: interrupted  # type: ignore[method-assign]
    with pytest.raises(Interrupted) as caught:
        layers(A, tol=1e-12)
    found = caught.value.result
    assert [block.name for block in found.blocks] == list(NAMES)
    assert all(len(block.eigen.values) for block in found.blocks)
    assert found.whole is None
    assert calls < 30
