"""The functions of hessian-eigenthings 0.0.2: eigenpairs as NumPy arrays, an eigenvector a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

import eigencore
from eigencore.errors import UsageError
from eigencore_torch.eigenthings.hvp_operators import HVPOperator, Operator, as_linear_operator
from eigencore_torch.eigenthings.unused_arguments import (
    gpu_or_warning,
    warn,
    warn_of_fp16,
    warn_of_momentum,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from eigencore.results import EigenResult

    EigenThings: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[Any]]

ENDS = ("LM", "LA", "SA")


def compute_hessian_eigenthings(
    model: nn.Module,
    dataloader: Iterable[Any],
    loss: Callable[..., Tensor],
    num_eigenthings: int = 10,
    full_dataset: bool = True,
    mode: Literal["power_iter", "lanczos"] = "power_iter",
    use_gpu: bool = True,
    fp16: bool = False,
    max_possible_gpu_samples: int = 2**16,
    **kwargs: Any,
) -> EigenThings:
    """The eigenvalues of a loss's Hessian that are largest in magnitude, with their eigenvectors.

    The replacement has a certificate, saved runs and more solvers:
    `eigencore.analyze(model, data, loss, k=10).eigen`, or `eigencore.solve((model, data, loss), k=10)`.

    Args:
        model, dataloader, loss, use_gpu, fp16, max_possible_gpu_samples: as for `HVPOperator`.
        num_eigenthings: the number k of eigenpairs.
        full_dataset: False: as for `deflated_power_iteration`; not with mode "lanczos".
        mode: "power_iter" or "lanczos".
        **kwargs: further arguments of `deflated_power_iteration` or of `lanczos`.

    Returns:
        The eigenvalues (k,), in descending order with mode "power_iter" and in ascending order with mode
        "lanczos", as in 0.0.2; and the eigenvectors (k, n), one per row.

    Raises:
        UsageError: an argument is invalid.
        ProblemError: the model, the data or the loss can't be used.
        TypeError: the mode has no such argument.

    Example:
        import torch
        from eigencore_torch import compute_hessian_eigenthings

        model = torch.nn.Linear(4, 3)
        dataloader = [(torch.randn(8, 4), torch.randint(3, (8,)))]
        loss = torch.nn.functional.cross_entropy
        eigenvals, eigenvecs = compute_hessian_eigenthings(model, dataloader, loss, 3, use_gpu=False)
        print(eigenvals, eigenvecs.shape)
    """
    if mode not in ("power_iter", "lanczos"):
        raise UsageError(f"mode is {mode!r}; expected power_iter or lanczos")
    warn_of_fp16(fp16)
    use_gpu = gpu_or_warning(use_gpu)
    operator = HVPOperator(
        model,
        dataloader,
        loss,
        use_gpu,
        full_dataset=full_dataset,
        max_possible_gpu_samples=max_possible_gpu_samples,
    )
    solve = deflated_power_iteration if mode == "power_iter" else lanczos
    return solve(operator, num_eigenthings, use_gpu=use_gpu, **kwargs)


def deflated_power_iteration(
    operator: Operator,
    num_eigenthings: int = 10,
    power_iter_steps: int = 20,
    power_iter_err_threshold: float = 1e-4,
    momentum: float = 0.0,
    use_gpu: bool = True,
    fp16: bool = False,
    to_numpy: bool = True,
) -> EigenThings:
    """The eigenvalues of largest magnitude, in descending order, with their eigenvectors.

    It runs the solver `lanczos`. An operator with `full_dataset=False` is solved by `accel_power` with one
    batch per product, which converges to the eigenpairs of the Hessian over all data. For power iteration
    itself, write `eigencore.solve(A, k, solver="deflated_power")`.

    Args:
        operator: an `HVPOperator`, a `LambdaOperator`, or any object with `size` and `apply`.
        num_eigenthings: the number k of eigenpairs.
        power_iter_steps: the products per eigenpair: k times as many are allowed in total.
        power_iter_err_threshold: a pair has converged when ||A v - theta v|| is at most this fraction of
            |theta|. In 0.0.2, it bounds the change of theta in one step.
        momentum: not used; a warning says so if it is not 0. In 0.0.2, it is subtracted from the eigenvalues.
        use_gpu: whether `apply` gets tensors on the GPU; without a GPU, on the CPU, with a warning.
        fp16: not used; a warning says so if it is True.
        to_numpy: not used: the arrays are NumPy arrays, as in 0.0.2.

    Returns:
        The eigenvalues (k,) as float64, and the eigenvectors (k, n), one per row. There may be fewer than k
        if the products did not suffice; a warning says so, as for pairs that have not converged.

    Raises:
        UsageError: an argument is invalid.
        OperatorError: a product failed, or the operator is not symmetric.

    Example:
        import torch
        from eigencore_torch import LambdaOperator, deflated_power_iteration

        diagonal = torch.tensor([-9.0, 10.0, 8.0, 1.0, 2.0])
        operator = LambdaOperator(lambda v: diagonal * v, 5)
        values, vectors = deflated_power_iteration(operator, 3, use_gpu=False)
        print(values, vectors.shape)
    """
    warn_of_fp16(fp16)
    warn_of_momentum(momentum)
    result = _solve(
        operator,
        num_eigenthings,
        use_gpu,
        tol=power_iter_err_threshold,
        max_matvecs=power_iter_steps * num_eigenthings,
        allowed="power_iter_steps times num_eigenthings",
    )
    return _as_arrays(result, np.argsort(-result.values, kind="stable"))


def power_iteration(
    operator: Operator,
    steps: int = 20,
    error_threshold: float = 1e-4,
    momentum: float = 0.0,
    use_gpu: bool = True,
    fp16: bool = False,
    init_vec: Tensor | None = None,
) -> tuple[float, Tensor]:
    """The eigenvalue of largest magnitude, and its eigenvector (n,) as a tensor of norm 1.

    Args:
        operator, momentum, use_gpu, fp16: as for `deflated_power_iteration`.
        steps: the largest number of products.
        error_threshold: as `power_iter_err_threshold`.
        init_vec: a vector (n,) to start from; None: random.

    Raises:
        UsageError, OperatorError: as for `deflated_power_iteration`.

    Example:
        import torch
        from eigencore_torch import LambdaOperator, power_iteration

        diagonal = torch.tensor([-9.0, 10.0, 8.0, 1.0, 2.0])
        value, vector = power_iteration(LambdaOperator(lambda v: diagonal * v, 5), use_gpu=False)
        print(value, vector)
    """
    warn_of_fp16(fp16)
    warn_of_momentum(momentum)
    result = _solve(
        operator,
        1,
        use_gpu,
        tol=error_threshold,
        start=_as_start(init_vec),
        max_matvecs=steps,
        allowed="steps",
    )
    return float(result.values[0]), result.vectors[:, 0]


def lanczos(
    operator: Operator,
    num_eigenthings: int = 10,
    which: str = "LM",
    max_steps: int = 20,
    tol: float = 1e-6,
    num_lanczos_vectors: int | None = None,
    init_vec: Tensor | npt.NDArray[Any] | None = None,
    use_gpu: bool = False,
    fp16: bool = False,
) -> EigenThings:
    """Eigenvalues from one end of the spectrum, in ascending order, with their eigenvectors.

    `eigencore.solve(A, k, which="LM", tol=1e-6)` is its replacement.

    Args:
        operator, num_eigenthings, use_gpu, fp16: as for `deflated_power_iteration`.
        which: "LM" largest magnitude, "LA" largest, "SA" smallest.
        max_steps: the number of restarts: as many products as this number of full bases are allowed.
        tol: a pair has converged when ||A v - theta v|| is at most this fraction of |theta|, or the precision
            floor of the products; 0: the floor.
        num_lanczos_vectors: the number of basis vectors, at least k + 2; None: the larger of 2k and 20.
        init_vec: a vector (n,) to start from, to which a small random one is added; None: random. In 0.0.2,
            it is ignored.

    Returns:
        The eigenvalues (k,) as float64, and the eigenvectors (k, n), one per row. Pairs that have not
        converged are returned, too, with a warning, where 0.0.2 raises ArpackNoConvergence.

    Raises:
        UsageError: an argument is invalid: "SM", the smallest magnitude, is not available; and a recurrence
            over products of different batches, as with `full_dataset=False`, has no meaning.
        OperatorError: a product failed, or the operator is not symmetric.

    Example:
        import torch
        from eigencore_torch import LambdaOperator, lanczos

        diagonal = torch.tensor([-9.0, 10.0, 8.0, 1.0, 2.0])
        values, vectors = lanczos(LambdaOperator(lambda v: diagonal * v, 5), 3, which="LA")
        print(values, vectors.shape)
    """
    warn_of_fp16(fp16)
    if which not in ENDS:
        raise UsageError(
            f"which is {which!r}; expected one of {', '.join(ENDS)}",
            hint="For the smallest magnitude, write scipy.sparse.linalg.eigsh(A.to_scipy(), k, which='SM') "
            "with A = eigencore.operator(model, data, loss), and expect many products.",
        )
    if isinstance(operator, HVPOperator) and not operator.full_dataset:
        raise UsageError(
            "the Lanczos method needs the same operator in every product, and full_dataset=False draws "
            "another batch for each",
            hint='Set full_dataset=True, or use power iteration: mode="power_iter".',
        )
    basis = num_lanczos_vectors
    if basis is not None:
        basis = max(basis, num_eigenthings + 2)
    result = _solve(
        operator,
        num_eigenthings,
        use_gpu,
        which=which,
        tol=tol,
        start=_as_start(init_vec),
        max_matvecs=max_steps * (basis or max(2 * num_eigenthings, 20)),
        allowed="max_steps times the number of basis vectors",
        basis=basis,
    )
    return _as_arrays(result, np.argsort(result.values, kind="stable"))


def _solve(
    operator: Operator, k: int, use_gpu: bool, *, tol: float, allowed: str, **arguments: Any
) -> EigenResult:
    """The eigenpairs of an operator of 0.0.2; a warning says what has not converged, or may be missing."""
    A = as_linear_operator(operator, use_gpu)
    if isinstance(operator, HVPOperator) and not operator.full_dataset:
        arguments |= {"solver": "accel_power", "batches": 1}
    # ARPACK reads 0 as "as accurate as the data type allows", which is what the precision floor decides.
    result = eigencore.solve(A, k, tol=tol or float(np.finfo(np.float64).eps), **arguments)
    if np.count_nonzero(result.converged) < k:
        warn(f"{result.advice} Here, max_matvecs is {arguments['max_matvecs']}: {allowed}.")
    elif result.complete is False:
        warn(result.advice)
    return result


def _as_start(init_vec: Any) -> Tensor | None:
    return None if init_vec is None else torch.as_tensor(init_vec).detach().reshape(-1)


def _as_arrays(result: EigenResult, order: npt.NDArray[np.int64]) -> EigenThings:
    """The values (k,) and the vectors (k, n) in this order, as contiguous arrays on the host."""
    rows = result.vectors.T.cpu().numpy()[order]
    return result.values[order], np.ascontiguousarray(rows)
