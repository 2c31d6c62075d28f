"""Fingerprints of data and weights, which show later whether they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from eigencore.errors import ProblemError
from eigencore_torch.batches import Batch, tensors_of

BatchFingerprint: TypeAlias = list[tuple[tuple[int, ...], torch.dtype, int]]


def batch_fingerprint(batch: Batch) -> BatchFingerprint:
    """The shape, type and bit sum of each tensor in a batch, by which changed data are detected."""
    return [(tuple(x.shape), x.dtype, int(bit_sum(x))) for x in tensors_of(batch)]


def bit_sum(x: Tensor) -> Tensor:
    """The sum of a tensor's bits, read as 8-byte integers, in int64; it changes if one number does."""
    flat = x.detach().reshape(-1).contiguous()
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    raw = flat.view(torch.uint8)
    whole = len(raw) // 8 * 8
    rest = functional.pad(raw[whole:], (0, whole + 8 - len(raw)))
    # Summing int64 directly takes a thirtieth of the time of summing 32-bit integers into int64.
    return raw[:whole].view(torch.int64).sum() + rest.view(torch.int64).sum()


class WeightFingerprint:
    """A record of the weights and buffers of some modules at the time of construction.

    Version counters detect changes in place; bit sums detect changes made through `.data`.

    Args:
        modules: the modules by the names that their weights have in messages, "" for the model.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        self._modules = modules
        self._tensors = self._named_tensors()
        self._versions = {name: version_of(x) for name, x in self._tensors.items()}
        self._bit_sums = self._current_bit_sums()

    def check_unchanged(self) -> None:
        """Raises ProblemError if a weight or buffer has changed, naming it."""
        self.check_versions()
        sums = self._current_bit_sums()
        self._refuse([name for name, then in self._bit_sums.items() if sums[name] != then])

    def check_versions(self) -> None:
        """Like `check_unchanged` without the bit sums, so that changes made through `.data` go unnoticed."""
        now = self._named_tensors()
        self._refuse([n for n in self._tensors.keys() | now.keys() if not self._is_same(n, now.get(n))])

    def _refuse(self, changed: list[str]) -> None:
        if changed:
            raise ProblemError(
                f"the weights changed after the problem was bound: {sorted(changed)[0]}",
                hint="Bind the problem again: an operator belongs to the weights at the time of binding.",
            )

    def _is_same(self, name: str, now: Tensor | None) -> bool:
        # The version of a buffer also changes when it is restored after a product; its bit sum decides.
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

    def _current_bit_sums(self) -> dict[str, int]:
        dense = {name: x for name, x in self._tensors.items() if x.layout is torch.strided}
        with torch.no_grad():
            sums = [bit_sum(x) for x in dense.values()]
            # One transfer to the host in total, not one per tensor.
            numbers = torch.stack([x.to(sums[0].device) for x in sums]).tolist() if sums else []
        return dict(zip(dense, numbers, strict=True))


def version_of(x: Tensor) -> int:
    """The version counter of a tensor; 0 for a tensor made in inference mode, which has none."""
    return 0 if x.is_inference() else x._version
