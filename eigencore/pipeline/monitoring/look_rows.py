"""What one look of a monitor found: a row of its table, and a line of its file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eigencore.runs import plain


@dataclass(frozen=True)
class LookRow:
    """One look at a network during its training.

    Attributes:
        step: the number of steps that the optimizer had made.
        numbers: the quantities by name, such as `lambda_max`, and what belongs to them, such as `threshold`.
            A number that a look could not compute is missing.
        certificate: how the residuals of the largest eigenvalues were computed, "full" or "sketch"; empty
            if a look computed none.
        complete: whether no larger eigenvalue was missed; None if that was not examined.
        matvecs: products with the operator, in units of all data of the monitor.
        seconds: the time of the look.
        failed: why a quantity could not be computed, by its name; "look" if none could.
    """

    step: int
    numbers: Mapping[str, float]
    certificate: str = ""
    complete: bool | None = None
    matvecs: float = 0.0
    seconds: float = 0.0
    failed: Mapping[str, str] = field(default_factory=dict)

    def as_line(self) -> str:
        """The row as a line of JSON, in which NaN and infinity are null."""
        own = {name: value for name, value in vars(self).items() if name != "numbers"}
        return json.dumps(plain({"step": self.step, **self.numbers, **own})) + "\n"


def columns_of(rows: Sequence[LookRow]) -> dict[str, Any]:
    """Arrays (rows,) by name: the step, every number, and how it was computed.

    A number that is missing is NaN. `complete` is 1, 0, or NaN where it was not examined.
    """
    names = dict.fromkeys(name for row in rows for name in row.numbers)
    columns: dict[str, Any] = {"step": np.array([row.step for row in rows], dtype=np.int64)}
    columns |= {name: _floats(row.numbers.get(name, math.nan) for row in rows) for name in names}
    columns["certificate"] = _texts(row.certificate for row in rows)
    columns["complete"] = _floats(math.nan if row.complete is None else row.complete for row in rows)
    columns["matvecs"] = _floats(row.matvecs for row in rows)
    columns["seconds"] = _floats(row.seconds for row in rows)
    columns["failed"] = _texts(
        "; ".join(f"{name}: {why}" for name, why in row.failed.items()) for row in rows
    )
    return columns


def _floats(values: Iterable[float]) -> Any:
    return np.array(list(values), dtype=np.float64)


def _texts(values: Iterable[str]) -> Any:
    return np.array(list(values), dtype=object)
