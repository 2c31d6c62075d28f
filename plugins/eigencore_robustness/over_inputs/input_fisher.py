"""The spectral norm of each sample's Fisher matrix over the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from eigencore import arrays
from eigencore.objectives import Margin
from eigencore_robustness.samples import batches

if TYPE_CHECKING:
    from eigencore.interfaces import Classifier
    from eigencore.space import Array, Floats


def fisher_norms(classifier: Classifier, x: Array, y: Array, batch: int) -> Floats:
    """The largest eigenvalue (N,) of J' S J, for the Jacobian J of the logits and S = diag(p) - p p'.

    It is the Fisher matrix of the predicted distribution with respect to the input (Zhao et al. 2019, "The
    Adversarial Attack and Detection under the Fisher Information Metric", AAAI), and the Gauss-Newton part of
    the Hessian of the cross-entropy; for a piecewise linear network it is all of that Hessian. Since S 1 = 0,
    J may be replaced by the gradients of the margins, and J' S J has the same eigenvalues as the small matrix
    R' J J' R with S = R R'. It takes one gradient per class.
    """
    return np.concatenate([_norms(classifier, *rows) for _, *rows in batches(x, y, batch)])


def _norms(classifier: Classifier, x: Array, y: Array) -> Floats:
    slopes = [classifier.value_and_grad(Margin(k), x, y)[1] for k in range(classifier.classes)]
    J = np.stack([arrays.to_host(slope) for slope in slopes], axis=1)  # (b, c, d)
    p = special.softmax(arrays.to_host(classifier.logits(x)).astype(np.float64), axis=1)
    S = -p[:, :, None] * p[:, None, :]
    classes = np.arange(p.shape[1])
    S[:, classes, classes] = 0.0
    # 1 - p_k would be nothing but rounding errors where the network is certain of class k.
    S[:, classes, classes] = -S.sum(axis=2)
    values, vectors = np.linalg.eigh(S)
    R = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    inner = np.swapaxes(R, 1, 2) @ (J @ np.swapaxes(J, 1, 2)) @ R
    return np.asarray(np.linalg.eigvalsh(inner)[:, -1])
