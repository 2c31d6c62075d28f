"""Loading weights from a checkpoint file into a model, without running any code that the file contains."""

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
from eigencore_torch.user_errors import explain_errors

# The keys under which training scripts save the weights together with other things.
_KEYS = ("state_dict", "model_state_dict", "model")
_SAVE_HINT = "Save only the weights: torch.save(model.state_dict(), FILE)."
_SETTINGS_HINT = "Build the model with the settings that it was trained with."


def load(model: nn.Module, file: str | Path) -> None:
    """Loads the weights and buffers of a file written by torch.save: a state_dict, or a dict with one.

    Raises:
        UsageError: the file does not exist.
        ProblemError: the file is not a checkpoint, contains Python objects or NaN, or does not match the
            model.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            f"{path} is a folder; expected a checkpoint file"
            if path.is_dir()
            else f"the checkpoint file {path} does not exist",
            hint=f"Give a file written by torch.save; relative paths are resolved from {Path.cwd()}.",
        )
    weights = _state_dict(_read(path), path)
    known = model.state_dict()
    weights = _without_prefix(weights, known)
    _refuse_shapes(weights, known, path)
    _refuse_not_finite(weights, path)
    with explain_errors(f"{path} can't be loaded into the model"):
        missing, unexpected = model.load_state_dict(weights, strict=False)
    _refuse_names(missing, unexpected, path)


def _read(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # failures are reported below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ProblemError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:
        # PyTorch's own message is a screen of advice on how to run the code in the file.
        if (global_name := re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))) is not None:
            raise ProblemError(
                f"{path} contains Python objects besides the weights ({global_name[1]}), and loading them "
                "could run arbitrary code",
                hint=_SAVE_HINT,
            ) from error
        raise ProblemError(
            f"{path} is not a checkpoint that PyTorch can read, or it is incomplete",
            hint="Give a file written by torch.save.",
        ) from error


def _state_dict(loaded: Any, path: Path) -> dict[str, Any]:
    """The loaded object, or its value under one of the usual keys."""
    if isinstance(loaded, Mapping):
        for candidate in (*(loaded.get(key) for key in _KEYS), loaded):
            if isinstance(candidate, Mapping) and any(isinstance(x, Tensor) for x in candidate.values()):
                return {str(key): value for key, value in candidate.items()}
    keys = isinstance(loaded, Mapping)
    content = f"the keys {_abbreviated(map(str, loaded))}" if keys else f"a {type(loaded).__name__}"
    raise ProblemError(
        f"{path} contains {content}; expected a state_dict, or a dict with one under {', '.join(_KEYS)}",
        hint=_SAVE_HINT,
    )


def _without_prefix(weights: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The weights without a prefix that all names share, if the names then match those of the model.

    DataParallel, for example, adds the prefix "module.".
    """
    bare = {name.partition(".")[2]: value for name, value in weights.items()}
    shared = len({name.partition(".")[0] for name in weights}) == 1
    return bare if shared and bare.keys() == set(known) != weights.keys() else weights


def _refuse_shapes(weights: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> None:
    for name in filter(weights.__contains__, known):
        expected, given = (getattr(x[name], "shape", None) for x in (known, weights))
        if expected is not None and expected != given:
            actual = "is not a tensor" if given is None else f"has shape {tuple(given)}"
            raise ProblemError(
                f"{name} {actual} in {path}; expected {tuple(expected)} as in the model",
                hint=_SETTINGS_HINT,
            )


def _refuse_not_finite(weights: Mapping[str, Any], path: Path) -> None:
    for name, value in weights.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ProblemError(
                f"{name} contains NaN or infinite values in {path}",
                hint="Use a checkpoint from before the training diverged.",
            )


def _refuse_names(missing: list[str], unexpected: list[str], path: Path) -> None:
    if not missing and not unexpected:
        return
    differences = [f"lacks {_abbreviated(missing)}"] * bool(missing)
    differences += [f"has {_abbreviated(unexpected)}, which the model does not have"] * bool(unexpected)
    nearest = ((name, get_close_matches(name, unexpected, n=1, cutoff=0.5)) for name in missing)
    pairs = [f"{match[0]} for {name}" for name, match in nearest if match]
    raise ProblemError(
        f"{path} does not match the model: it {' and '.join(differences)}",
        hint=f"Check the names; the closest are {_abbreviated(pairs)}." if pairs else _SETTINGS_HINT,
    )


def _abbreviated(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 4 else ""
    return ", ".join(listed[: 3 if more else 4]) + more
