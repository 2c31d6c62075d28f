"""Invalid and unusual matrices, each returned by a function that is named after it, and other objects."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy import sparse

from eigencore.interfaces import Problem
from eigencore.operators import as_operator

_VALUES = np.array([9.0, -7.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.25])


def matrix() -> Any:
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))
    made = (rotation * _VALUES) @ rotation.T
    return (made + made.T) / 2


def not_square() -> Any:
    return np.ones((3, 4))


def one_dimensional() -> Any:
    return np.ones(5)


def three_dimensional() -> Any:
    return np.ones((2, 2, 2))


def not_symmetric() -> Any:
    return np.triu(matrix())


def slightly_asymmetric() -> Any:
    made = matrix()
    made[0, 7] += 1.0
    return made


def nan_inside() -> Any:
    made = matrix()
    made[2, 2] = np.nan
    return made


def inf_inside() -> Any:
    made = matrix()
    made[0, 1] = made[1, 0] = np.inf
    return made


def complex_numbers() -> Any:
    return matrix().astype(complex)


def objects() -> Any:
    return matrix().astype(object)


def text() -> Any:
    return np.array([["1", "0"], ["0", "1"]])


def dates() -> Any:
    return np.zeros((2, 2), dtype="datetime64[s]")


def records() -> Any:
    return np.zeros((2, 2), dtype=[("a", float)])


def empty() -> Any:
    return np.zeros((0, 0))


def nested_list() -> Any:
    return [[2.0, 0.0], [0.0, 1.0]]


def whole_numbers() -> Any:
    return np.diag([9, -7, 5, 3, 2, 1, 0, 0])


def booleans() -> Any:
    return np.eye(8, dtype=bool)


def one_by_one() -> Any:
    return np.array([[3.0]])


def zeros() -> Any:
    return np.zeros((8, 8))


def half_precision() -> Any:
    return np.diag(_VALUES).astype(np.float16)


def sparse_not_square() -> Any:
    return sparse.csr_array(np.ones((3, 4)))


def sparse_complex() -> Any:
    return sparse.csr_array(np.eye(4, dtype=complex))


def _operator(apply: Any) -> Problem:
    A = as_operator(matrix())
    A.matvec = apply  # type: ignore[method-assign]
    A.matmat = apply  # type: ignore[method-assign]
    return Problem(operator=A)


def products_raise() -> Any:
    return _operator(lambda V: 1 / 0)


def products_exit() -> Any:
    return _operator(lambda V: sys.exit(0))


def products_of_another_shape() -> Any:
    return _operator(lambda V: np.ones((3, *V.shape[1:])))


def products_that_are_text() -> Any:
    return _operator(lambda V: "product")


_draws = np.random.default_rng(0)


def random_products() -> Any:
    return _operator(lambda V: matrix() @ V * _draws.standard_normal((8, *[1] * (V.ndim - 1))))


def huge_numbers() -> Any:
    return np.diag(_VALUES) * 1e307


# -- objects that are not problems -------------------------------------------------------------------------

answer = 42


def returns_none() -> Any:
    return None


def returns_text() -> Any:
    return "hessian"


def returns_a_pair() -> Any:
    return "model", ["data"]


def returns_a_list() -> Any:
    return [1, 2]


def returns_a_class() -> Any:
    return Problem


def raises() -> Any:
    raise RuntimeError("no data here")


def exits() -> Any:
    sys.exit(0)


def presses_ctrl_c() -> Any:
    raise KeyboardInterrupt


def needs_a_path(path: str) -> Any:
    return np.eye(len(path))


def lacks_a_loss() -> Any:
    return Problem(model=len, data=[1])


def lacks_everything() -> Any:
    return Problem()


def operator_and_model() -> Any:
    return Problem(operator=np.eye(3), model=len)


def operator_and_checkpoint() -> Any:
    return Problem(operator=np.eye(3), checkpoint="best.pt")


def on_an_unknown_backend() -> Any:
    return Problem(model=len, data=[1], loss=len, backend="tensorflow")


def on_two_returns() -> Any:
    return np.eye(3), np.eye(3)


def chatty() -> Any:
    print("loading")
    return matrix()
