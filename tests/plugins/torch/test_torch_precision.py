"""PyTorch's switches of precision are set for the time of a call, and put back exactly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from eigencore_torch.backend import TorchOptions, bind
from eigencore_torch.evaluation.precision import precise_products

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TREE = [("generic", "all")]
TREE += [(library, name) for library in ("cuda", "mkldnn") for name in ("all", "matmul", "conv", "rnn")]
has_tree = pytest.mark.skipif(
    not hasattr(torch._C, "_get_fp32_precision_getter"), reason="the switches of this version are of one kind"
)


def effective():
    """Every switch that can be read, also where the two generations of them contradict each other."""
    matmul = torch.backends.cuda.matmul

    def read(get):
        try:
            return get()
        except RuntimeError:
            return "contradiction"

    switches = {
        "matmul": read(torch.get_float32_matmul_precision),
        "cublas": read(lambda: matmul.allow_tf32),
        "cudnn": read(lambda: torch.backends.cudnn.allow_tf32),
        "fp16": torch._C._get_cublas_allow_fp16_reduced_precision_reduction(),
        "bf16": torch._C._get_cublas_allow_bf16_reduced_precision_reduction(),
        "fp16 accumulation": matmul.allow_fp16_accumulation,
    }
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        switches |= {setting: torch._C._get_fp32_precision_getter(*setting) for setting in TREE}
    return switches


def assign(setting, value):
    torch._C._set_fp32_precision_setter(*setting, value)


def responses():
    """How the effective values respond to changes above them, which shows what each switch itself holds."""
    seen = []
    before = torch._C._get_fp32_precision_getter("generic", "all")
    for value in ("ieee", "tf32"):
        assign(("generic", "all"), value)
        seen.append(effective())
    assign(("generic", "all"), before)
    return seen


@pytest.fixture(autouse=True)
def put_back():
    """Puts the switches into a state near that of a new process, before and after each test."""

    def reset():
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
        torch.backends.cuda.matmul.allow_fp16_accumulation = False
        if hasattr(torch._C, "_get_fp32_precision_getter"):
            for setting in TREE:
                assign(setting, "tf32" if setting in [("cuda", "conv"), ("cuda", "rnn")] else "none")

    reset()
    yield
    reset()


def older_high():
    torch.set_float32_matmul_precision("high")


def older_medium():
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = False


def reduced_sums():
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_accumulation = True


def older_tf32():
    torch.backends.cuda.matmul.allow_tf32 = True


def newer_everywhere():
    assign(("generic", "all"), "tf32")


def newer_library():
    assign(("cuda", "all"), "tf32")
    assign(("mkldnn", "all"), "bf16")


def newer_operations():
    assign(("cuda", "matmul"), "tf32")
    assign(("mkldnn", "conv"), "bf16")
    assign(("cuda", "conv"), "ieee")


def both():
    torch.set_float32_matmul_precision("medium")
    assign(("cuda", "matmul"), "none")
    assign(("generic", "all"), "ieee")


NEWER = [newer_everywhere, newer_library, newer_operations, both]
USERS = [lambda: None, older_high, older_medium, older_tf32, reduced_sums]
USERS += [pytest.param(user, marks=has_tree, id=user.__name__) for user in NEWER]


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("precision", ["full", "tf32"])
@pytest.mark.parametrize("user", USERS)
def test_switches_are_set_and_put_back(user, precision, device):
    tree = hasattr(torch._C, "_get_fp32_precision_getter")
    user()
    before, then = effective(), responses() if tree else None
    with precise_products(device, precision):
        inside = effective()
    assert effective() == before
    assert then is None or responses() == then

    full = {"none", "ieee"}
    if tree:
        assert {inside["mkldnn", name] for name in ("matmul", "conv", "rnn")} <= full
    if device is CUDA:
        reduced = precision == "tf32"
        assert inside["cublas"] is reduced
        assert inside["matmul"] == ("high" if reduced else "highest")
        assert not any(inside[name][0] for name in ("fp16", "bf16"))
        assert not inside["fp16 accumulation"]
        # Whether sums may be split concerns their order and not their precision.
        assert [inside[name][1] for name in ("fp16", "bf16")] == [
            before[name][1] for name in ("fp16", "bf16")
        ]
        if tree:
            values = {inside["cuda", name] for name in ("matmul", "conv", "rnn")}
            assert values == {"tf32"} if reduced else values <= full


@has_tree
def test_switches_stay_set_if_the_model_changes_those_of_cudnn_for_a_while():
    older_medium()
    before = effective()
    with precise_products(CUDA):
        with torch.backends.cudnn.flags(enabled=False):
            pass
        after = effective()
    assert [name for name in TREE if after[name] not in ("none", "ieee")] == []
    assert after["cudnn"] is False
    assert effective() == before


NEW_PROCESS = """
import torch
from eigencore_torch.evaluation.precision import precise_products
from test_torch_precision import CUDA, effective, responses
before, then = effective(), responses()
for precision in ("full", "tf32"):
    with precise_products(CUDA, precision):
        inside = effective()
    assert {inside["cuda", name] for name in ("matmul", "conv", "rnn")} == {
        "ieee" if precision == "full" else "tf32"
    }
    assert effective() == before
    assert responses() == then
"""


@has_tree
def test_the_switches_of_a_new_process_are_put_back_although_some_values_cannot_be_set():
    # Those of cuDNN begin with a value that no call sets: TF32 unless the setting above differs.
    subprocess.run([sys.executable, "-c", NEW_PROCESS], check=True, cwd=Path(__file__).parent)


def test_switches_are_put_back_after_an_exception():
    older_medium()
    before = effective()
    with pytest.raises(ZeroDivisionError), precise_products(CUDA):
        raise ZeroDivisionError
    assert effective() == before


@pytest.mark.parametrize("user", USERS)
def test_a_product_sets_the_switches_and_puts_them_back(user, small):
    seen = []

    class Looking(nn.Linear):
        def forward(self, x):
            seen.append(effective())
            return super().forward(x)

    user()
    before = effective()
    operator = bind(small(model=Looking(4, 3).double(), reduction="mean"), TorchOptions()).operator()
    operator.matvec(torch.ones(15, dtype=torch.float64))
    assert effective() == before
    assert seen
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        for switches in seen:
            assert {switches["mkldnn", name] for name in ("matmul", "conv", "rnn")} <= {"none", "ieee"}


def test_tf32_is_shown_where_it_has_an_effect(small, device):
    bound = bind(small(), TorchOptions(precision="tf32"), device=device, dtype="float32")
    assert ("float32 with TF32 products" in bound.description) == (device == "cuda")
    assert "TF32" not in bind(small(), TorchOptions(precision="tf32"), device=device).description
    assert "TF32" not in bind(small(), TorchOptions(), device=device, dtype="float32").description


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_products_on_a_gpu_have_the_precision_that_is_stated(small):
    torch.set_float32_matmul_precision("high")
    model = nn.Sequential(nn.Linear(4, 512), nn.Tanh(), nn.Linear(512, 3)).double()
    v = torch.randn(512 * 8 + 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cuda()
    right = bind(small(model=model), TorchOptions(), device="cuda").operator().matvec(v)
    errors = []
    for precision in ("full", "tf32"):
        options = TorchOptions(precision=precision)
        product = (
            bind(small(model=model), options, device="cuda", dtype="float32").operator().matvec(v.float())
        )
        errors.append(float(torch.linalg.vector_norm(product - right) / torch.linalg.vector_norm(right)))
    assert errors[0] < 1e-5 < errors[1] < 1e-2
