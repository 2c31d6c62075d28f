"""Intervals for the eigenvalues of all data, from a sample of the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An eigenvalue of all data, or a sum of several, as estimated from a sample.

    Attributes:
        first, last: the eigenvalues are those from number `first` to number `last`, in the order of the
            request and counted from 1. A single one is that number by rank: if eigenvalues are nearly equal,
            the eigenvector of that rank may be another one for all data than for the sample.
        estimate: the estimate, without the bias of the sample.
        low, high: the ends of the interval; None if it is refused.
        refused: why there is no interval; empty if there is one.
        needed: about how many draws an interval needs, if it was refused and that is known.
    """

    first: int
    last: int
    estimate: float
    low: float | None = None
    high: float | None = None
    refused: str = ""
    needed: int | None = None


@dataclass(frozen=True)
class SamplingCost:
    """What it takes to know every eigenvalue to a relative accuracy, as predicted from a pilot sample.

    Attributes:
        accuracy: half the width of the intervals, relative to the eigenvalue.
        method: the cheaper one of "sample" and "polish"; see `Sampling`.
        draws: the number of draws; None for "polish", or if no sample is enough.
        matvecs: what it costs in addition, in products with all data; None if no sample is enough.
    """

    accuracy: float
    method: str
    draws: int | None
    matvecs: float | None


@dataclass(frozen=True)
class Sampling:
    """What a sample of the data shows of the eigenvalues of the mean over all of the data.

    As an estimate for the distribution that the data come from, even all of the data have an error, which
    the intervals do not contain.

    Attributes:
        method: "sample"; "polish" if the vectors of the sample were multiplied by the operator of all data,
            which gives the values between `low`, certainly, and `high`, by experience; or "full" if all data
            were solved, and the pilot sample only showed that this costs less.
        draws: the number of samples drawn, repetitions included.
        samples: the number of samples in the data.
        groups: the number of groups that the draws were put into.
        weighted: whether samples were drawn by their scores, with replacement; otherwise uniformly without.
        confidence: the probability at which an interval holds its value; None for "polish" and "full".
        intervals: one for each eigenvalue; none for "full".
        sums: one for each run of eigenvalues that the sample does not tell apart, and for the sum of all.
        costs: the cost of 10, 5 and 1 %, and of the accuracy requested; empty without a pilot.
        full: the predicted cost of a solve on all data in products; None without a pilot.
    """

    method: str
    draws: int
    samples: int
    groups: int
    weighted: bool
    confidence: float | None
    intervals: tuple[Interval, ...] = ()
    sums: tuple[Interval, ...] = ()
    costs: tuple[SamplingCost, ...] = ()
    full: float | None = None
