"""The options of the PyTorch backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eigencore.options import option
from eigencore_torch.evaluation.double_backward import Derivative, Route
from eigencore_torch.evaluation.kernels import Kernels
from eigencore_torch.evaluation.precision import Precision, Products
from eigencore_torch.models.fully_sharded import Weights
from eigencore_torch.processes.division import Joining


@dataclass(frozen=True)
class TorchOptions:
    """The options of the PyTorch backend.

    Example:
        import eigencore
        import torch

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = eigencore.Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        bound = eigencore.bind(problem, backend="torch", microbatch=4, memory="1GiB")
    """

    check: bool = option(
        True,
        help="check the data, the loss, its derivatives and the weights before the first product",
        when="turn it off if passes over the data are expensive and the problem is known to be sound",
    )
    memory: str = option(
        "auto",
        help="limit on the memory beside the model and the data, such as 2GiB: the solver's vectors, a "
        "product, for which batches are split, and the gradient graphs that products reuse; auto: the free "
        "memory, of which graphs take at most half; none: no limit, and no graphs are kept",
        when="set it if other programs need the memory, or if a batch and its gradient graph do not fit; "
        "with little memory, products are more expensive. The checks before the first product, which compute "
        "the gradient of a whole batch, are limited by microbatch instead",
    )
    microbatch: int | None = option(
        None,
        low=1,
        help="largest number of samples per forward pass; larger batches are split, which does not change "
        "the operator",
        when="set it if the gradient of a batch does not fit into the device's memory; for products alone, "
        "memory does it",
    )
    vocabulary_chunk: int | None = option(
        None,
        low=1,
        help="number of tokens whose logits are computed at once, for the cross-entropy of a language model "
        "and its derivatives, which compute them again; none: those of a whole batch are kept",
        when="set it to some hundreds if the logits, tokens times vocabulary, take most of the memory",
    )
    join: int | None = option(
        None,
        low=1,
        help="smallest number of samples per forward pass; smaller batches are joined, which does not change "
        "the operator",
        when="set it to 256 on a processor and to some thousands on a GPU if the data come in small batches, "
        "whose products take longer",
    )
    precision: Precision = option(
        "full",
        help="float32 products on GPUs: full, or tf32, which rounds their factors to 11 significant bits; "
        "PyTorch's own switches are set aside meanwhile",
        when="set tf32 if speed matters more than digits: eigenvalues then have about three",
    )
    products: Products = option(
        "full",
        help="products of the solver: full, or bfloat16 or float16, whose operands have 8 or 11 significant "
        "bits; eigenpairs, residuals and certificate are computed by full products all the same",
        when="set bfloat16 for large networks where the device multiplies faster in it, with a tol of 0.01 "
        "or more: the error is measured, and refused if it is larger than tol; on a GPU, try precision=tf32 "
        "first, which needs no full products",
    )
    derivative: Derivative = option(
        "exact",
        help="Hessian products: exact, by double backward; or difference, the central difference of two "
        "gradients, with an error that is measured",
        when="set difference if an operation of the model has no second derivative, as fused attention or a "
        "custom autograd function, or if double backward takes too much memory",
    )
    checkpoint: bool = option(
        False,
        help="with torch.derivative=difference: compute the activations inside the blocks of the model again "
        "in the backward pass, instead of keeping them",
        when="turn it on if the gradient of a batch does not fit into the device's memory; a product then "
        "takes about 30 % longer",
    )
    batch_norm: Literal["running", "batch"] = option(
        "running",
        help="statistics that BatchNorm normalises with: running, or batch, which are those of each batch, "
        "as in training mode; everything else is in evaluation mode",
        when="set batch for the curvature of the training loss, as in studies of sharpness during training",
    )
    processes: Joining = option(
        "auto",
        help="processes of an initialised group of torch.distributed: auto, which divides the data if they "
        "are the same in all of them, and otherwise takes them to be shares; whole; share; or none, for a "
        "process that computes alone",
        when="set share or whole to be sure of it, and none if only this process calls eigencore",
    )
    weights: Weights = option(
        "whole",
        help="weights of a model that fully_shard (FSDP2) has cut: whole, in a copy in every process, with "
        "the data divided between the processes; or shards, which stay cut, as other models of DTensors do",
        when="set shards if the weights and some gradients of the whole model do not fit into the memory of "
        "one process; the batches are then DTensors, and not every operation can be differentiated twice",
    )
    vectors: Literal["whole", "shards"] = option(
        "whole",
        help="vectors of the solver, with several processes: whole in each of them, or shards, which are put "
        "together for a product",
        when="set shards if the basis of the solver takes most of the memory; sampled operators, attacks and "
        "analyses of layers then need a run of their own",
    )
    kernels: Kernels = option(
        "auto",
        help="kernels of float32 matrix products on x86 processors: plain, which are PyTorch's own; onednn; "
        "or auto, which selects onednn if a trial finds it faster and large products are most of the work",
        when="set plain if other threads use PyTorch during a solve: onednn applies to all threads, where it "
        "slows down small products and makes torch.get_float32_matmul_precision() fail",
    )
    route: Route = option(
        "graph",
        help="exact Hessian products: graph, by double backward through autograd graphs; recorded, by "
        "replaying the operations of one product; compiled, which compiles these first; or captured, on a "
        "GPU, which captures those of each batch that memory has room for as a CUDA graph, and replays those "
        "of the others",
        when="on a GPU, try captured if a hundred products or more are needed and the batches are small for "
        "it; on a processor, compiled if many hundreds are needed, since compiling takes up to minutes; a "
        "note of the result says how long a product took on either route",
    )

    @property
    def notes(self) -> list[str]:
        """What is remarkable about the way in which products are computed, for descriptions."""
        notes = ["Hessian products by differences"] if self.derivative == "difference" else []
        return notes if self.products == "full" else [*notes, f"the solver's products in {self.products}"]
