"""Runs attacks on the samples of a study, or on some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eigencore import arrays

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from eigencore.interfaces import Classifier
    from eigencore.results import AttackResult
    from eigencore.space import Array


@dataclass(frozen=True)
class Attacker:
    """What every attack of a study is given.

    Attributes:
        attack: `AnalysisContext.attack`.
        classifier: the network, in the precision of the attacks.
        x, y: the samples (N, d) and their labels (N,).
        batch: the number of samples that are attacked at once.
        seed: the seed of the attacks.
    """

    attack: Callable[..., AttackResult]
    classifier: Classifier
    x: Array
    y: Array
    batch: int
    seed: int

    def run(
        self,
        name: str,
        rows: npt.NDArray[np.intp] | None = None,
        *,
        classifier: Classifier | None = None,
        inputs: bool = False,
        **options: Any,
    ) -> AttackResult:
        """Runs an attack.

        Args:
            name: the name of the attack.
            rows: the samples to attack, by index; None: all.
            classifier: used in place of that of the study.
            inputs: whether the result keeps its adversarial inputs, which take the most memory.
            **options: the arguments and options of the attack.
        """
        x, y = (self.x, self.y) if rows is None else (arrays.rows(part, rows) for part in (self.x, self.y))
        result = self.attack(
            name,
            samples=(x, y),
            batch=self.batch,
            seed=self.seed,
            classifier=classifier or self.classifier,
            **options,
        )
        return result if inputs else replace(result, inputs=None)
