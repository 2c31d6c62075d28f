"""What an operator has in common with a matrix: products by `@`, and use with SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eigencore import arrays
from eigencore.errors import UsageError
from eigencore.space import Array, LinearOperator

if TYPE_CHECKING:
    from collections.abc import Callable


class MatrixLike:
    """Gives the class of an operator products by `@` and `to_scipy`.

    The operators of the core and of the bundled backends inherit from it. The class of any other operator can
    do so, but need not: solvers and analyses use `matvec` and `matmat` only.

    Example:
        import numpy as np
        from eigencore import solve
        from eigencore.operators import MatrixLike
        import array_api_compat.numpy

        class Tridiagonal(MatrixLike):
            shape, xp, dtype, device = (9, 9), array_api_compat.numpy, np.dtype(np.float64), "cpu"

            def matvec(self, v):
                return self.matmat(v[:, None])[:, 0]

            def matmat(self, V):
                zero = np.zeros((1, V.shape[1]))
                return 2 * V - np.vstack([V[1:], zero]) - np.vstack([zero, V[:-1]])

        A = Tridiagonal()
        print(A @ np.ones(9), solve(A, k=1).values)
    """

    def __matmul__(self: LinearOperator, V: Array, /) -> Array:
        """A V, for a vector V (n,) or a block V (n, b) in the array library of the operator.

        Raises:
            UsageError: V has another shape, or belongs to another array library.
        """
        if not arrays.is_array(V):
            return NotImplemented
        own, given = arrays.library(self.xp), arrays.library(arrays.namespace(V))
        if given != own:
            raise UsageError(
                f"an operator on arrays of {own} can't multiply an array of {given}",
                hint="Convert the array, or multiply NumPy arrays by A.to_scipy().",
            )
        rows = arrays.local_rows(self)
        if V.ndim not in (1, 2) or V.shape[0] != rows:
            raise UsageError(f"V has shape {tuple(V.shape)}; expected ({rows},) or ({rows}, b)")
        return self.matvec(V) if V.ndim == 1 else self.matmat(V)

    def to_scipy(self: LinearOperator) -> Any:
        """The operator as a scipy.sparse.linalg.LinearOperator, for functions of SciPy such as `eigsh`.

        Products are computed on the operator's device. Vectors (n,) and blocks (n, b) are NumPy arrays, and
        products have the operator's data type, or float32 if that is a 16-bit type.

        Raises:
            UsageError: the operator's vectors are shards; or, in a product, the vector is complex.

        Example:
            import numpy as np
            from eigencore import as_operator
            from scipy.sparse.linalg import cg

            A = as_operator(np.diag([4.0, 2.0, 1.0])).to_scipy()
            solution, info = cg(A, np.ones(3))
            print(solution)
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        if arrays.is_sharded(self):
            raise UsageError(
                "an operator on shards can't be converted to one of SciPy, which has whole vectors"
            )
        dtype = np.dtype(np.float64 if self.xp.finfo(self.dtype).bits == 64 else np.float32)

        def on_host(product: Callable[[Array], Array], V: Any) -> Any:
            if np.iscomplexobj(V):
                raise UsageError("the vector is complex; the operator multiplies real vectors")
            return arrays.to_host(product(arrays.from_host(V, self))).astype(dtype, copy=False)

        def matvec(v: Any) -> Any:
            return on_host(self.matvec, np.reshape(v, -1))  # SciPy also gives vectors as columns (n, 1)

        def matmat(V: Any) -> Any:
            return on_host(self.matmat, V)

        return ScipyOperator(
            self.shape, matvec=matvec, rmatvec=matvec, matmat=matmat, rmatmat=matmat, dtype=dtype
        )
