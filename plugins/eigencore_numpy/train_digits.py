"""Trains the network of `demo:digits-numpy` and writes its weights (a few seconds):

    python -m eigencore_numpy.train_digits

With the same versions of NumPy and SciPy on the same type of processor, the file is identical.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from eigencore.objectives import CrossEntropy
from eigencore.problems.sharing import handwritten_digits
from eigencore_numpy.digits import TRAINING, WEIGHTS
from eigencore_numpy.layout import select
from eigencore_numpy.network import PARAMETERS, Numbers, Pass, TwoLayer

HIDDEN, DECAY, STEPS = 64, 3e-4, 500


def train(steps: int = STEPS, seed: int = 0) -> TwoLayer:
    """The network after L-BFGS on the cross-entropy of the training images plus DECAY/2 |weights|^2."""
    images, labels = handwritten_digits()
    x, y = images[:TRAINING].reshape(TRAINING, -1).astype(np.float64), labels[:TRAINING]
    layout = select(initial_network(seed))
    sample_weights = np.full(TRAINING, 1 / TRAINING)

    def loss(w: Numbers) -> tuple[float, Numbers]:
        passed = Pass(layout.unflatten(w), CrossEntropy(), x, y, sample_weights)
        value = float(np.sum(passed.values())) + DECAY / 2 * float(w @ w)
        return value, layout.flatten(passed.weight_gradient()) + DECAY * w

    found = minimize(
        loss, layout.flatten(layout.network), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    )
    return layout.unflatten(found.x).astype(np.float32)


def initial_network(seed: int) -> TwoLayer:
    """A network with random weights and zero biases."""
    rng = np.random.default_rng(seed)
    W1 = rng.standard_normal((HIDDEN, 64)) / np.sqrt(64)
    W2 = rng.standard_normal((10, HIDDEN)) / np.sqrt(HIDDEN)
    return TwoLayer(W1, np.zeros(HIDDEN), W2, np.zeros(10))


def save(network: TwoLayer, path: Path = WEIGHTS) -> None:
    """Writes the weights to a compressed .npz file, one array per parameter."""
    np.savez_compressed(path, **{name: getattr(network, name) for name in PARAMETERS})


def main() -> None:
    """Trains, saves, and prints the loss and accuracy on the training and test images."""
    network = train()
    save(network)
    x, y = handwritten_digits()
    for name, part in {"training": slice(TRAINING), "test": slice(TRAINING, None)}.items():
        logits, labels = network.logits(x[part].reshape(-1, network.inputs)), y[part]
        loss, correct = CrossEntropy().value(logits, labels).mean(), logits.argmax(1) == labels
        print(f"{name}: loss {loss:.4f}, accuracy {100 * correct.mean():.1f} %")


if __name__ == "__main__":
    main()
