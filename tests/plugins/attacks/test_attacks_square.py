"""The attack square: its windows, its candidates, and that it needs no gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore import attack
from eigencore.entries import Capability
from eigencore.problems.sharing import ImageAxes, clip_to_bounds, infer_channel_axis
from eigencore.testing.attacks.classifiers import Dense, curved
from eigencore.testing.libraries import library
from eigencore_attacks.active_samples import ActiveSamples
from eigencore_attacks.square import Windows, on_sphere, stripes, tiles, two_bumps, window_size

NUMPY = library("numpy-float64")
IMAGE = (3, 8, 9)
D = 3 * 8 * 9


def windows(
    size: tuple[int, int],
    seed: int = 0,
    batch: int = 6,
    image: tuple[int, int, int] = IMAGE,
    limits: tuple[float, float] | None = None,
) -> tuple[Windows, ActiveSamples]:
    """Windows in random images; with limits, most pixels lie on the lower one."""
    rng, d = np.random.default_rng(seed), math.prod(image)
    x = rng.uniform(size=(batch, d)) * (1 if limits is None else rng.random((batch, d)) < 0.3)
    space = Dense(NUMPY, np.zeros((2, d)), np.zeros(2), x, limits=limits)
    active = ActiveSamples(space, x, np.zeros(batch, int))
    active.best = clip_to_bounds(x + 0.5 * tiles(rng, batch, image).reshape(batch, d), space.bounds)
    return Windows(rng, batch, size, ImageAxes(image, 0), active, space), active


@pytest.mark.parametrize("share", [0.8, 0.1])
def test_the_share_decides_on_the_windows(share: float) -> None:
    """The first windows have the given share of the pixels, and the last ones less."""
    image = (1, 28, 28)
    first, last = (window_size(share / 2**k, image, "Linf") for k in (0, 9))
    assert first[0] * first[1] == pytest.approx(share * 28 * 28, rel=0.05)
    assert last[0] * last[1] <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 4), (2, 9), (8, 9)])
def test_a_candidate_in_linf_changes_one_window_to_signs_of_each_channel(size: tuple[int, int]) -> None:
    window, active = windows(size)
    signs = np.zeros((6, *IMAGE))
    changed = (window.signs_changed(0.1) - active.x).reshape(signs.shape)
    for image, before in zip(changed, (active.best - active.x).reshape(signs.shape), strict=True):
        new = np.abs(image - before) > 1e-12
        rows, columns = np.flatnonzero(new.any((0, 2))), np.flatnonzero(new.any((0, 1)))
        assert (len(rows), len(columns)) == size
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == size
        inside = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_allclose(np.abs(inside), 0.1)
        assert np.all(np.ptp(inside, axis=(1, 2)) < 1e-12)


@pytest.mark.parametrize("limits", [None, (0.0, 1.0)])
@pytest.mark.parametrize("size", [(1, 1), (3, 3)])
def test_every_candidate_in_linf_differs_from_the_best_iterate(
    size: tuple[int, int], limits: tuple[float, float] | None
) -> None:
    """With one channel, half of the windows within a stripe have the drawn signs already."""
    for seed in range(3):
        window, active = windows(size, seed, batch=40, image=(1, 8, 9), limits=limits)
        signs = stripes(np.random.default_rng(seed), 40, (1, 8, 9)).reshape(40, 72)
        active.best = clip_to_bounds(active.x + 0.1 * signs, window._space.bounds)
        assert np.all(np.any(window.signs_changed(0.1) != active.best, axis=1))
        drawn = window._with_sign(0.1)
        assert size != (1, 1) or 0.2 < np.mean(np.all(drawn == active.best, axis=1)) < 0.8


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (4, 6), (8, 9)])
def test_a_candidate_in_l2_has_the_norm_eps_and_differs_in_two_windows(size: tuple[int, int]) -> None:
    for seed in range(4):
        window, active = windows(size, seed)
        before = (active.best - active.x).reshape(6, *IMAGE)
        after = (window.norm_moved(0.5) - active.x).reshape(6, *IMAGE)
        np.testing.assert_allclose(np.linalg.norm(after.reshape(6, -1), axis=1), 0.5)
        changed = (np.abs(after - before) > 1e-9).any(1).sum((1, 2))
        assert np.all(changed <= 2 * size[0] * size[1])
        assert np.all(changed >= min(size))


def test_what_the_bounds_cut_off_is_given_back_in_l2() -> None:
    """The distance is the radius unless the bounds leave no room for it."""
    for seed in range(4):
        window, active = windows((5, 5), seed, limits=(0.0, 1.0))
        candidate = window.norm_moved(0.5)
        assert 0 <= candidate.min() <= candidate.max() <= 1
        np.testing.assert_allclose(np.linalg.norm(candidate - active.x, axis=1), 0.5, rtol=2e-3)
        assert np.linalg.norm(candidate - active.x, axis=1).max() <= 0.5 * (1 + 1e-12)
    corner, bounds = np.zeros((1, 4)), (np.zeros(4), np.ones(4))
    change = np.array([[2.0, 1.0, -1.0, 0.0]])
    np.testing.assert_allclose(on_sphere(corner, change, 0.5, bounds), [[0.2 * 5**0.5, 0.1 * 5**0.5, 0, 0]])
    np.testing.assert_allclose(on_sphere(corner, change, 9.0, bounds), [[1, 1, 0, 0]])


def test_the_starts_are_on_the_surface_of_the_ball() -> None:
    rng = np.random.default_rng(0)
    assert np.all(np.abs(stripes(rng, 5, IMAGE)) == 1)
    assert np.ptp(stripes(rng, 5, IMAGE), axis=2).max() == 0
    for image in (IMAGE, (1, 1, 7), (1, 28, 28)):
        np.testing.assert_allclose(np.linalg.norm(tiles(rng, 5, image).reshape(5, -1), axis=1), 1)


def test_a_window_has_two_bumps_of_opposite_signs_and_norm_1() -> None:
    for size in ((7, 7), (3, 3), (1, 8), (5, 9)):
        window = two_bumps(*size)
        assert np.linalg.norm(window) == pytest.approx(1)
        half = size[1] // 2
        assert np.all(window[:, :half] > 0)
        assert np.all(window[:, half:] < 0)
    assert two_bumps(1, 1).tolist() == [[-1.0]]


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((3, 8, 9), IMAGE),
        ((8, 9, 3), IMAGE),
        ((8, 9), (1, 8, 9)),
        ((7,), (1, 1, 7)),
        ((2, 3, 4, 5), (2, 1, 60)),
    ],
)
def test_windows_of_inputs_as_images(shape: tuple[int, ...], image: tuple[int, int, int]) -> None:
    assert ImageAxes(shape, infer_channel_axis(shape)).sizes == image
    for share in (1.0, 0.3, 1e-4):
        height, width = window_size(share, image, "Linf")
        assert 1 <= height <= image[1]
        assert 1 <= width <= image[2]
        assert abs(height * width - share * image[1] * image[2]) <= max(image[1:])


def test_it_runs_without_gradients() -> None:
    classifier = curved(NUMPY)

    class Logits:
        capabilities = frozenset({Capability.LOGITS})

        def classifier(self, dtype: Any = None) -> Any:
            return classifier

    found = attack(Logits(), "square", eps=0.3, queries=200)
    assert found.success.any()
    assert found.backward == 0


def test_quantised_inputs_mask_gradients_but_not_this_attack() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    inner = eigencore.problems.find_problem("demo:digits").model

    class Quantised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return self.inner(torch.round(8 * x) / 8)

    bound = eigencore.bind("demo:digits")
    x, y = bound.classifier().samples(60)
    problem = eigencore.Problem(
        Quantised(),
        [(x.reshape(-1, *bound.classifier().shape), y)],
        torch.nn.CrossEntropyLoss(),
        bounds=(0, 1),
    )
    blind, found = (attack(problem, name, eps=0.15) for name in ("pgd", "square"))
    assert found.accuracy < blind.accuracy - 0.2
