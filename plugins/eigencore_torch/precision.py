"""The precision of products: PyTorch's switches for TF32, bfloat16 and accumulation in 16 bits.

PyTorch has two generations of these switches, which refuse to be read once they contradict each other. Both
are therefore set together. The newer one, from PyTorch 2.9 on, is a tree: an operation whose own setting is
"none" follows its library, and a library whose own setting is "none" follows the setting for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["full", "tf32"]

_ALL = ("generic", "all")
_OPERATIONS = [(library, name) for library in ("cuda", "mkldnn") for name in ("matmul", "conv", "rnn")]
# Sums of 16-bit products in 16 bits, and whether they may be split.
_REDUCTIONS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
_Setting: TypeAlias = tuple[str, str]


@contextmanager
def precise_products(device: torch.device, precision: Precision = "full") -> Iterator[None]:
    """Sets the precision of matrix products, convolutions and recurrent layers, and restores it afterwards.

    Args:
        precision: "full" computes float32 products in float32; "tf32" lets GPUs round their factors to TF32.
            In both cases, 16-bit products are summed in 32 bits.
    """
    if device.type != "cuda":
        # The switches of CUDA do not matter here, and comparing takes a fraction of the time of setting.
        if _is_full_on_host():
            yield
        else:
            with _float32_products("full"):
                yield
        return
    with _float32_products(precision), _wide_sums():
        yield


def _is_full_on_host() -> bool:
    if _has_tree():
        return all(_get(setting) in ("none", "ieee") for setting in _OPERATIONS if setting[0] == "mkldnn")
    return torch.get_float32_matmul_precision() == "highest"


@contextmanager
def _float32_products(precision: Precision) -> Iterator[None]:
    operations = {setting: _own_value(setting) for setting in _OPERATIONS} if _has_tree() else {}
    # The older switches can be read while no operation of the newer ones has a reduced precision.
    _set(dict.fromkeys(operations, "ieee"))
    matmul, cudnn = torch.get_float32_matmul_precision(), _cudnn_tf32()
    reduced = precision == "tf32"
    try:
        _set_older("high" if reduced else "highest", reduced)
        _set({setting: "tf32" if reduced and setting[0] == "cuda" else "ieee" for setting in operations})
        yield
    finally:
        _set_older(matmul, cudnn)
        _set(operations)


def _cudnn_tf32() -> bool:
    """The older switch of cuDNN; convolutions and recurrent layers must not be set to TF32."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:  # it contradicts their setting
        return True


def _set_older(matmul: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _wide_sums() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    # In 16 bits or not, and from PyTorch 2.9 on whether a sum may be split.
    names = [name for name in (*_REDUCTIONS, "allow_fp16_accumulation") if hasattr(matmul, name)]
    before = {name: getattr(matmul, name) for name in names}
    split = {name: getattr(matmul, f"{name}_split_k", None) for name in names}

    def assign(values: dict[str, bool]) -> None:
        for name, value in values.items():
            setattr(matmul, name, value if split[name] is None else (value, split[name]))

    try:
        assign(dict.fromkeys(names, False))
        yield
    finally:
        assign(before)


def _has_tree() -> bool:
    return hasattr(torch._C, "_get_fp32_precision_getter")


def _get(setting: _Setting) -> str:
    """The effective value of a setting of the tree: "none" or "ieee" (both full), "tf32" or "bf16"."""
    value: str = torch._C._get_fp32_precision_getter(*setting)
    return value


def _set(values: dict[_Setting, str]) -> None:
    for setting, value in values.items():
        torch._C._set_fp32_precision_setter(*setting, value)


def _own_value(setting: _Setting) -> str:
    """The value of a setting of the tree itself: "none" if it follows the one above it.

    PyTorch returns only effective values, so the setting above is changed for a moment.
    """
    now = _get(setting)
    if setting == _ALL or now == "none":
        return now
    above = _ALL if setting[1] == "all" else (setting[0], "all")
    before = _own_value(above)
    _set({above: "ieee" if now != "ieee" else "tf32"})
    follows = _get(setting) != now
    _set({above: before})
    return "none" if follows else now
