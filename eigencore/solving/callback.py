"""The caller's progress function: what it raises stops a solver or an analysis, and reaches the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eigencore.errors import Culprit, attach
from eigencore.solving.budget import Halt


class ProgressCallback:
    """Calls a progress function of the caller.

    An exception that the function raises is kept as `error`. It is replaced by a Halt, so that neither a
    solver nor an analysis catches it, or is held responsible for it.

    Args:
        progress: the function; None: nothing is called.
    """

    def __init__(self, progress: Callable[[Any], object] | None):
        self._progress = progress
        self.error: BaseException | None = None

    def __call__(self, news: Any) -> None:
        if self._progress is None:
            return
        try:
            self._progress(news)
        except Halt:  # the function of another solve, which has recorded it
            raise
        except BaseException as error:
            attach(error, culprit=Culprit.CALLBACK)
            self.error = error
            raise Halt(error=error) from None
