"""Which processes compute a problem together, and whether they have the same model."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from eigencore.errors import ProblemError
from eigencore.processes import ALONE, LaunchedProcess, Processes, launched_process
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.processes.division import Joining
from eigencore_torch.processes.process_group import group_processes
from eigencore_torch.processes.signals import fatal_signals


def joined(joining: Joining) -> Processes:
    """The processes of the initialised process group, or of a command that a launcher started several times.

    Returns:
        ALONE if there are no others, or the option says none.
    """
    if joining == "none" or not dist.is_available():
        return ALONE
    if not dist.is_initialized() and (process := launched_process()) is not None:
        _connect(process)
    if not dist.is_initialized():
        return ALONE
    world = dist.group.WORLD
    return ALONE if world is None or dist.get_world_size() == 1 else group_processes(world)


def beside(processes: Processes, device: torch.device) -> int:
    """How many processes share the memory of a device: on processors, all those of a machine."""
    if device.type != "cpu" or processes.count == 1:
        return 1
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(here) if here.isdecimal() and int(here) else processes.count


def _connect(process: LaunchedProcess) -> None:
    """Initialises the process group of a command, until its end; each process has a GPU of its own if any."""
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(process.local_rank)
    # A process that has ended is noticed at once; one that is slow must not be taken for one that has.
    with fatal_signals():
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=timedelta(days=7))
    process.closing.callback(_disconnect)


def _disconnect() -> None:
    """Ends the process group, to which nothing may refer any more: a later end aborts the interpreter's."""
    world = dist.group.WORLD
    if world is not None:
        group_processes(world).close()
        group_processes.cache_clear()
        del world
        dist.destroy_process_group()


def check_same_model(weights: WeightFingerprint, processes: Processes) -> None:
    """Checks that the model is the same in all processes, to the last bit of its weights and buffers.

    Raises:
        ProblemError: it is not; the message names a weight.
    """
    own, *others = processes.collect(lambda: weights.of_tensors, "the digest of the weights")
    for rank, other in enumerate(others, start=1):
        only = next(iter(own.keys() ^ other.keys()), None)
        if only is not None:
            there = 0 if only in own else rank
            raise ProblemError(
                f"the models differ between the processes 0 and {rank}: only that of process {there} has "
                f"{only}",
                hint="Make the same model in every process.",
            )
        differing = next((name for name in own if own[name] != other[name]), None)
        if differing is not None:
            raise ProblemError(
                f"the weights differ between the processes 0 and {rank}: {differing}",
                hint="Load the same checkpoint in every process, or set the same seed before the model is "
                "made. After DistributedDataParallel, the running statistics of BatchNorm differ: give all "
                "those of the first process, for x in model.buffers(): torch.distributed.broadcast(x, 0).",
            )
