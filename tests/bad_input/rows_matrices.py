"""Matrices and other operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rows import Row, made

import eigencore
from eigencore.errors import (
    NotFiniteError,
    NotSymmetricError,
    OperatorError,
    UnknownNameError,
    UsageError,
)
from eigencore.problems import find_factory

matrix: Callable[..., Row] = partial(
    made, file="matrices.py", flags=("--analyses", "none", "-k", "1"), keywords={"k": 1}
)


def solved(row: Row) -> Row:
    """The same matrix, through `solve`."""
    name = row.command[1] if row.command else ""
    return replace(
        row,
        given=f"solve: {row.given}",
        command=None,
        python=lambda: eigencore.solve(find_factory(name)(), k=1),
    )


def digits() -> Any:
    return eigencore.bind("demo:digits-numpy").operator()


def eigenvalue(value: float) -> Any:
    return lambda: np.array([value])


MATRICES = [
    matrix("not_square", "(3, 4)", "square", error=UsageError),
    matrix("one_dimensional", "(5,)", "square", error=UsageError),
    matrix("three_dimensional", "(2, 2, 2)", "square", error=UsageError),
    matrix("empty", "empty", error=UsageError),
    matrix("complex_numbers", "complex", error=UsageError),
    matrix("sparse_not_square", "(3, 4)", error=UsageError),
    matrix("sparse_complex", "complex", error=UsageError),
    matrix("text", "<U1", "real numbers", error=UsageError),
    matrix("dates", "datetime64", "real numbers", error=UsageError),
    matrix("records", "real numbers", error=UsageError),
    matrix("not_symmetric", "not symmetric", error=NotSymmetricError),
    matrix("slightly_asymmetric", "not symmetric", error=NotSymmetricError),
    matrix("nan_inside", "product 1 is not finite", error=NotFiniteError),
    matrix("inf_inside", "product 1 is not finite", error=NotFiniteError),
    matrix("whole_numbers", error=None, truth=eigenvalue(9)),
    matrix("booleans", error=None, truth=eigenvalue(1)),
    matrix("objects", error=None, truth=eigenvalue(9)),
    matrix("one_by_one", error=None, truth=eigenvalue(3)),
    matrix("zeros", error=None, truth=eigenvalue(0)),
    matrix("half_precision", error=None, truth=eigenvalue(9)),
]

ROWS = [
    *MATRICES,
    *map(solved, MATRICES),
    matrix("nested_list", "of type list: [[2.0", "matrix"),
    matrix("products_raise", "a product failed", "ZeroDivisionError", error=OperatorError),
    matrix("products_exit", "a product failed", "SystemExit", error=OperatorError),
    matrix("products_of_another_shape", "shape (3,)", "(8,)", error=OperatorError),
    matrix("products_that_are_text", "a product is a str", error=OperatorError),
    matrix("random_products", "not symmetric", "dropout", error=NotSymmetricError),
    Row(
        "a list, through solve",
        UsageError,
        ("of type list; expected a linear operator",),
        lambda: eigencore.solve([[1.0]]),
    ),
    Row("a function without n", UsageError, ("length of its vectors",), lambda: eigencore.solve(abs)),
    Row("a function with n = 0", UsageError, ("empty",), lambda: eigencore.as_operator(abs, n=0)),
    Row("n a fraction", UsageError, ("n is 2.5",), lambda: eigencore.as_operator(abs, n=2.5)),
    Row(
        "a function in float16",
        UsageError,
        ("float16", "float32 or float64"),
        lambda: eigencore.as_operator(abs, n=2, dtype="float16"),
    ),
    Row(
        "a vector of another length",
        UsageError,
        ("V has shape (4,); expected (3,) or (3, b)",),
        lambda: eigencore.as_operator(np.eye(3)) @ np.ones(4),
    ),
    Row(
        "a complex vector, through SciPy",
        UsageError,
        ("the vector is complex",),
        lambda: eigencore.as_operator(np.eye(3)).to_scipy() @ np.full(3, 1j),
    ),
    Row(
        "a vector of another length, taken apart",
        UsageError,
        ("v has shape (4,); expected an array (4810,) or (4810, k)",),
        lambda: digits().unflatten(np.ones(4)),
    ),
    Row(
        "arrays of misspelt parameters",
        UnknownNameError,
        ("unknown parameter of the operator: 'w1'", "W1"),
        lambda: digits().flatten({"w1": np.ones(3)}),
    ),
    Row(
        "arrays for some parameters only",
        UsageError,
        ("arrays are missing for W1, W2, b2", "each of the 4 parameters"),
        lambda: digits().flatten({"b1": np.ones(64)}),
    ),
    Row(
        "a function like a list",
        UsageError,
        ("like is a list", "an array or an operator"),
        lambda: eigencore.as_operator(abs, n=2, like=[1.0]),
    ),
    Row(
        "a function like an array of whole numbers",
        UsageError,
        ("dtype is int64", "real floating type of numpy"),
        lambda: eigencore.as_operator(abs, n=2, like=np.ones(2, np.int64)),
    ),
    Row(
        "a matrix like another one",
        UsageError,
        ("like can't be used: A is an array",),
        lambda: eigencore.as_operator(np.eye(2), like=np.eye(2)),
    ),
    Row(
        "a matrix with an unknown dtype",
        UsageError,
        ("word",),
        lambda: eigencore.as_operator(np.eye(3), dtype="word"),
    ),
]
