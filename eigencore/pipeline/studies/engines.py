"""Where the rows of a study are computed: in this process, in others, or on a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from eigencore.errors import EigencoreError, UsageError
from eigencore.problems.sharing import requires_extras

SCHEME = "dask://"


def check_jobs(jobs: object) -> None:
    """Raises UsageError unless `jobs` is a number of processes or the address of a cluster."""
    if isinstance(jobs, str) and jobs.startswith(SCHEME) and jobs != SCHEME:
        return
    if isinstance(jobs, int) and not isinstance(jobs, bool) and (jobs >= 1 or jobs == -1):
        return
    raise UsageError(
        f"jobs is {jobs!r}; expected a whole number of at least 1, -1: one for each core, or the address of "
        f"a cluster, {SCHEME}HOST:PORT"
    )


@contextlib.contextmanager
def engine(joblib: Any, jobs: int | str) -> Iterator[int]:
    """Within the context, joblib uses the cluster of an address; yields the number of jobs for joblib.

    If a worker of the cluster dies, Dask computes its rows again on another one.

    Raises:
        PluginError: the packages of Dask are not installed.
        EigencoreError: the cluster does not answer.
    """
    if not isinstance(jobs, str):
        yield jobs
        return
    with requires_extras("a study on a Dask cluster", "dask"):
        from distributed import Client
    try:
        client = Client(f"tcp://{jobs.removeprefix(SCHEME)}", set_as_default=False)
    except (OSError, ValueError) as error:
        raise EigencoreError(
            f"there is no Dask cluster at {jobs}: {error}",
            hint="`dask scheduler` starts one and prints its address, `dask worker` adds workers.",
        ) from error
    with client, joblib.parallel_config(backend="dask", client=client):
        yield -1
