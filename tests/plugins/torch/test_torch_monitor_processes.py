"""A monitor of a training by several processes, each with its share of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import eigencore
from kit.processes import values

STEPS, EVERY = 12, 4


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (20,), generator=generator)


def trained(rank: int | None, out: str, share: float | None) -> tuple[list[dict[str, float]], list[float]]:
    """The rows of a monitor, and the weights afterwards; for None, of one process with all data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = data()
    own = slice(None) if rank is None else (slice(0, 10), slice(10, 20))[rank]
    trained = model if rank is None else DistributedDataParallel(model)
    loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.5)
    quantities = ["lambda_max", "critical_sharpness", "alignment"]
    monitor = eigencore.Monitor(
        trained, loss, [(x[own], y[own])], every=EVERY, quantities=quantities, share=share, out=out
    )
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(trained(x[own]), y[own]).backward()
        optimizer.step()
        monitor.step(optimizer)
    assert not any(row.failed for row in monitor.rows), monitor.rows
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return [{"step": row.step, **row.numbers} for row in monitor.rows], weights.tolist()


def test_processes_look_together_at_the_loss_over_all_data(tmp_path: Path) -> None:
    alone, weights = trained(None, str(tmp_path / "alone.jsonl"), None)
    assert len(alone) == STEPS // EVERY
    found: list[Any] = values(trained, 2, str(tmp_path / "both.jsonl"), None)
    for rows, own in found:
        assert own == pytest.approx(weights, rel=1e-10)
        for row, expected in zip(rows, alone, strict=True):
            for name in ("step", "lambda_max", "critical_low", "critical_high", "alignment", "loss"):
                assert row[name] == pytest.approx(expected[name], rel=1e-5), name
    lines = (tmp_path / "both.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [row["step"] for row in alone]  # once, not twice


def test_the_first_process_decides_what_the_share_allows(tmp_path: Path) -> None:
    first, second = values(trained, 2, str(tmp_path / "rows.jsonl"), 0.01)
    assert [row["step"] for row in first[0]] == [row["step"] for row in second[0]]
    assert len(first[0]) < STEPS // EVERY  # so the share did bind
