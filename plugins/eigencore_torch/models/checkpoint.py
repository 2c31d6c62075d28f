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
from eigencore_torch.data.batches import type_name
from eigencore_torch.models.checkpoint_names import KEYS, Candidate, candidates
from eigencore_torch.models.number_types import count_not_finite, is_computed_with
from eigencore_torch.user_errors import explain_errors

_SAVE_HINT = "Save only the weights: torch.save(model.state_dict(), FILE)."
_SETTINGS_HINT = "Build the model with the settings that it was trained with."


def load(model: nn.Module, file: str | Path) -> str:
    """Loads the weights and buffers of a file written by torch.save: a state_dict, or a dict with one.

    The names in the file may have a prefix, such as "module." of DataParallel or "model." in a file by
    Lightning. Every name of the model must be in the file. Entries with that prefix that the model does not
    have are an error; entries without it belong to something else and are ignored.

    Returns:
        Where the weights come from and what was ignored: "weights of last.ckpt".

    Raises:
        UsageError: the file does not exist.
        ProblemError: the file is not a checkpoint, contains Python objects or NaN, does not match the model,
            or contains several sets of weights that do.
    """
    path = Path(file)
    if not path.is_file():
        raise UsageError(
            f"{path} is a folder; expected a checkpoint file"
            if path.is_dir()
            else f"the checkpoint file {path} does not exist",
            hint=f"Give a file written by torch.save; relative paths are resolved from {Path.cwd()}.",
        )
    known = model.state_dict(keep_vars=True)
    found = _choose(read(path), known, path)
    with explain_errors(f"{path} can't be loaded into the model"):
        weights = {name: found.values[entry] for name, entry in found.entries.items()}
        for name in filter(weights.__contains__, known):
            _check_value(name, weights[name], known[name], path)
        _complete_tied(weights, known, path)
        missing, unexpected = model.load_state_dict(weights, strict=False)
    _refuse_names(missing, unexpected, found, path)
    place = "" if found.usual else f" under {found.place}"
    ignored = f", without its entries {_abbreviated(found.ignored)}" if found.ignored else ""
    return f"weights of {path.name}{place}{ignored}"


def read(path: Path) -> Any:
    """What a file by torch.save contains, without running any code in it.

    Raises:
        ProblemError: the file can't be read, or contains Python objects.
    """
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
                hint=f"{_SAVE_HINT} If you trust the file, read its weights with torch.load(FILE, "
                "weights_only=False), and save them in a file of their own.",
            ) from error
        raise ProblemError(
            f"{path} is not a checkpoint that PyTorch can read, or it is incomplete",
            hint="Give a file written by torch.save.",
        ) from error


def _choose(loaded: Any, known: Mapping[str, Any], path: Path) -> Candidate:
    """The entries of the file that are the model's weights, or that come closest.

    Raises:
        ProblemError: there are no weights in the file, or several sets of weights that match the model.
    """
    found = candidates(loaded, known) if isinstance(loaded, Mapping) else []
    if not found:
        keys = isinstance(loaded, Mapping)
        content = f"the keys {_abbreviated(map(str, loaded))}" if keys else f"a {type(loaded).__name__}"
        raise ProblemError(
            f"{path} contains {content}; expected a state_dict, or a dict with one under {', '.join(KEYS)}",
            hint=_SAVE_HINT,
        )
    chosen = [one for one in found if one.usual] or found
    if len(chosen) > 1:
        raise ProblemError(
            f"{path} contains {len(chosen)} sets of weights that match the model, under "
            f"{_abbreviated(one.place for one in chosen)}",
            hint="Save the one to use in a file of its own, under the model's names.",
        )
    return chosen[0]


def _check_value(name: str, value: Any, expected: Any, path: Path) -> None:
    """Refuses a value of another shape, of a type that would not keep its numbers, or that is not finite."""
    if not isinstance(expected, Tensor):
        return  # extra state, which is for the module itself to read
    if not isinstance(value, Tensor) or value.shape != expected.shape:
        actual = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else "is not a tensor"
        raise ProblemError(
            f"{name} {actual} in {path}; expected {tuple(expected.shape)} as in the model",
            hint=_SETTINGS_HINT,
        )
    if not _keeps_numbers(value, expected):
        raise ProblemError(
            f"{name} is {type_name(value.dtype)} in {path}; expected {type_name(expected.dtype)} as in the "
            "model",
            hint=_SETTINGS_HINT,
        )
    # A buffer may be infinite, for example an attention mask.
    if count_not_finite(value, allow_infinite=not isinstance(expected, nn.Parameter)):
        raise ProblemError(
            f"{name} contains NaN or infinite values in {path}",
            hint="Use a checkpoint from before the training diverged.",
        )


def _keeps_numbers(value: Tensor, expected: Tensor) -> bool:
    """Whether the numbers stay the same in the type of the model, apart from rounding where it computes."""
    if value.dtype == expected.dtype:
        return True
    if is_computed_with(expected):
        return value.is_complex() if expected.is_complex() else value.is_floating_point()
    if value.is_quantized or expected.is_quantized or value.is_complex():
        return False
    return torch.equal(value.to(expected.dtype).to(value.dtype), value)


def _complete_tied(weights: dict[str, Any], known: Mapping[str, Any], path: Path) -> None:
    """Gives a tied weight that the file has under one of its names its other names as well.

    Raises:
        ProblemError: the file has different values under two of its names.
    """
    first: dict[int, str] = {}
    for name in filter(weights.__contains__, known):
        other = first.setdefault(id(known[name]), name)
        if isinstance(known[name], Tensor) and not torch.equal(weights[name], weights[other]):
            raise ProblemError(
                f"{other} and {name} are one weight in the model, but differ in {path}", hint=_SETTINGS_HINT
            )
    for name, value in known.items():
        if isinstance(value, Tensor) and name not in weights and id(value) in first:
            weights[name] = weights[first[id(value)]]


def _refuse_names(missing: list[str], unexpected: list[str], found: Candidate, path: Path) -> None:
    if not missing and not unexpected:
        return
    left = [found.entries.get(name, name) for name in unexpected]
    if missing:
        left += found.ignored
    differences = [f"lacks {_abbreviated(missing)}"] * bool(missing)
    differences += [f"has {_abbreviated(left)}, which the model does not have"] * bool(left)
    nearest = ((name, get_close_matches(name, left, n=1, cutoff=0.5)) for name in missing)
    pairs = [f"{match[0]} for {name}" for name, match in nearest if match]
    raise ProblemError(
        f"{path} does not match the model: it {' and '.join(differences)}",
        hint=f"Check the names; the closest are {_abbreviated(pairs)}." if pairs else _SETTINGS_HINT,
    )


def _abbreviated(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 4 else ""
    return ", ".join(listed[: 3 if more else 4]) + more
