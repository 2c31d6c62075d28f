"""Networks on normalised inputs: what the hint says to write, and bounds that differ between channels."""

from __future__ import annotations

import textwrap
import warnings
from typing import Any

import numpy as np
import pytest

import eigencore
from eigencore.errors import ProblemError

torch = pytest.importorskip("torch")

MEAN, STD = (torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
EPS = 8 / 255


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any, Any]:
    """A small network trained on normalised images, the images before normalisation, and their labels."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = torch.rand(120, 3, 4, 4)
        y = (x.mean((2, 3))[:, 0] > x.mean((2, 3))[:, 1]).long()
        layers = torch.nn.Linear(48, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
        net = torch.nn.Sequential(torch.nn.Flatten(), *layers)
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(300):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net((x - MEAN) / STD), y).backward()
            optimizer.step()
    return net.eval(), x, y


def accuracy(model: Any, x: Any, y: Any, bounds: Any, eps: float = EPS) -> float:
    problem = eigencore.Problem(model, [(x, y)], torch.nn.CrossEntropyLoss(), bounds=bounds)
    return eigencore.attack(eigencore.bind(problem), "pgd", eps=eps).accuracy


def test_the_lines_of_the_hint_give_the_accuracy_that_foolbox_finds(trained: tuple[Any, Any, Any]) -> None:
    net, x, y = trained
    with pytest.raises(ProblemError, match=r"exceed their bounds by 2\.12") as refused:
        accuracy(net, (x - MEAN) / STD, y, (0, 1))
    hint = str(refused.value.hint)
    code = textwrap.dedent("\n".join(line for line in hint.splitlines() if line.startswith("  ")))
    data, loss = [(x, y)], torch.nn.CrossEntropyLoss()
    names = {"torch": torch, "eigencore": eigencore, "mean": MEAN, "std": STD, "model": net}
    exec(code, names | {"data": data, "loss": loss}, written := {})
    found = eigencore.attack(eigencore.bind(written["problem"]), "pgd", eps=EPS).accuracy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox")
        preprocessing = {"mean": MEAN.ravel().tolist(), "std": STD.ravel().tolist(), "axis": -3}
        peer = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu", preprocessing=preprocessing)
        _, _, fooled = foolbox.attacks.LinfPGD(steps=100)(peer, x, y, epsilons=EPS)
    expected = 1 - float(fooled.double().mean())
    assert 0.5 < expected < 0.9
    assert found == pytest.approx(expected, abs=0.01)


def test_inputs_above_their_bounds_are_not_called_normalised(trained: tuple[Any, Any, Any]) -> None:
    net, x, y = trained
    with pytest.raises(ProblemError, match=r"range from .* to 255") as refused:
        accuracy(net, 255 * x / x.max(), y, (0, 1))
    assert "Normalised" not in str(refused.value.hint)


def test_bounds_per_channel_are_those_of_the_pixels(trained: tuple[Any, Any, Any]) -> None:
    """With one standard deviation for all channels, eps in the units of the network is eps / std."""
    net, x, y = trained
    x, std = x.clone(), 0.25
    x[:, :, 0] = torch.round(x[:, :, 0])  # many pixels on the bounds

    class Normalised(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return (pixels - MEAN) / std

    pixels = [accuracy(torch.nn.Sequential(Normalised(), net), x, y, (0, 1), eps) for eps in (EPS, 3 * EPS)]
    bounds = (0 - MEAN) / std, (1 - MEAN) / std
    channels = [accuracy(net, (x - MEAN) / std, y, bounds, eps / std) for eps in (EPS, 3 * EPS)]
    np.testing.assert_allclose(channels, pixels, atol=1.5 / 120)
    unbounded = accuracy(net, (x - MEAN) / std, y, None, 3 * EPS / std)
    assert unbounded < channels[1] - 0.02


@pytest.mark.parametrize("name", ["pgd", "apgd", "fgsm", "ddn", "fmn", "deepfool"])
def test_every_attack_stays_within_the_bounds_of_each_channel(
    name: str, trained: tuple[Any, Any, Any]
) -> None:
    net, x, y = trained
    low, high = (0 - MEAN) / STD, (1 - MEAN) / STD
    problem = eigencore.Problem(
        net, [((x - MEAN) / STD, y)], torch.nn.CrossEntropyLoss(), bounds=(low.ravel(), high.ravel())
    )
    found = eigencore.attack(
        eigencore.bind(problem), name, **({"eps": 1.0} if name in ("pgd", "apgd", "fgsm") else {})
    )
    assert found.success.any()
    assert bool((found.inputs >= low - 1e-5).all())
    assert bool((found.inputs <= high + 1e-5).all())
    for bound in (low, high):  # bounds that do not limit the attack would show nothing
        assert bool(((found.inputs - bound).abs() < 1e-5).any())
