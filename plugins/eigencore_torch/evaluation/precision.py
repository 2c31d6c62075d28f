"""The precision of products: autocast, and the switches for TF32, bfloat16 and accumulation in 16 bits.

PyTorch has two generations of these switches, which refuse to be read once they contradict each other. The
newer one, from PyTorch 2.9 on, is a tree: an operation whose own setting is "none" follows its library, and a
library whose own setting is "none" follows the setting for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["full", "tf32"]
# What operands of products are rounded to, apart from float32 as `Precision` says.
Products: TypeAlias = Literal["full", "bfloat16", "float16"]
_Setting: TypeAlias = tuple[str, str]

_OLDER: dict[Precision, str] = {"full": "highest", "tf32": "high"}
_ALL: _Setting = ("generic", "all")
_LIBRARIES: list[_Setting] = [("cuda", "all"), ("mkldnn", "all")]
_MATMULS: list[_Setting] = [("cuda", "matmul"), ("mkldnn", "matmul")]
_OTHERS: list[_Setting] = [(library, name) for library in ("cuda", "mkldnn") for name in ("conv", "rnn")]
# Sums of 16-bit products in 16 bits; from PyTorch 2.9 on with whether they may be split.
_SUMS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


def autocast(device: torch.device, products: Products) -> AbstractContextManager[None]:
    """PyTorch's autocast to a 16-bit type, or without autocast if products are "full".

    It rounds the operands of matrix products and convolutions, and leaves softmax, losses, normalisation and
    the sums of gradients in float32. With all weights and inputs in bfloat16 in place of that, the error of
    the first eigenvector of a small transformer was 18 times as large.
    """
    if products == "full":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=getattr(torch, products))


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
    if has_tree():
        return all(
            _get(setting) in ("none", "ieee") for setting in _MATMULS + _OTHERS if setting[0] == "mkldnn"
        )
    return torch.get_float32_matmul_precision() == "highest"


@contextmanager
def _float32_products(precision: Precision) -> Iterator[None]:
    with _tree(precision) if has_tree() else _older_switches(precision):
        yield


@contextmanager
def _older_switches(precision: Precision) -> Iterator[None]:
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision(_OLDER[precision])
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _tree(precision: Precision) -> Iterator[None]:
    """Sets the tree, and with it the older switch of matrix products, which sets their part of the tree.

    The settings of cuDNN stay as they are where they follow their library: they begin with a value that
    can't be set again, which follows the library and is "tf32" if that is "none". The older switch of cuDNN
    would set them, too. It is left alone, so that it can't be read meanwhile.
    """
    wanted = {"cuda": "tf32" if precision == "tf32" else "ieee", "mkldnn": "ieee"}
    before = {setting: own_value(setting) for setting in _LIBRARIES + _MATMULS}
    older = None
    try:
        assign({setting: wanted[setting[0]] for setting in _LIBRARIES})
        before |= {setting: value for setting in _OTHERS if (value := _get(setting)) != wanted[setting[0]]}
        # The older switch can be read while no matrix product has a reduced precision.
        assign(dict.fromkeys(_MATMULS, "ieee"))
        older = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(_OLDER[precision])
        assign({setting: wanted[setting[0]] for setting in before})
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        assign(before)


@contextmanager
def _wide_sums() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in _SUMS if hasattr(matmul, name)}
    split = {name: getattr(matmul, f"{name}_split_k", None) for name in before}

    def restore(values: dict[str, bool]) -> None:
        for name, value in values.items():
            setattr(matmul, name, value if split[name] is None else (value, split[name]))

    try:
        restore(dict.fromkeys(before, False))
        yield
    finally:
        restore(before)


def has_tree() -> bool:
    return hasattr(torch._C, "_get_fp32_precision_getter")


def _get(setting: _Setting) -> str:
    """The effective value of a setting of the tree: "none" or "ieee" (both full), "tf32" or "bf16"."""
    value: str = torch._C._get_fp32_precision_getter(*setting)
    return value


def assign(values: dict[_Setting, str]) -> None:
    for setting, value in values.items():
        torch._C._set_fp32_precision_setter(*setting, value)


def own_value(setting: _Setting) -> str:
    """The value of a setting of the tree itself: "none" if it follows the one above it.

    PyTorch returns only effective values, so the setting above is changed for a moment.
    """
    now = _get(setting)
    if setting == _ALL or now == "none":
        return now
    above = _ALL if setting[1] == "all" else (setting[0], "all")
    before = own_value(above)
    assign({above: "ieee" if now != "ieee" else "tf32"})
    follows = _get(setting) != now
    assign({above: before})
    return "none" if follows else now
