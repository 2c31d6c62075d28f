"""The signature of a tensor: a number that depends on every bit of it, and on the order of its elements.

The tensor is read once, as 8-byte words. The words whose positions are equal modulo a prime are summed.
The distance between two samples, or two rows of an image, is hardly ever a multiple of that prime, so samples
or pixels that trade places change these sums. The sums are multiplied by random odd numbers (Dietzfelbinger
1996) and added. All arithmetic is modulo 2^64.

Few words are multiplied: on a CPU, multiplying every word takes four times as long as reading it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Primes; the larger one is for tensors that have many multiples of it.
_FEW, _MANY = 4093, 16381
_MULTIPLES = 16
# On a CPU, words are summed in blocks that fit into its cache: columns of a larger matrix are slow to read.
_CACHED_WORDS = 2**17


def signature(x: Tensor) -> Tensor:
    """The signature of a strided tensor, in int64 (); it does not depend on the tensor's memory format."""
    sums = _group_sums(_words(x))
    # Multiplication carries differences only to higher bits, and floats differ mainly in their highest.
    return ((sums + (sums >> 32)) * _multipliers(sums.device)[: len(sums)]).sum()


def _words(x: Tensor) -> Tensor:
    """A tensor's bits as 8-byte words (n,), in int64; the last one is padded with zeros."""
    x = x.detach()
    if x.is_conj() or x.is_neg():
        x = x.resolve_conj().resolve_neg()
    flat = x.reshape(-1).contiguous()
    if missing := -flat.numel() * flat.element_size() % 8:
        flat = functional.pad(flat.view(torch.uint8), (0, missing))
    elif flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    return flat.view(torch.int64)


def _group_sums(words: Tensor) -> Tensor:
    """The sums (g,) of the words (n,) whose positions are equal modulo g; few words are left as they are."""
    n = len(words)
    if n <= _MANY:
        return words
    g = _MANY if n >= _MULTIPLES * _MANY else _FEW
    rows = n // g
    step = max(1, _CACHED_WORDS // g) if words.device.type == "cpu" else rows
    matrix = words[: rows * g].view(rows, g)
    sums = matrix[:step].sum(0)
    for row in range(step, rows, step):
        sums += matrix[row : row + step].sum(0)
    sums[: n - rows * g] += words[rows * g :]
    return sums


@cache
def _multipliers(device: torch.device) -> Tensor:
    """Random odd numbers; all signatures of a process use the same ones."""
    drawn = np.random.default_rng(0).integers(-(2**63), 2**63, size=_MANY, dtype=np.int64)
    return torch.from_numpy(drawn | 1).to(device)
