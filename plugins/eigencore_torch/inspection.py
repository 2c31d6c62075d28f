"""What is found out about a problem before the first product: its faults, its reduction, and its memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigencore.interfaces import Problem
from eigencore.news import report
from eigencore.problems.sharing import check_reduction
from eigencore.processes import ALONE, Processes
from eigencore_torch.checks.probe import probe
from eigencore_torch.checks.problem_checks import check_problem
from eigencore_torch.checks.shard_checks import check_same_everywhere
from eigencore_torch.data.batch_tensors import Batch
from eigencore_torch.data.batches import Batches, split_batch
from eigencore_torch.evaluation.modes import describe_mode
from eigencore_torch.evaluation.preserved_state import Setting
from eigencore_torch.forward_size import ForwardSize, forward_size
from eigencore_torch.models.placement import PlacedLoss, trainable
from eigencore_torch.options import TorchOptions
from eigencore_torch.reductions.reduction import Reduction
from eigencore_torch.reductions.reduction_inference import ReductionInference


@dataclass
class Inspection:
    """What an inspection found.

    Attributes:
        mode: the mode of evaluation, and what is remarkable about it.
        forward: the memory of a forward pass over the first batch; None if it is unknown.
    """

    mode: str
    reduction: Reduction
    forward: ForwardSize | None = None


def inspect_problem(
    problem: Problem,
    placed: PlacedLoss,
    batches: Batches,
    options: TorchOptions,
    setting: Setting,
    processes: Processes = ALONE,
) -> Inspection:
    """Checks a problem if the option `check` is on, and infers its reduction if it declares none.

    Must be called inside a session. Each process checks its own batches, and measures their weights in units
    of those of the first batch of the first process.

    Raises:
        ProblemError: a check failed, or the reduction can't be determined.
    """
    loss, microbatch = placed.loss, options.microbatch
    if setting.sharded:
        check_same_everywhere(loss, batches)
    declared = declared_reduction(problem)
    inference = ReductionInference(loss, declared, microbatch, alone=processes.count == 1)
    if declared is None and processes.count > 1:
        _observe_first_process(inference, batches, microbatch, processes)
    if not options.check:
        if declared is None:
            _observe_few_batches(inference, batches, microbatch)
        return Inspection(setting.description, declared or inference.result(complete=False))
    mode: str = setting.description
    forward: ForwardSize | None = None

    def inspect_first(batch: Batch, index: int, value: Tensor) -> None:
        nonlocal mode, forward
        mode, forward = describe_mode(loss, batch, value, setting), forward_size(value, batch)
        report("comparing the derivatives with differences of the loss")
        # Before the reduction is inferred, which takes the gradients to be those of the loss.
        probe(loss, batch, index, value, setting)

    if declared is not None and options.join is not None:
        microbatch = microbatch or options.join // 2  # the sum of their parts
    if declared is not None and microbatch is not None:
        microbatch = max(microbatch, 2)  # on one sample, nothing shows whether the loss can be split
    with trainable(placed.original_parameters):
        check_problem(
            loss,
            batches,
            microbatch=microbatch,
            batch_weight=None if declared is None else declared.batch_weight,
            observe=inference.observe if declared is None or microbatch is not None else None,
            inspect_first=inspect_first,
            original_parameters=placed.original_parameters,
        )
    return Inspection(mode, declared or inference.result(), forward)


def declared_reduction(problem: Problem) -> Reduction | None:
    """The reduction that the problem declares; None if it has to be inferred.

    Raises:
        UsageError: both a sum and a weight are declared.
    """
    check_reduction(problem.reduction, problem.weight)
    if problem.weight is not None:
        return Reduction("mean", problem.weight)
    if problem.reduction == "infer":
        return None
    return Reduction("mean" if problem.reduction == "mean" else "sum")


def _observe_first_process(
    inference: ReductionInference, batches: Batches, microbatch: int | None, processes: Processes
) -> None:
    """Observes the first batch of the first process in all others, before their own."""

    def first() -> Batch | None:
        if processes.rank:
            return None
        on_host = Batches(batches.data, torch.device("cpu"), batches.dtype, join=None, part=batches.part)
        batch = next(iter(on_host), None)
        return None if batch is None else split_batch(batch, 0, microbatch)[0]

    reference = processes.collect(first, "the first batch of the first process")[0]
    if processes.rank and reference is not None:
        inference.observe(next(iter(Batches([reference], batches.device, batches.dtype))), -1)


def _observe_few_batches(inference: ReductionInference, batches: Batches, microbatch: int | None) -> None:
    for index, batch in enumerate(batches):
        for part in split_batch(batch, index, microbatch):
            inference.observe(part, index)
            if inference.rule is not None:
                return
