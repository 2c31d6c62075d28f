"""Whether runs are of one operator, and whether their eigenvalues agree within their certificates."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore.runs.eigen_text import of_a_sample

if TYPE_CHECKING:
    from eigencore.results import EigenResult, Run
    from eigencore.space import Floats


def of_one_operator(runs: Mapping[str, Run]) -> bool | None:
    """Whether all runs are of one operator; None if that is not known.

    The kind with its options, the parameters and the size are compared, and what the problem is: by the
    digest of its weights and data if the runs have one, otherwise by its registered name and keywords.
    """
    found = [_same(a, b) for a, b in combinations(runs.values(), 2)]
    if False in found:
        return False
    return None if None in found else True


def _same(a: Run, b: Run) -> bool | None:
    if _kind(a) != _kind(b):
        return False
    digests, names = (a.manifest.get("digest"), b.manifest.get("digest")), (_name(a), _name(b))
    if None not in digests:
        return digests[0] == digests[1]
    # Weights and data of a model that was given from Python, or by a file, may have changed.
    return names[0] == names[1] if None not in names else None


def _kind(run: Run) -> tuple[Any, ...]:
    operator = run.manifest.get("operator") or {}
    kind = operator.get("kind")
    n = operator.get("n") if run.pairs is None else run.pairs.n
    return kind, operator.get("params"), n, run.manifest.get("options", {}).get(kind)


def _name(run: Run) -> tuple[str, Any] | None:
    """The registered name of the problem, and the keywords of its factory; None if it has no such name."""
    arguments = run.manifest.get("arguments", {})
    name = arguments.get("problem")
    if not isinstance(name, str) or name.startswith("<") or "." in name or "/" in name:
        return None
    return name, (arguments.get("options") or {}).get("problem")


def agreement(runs: Mapping[str, Run]) -> str:
    """A sentence on the eigenvalues of the runs; empty if fewer than two have any."""
    eigens = {
        name: run.pairs for name, run in runs.items() if run.pairs is not None and len(run.pairs.values)
    }
    if len(eigens) < 2:
        return ""
    one = of_one_operator(runs)
    if one is False:
        return "Their operators differ, so their eigenvalues need not agree."
    if len({eigen.which for eigen in eigens.values()}) > 1:
        return "They are of different ends of the spectrum."
    if len({eigen.k for eigen in eigens.values()}) > 1 and next(iter(eigens.values())).which == "BE":
        return "They have different numbers of eigenvalues of both ends, which are not compared."
    sampled = [name for name, eigen in eigens.items() if of_a_sample(eigen)]
    if sampled:
        return (
            f"{' and '.join(sampled)} used a sample of the data, so that the eigenvalues differ by sampling."
        )
    return _differences(eigens, known=one is True)


def _differences(eigens: Mapping[str, EigenResult], known: bool) -> str:
    largest, apart, certified = 0.0, [], True
    for (a, first), (b, second) in combinations(eigens.items(), 2):
        count = min(len(first.values), len(second.values))
        values, others = _compared(first, count), _compared(second, count)
        difference = np.abs(values - others)
        scale = float(np.abs(values).max()) or 1.0
        largest = max(largest, float(difference.max()) / scale)
        bounds = (first.certificate.bound, second.certificate.bound)
        if bounds[0] is None or bounds[1] is None:
            certified = False
        elif float(difference.max()) > bounds[0] + bounds[1]:
            apart.append(f"{a} and {b}")
    size = f"differ by at most {largest:.2g} of the largest" if largest else "are equal"
    if not known:
        reason = "the weights and data were not recorded"
        return f"Whether they are of one operator is not known, because {reason}. Their eigenvalues {size}."
    text = f"They are of one operator, and their eigenvalues {size}"
    if apart:
        return (
            f"{text}, which is more than the certificates of {'; '.join(apart)} account for: one of two runs "
            "missed an eigenvalue."
        )
    return f"{text}{', within their certificates' if certified and largest else ''}."


def _compared(eigen: EigenResult, count: int) -> Floats:
    """The first eigenvalues in an order that rounding does not change; of largest magnitude, magnitudes."""
    if eigen.which == "LM":
        return np.sort(np.abs(eigen.values))[::-1][:count]
    return np.sort(eigen.values) if eigen.which == "BE" else eigen.values[:count]
