"""What kinds of operator on PyTorch are made of, for this package and for others that add a kind.

The implementation of a kind is a function (bound, layout, options) -> LinearOperator; see
`eigencore.interfaces.Kind`. `bound` is an `eigencore_torch.bound.TorchBound`: `bound.risk` has the terms of
the loss over all data, each with its weight; `bound.memory` has the limits of memory, and `bound.problem`
is the Problem. `layout` has the selected parameters and their positions in a vector. A kind that
is a sum over the terms is a RiskOperator, which keeps graphs, splits batches when memory runs out, draws
minibatches, and refuses weights and data that changed; the kind itself defines how the matrix of one term is
multiplied.

Example:
    import torch
    import eigencore
    from eigencore.problems.sharing import CurvatureOptions
    from eigencore_torch.kinds import GradientGraph, RiskOperator

    def half_hessian(bound, layout, options):
        class Half(GradientGraph):
            def block_product(self, pieces, *, keep):
                halves = {i: 0.5 * piece for i, piece in pieces.items()}
                return super().block_product(halves, keep=keep)

        def graph(term, passes):
            loss = bound.risk.loss(term.batch, term.index)
            with passes():
                return Half(loss, layout)

        return RiskOperator(bound, layout, graph, CurvatureOptions())
"""

from eigencore.problems.sharing import CurvatureOptions as CurvatureOptions
from eigencore_torch.gradient_graph import GradientGraph as GradientGraph
from eigencore_torch.kinds.output_graph import OutputGraph as OutputGraph
from eigencore_torch.kinds.output_graph import OutputLoss as OutputLoss
from eigencore_torch.kinds.output_graph import OutputMatrix as OutputMatrix
from eigencore_torch.kinds.output_graph import output_graphs as output_graphs
from eigencore_torch.kinds.risk_operator import RiskOperator as RiskOperator
from eigencore_torch.kinds.term_graph import Passes as Passes
from eigencore_torch.kinds.term_graph import TermGraph as TermGraph
from eigencore_torch.models.params import Layout as Layout
from eigencore_torch.risk import Risk as Risk
from eigencore_torch.risk import Term as Term
