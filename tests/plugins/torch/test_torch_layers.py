"""The diagonal blocks of operators of PyTorch: their products in one pass, and the function `layers`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigencore import layers, solve
from eigencore.errors import UsageError
from eigencore_torch.backend import TorchOptions, bind

KINDS = {
    "hessian": {},
    "ggn": {},
    "fisher": {},
    "scaled": {"weight_decay": 0.1, "damping": 0.3},
}


@pytest.mark.parametrize("memory", ["auto", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_block_products_are_those_of_the_dense_blocks(classifying, kind, memory):
    bound = bind(classifying(reduction="mean"), TorchOptions(memory=memory))
    operator = bound.operator(kind, **KINDS[kind])
    n = operator.shape[0]
    dense = operator.matmat(torch.eye(n, dtype=torch.float64))
    slices = [where for _, where, _ in bound.layout()]
    blocks = [slices[:1], slices[:0:-1]]  # the first parameter, and all others in reverse order
    rows = [torch.cat([torch.arange(n)[where] for where in block]) for block in blocks]
    found = operator.block_products(blocks, [torch.eye(len(i), dtype=torch.float64) for i in rows])
    for product, i in zip(found, rows, strict=True):
        torch.testing.assert_close(product, dense[i][:, i], rtol=1e-9, atol=1e-11)


def test_a_block_is_one_of_whole_parameters(small):
    operator = bind(small(), TorchOptions()).operator()
    with pytest.raises(UsageError, match=r"slice\(0, 5, None\), which is not that of a parameter"):
        operator.block_products([[slice(0, 5)]], [torch.ones(5, 1, dtype=torch.float64)])
    with pytest.raises(UsageError, match=r"shape \(5, 1\); expected \(28, b\)"):
        operator.block_products([[slice(0, 28)]], [torch.ones(5, 1, dtype=torch.float64)])


@pytest.mark.parametrize("by", ["parameter", "module"])
def test_blocks_equal_solves_over_their_parameters(classifying, by):
    bound = bind(classifying(reduction="mean"), TorchOptions())
    result = layers(bound, by=by, tol=1e-6)
    for block in result.blocks:
        alone = solve(bound.operator(params=list(block.parameters)), 1, tol=1e-6)
        assert block.eigen.values[0] == pytest.approx(alone.values[0], rel=1e-5, abs=1e-12)
    assert result.unconverged == ()


def test_all_blocks_share_their_passes_over_the_data(small):
    """Without kept graphs, a pass reads the data and builds the graphs once for all blocks."""

    class Counted(list):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    problem = small(reduction="mean")
    bound = bind(
        small(reduction="mean", data=Counted(problem.data)), TorchOptions(memory="none", check=False)
    )
    Counted.passes = 0
    result = layers(bound, whole=False)
    assert result.passes >= Counted.passes - 2
    assert result.passes < sum(block.eigen.matvecs for block in result.blocks)


def test_layers_that_share_nothing_are_not_coupled():
    """Two networks side by side with a squared error: the Hessian has no coupling between them."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x):
            return torch.cat([self.left(x), 0.5 * self.right(x)], dim=1)

    torch.manual_seed(0)
    data = [(torch.randn(20, 3).double(), torch.randn(20, 2).double())]
    result = layers((Pair().double(), data, nn.MSELoss()), by="module", tol=1e-8)
    assert result.couplings.sum() == pytest.approx(result.whole.values[0])
    assert abs(result.couplings[0, 1]) < 1e-10
    assert result.values[0, 0] == pytest.approx(4 * result.values[1, 0], rel=1e-6)
