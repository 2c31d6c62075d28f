"""How the data are divided between processes: each has given its own share, or all have given the same."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Literal, NamedTuple, TypeAlias

from eigencore.errors import ProblemError
from eigencore.news import report
from eigencore.processes import ALONE, Processes
from eigencore_torch.data.batches import Batches, sample_count_beside_objects
from eigencore_torch.data.data_part import part_of_process
from eigencore_torch.data.fingerprints import batch_fingerprint
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state

# The values of the option `torch.processes`.
Joining: TypeAlias = Literal["auto", "whole", "share", "none"]


class DataSurvey(NamedTuple):
    """What a pass over the data of one process shows: their digest, and the samples of each batch."""

    digest: str
    counts: list[int | None]


def survey(batches: Batches) -> DataSurvey:
    """One pass over the data, without the model; must be called inside a session."""
    digest, counts = sha256(), list[int | None]()
    for batch in batches:
        digest.update(repr(batch_fingerprint(batch)).encode())
        counts.append(sample_count_beside_objects(batch))
    return DataSurvey(digest.hexdigest(), counts)


class DividedData:
    """The data of a problem, as the processes have them that compute together.

    Args:
        batches: the data that this process was given.
        joining: the option `torch.processes`.
        cut: whether a batch may be divided between processes; batches that are joined never are.
    """

    def __init__(
        self, batches: Batches, processes: Processes, joining: Joining, *, cut: bool, setting: Setting
    ):
        self._given, self._processes, self._joining = batches, processes, joining
        self._cut, self._setting = cut and not batches.joins, setting
        self._holders: dict[str, Processes] = {}

    @cached_property
    def own(self) -> Batches:
        """The batches of this process: its own share, or its part of data that all processes have.

        Raises:
            ProblemError: as for `survey_together`, or there is too little for so many processes.
        """
        if self._processes.count == 1:
            return self._given
        survey, whole = survey_together(self._given, self._processes, self._joining, self._setting)
        if not whole:
            return self._given
        return self._given.of_part(part_of_process(survey.counts, self._processes, cut=self._cut))

    @property
    def note(self) -> str:
        """How the data are divided, for descriptions; empty until that is known, or for one process."""
        own: Batches | None = self.__dict__.get("own")  # not computed for a description
        if own is None or self._processes.count == 1:
            return ""
        how = "each with its own data" if own.part is None else "the data divided between them"
        return f"{self._processes.count} processes, {how}"

    def holders(self, samples: Batches) -> Processes:
        """The processes that samples of a classifier are spread over; ALONE if each process has all of them.

        Args:
            samples: all that this process was given, under the name of the data or of the validation data.
        """
        if samples.name == self._given.name:
            return self._processes if self.own.part is None else ALONE
        if samples.name not in self._holders:
            _, whole = survey_together(samples, self._processes, self._joining, self._setting)
            self._holders[samples.name] = ALONE if whole else self._processes
        return self._holders[samples.name]


def survey_together(
    batches: Batches, processes: Processes, joining: Joining, setting: Setting
) -> tuple[DataSurvey, bool]:
    """What a pass over the data shows, and whether they are the same in all processes.

    Raises:
        ProblemError: a loader repeats samples; a process has no data; or some processes have the same data,
            and others have not.
    """
    with processes.together(f"a pass over the {batches.name}"):
        refuse_repeated_samples(batches.data, batches.name)
        report(f"comparing the {batches.name} of {processes.count} processes")
        with preserve_state([], setting, batches.data):
            own = survey(batches)
        return own, are_whole(own, processes, joining, batches.name)


def are_whole(own: DataSurvey, processes: Processes, joining: Joining, name: str) -> bool:
    """Whether every process has given the same data, rather than a share of its own.

    Raises:
        ProblemError: a process has no data; or some processes have the same data, and others have not.
    """
    found = processes.collect(lambda: own, f"the digest of the {name}")
    for rank, one in enumerate(found):
        if not one.counts:
            raise ProblemError(
                f"{name} is empty in process {rank}: it yields no batch",
                hint="Give each process a share of the data, or the same data to all of them.",
            )
    if joining == "share":
        return False
    digests = [one.digest for one in found]
    if len(set(digests)) == 1:
        return True
    if joining == "whole":
        other = next(rank for rank, one in enumerate(digests) if one != digests[0])
        raise ProblemError(
            f"torch.processes is whole, but {name} differs between the processes 0 and {other}",
            hint="Give the same data in the same order to all processes, with shuffle=False; or set "
            "torch.processes=share.",
        )
    if len(set(digests)) < len(digests):
        again = next(rank for rank, one in enumerate(digests) if digests.index(one) < rank)
        raise ProblemError(
            f"{name} is the same in the processes {digests.index(digests[again])} and {again}, but not in "
            "all of them",
            hint="Give each process a share of its own, or the same data to all. If two shares really have "
            "the same batches, set torch.processes=share.",
        )
    return False


def refuse_repeated_samples(data: object, name: str) -> None:
    """Raises ProblemError for a loader whose DistributedSampler gives some samples to two processes."""
    sampler = getattr(data, "sampler", None)
    if not any(base.__name__ == "DistributedSampler" for base in type(sampler).__mro__):
        return
    samples, replicas = len(sampler.dataset), sampler.num_replicas  # type: ignore[union-attr]
    if samples % replicas and not sampler.drop_last:  # type: ignore[union-attr]
        raise ProblemError(
            f"the DistributedSampler of {name} repeats samples: {samples} samples don't divide by {replicas} "
            "processes, so it gives some of them to two processes, and they would count twice",
            hint="Load torch.utils.data.Subset(dataset, range(rank, len(dataset), world_size)) without a "
            "sampler, which gives each sample to one process.",
        )
