"""Finding a model's weights among the entries of a checkpoint, whose names may have prefixes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# The keys under which training scripts save the weights, and their running average, with other things.
KEYS = ("state_dict", "model_state_dict", "model", "net", "module")
_AVERAGE_KEYS = ("ema", "model_ema", "state_dict_ema", "ema_state_dict")
# What wrappers add to names, before all of them or before those of a part of the model.
_WRAPPERS = ("module", "_orig_mod", "_module")
_PREFIXES = (*_WRAPPERS, "model", "net")
# Entries that wrappers add and that are no weights: AveragedModel counts the models that it averages.
_COUNTERS = ("n_averaged",)
# Entries that old files lack, and that no loss in evaluation mode depends on.
_OPTIONAL = "num_batches_tracked"


@dataclass(frozen=True)
class Candidate:
    """Entries under one key of a file and with one prefix, as the weights of a model.

    Attributes:
        key, prefix: where the entries are; empty for the whole file and for no prefix.
        entries: each entry's name in the file, by its name in the model; for an entry that the model does
            not have, by its name without the prefix.
        values: the values of all entries under this key, by their names in the file.
        ignored: the names of the entries without the prefix, and of counters.
        covered: how many of the model's weights are there.
        complete: whether all of them are.
    """

    key: str
    prefix: str
    entries: Mapping[str, str]
    values: Mapping[str, Any]
    ignored: tuple[str, ...]
    covered: int
    complete: bool

    @property
    def usual(self) -> bool:
        """Whether the weights themselves are usually saved there, and not, for example, their average."""
        return self.key in ("", *KEYS) and self.has_usual_prefix

    @property
    def has_usual_prefix(self) -> bool:
        """Whether the prefix is empty, or consists of parts that wrappers and training scripts add."""
        return all(part in _PREFIXES for part in self.prefix.split(".")[:-1])

    @property
    def place(self) -> str:
        """The key and the prefix, for messages."""
        return ": ".join(filter(None, (self.key, self.prefix))) or "no prefix"


def candidates(loaded: Mapping[Any, Any], known: Mapping[str, Any]) -> list[Candidate]:
    """The sets of entries that have all weights of a model; if there are none, the one that has the most.

    Args:
        loaded: the content of the file.
        known: the weights and buffers of the model by name; tied weights are the same object.

    Returns:
        No candidates if the content has no tensors under any of the usual keys.
    """
    found = [one for key, values in _sets(loaded) for one in _with_prefixes(key, values, known)]
    complete = [one for one in found if one.complete]
    # The first of several that are equally good: they are in the order of the keys.
    return complete or sorted(found, key=lambda one: -one.covered)[:1]


def _sets(loaded: Mapping[Any, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The mappings with tensors in a file, with their keys; an average only if there is nothing else."""
    sets: list[tuple[str, Mapping[str, Any]]] = [
        (key, {str(name): value for name, value in values.items()})
        for key, values in (*((key, loaded.get(key)) for key in (*KEYS, *_AVERAGE_KEYS)), ("", loaded))
        if isinstance(values, Mapping) and any(isinstance(value, Tensor) for value in values.values())
    ]
    return [one for one in sets if one[0] not in _AVERAGE_KEYS] or sets


def _with_prefixes(key: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Candidate]:
    """A candidate for each prefix with which all names occur, or else one for the best usual prefix."""
    best = None
    for spelling in (str, without_wrappers):
        ours, theirs = ({spelling(name): name for name in names} for names in (known, values))
        if len(ours) < len(known) or len(theirs) < len(values):
            continue  # names that differ in the parts that wrappers add
        found = [_candidate(key, prefix, theirs, values, ours, known) for prefix in _shared(theirs, ours)]
        complete = [one for one in found if one.complete]
        if complete:
            yield from complete
            return
        best = best or max((one for one in found if one.has_usual_prefix), key=lambda one: one.covered)
    if best is not None:
        yield best


def _candidate(
    key: str,
    prefix: str,
    theirs: Mapping[str, str],
    values: Mapping[str, Any],
    ours: Mapping[str, str],
    known: Mapping[str, Any],
) -> Candidate:
    inside = {
        name.removeprefix(prefix): full
        for name, full in theirs.items()
        if name.startswith(prefix) and full.rpartition(".")[2] not in _COUNTERS
    }
    weights = {id(known[name]) for name in known if name.rpartition(".")[2] != _OPTIONAL}
    covered = weights.intersection(id(known[ours[name]]) for name in inside if name in ours)
    return Candidate(
        key,
        prefix,
        {ours.get(name, name): full for name, full in inside.items()},
        values,
        tuple(name for name in values if name not in set(inside.values())),
        len(covered),
        covered == weights,
    )


def _shared(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """No prefix, and the prefixes with which any name of ours is one of theirs."""
    prefixes = {""}
    for name in theirs:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            if ".".join(parts[depth:]) in ours:
                prefixes.add(".".join(parts[:depth]) + ".")
    return sorted(prefixes)


def without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
