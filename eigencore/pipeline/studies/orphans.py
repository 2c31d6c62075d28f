"""Worker processes end when the study that started them has been killed."""

from __future__ import annotations

import os
import threading
import time

_EVERY = 1.0  # seconds
_watching: set[int] = set()


def end_with(study: int) -> None:
    """Ends this process, a worker, soon after the process of the study that started it has ended.

    Otherwise it would go on with the rows that it has, which a new start of the study computes, too. Nothing
    for a process that another one started, such as a worker of a cluster, and on Windows.
    """
    if study in _watching or study == os.getpid() or os.name != "posix" or os.getppid() != study:
        return
    _watching.add(study)
    threading.Thread(target=_watch, args=(study,), name="eigencore-study", daemon=True).start()


def _watch(study: int) -> None:
    while os.getppid() == study:
        time.sleep(_EVERY)
    os._exit(1)
