"""The operators of hessian-eigenthings 0.0.2: anything with `size` and `apply`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

import eigencore
from eigencore.errors import ProblemError, UsageError
from eigencore.interfaces import LinearOperator, MinibatchOperator, Problem
from eigencore.operators import as_operator
from eigencore_torch.data.fingerprints import WeightFingerprint
from eigencore_torch.eigenthings.unused_arguments import gpu_or_warning, warn_of_fp16


class Operator:
    """The base class of operators of hessian-eigenthings 0.0.2: a length `size`, and products `apply`.

    Args:
        size: the length n of the vectors.

    Example:
        import torch
        from eigencore_torch.eigenthings import Operator, lanczos

        class Diagonal(Operator):
            def apply(self, vec):
                return torch.arange(1.0, 10.0) * vec

        print(lanczos(Diagonal(9), num_eigenthings=2)[0])
    """

    def __init__(self, size: int):
        self.size = size

    def apply(self, vec: Tensor) -> Tensor:
        """The product with a vector (n,)."""
        raise NotImplementedError


class LambdaOperator(Operator):
    """An operator defined by a function; `eigencore.as_operator(function, n, like=x)` is its replacement.

    Args:
        apply_fn: computes A v for a vector v (n,), a float32 tensor.
        size: the length n of the vectors.

    Example:
        import torch
        from eigencore_torch import LambdaOperator, deflated_power_iteration

        diagonal = torch.arange(1.0, 10.0)
        operator = LambdaOperator(lambda v: diagonal * v, 9)
        print(deflated_power_iteration(operator, num_eigenthings=2, use_gpu=False)[0])
    """

    def __init__(self, apply_fn: Callable[[Tensor], Tensor], size: int):
        super().__init__(size)
        self.apply_fn = apply_fn

    def apply(self, x: Tensor) -> Tensor:
        return self.apply_fn(x)


class HVPOperator(Operator):
    """Products with the Hessian of a loss; `eigencore.operator(model, data, loss)` is its replacement.

    Args:
        model: the network; its trainable weights are the n entries of a vector, in the order of
            `model.parameters()`.
        dataloader: batches (x, y) that can be iterated repeatedly. A DataLoader that shuffles is read in the
            order of its data set.
        criterion: the loss, called as criterion(model(x), y).
        use_gpu: whether to compute on the GPU, on a copy of the model; without a GPU, this falls back to the
            model's device with a warning. False: the model's device.
        fp16: not used; a warning says so if it is True.
        full_dataset: whether a product is over all data. Otherwise, each call of `apply` draws one batch at
            random; the products of the loader's batches have the Hessian's product as their mean.
        max_possible_gpu_samples: the largest number of samples per forward pass. Larger batches are split,
            which does not change the products.

    Attributes:
        size: n.
        hessian: the operator of eigencore over all data, at the weights that the model has now.

    Raises:
        ProblemError: the model, the data or the loss can't be used.

    Example:
        import torch
        from eigencore_torch import HVPOperator

        model = torch.nn.Linear(4, 3)
        data = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        operator = HVPOperator(model, data, torch.nn.functional.cross_entropy, use_gpu=False)
        print(operator.apply(torch.ones(operator.size)).shape, operator.hessian @ torch.ones(15))
    """

    def __init__(
        self,
        model: nn.Module,
        dataloader: Iterable[Any],
        criterion: Callable[..., Tensor],
        use_gpu: bool = True,
        fp16: bool = False,
        full_dataset: bool = True,
        max_possible_gpu_samples: int = 256,
    ):
        warn_of_fp16(fp16)
        self.model, self.dataloader, self.criterion = model, dataloader, criterion
        self.use_gpu, self.full_dataset = gpu_or_warning(use_gpu), full_dataset
        self.max_possible_gpu_samples = max_possible_gpu_samples
        self._products = 0
        self._bind()
        super().__init__(self._hessian.shape[0])

    def _bind(self) -> None:
        bound = eigencore.bind(
            Problem(self.model, in_order(self.dataloader), self.criterion),
            backend="torch",
            device="cuda" if self.use_gpu else None,
            microbatch=self.max_possible_gpu_samples,
        )
        self._hessian, self._weights = bound.operator(), WeightFingerprint({"": self.model})

    @property
    def hessian(self) -> LinearOperator:
        # Operators of eigencore refuse weights that changed, where those of 0.0.2 multiply at the new ones.
        try:
            self._weights.check_unchanged()
        except ProblemError:
            self._bind()
        return self._hessian

    def apply(self, vec: Tensor) -> Tensor:
        """The product with a vector (n,), on the operator's device and in the data type of the weights.

        Raises:
            UsageError: the vector has another shape.
            OperatorError: the product failed.
        """
        operator = self.hessian
        if not self.full_dataset and isinstance(operator, MinibatchOperator):
            operator, _ = operator.minibatch(self._products, 0)
            self._products += 1
        vec = torch.as_tensor(vec, dtype=operator.dtype, device=operator.device).detach()
        if vec.shape != (self.size,):
            raise UsageError(f"vec has shape {tuple(vec.shape)}; expected ({self.size},)")
        product: Tensor = operator.matvec(vec)
        return product


def in_order(dataloader: Iterable[Any]) -> Iterable[Any]:
    """A DataLoader that shuffles, without that: every pass then has the same batches. Others as they are.

    No batch is dropped, because without shuffling it would be the same samples every time.
    """
    if not (
        isinstance(dataloader, DataLoader)
        and type(dataloader.batch_sampler) is BatchSampler
        and isinstance(dataloader.sampler, RandomSampler)
        and not dataloader.sampler.replacement
    ):
        return dataloader
    return DataLoader(
        dataloader.dataset,
        dataloader.batch_size,
        collate_fn=dataloader.collate_fn,
        num_workers=dataloader.num_workers,
        worker_init_fn=dataloader.worker_init_fn,
        multiprocessing_context=dataloader.multiprocessing_context,
        timeout=dataloader.timeout,
    )


def as_linear_operator(operator: Operator, use_gpu: bool) -> LinearOperator:
    """The operator of eigencore for one of 0.0.2, or for any object with `size` and `apply`."""
    if isinstance(operator, HVPOperator):
        return operator.hessian
    if not hasattr(operator, "apply") or not hasattr(operator, "size"):
        raise UsageError(
            f"the operator is of type {type(operator).__name__}; expected an object with size and apply",
            hint="For anything else that multiplies vectors, write eigencore.solve(A, k).",
        )
    size: Any = operator.size  # 0.0.2 also accepts a shape
    n = size[0] if isinstance(size, tuple | list) else size
    device = "cuda" if gpu_or_warning(use_gpu) else "cpu"
    A: LinearOperator = as_operator(operator.apply, n, like=torch.empty(0, device=device))
    return A
