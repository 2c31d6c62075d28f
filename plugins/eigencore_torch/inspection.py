"""What is found out about a problem before the first product: its faults, its reduction, and its memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from eigencore.errors import UsageError
from eigencore.interfaces import Problem
from eigencore.news import report
from eigencore.problems.sharing import check_reduction
from eigencore_torch.checks.probe import probe
from eigencore_torch.checks.problem_checks import check_problem
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
    problem: Problem, placed: PlacedLoss, batches: Batches, options: TorchOptions, setting: Setting
) -> Inspection:
    """Checks a problem if the option `check` is on, and infers its reduction if it declares none.

    Must be called inside a session.

    Raises:
        ProblemError: a check failed, or the reduction can't be determined.
    """
    loss, microbatch = placed.loss, options.microbatch
    declared = declared_reduction(problem)
    inference = ReductionInference(loss, declared, microbatch)
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
    check_reduction(problem.reduction)
    if problem.weight is not None:
        if problem.reduction == "sum":
            raise UsageError(
                "reduction='sum' and weight were both given", hint="Leave weight out: a sum needs no weights."
            )
        return Reduction("mean", problem.weight)
    if problem.reduction == "infer":
        return None
    return Reduction("mean" if problem.reduction == "mean" else "sum")


def _observe_few_batches(inference: ReductionInference, batches: Batches, microbatch: int | None) -> None:
    for index, batch in enumerate(batches):
        for part in split_batch(batch, index, microbatch):
            inference.observe(part, index)
            if inference.rule is not None:
                return
