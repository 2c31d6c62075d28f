"""Fingerprints of data and weights, which show later whether they have changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from eigencore.errors import ProblemError
from eigencore_torch.data.batch_tensors import Batch, strided_parts, tensors_of
from eigencore_torch.data.signatures import signature

# Tensors of at most so many bytes are joined before they are read.
SMALL = 2**17

TensorFingerprint: TypeAlias = tuple[torch.dtype, list[tuple[int, ...]], list[int]]
BatchFingerprint: TypeAlias = list[TensorFingerprint]


def batch_fingerprint(batch: Batch) -> BatchFingerprint:
    """The type of each tensor in a batch, with the shapes and signatures of its parts: it shows changed data.

    A tensor has several parts if it is nested or sparse.
    """
    tensors = tensors_of(batch)
    parts = [strided_parts(x) for x in tensors]
    numbers = iter(_signatures([part for several in parts for part in several]))
    return [
        (x.dtype, [tuple(part.shape) for part in several], [next(numbers) for _ in several])
        for x, several in zip(tensors, parts, strict=True)
    ]


def _signatures(tensors: Sequence[Tensor]) -> list[int]:
    with torch.no_grad():
        found = [signature(x) for x in tensors]
        # One transfer to the host in total, not one per tensor.
        return torch.stack([x.to(found[0].device) for x in found]).tolist() if found else []


class WeightFingerprint:
    """A record of the weights and buffers of some modules at the time of construction.

    Version counters detect changes in place; signatures detect changes made through `.data`.

    Args:
        modules: the modules by the names that their weights have in messages, "" for the model.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        self._modules = modules
        self._tensors = self._named_tensors()
        self._versions = {name: version_of(x) for name, x in self._tensors.items()}
        self._signatures = self._current_signatures()
        self._joint_signatures = self._current_joint_signatures()

    @property
    def of_tensors(self) -> dict[str, tuple[object, ...]]:
        """The data type, the shape and the signatures of each weight and buffer, to compare with others."""
        found: dict[str, tuple[object, ...]] = {
            name: (str(x.dtype), tuple(x.shape)) for name, x in self._tensors.items()
        }
        for (name, _), number in self._signatures.items():
            found[name] = (*found[name], number)
        return found

    def check_unchanged(self) -> None:
        """Raises ProblemError if a weight or buffer has changed, naming it."""
        self.check_versions()
        if self._current_joint_signatures() == self._joint_signatures:
            return
        now = self._current_signatures()
        self._refuse([name for (name, part), then in self._signatures.items() if now[name, part] != then])

    def check_versions(self) -> None:
        """Like `check_unchanged` without the signatures: changes made through `.data` go unnoticed."""
        now = self._named_tensors()
        self._refuse([n for n in self._tensors.keys() | now.keys() if not self._is_same(n, now.get(n))])

    def _refuse(self, changed: list[str]) -> None:
        if changed:
            raise ProblemError(
                f"the weights changed after the problem was bound: {sorted(changed)[0]}",
                hint="Bind the problem again: an operator belongs to the weights at the time of binding.",
            )

    def _is_same(self, name: str, now: Tensor | None) -> bool:
        # The version of a buffer also changes when it is restored after a product; its signature decides.
        return now is self._tensors.get(name) and (
            not isinstance(now, nn.Parameter) or version_of(now) == self._versions[name]
        )

    def _named_tensors(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for owner, module in self._modules.items():
            prefix = f"{owner}." if owner else ""
            named.update((prefix + name, x) for name, x in module.named_parameters())
            named.update((prefix + name, x) for name, x in module.named_buffers())
        return named

    def _current_joint_signatures(self) -> list[int]:
        """The signatures of all parts. Small ones are joined, because starting takes longer than reading."""
        parts = [part for x in self._tensors.values() for part in strided_parts(x)]
        joined: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        large = []
        for part in parts:
            if part.nbytes <= SMALL and not (part.is_conj() or part.is_neg()):
                joined.setdefault((part.dtype, part.device), []).append(part.detach().reshape(-1))
            else:
                large.append(part)
        with torch.no_grad():
            return _signatures([*map(torch.cat, joined.values()), *large])

    def _current_signatures(self) -> dict[tuple[str, int], int]:
        """The signature of each strided part of each weight and buffer; most have one part."""
        parts = {
            (name, number): part
            for name, x in self._tensors.items()
            for number, part in enumerate(strided_parts(x))
        }
        return dict(zip(parts, _signatures(list(parts.values())), strict=True))


def version_of(x: Tensor) -> int:
    """The version counter of a tensor; 0 for a tensor made in inference mode, which has none."""
    return 0 if x.is_inference() else x._version
