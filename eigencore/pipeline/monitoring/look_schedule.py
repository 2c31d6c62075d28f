"""When a monitor looks, and what its looks cost relative to the training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LookSchedule:
    """The steps at which a monitor looks.

    A look is due at every multiple of `every`. With a share, it takes place only if the looks until then,
    with as much again for this one as the last one took, stay within that share of the time of training. The
    cost of the first look is not known, and it takes place in any case; the following ones wait until it is
    within the share.

    Attributes:
        every: the number of steps from one look to the next.
        share: the largest ratio of the time of all looks to that of the training without them, or None.
        training, looking: these times so far, in seconds.
        looks: the number of looks.

    Example:
        from eigencore.pipeline.monitoring.look_schedule import LookSchedule

        schedule = LookSchedule(every=10, share=0.1)
        schedule.started(0.0)
        print(schedule.is_due(10), schedule.may_look(5.0))
        schedule.looked(5.0, 6.0)
        print(schedule.may_look(10.0), schedule.may_look(30.0))  # 10 and 30 s: 9 and 29 s of training
    """

    every: int
    share: float | None = None
    training: float = 0.0
    looking: float = 0.0
    looks: int = 0
    _resumed: float | None = None
    _last: float = 0.0

    @property
    def has_started(self) -> bool:
        """Whether the time of the training is counted."""
        return self._resumed is not None

    def started(self, now: float) -> None:
        """Counts the time of the training from now on."""
        self._resumed = now

    def is_due(self, step: int) -> bool:
        """Whether the step is a multiple of the interval."""
        return step % self.every == 0

    def may_look(self, now: float) -> bool:
        """Whether a look at this time stays within the share; the training until then is counted."""
        assert self._resumed is not None, "the training has started"
        self.training, self._resumed = self.training + now - self._resumed, now
        return self.share is None or self.looking + self._last <= self.share * self.training

    def looked(self, began: float, ended: float) -> None:
        """Adds a look between these times, and the training before it."""
        assert self._resumed is not None, "the training has started"
        self.training += began - self._resumed
        self._last = ended - began
        self.looking += self._last
        self.looks, self._resumed = self.looks + 1, ended

    @property
    def summary(self) -> str:
        """The cost of the looks in a sentence."""
        looks = f"{self.looks} look{'s' * (self.looks != 1)}"
        if not self.training > 0:
            return f"{looks} took {self.looking:.3g} s"
        ratio = self.looking / self.training
        return f"{looks} took {self.looking:.3g} s, {ratio:.1%} of the {self.training:.3g} s of training"
