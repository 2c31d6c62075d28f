"""Images with the channels last: the same network on them is attacked in the same way."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import attack
from eigencore.errors import ProblemError, UsageError
from eigencore.problems.sharing import channel_axis

torch = pytest.importorskip("torch")

SHAPE = (3, 8, 7)
SAMPLES = 24


def problem(last: bool, **changes: Any) -> eigencore.Problem:
    """A convolutional network on random images, with the channels first or last."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 6, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(72, 4),
    ).double()
    x = torch.rand(SAMPLES, *SHAPE, dtype=torch.float64)
    y = network(x).argmax(1)

    class ChannelsLast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            return self.network(images.permute(0, 3, 1, 2).contiguous())

    model, images = (ChannelsLast(), x.permute(0, 2, 3, 1).contiguous()) if last else (network, x)
    given = {"bounds": (0, 1), **changes}
    return eigencore.Problem(model, [(images, y)], torch.nn.CrossEntropyLoss(), **given)


def both(name: str, **options: Any) -> tuple[Any, Any, Any, Any]:
    """The results with the channels first and last, and the inputs of both with the channels first."""
    first, last = (attack(problem(one), name, **options) for one in (False, True))
    return first, last, np.asarray(first.inputs), np.moveaxis(np.asarray(last.inputs), -1, 1)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.08), ("L2", 0.35)])
def test_square_fools_the_same_samples_by_the_same_perturbations(norm: str, eps: float) -> None:
    first, last, inputs, moved = both("square", eps=eps, norm=norm, queries=120)
    assert 0.2 < first.success.mean() < 0.95
    np.testing.assert_array_equal(first.success, last.success)
    np.testing.assert_allclose(last.distance, first.distance, rtol=1e-9)
    np.testing.assert_allclose(moved, inputs, atol=1e-9)


def test_the_stated_axis_is_that_of_the_windows() -> None:
    """With another axis taken for the channels, the windows are others."""
    one, other = (
        attack(problem(True, channels=channels), "square", eps=0.08, queries=30)
        for channels in ("last", "first")
    )
    assert not np.allclose(np.asarray(one.inputs), np.asarray(other.inputs))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("foolbox_ddn", {"steps": 20}),
        ("foolbox_pgd", {"steps": 10, "eps": 0.05}),
        ("autoattack_square", {"queries": 60, "eps": 0.08}),
        ("autoattack_apgd_ce", {"steps": 10, "eps": 0.05}),
    ],
)
def test_attacks_of_other_libraries_get_the_channels_first(name: str, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("foolbox" if name.startswith("foolbox") else "pyautoattack")
    first, last, inputs, moved = both(name, **options)
    assert first.success.any()
    np.testing.assert_array_equal(first.success, last.success)
    np.testing.assert_allclose(moved, inputs, atol=1e-6)


def test_what_a_problem_states_wrongly_is_refused() -> None:
    for one in (problem(False), eigencore.problems.find_problem("demo:digits-numpy")):
        with pytest.raises(UsageError, match="channels is 'middle'; expected 'first', 'last' or None"):
            eigencore.bind(replace(one, channels="middle"))
    x, y = problem(False).data[0]
    flat = torch.nn.Linear(168, 4).double()
    rows = eigencore.Problem(flat, [(x.flatten(1), y)], torch.nn.CrossEntropyLoss(), channels="last")
    with pytest.raises(ProblemError, match="no axis of channels"):
        attack(rows, "square", eps=0.1)


def test_bounds_of_each_channel() -> None:
    bounds = ([0.0, -1.0, -2.0], [1.0, 2.0, 3.0])
    first, last = (eigencore.bind(problem(one, bounds=bounds)).classifier() for one in (False, True))
    assert (channel_axis(first), channel_axis(last)) == (0, 2)
    for one, other in zip(first.bounds, last.bounds, strict=True):
        shaped = np.asarray(one).reshape(SHAPE), np.asarray(other).reshape(*SHAPE[1:], 3)
        np.testing.assert_array_equal(shaped[0], np.moveaxis(shaped[1], -1, 0))
