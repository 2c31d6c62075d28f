"""The entry point of the PyTorch backend: `bind` checks a problem and binds it to PyTorch."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from torch import nn

from eigencore.errors import OptionError, ProblemError
from eigencore.interfaces import Problem
from eigencore.problems.sharing import check_bounds, check_call, check_channels
from eigencore.processes import ALONE
from eigencore_torch.batch_loss import BatchLoss, check_loss
from eigencore_torch.bound import TorchBound
from eigencore_torch.checks.problem_checks import check_layers, check_weights
from eigencore_torch.checks.shard_checks import check_shard_options
from eigencore_torch.data.batches import type_name
from eigencore_torch.evaluation.double_backward import Route
from eigencore_torch.evaluation.kernels import check_kernels
from eigencore_torch.evaluation.modes import check_batch_norm
from eigencore_torch.evaluation.precision import Products
from eigencore_torch.inspection import declared_reduction
from eigencore_torch.memory_limit import memory_limit, retain_freed_memory
from eigencore_torch.models.fully_sharded import without_fsdp
from eigencore_torch.models.number_types import computing_type
from eigencore_torch.models.placement import PlacedLoss, device_of, place
from eigencore_torch.models.shards import is_sharded
from eigencore_torch.models.wrappers import unwrapped
from eigencore_torch.options import TorchOptions
from eigencore_torch.own_loss import loss_function
from eigencore_torch.processes.joining import joined


def bind(
    problem: Problem, options: TorchOptions, *, device: str | None = None, dtype: str | None = None
) -> TorchBound:
    """The problem, bound to PyTorch.

    The given model is never changed. A copy is used if the device, the data type or a checkpoint requires it,
    if the weights have 16 bits, or if all weights are frozen: all weights of the copy are then trainable.

    Args:
        device: where to compute, such as "cpu" or "cuda"; None: where the model is.
        dtype: "float32" or "float64"; None: the model's own type, or float32 for weights of 16 bits.

    Raises:
        ProblemError: the model, data, loss or checkpoint is unusable.
        UsageError: the device, data type or checkpoint does not exist, or options contradict one another, or
            differ between the processes that compute together.

    Example:
        import torch
        from eigencore import Problem
        from eigencore_torch.backend import TorchOptions, bind

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        problem = Problem(model=model, data=data, loss=torch.nn.CrossEntropyLoss())
        hessian = bind(problem, TorchOptions(), dtype="float64").operator()
        product = hessian.matvec(torch.ones(15, dtype=torch.float64))
    """
    processes = joined(options.processes)
    arguments = {**asdict(options), "device": device, "dtype": dtype, "reduction": problem.reduction}
    with processes.together("binding the problem", **arguments):
        placed = _checked(problem, options, device, dtype)
        # Processes with shards of the weights compute each batch together, by operations on DTensors.
        sharing = ALONE if is_sharded(placed.loss.model) else processes
        return TorchBound(problem, placed, options, sharing)


def _checked(problem: Problem, options: TorchOptions, device: str | None, dtype: str | None) -> PlacedLoss:
    """The loss of the problem where it is computed, once it and the options have been checked."""
    model, loss = problem.model, problem.loss
    if not isinstance(model, nn.Module):
        exported = isinstance(model, torch.export.ExportedProgram)
        raise ProblemError(
            f"the model is a {type(model).__name__}; expected a torch.nn.Module",
            hint="Call its method module()." if exported else None,
        )
    check_call(problem.call)
    function, call = loss_function(loss, problem.call)
    check_loss(function)
    check_bounds(problem.bounds)
    check_channels(problem.channels)
    declared = declared_reduction(problem)
    memory_limit(options.memory, torch.device("cpu"))
    if options.checkpoint and options.derivative == "exact":
        raise OptionError(
            "torch.checkpoint saves no memory with exact products, whose graphs keep the activations",
            hint="Set torch.derivative=difference as well, or leave torch.checkpoint off and set "
            "torch.microbatch.",
        )
    if options.products != "full" and options.derivative == "difference":
        raise OptionError(
            f"torch.products={options.products} can't be combined with torch.derivative=difference: the "
            "difference of two gradients would consist of their rounding errors",
            hint="Set one of the two.",
        )
    if options.route != "graph" and options.derivative == "difference":
        raise OptionError(
            f"torch.route={options.route} concerns exact products, and torch.derivative is difference",
            hint="Set one of the two.",
        )
    if options.products != "full" and options.route != "graph":
        raise OptionError(
            f"torch.products={options.products} can't be combined with torch.route={options.route}, which "
            "concerns exact products",
            hint="Set one of the two.",
        )
    if options.products != "full" and options.vectors == "shards":
        raise OptionError(
            f"torch.products={options.products} can't be combined with torch.vectors=shards",
            hint="Set one of the two.",
        )
    if options.route == "captured" and options.memory == "none":
        raise OptionError(
            "torch.route=captured captures products that are kept, and torch.memory=none keeps none",
            hint="Set torch.route=recorded, or leave torch.memory at auto.",
        )
    model = unwrapped(model)
    check_layers(model)
    if options.join is not None and options.microbatch is not None and options.join > options.microbatch:
        raise OptionError(
            f"torch.join is {options.join}, more than torch.microbatch, {options.microbatch}: batches would "
            "be joined and split again",
            hint="Set one of the two.",
        )
    if options.join is not None and options.batch_norm == "batch":
        raise OptionError(
            "torch.join changes the operator with torch.batch_norm=batch: each batch is normalised alone",
            hint="Set torch.batch_norm=running, or leave join out.",
        )
    if options.batch_norm == "batch":
        check_batch_norm(model, declared is not None, options.microbatch)
    given = BatchLoss(model, function, call, vocabulary_chunk=options.vocabulary_chunk)
    gathered = without_fsdp(given, options.weights)
    placed = place(gathered, device, dtype, problem.checkpoint)
    if gathered is not given:
        of = "whole" if options.weights == "whole" else "the shards of"
        placed = replace(placed, note=", ".join(filter(None, [f"{of} weights of fully_shard", placed.note])))
    check_weights(placed.loss.model)
    if is_sharded(placed.loss.model):
        check_shard_options(options)
    _check_products(options.products, computing_type(placed.loss.model))
    _check_route(options.route, device_of(placed.loss.model))
    check_kernels(options.kernels, device_of(placed.loss.model), computing_type(placed.loss.model))
    retain_freed_memory()
    return placed


def _check_products(products: Products, dtype: torch.dtype) -> None:
    """Raises OptionError if products are to be in low precision and the data type is not float32."""
    if products != "full" and dtype is not torch.float32:
        raise OptionError(
            f"torch.products={products} applies to float32, and the data type is {type_name(dtype)}",
            hint='Set dtype="float32", or leave torch.products at full.',
        )


def _check_route(route: Route, device: torch.device) -> None:
    """Raises OptionError if products are to be captured and the device is not a GPU."""
    if route == "captured" and device.type != "cuda":
        raise OptionError(
            f"torch.route=captured captures CUDA graphs, and the device is {device}",
            hint='Set device="cuda", or torch.route=recorded or compiled, or leave it at graph.',
        )
