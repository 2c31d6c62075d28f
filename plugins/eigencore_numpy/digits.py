"""A small two-layer network trained on the 1,797 handwritten digits that scikit-learn includes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore.problems.sharing import handwritten_digits, requires_extras, split_batches
from eigencore_numpy.network import PARAMETERS, TwoLayer

WEIGHTS = Path(__file__).with_name("digits.npz")
TRAINING, BATCH = 1437, 256


def make() -> Problem:
    """The problem `demo:digits-numpy`, with weights from `python -m eigencore_numpy.train_digits`.

    Raises:
        PluginError: scikit-learn is missing.
    """
    with requires_extras("demo:digits-numpy", "demo"):
        x, y = handwritten_digits()
    with np.load(WEIGHTS, allow_pickle=False) as saved:
        network = TwoLayer(**saved)
    correct = network.logits(x[TRAINING:].reshape(-1, network.inputs)).argmax(1) == y[TRAINING:]
    weights = sum(getattr(network, name).size for name in PARAMETERS)
    return Problem(
        model=network,
        data=split_batches(x[:TRAINING], y[:TRAINING], BATCH),
        loss=CrossEntropy(),
        validation=[(x[TRAINING:], y[TRAINING:])],
        bounds=(0.0, 1.0),
        name="demo:digits-numpy",
        reduction="mean",
        backend="numpy",
        description=f"two layers, softplus, {weights:,} weights · {TRAINING:,} images of 8x8 · "
        f"test accuracy {100 * correct.mean():.1f} %",
    )
