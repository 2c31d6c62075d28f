"""A small trained two-layer network on real handwritten digits: 1,797 images that scikit-learn brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from eigencore.errors import PluginError
from eigencore.interfaces import Problem
from eigencore.objectives import CrossEntropy
from eigencore_numpy.network import Numbers, TwoLayer

WEIGHTS = Path(__file__).with_name("digits.npz")
TRAINING, BATCH = 1437, 256


def make() -> Problem:
    """The problem `demo:digits-numpy`; its weights were made by `python -m eigencore_numpy.train_digits`.

    Raises:
        PluginError: scikit-learn is missing.
    """
    try:
        x, y = images()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise PluginError(
            f"demo:digits-numpy needs {missing}", hint='pip install "eigencore[demo]"'
        ) from error
    with np.load(WEIGHTS, allow_pickle=False) as saved:
        network = TwoLayer(**saved)
    correct = network.logits(x[TRAINING:].reshape(-1, network.inputs)).argmax(1) == y[TRAINING:]
    weights = sum(weights.size for weights in (network.W1, network.b1, network.W2, network.b2))
    batches = [slice(i, min(i + BATCH, TRAINING)) for i in range(0, TRAINING, BATCH)]
    return Problem(
        model=network,
        data=[(x[i], y[i]) for i in batches],
        loss=CrossEntropy(),
        validation=[(x[TRAINING:], y[TRAINING:])],
        bounds=(0.0, 1.0),
        name="demo:digits-numpy",
        reduction="mean",
        backend="numpy",
        description=f"two layers, softplus, {weights:,} weights · {TRAINING:,} images of 8x8 · "
        f"test accuracy {100 * correct.mean():.1f} %",
    )


def images() -> tuple[Numbers, npt.NDArray[np.int64]]:
    """All images (1797, 8, 8), pixels from 0 to 1, and their labels, shuffled; the training ones first."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # This old generator is the one whose numbers NumPy promises never to change.
    order = np.random.RandomState(0).permutation(len(digits.target))
    return (digits.images[order] / 16).astype(np.float32), digits.target[order].astype(np.int64)
