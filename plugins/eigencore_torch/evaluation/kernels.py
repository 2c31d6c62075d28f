"""The kernels of float32 matrix products on x86 processors: PyTorch's choice, or those of oneDNN.

PyTorch's builds for x86 use MKL, which runs general code on processors that are not Intel's. oneDNN, which is
in the same builds, uses AVX-512. A setting that allows bfloat16 selects it; on processors that have no matrix
unit (AMX), its kernels compute in float32 all the same.

The setting belongs to the process. It is made around backward passes only, because inside of it PyTorch
refuses to return its older switch of precision, which a forward pass may read, and because the products of a
matrix and a vector in a solver are slower on oneDNN.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Literal, TypeAlias

import torch
from torch.autograd.graph import Node

from eigencore.errors import OptionError
from eigencore_torch.evaluation.precision import assign, has_tree, own_value
from eigencore_torch.evaluation.preserved_state import Setting, preserve_state

Kernels: TypeAlias = Literal["auto", "plain", "onednn"]

_MATMUL = ("mkldnn", "matmul")
# An (m, k) times a (k, n) matrix is faster on oneDNN from about this m k n on, if no side is a vector's.
_LARGE = 2**20
_PRODUCTS = ("MmBackward0", "AddmmBackward0", "BmmBackward0", "BaddbmmBackward0")
_CONVOLUTIONS = ("ConvolutionBackward0", "ConvolutionBackward")
_GRADIENTS_OF_CONVOLUTIONS = ("ConvolutionBackwardBackward0", "ConvolutionGradientBackward")
_LEAST_GAIN, _MOST_ERROR = 1.3, 2e-6


class ProductKernels:
    """Which kernels the products of an operator use: decided by its first graph, and fixed from then on.

    All methods are called inside a session (`preserve_state`).

    Args:
        kernels: "auto" selects oneDNN's kernels if large matrix products make up most of the first graph, and
            a trial finds them faster on this processor; "onednn" selects them always.
        device, dtype: those of the operator. "auto" keeps PyTorch's kernels where oneDNN's do not apply.
    """

    def __init__(self, kernels: Kernels, device: torch.device, dtype: torch.dtype):
        applicable = kernels != "plain" and obstacle(device, dtype) is None
        self._onednn: bool | None = None if applicable and kernels == "auto" else applicable
        self._raised = False
        self.notes: tuple[str, ...] = ()

    def decide(self, outputs: Iterable[Node | None]) -> None:
        """Decides by the graph of the first gradient, given its last nodes; later calls change nothing."""
        if self._onednn is None:
            self._onednn = mostly_large_products(outputs) and trial().passed
        if self._onednn and not self.notes:
            self.notes = ("matrix products used the float32 kernels of oneDNN (torch.kernels)",)

    @contextmanager
    def selected(self) -> Iterator[None]:
        """The kernels for a backward pass; those of PyTorch as long as nothing is decided."""
        if not self._onednn:
            yield
            return
        self._raised = False
        try:
            with onednn_products():
                yield
        except Exception:
            self._raised = True
            raise

    def give_up(self) -> bool:
        """Returns to PyTorch's kernels if the latest error came from a pass with the others; whether it did.

        A backward pass may run code of the user's, such as a hook, which may read the older switch.
        """
        if not self._raised:
            return False
        self._onednn = self._raised = False
        self.notes = (
            "matrix products used PyTorch's own kernels, because a product with those of oneDNN failed",
        )
        return True


def check_kernels(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    """Raises OptionError if oneDNN's kernels are requested and not available."""
    if kernels != "onednn":
        return
    reason = obstacle(device, dtype)
    if reason is None:
        with preserve_state([], Setting(device), None):
            if not trial().exact:
                reason = f"its products have a relative error of {trial().error:.1g} on this processor"
    if reason is not None:
        raise OptionError(
            f"torch.kernels=onednn is not available: {reason}",
            hint="Leave torch.kernels at auto, which uses oneDNN only where it pays.",
        )


def obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why oneDNN's float32 kernels can't be selected for products on a device; None if they can."""
    if device.type != "cpu":
        return f"it concerns processors, and the device is {device}"
    if dtype is not torch.float32:
        return f"it concerns float32, and the data type is {str(dtype).removeprefix('torch.')}"
    return _obstacle_of_process()


def _obstacle_of_process() -> str | None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it concerns x86 processors, and this one is {platform.machine()}"
    if not has_tree():
        return f"PyTorch {torch.__version__} has no setting for it; PyTorch 2.9 has"
    if not _onednn_enabled():
        return "oneDNN is not part of this PyTorch, or torch.backends.mkldnn.enabled is off"
    matrix_unit = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if matrix_unit is None or matrix_unit():
        return "this processor may compute with bfloat16 factors instead (AMX)"
    return None


def _onednn_enabled() -> bool:
    return bool(torch._C._has_mkldnn and torch.backends.mkldnn.enabled)


# -- the setting -------------------------------------------------------------------------------------------


class _SharedSetting:
    """The setting of the process, for passes that overlap: the first sets it, and the last restores it."""

    def __init__(self) -> None:
        self._lock, self._passes, self._before = Lock(), 0, ""

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._passes:
                self._before = own_value(_MATMUL)
                assign({_MATMUL: "bf16"})
            self._passes += 1
        try:
            yield
        finally:
            with self._lock:
                self._passes -= 1
                if not self._passes:
                    assign({_MATMUL: self._before})


# Passes in several threads may overlap, in any order.
onednn_products = _SharedSetting().held


# -- when it pays ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """What a trial measured: how many times as fast oneDNN's kernels were, and their relative error."""

    gain: float
    error: float

    @property
    def exact(self) -> bool:
        """Whether the error is that of float32, and not of bfloat16."""
        return self.error < _MOST_ERROR

    @property
    def passed(self) -> bool:
        return self.exact and self.gain > _LEAST_GAIN


@cache
def trial() -> Trial:
    """The trial on this processor, once per process: about 5 ms; must be called inside a session."""
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    a, b = torch.randn(256, 512, **options), torch.randn(512, 256, **options)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.no_grad():
        for _ in range(4):
            for onednn, times in seconds.items():
                with onednn_products() if onednn else nullcontext():
                    began = _clock()
                    product = a @ b
                    times.append(_clock() - began)
    exact = a.double() @ b.double()
    error = torch.linalg.vector_norm(product - exact) / torch.linalg.vector_norm(exact)
    # The first call of each includes the generation of the kernel.
    plain, onednn_ = (min(times[1:]) for times in seconds.values())
    return Trial(plain / onednn_, float(error))


# The time of the thread does not grow while another process has the core, which would decide the trial.
_clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter


def mostly_large_products(outputs: Iterable[Node | None]) -> bool:
    """Whether matrix products that are large enough for oneDNN make up most of a graph's multiplications.

    Differentiating a product of m k n multiplications again takes two of as many, and a convolution likewise,
    so the nodes of the graph show the work of a pass through it.
    """
    large = total = 0
    for node in _nodes(outputs):
        work, is_large = _work(node)
        total += work
        large += work * is_large
    return large > total / 2


def _nodes(outputs: Iterable[Node | None]) -> Iterator[Node]:
    seen, pending = set(), list(outputs)
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending.extend(following for following, _ in node.next_functions)
            yield node


def _work(node: Node) -> tuple[int, bool]:
    """The multiplications of a node's operation, and whether it is a large matrix product.

    They are computed from the shapes of its output and its inputs. The shape of an input that needs no
    gradient is unknown: its saved value is not inspected, because that could run code of the user's.
    """
    name = node.name()
    if name in _PRODUCTS:
        output = _shape(node, 0)
        left, right = (_shape(*one) for one in node.next_functions[-2:])
        k = left[-1] if left else right[-2] if right else 0
        work = math.prod(output) * k
        return work, work >= _LARGE and min(*output[-2:], k) > 1
    if name in _CONVOLUTIONS or name in _GRADIENTS_OF_CONVOLUTIONS:
        # The first input of a gradient has the shape of the convolution's output.
        gradient = name in _GRADIENTS_OF_CONVOLUTIONS
        output = _shape(*node.next_functions[0]) if gradient else _shape(node, 0)
        weight = _shape(*node.next_functions[2 if gradient else 1])
        return math.prod(output) * math.prod(weight[1:]) if output and weight else 0, False
    return 0, False


def _shape(node: Node | None, place: int) -> tuple[int, ...]:
    """The shape of an output of a node; empty without a node."""
    return () if node is None else tuple(node._input_metadata[place].shape)
