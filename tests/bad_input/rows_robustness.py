"""Arguments, options and samples of attacks and of the analysis robustness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row

import eigencore
from eigencore.errors import (
    CapabilityError,
    EigencoreError,
    OptionError,
    ProblemError,
    UnknownNameError,
    UsageError,
)
from eigencore.problems import find_factory

NAN = float("nan")


def attacked(
    given: str,
    *words: str,
    error: type[EigencoreError] = UsageError,
    of: str = "classifier",
    attack: str = "pgd",
    **keywords: Any,
) -> Row:
    def python() -> Any:
        return eigencore.attack(eigencore.bind(find_factory(f"made.py:{of}")()), attack, **keywords)

    return Row(given, error, words, python)


def analysed(
    given: str,
    *words: str,
    of: str = "classifier",
    flags: tuple[str, ...] = (),
    options: dict[str, Any] | None = None,
    prepare: Callable[[Path], object] = lambda folder: None,
    code: int = 1,
    error: type[EigencoreError] | None = None,
) -> Row:
    """A run of robustness. If it fails, the eigenpairs are kept, and the message is printed with them."""
    asked = {"robustness": options} if options else {}

    def python() -> Any:
        return eigencore.analyze(find_factory(f"made.py:{of}")(), k=1, analyses="robustness", options=asked)

    return Row(
        given,
        error,
        words,
        python,
        ("analyze", f"made.py:{of}", "-k", "1", "--analyses", "robustness", *flags),
        code=code if error is None else None,
        prepare=prepare,
    )


def npy(values: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "own.npy", values)


ROWS = [
    # -- arguments of an attack
    attacked("no eps", "eps is None", "8/255"),
    attacked("eps negative", "eps is -0.1", eps=-0.1),
    attacked("eps NaN", "eps is nan", eps=NAN),
    attacked("eps infinite", "eps is inf", eps=float("inf")),
    attacked("eps is text", "eps is '0.1'", eps="0.1"),
    attacked("eps is a boolean", "eps is True", eps=True),
    attacked("eps for a smallest perturbation", "eps is 0.1", "Leave eps out", attack="ddn", eps=0.1),
    attacked("an unknown norm", "pgd.norm is 'L1'", "'L2'", error=OptionError, eps=0.1, norm="L1"),
    attacked(
        "a norm that the attack does not have", "norm", error=UnknownNameError, attack="ddn", norm="Linf"
    ),
    attacked("no steps", "pgd.steps is 0", error=OptionError, eps=0.1, steps=0),
    attacked("a misspelt option of an attack", "stepz", "steps", error=UnknownNameError, eps=0.1, stepz=3),
    attacked("a misspelt attack", "pdg", "Did you mean pgd", error=UnknownNameError, attack="pdg", eps=0.1),
    attacked(
        "a solver in place of an attack", "lanczos is a solver", error=UnknownNameError, attack="lanczos"
    ),
    attacked("an attack's seed negative", "seed is -1", eps=0.1, seed=-1),
    attacked("an attack on no images", "images is 0", eps=0.1, images=0),
    attacked("an attack in batches of 0", "batch is 0", eps=0.1, batch=0),
    attacked(
        "samples of another width", "(3, 5)", "(N, 4)", eps=0.1, samples=(np.zeros((3, 5)), np.zeros(3))
    ),
    attacked("labels of another length", "(2,)", eps=0.1, samples=(np.zeros((3, 4)), np.zeros(2))),
    attacked("sample labels out of range", "0 to 2", eps=0.1, samples=(np.zeros((3, 4)), np.full(3, 3))),
    attacked("samples that are one array", "samples", eps=0.1, samples=np.zeros(4)),
    attacked("no samples", "samples", eps=0.1, samples=(np.zeros((0, 4)), np.zeros(0))),
    attacked(
        "samples outside the bounds",
        "outside the problem's bounds",
        error=ProblemError,
        eps=0.1,
        samples=(np.full((3, 4), 2.0), np.zeros(3)),
    ),
    attacked(
        "samples of NaN", "finite", error=ProblemError, eps=0.1, samples=(np.full((3, 4), NAN), np.zeros(3))
    ),
    attacked("an attack on a regression", "needs", error=CapabilityError, of="column", eps=0.1),
    Row(
        "an attack on a matrix",
        CapabilityError,
        ("pgd needs", "products"),
        lambda: eigencore.attack(eigencore.bind(eigencore.Problem(operator=np.eye(3))), "pgd", eps=0.1),
    ),
    # -- the samples of robustness
    analysed("inputs outside their bounds", "batch 0 of data", "0.5", of="inputs_outside_their_bounds"),
    analysed("NaN in the validation data", "batch 1 of validation", "NaN", of="nan_in_validation"),
    analysed(
        "labels out of range in the validation data",
        "label 3",
        "batch 2 of validation",
        of="validation_label_too_high",
    ),
    analysed("all samples misclassified", "no sample is classified correctly", of="all_misclassified"),
    analysed("one class only", "No conclusion", of="one_class_only", code=0),
    analysed("a single sample", "No conclusion", of="a_single_sample", code=0),
    analysed("probabilities in place of logits", "outputs are probabilities", of="probabilities", code=0),
    analysed(
        "no validation data",
        "robustness needs",
        "validation is empty",
        of="empty_validation",
        error=CapabilityError,
    ),
    # -- its options
    analysed(
        "a radius of 0",
        "robustness.eps is",
        error=OptionError,
        flags=("--set", "robustness.eps=0"),
        options={"eps": 0.0},
    ),
    analysed(
        "a radius of text",
        "robustness.eps is 'a,b'",
        error=OptionError,
        flags=("--set", "robustness.eps=a,b"),
        options={"eps": "a,b"},
    ),
    analysed(
        "one image",
        "robustness.images is",
        "at least 2",
        error=OptionError,
        flags=("--set", "robustness.images=1"),
        options={"images": 1},
    ),
    analysed(
        "a missing file of distances",
        "no file own.npy",
        error=OptionError,
        flags=("--set", "robustness.distances=own.npy"),
        options={"distances": "own.npy"},
    ),
    analysed(
        "distances of another length",
        "(3,)",
        "(24,)",
        flags=("--set", "robustness.distances=own.npy"),
        options={"distances": "own.npy"},
        code=2,
        prepare=npy(np.ones(3)),
    ),
    analysed(
        "distances of NaN",
        "NaN or negative",
        flags=("--set", "robustness.distances=own.npy"),
        options={"distances": "own.npy"},
        code=2,
        prepare=npy(np.full(24, NAN)),
    ),
    analysed(
        "distances in a text file",
        "own.npy",
        flags=("--set", "robustness.distances=own.npy"),
        options={"distances": "own.npy"},
        code=2,
        prepare=lambda folder: (folder / "own.npy").write_text("1\n2\n"),
    ),
    analysed(
        "distances that are text",
        "expected numbers",
        flags=("--set", "robustness.distances=own.npy"),
        options={"distances": "own.npy"},
        code=2,
        prepare=npy(np.full(24, "far")),
    ),
]
