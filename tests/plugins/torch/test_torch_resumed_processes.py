"""A run on several processes, one of which is killed, is resumed from the journal of the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eigencore
from eigencore.errors import UsageError
from eigencore.results import Step
from kit.processes import kill_this_process, outcomes, values


def problem(rank: int) -> eigencore.Problem:
    """A small network with the share of one of two processes: 13 and 7 samples."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    own = slice(0, 13) if rank == 0 else slice(13, 20)
    return eigencore.Problem(model, [(x[own], y[own])], torch.nn.CrossEntropyLoss())


def analyzed(rank: int, out: str, *, resume: bool = False, kill: int | None = None, seed: int = 0) -> Any:
    """What a process finds; the process `kill` is killed after 8 products."""
    steps = 0

    def progress(news: Any) -> None:
        nonlocal steps
        steps += isinstance(news, Step)
        if kill == rank and steps == 8:
            kill_this_process()

    run = eigencore.analyze(
        problem(rank),
        k=2,
        seed=seed,
        tol=1e-8,
        analyses="trace",
        out=out,
        resume=resume,
        save_every=0,
        progress=progress,
        options={"torch": {"processes": "share"}},
    )
    pairs, remarks = run.eigen, run.manifest["resumption"]
    return np.vstack([pairs.values, pairs.vectors]), pairs.matvecs, run.analyses["trace"].numbers, remarks


def killed(rank: int, folder: str, kill: int) -> None:
    analyzed(rank, f"{folder}/killed", kill=kill)


def resumed(rank: int, folder: str) -> dict[str, Any]:
    """The killed run with another seed, which is refused; resumed; once more; and one that was not killed."""
    with pytest.raises(UsageError, match="seed was 0 and is now 1"):
        analyzed(rank, f"{folder}/killed", resume=True, seed=1)
    return {
        "resumed": analyzed(rank, f"{folder}/killed", resume=True),
        "ended": analyzed(rank, f"{folder}/killed", resume=True),
        "whole": analyzed(rank, f"{folder}/whole"),
    }


@pytest.mark.parametrize("kill", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_is_resumed_after_a_process_was_killed(kill: int, tmp_path: Path) -> None:
    ended = outcomes(killed, 2, str(tmp_path), kill)
    assert ended[kill].code == -9
    assert "another process has ended" in str(ended[1 - kill].error)
    both = values(resumed, 2, str(tmp_path))
    for found in both:
        for name in ("resumed", "ended"):
            assert np.array_equal(found[name][0], found["whole"][0])
            assert found[name][1:3] == found["whole"][1:3]
    assert both[0]["resumed"][3][0].startswith("continued from")
