"""Weights from a file that training wrote, read without running anything that is in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError, UsageError
from eigencore_torch.risk import in_words

# Where training scripts put the weights that they save beside other things.
_KEYS = ("state_dict", "model_state_dict", "model")
_SAVE = "Save the weights alone: torch.save(model.state_dict(), FILE)."


def load(model: nn.Module, file: str | Path) -> None:
    """Gives the model the weights and buffers that torch.save wrote: a state_dict, or a dict with one.

    Raises:
        UsageError: there is no such file.
        ProblemError: it is no checkpoint, holds Python objects or NaN, or does not fit the model.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            f"{path} is a folder" if path.is_dir() else f"there is no file {path}",
            hint=f"A checkpoint is a file that torch.save made; paths are seen from {Path.cwd()}.",
        )
    weights = _state_dict(_read(path), path)
    known = model.state_dict()
    weights = _without_prefix(weights, known)
    _refuse_shapes(weights, known, path)
    _refuse_not_finite(weights, path)
    with in_words(f"{path} can't be loaded into the model"):
        missing, unexpected = model.load_state_dict(weights, strict=False)
    _refuse_names(missing, unexpected, path)


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what fails is told below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ProblemError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:
        # Its own message is a screen of advice on how to run what is in there.
        if (found := re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))) is not None:
            raise ProblemError(
                f"{path} holds Python objects beside its weights ({found[1]}), and reading those could run "
                "any code",
                hint=_SAVE,
            ) from error
        raise ProblemError(
            f"{path} is no checkpoint that PyTorch can read, or not a whole one",
            hint="Give a file that torch.save made.",
        ) from error


def _state_dict(read: Any, path: Path) -> dict[str, Any]:
    """What was read, or what stands under one of the usual keys."""
    if isinstance(read, Mapping):
        for one in (*(read.get(key) for key in _KEYS), read):
            if isinstance(one, Mapping) and any(isinstance(value, Tensor) for value in one.values()):
                return {str(key): value for key, value in one.items()}
    what = f"the keys {_few(map(str, read))}" if isinstance(read, Mapping) else f"a {type(read).__name__}"
    raise ProblemError(
        f"{path} holds {what}; expected a state_dict, or one under {', '.join(_KEYS)}", hint=_SAVE
    )


def _without_prefix(weights: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Without a prefix that all share, DataParallel's "module." say, where that makes them the model's."""
    bare = {name.partition(".")[2]: value for name, value in weights.items()}
    shared = len({name.partition(".")[0] for name in weights}) == 1
    return bare if shared and bare.keys() == set(known) != weights.keys() else weights


def _refuse_shapes(weights: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> None:
    for name in filter(weights.__contains__, known):
        ours, theirs = (getattr(x[name], "shape", None) for x in (known, weights))
        if ours is not None and ours != theirs:
            told = "no tensor" if theirs is None else tuple(theirs)
            raise ProblemError(
                f"{name} is {told} in {path}, and {tuple(ours)} in the model",
                hint="Make the model with the settings that it was trained with.",
            )


def _refuse_not_finite(weights: Mapping[str, Any], path: Path) -> None:
    for name, value in weights.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ProblemError(
                f"{name} has NaN or infinite numbers in {path}",
                hint="Take a checkpoint from before the training diverged.",
            )


def _refuse_names(missing: list[str], unexpected: list[str], path: Path) -> None:
    if not missing and not unexpected:
        return
    told = [f"lacks {_few(missing)}"] * bool(missing)
    told += [f"has {_few(unexpected)}, which the model has not"] * bool(unexpected)
    near = ((name, get_close_matches(name, unexpected, n=1, cutoff=0.5)) for name in missing)
    pairs = [f"{match[0]} for {name}" for name, match in near if match]
    raise ProblemError(
        f"{path} does not fit the model: it {' and '.join(told)}",
        hint=f"Nearest: {_few(pairs)}."
        if pairs
        else "Make the model with the settings that it was trained with.",
    )


def _few(names: Iterable[str]) -> str:
    all_of_them = list(names)
    more = f" and {len(all_of_them) - 3} more" if len(all_of_them) > 4 else ""
    return ", ".join(all_of_them[: 3 if more else 4]) + more
