"""Weights from a file: arrays by name in safetensors or .npz, or a pytree that Orbax saved."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eigencore.errors import PluginError, ProblemError, UsageError
from eigencore_jax.models import JaxModel, Weights, is_weight, name_of

_FORMATS = "a .safetensors or .npz file of arrays by name, or a folder that Orbax saved"


def load(file: str | Path, model: JaxModel) -> tuple[Weights, str]:
    """The weights of a checkpoint, by the names of the model, and a note on where they come from.

    Names in the file may have "/" in place of ".", and a prefix such as "params.". Every weight of the model
    must be in the file, in its shape.

    Raises:
        UsageError: the file does not exist.
        ProblemError: it is not a checkpoint, does not match the model, or the model has running statistics,
            which it would not replace.
        PluginError: the package that reads this format is not installed.
    """
    path = Path(file)
    if not path.exists():
        raise UsageError(
            f"the checkpoint {path} does not exist",
            hint=f"Give {_FORMATS}; relative paths are resolved from {Path.cwd()}.",
        )
    if any(is_weight(leaf) for leaf in model.constants):
        raise ProblemError(
            "the model has running statistics besides its weights, which a checkpoint would not replace",
            hint="Load the file into the model, and give that one without a checkpoint.",
        )
    found = {name.replace("/", "."): value for name, value in _read(path).items()}
    prefix = _prefix(found, model.weights)
    missing = [name for name in model.weights if prefix + name not in found]
    if missing:
        nearest = get_close_matches(missing[0], found, n=1, cutoff=0.5) or sorted(found)[:1]
        raise ProblemError(
            f"{path} does not match the model: it lacks {_abbreviated(missing)}",
            hint=f"Check the names; the closest is {nearest[0]}." if nearest else "The file is empty.",
        )
    weights = {name: found[prefix + name] for name in model.weights}
    for name, own in model.weights.items():
        value, expected = weights[name], tuple(own.shape)
        if tuple(value.shape) != expected or not is_weight(value):
            raise ProblemError(
                f"{name} is {value.dtype} {tuple(value.shape)} in {path}; the model has shape {expected}",
                hint="Build the model with the settings that it was trained with.",
            )
    left = sorted(name for name in found if name.startswith(prefix) and name[len(prefix) :] not in weights)
    if left:
        raise ProblemError(
            f"{path} has {_abbreviated(left)}, which the model does not have",
            hint="Build the model with the settings that it was trained with.",
        )
    return weights, f"weights of {path.name}"


def _abbreviated(names: list[str]) -> str:
    return ", ".join(names[:3]) + " and others" * (len(names) > 3)


def _prefix(found: Mapping[str, Any], weights: Weights) -> str:
    """What stands before the names of the model's weights in the file; empty if nothing fits."""
    first = next(iter(weights))
    prefixes = sorted({name[: -len(first)] for name in found if name.endswith(first)}, key=len)
    fitting = (
        p for p in prefixes if (not p or p.endswith(".")) and all(p + name in found for name in weights)
    )
    return next(fitting, "")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.is_dir():
            return _read_orbax(path)
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as saved:
                return {name: saved[name] for name in saved}
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        package = "orbax-checkpoint" if missing == "orbax" else missing
        raise PluginError(
            f"reading {path} needs {missing}, which is not installed", hint=f"Run: pip install {package}"
        ) from error
    except Exception as error:
        raise ProblemError(
            f"{path} can't be read, or it is incomplete: {type(error).__name__}", hint=f"Give {_FORMATS}."
        ) from error
    raise ProblemError(f"{path} is not a checkpoint that the backend jax can read", hint=f"Give {_FORMATS}.")


def _read_orbax(path: Path) -> Mapping[str, Any]:
    from orbax.checkpoint import PyTreeCheckpointer

    leaves, _ = jax.tree_util.tree_flatten_with_path(PyTreeCheckpointer().restore(path.absolute()))
    return {name_of(place): np.asarray(leaf) for place, leaf in leaves if hasattr(leaf, "shape")}
