"""The arguments `samples`, `rtol` and `which` of what is computed from a sample: the same for all of it."""

from __future__ import annotations

from numbers import Real
from operator import index

from eigencore.errors import UsageError

ENDS = ("LM", "LA")


def refuse_bad_sampling(samples: int | None, rtol: float | None) -> None:
    """Raises UsageError unless one of them is given, and valid as far as that does not depend on the data."""
    if samples is not None and rtol is not None:
        raise UsageError(
            "samples and rtol were both given: rtol finds the number of samples",
            hint="Leave one of them out.",
        )
    if samples is not None:
        try:
            index(samples)
        except TypeError:
            raise UsageError(f"samples is {samples!r}; expected a whole number of at least 2") from None
    elif not (isinstance(rtol, Real) and 0 < rtol < 1):
        raise UsageError(f"rtol is {rtol!r}; expected a relative accuracy above 0 and below 1, such as 0.05")


def refuse_other_ends(which: str) -> None:
    """Raises UsageError unless intervals are known for these eigenvalues."""
    if which not in ENDS:
        raise UsageError(
            f"which is {which}; intervals from a sample are known for {' and '.join(ENDS)} only",
            hint="Leave samples and rtol out.",
        )
