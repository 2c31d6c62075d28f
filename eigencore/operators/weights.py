"""Vectors of an operator over weights, and the same numbers in the shapes of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Protocol

from eigencore import arrays
from eigencore.errors import UnknownNameError, UsageError
from eigencore.operators.matrix_like import MatrixLike
from eigencore.space import Array, LinearOperator


class OverParameters(LinearOperator, Protocol):
    """An operator that says which parameters its vectors consist of."""

    @property
    def parameter_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each parameter by its name, in the order of the flat vector."""


class WeightOperator(MatrixLike):
    """Gives the class of an operator over weights `flatten` and `unflatten`, and what `MatrixLike` gives.

    The class has the attribute `parameter_shapes`, the shapes of the parameters by name, in the order of the
    flat vector.

    Example:
        import eigencore

        hessian = eigencore.bind("demo:digits-numpy").operator()
        first = eigencore.solve(hessian, k=1).vectors
        pieces = hessian.unflatten(first[:, 0])
        print({name: piece.shape for name, piece in pieces.items()})
        print(abs(hessian.flatten(pieces) - first[:, 0]).max())
    """

    def unflatten(self: OverParameters, v: Array, /) -> dict[str, Array]:
        """A vector (n,) as one array for each parameter, by name, in the shape of the parameter.

        A block (n, k) gives arrays (*shape, k): `piece[..., i]` belongs to column i. The arrays are in the
        library of v, which may be another one than that of the operator, and are views of v where its library
        has views.

        Raises:
            UsageError: v has another shape, or is no array.
        """
        n = self.shape[0]
        shape = tuple(v.shape) if arrays.is_array(v) else None
        if shape is None or len(shape) not in (1, 2) or shape[0] != n:
            found = f"is a {type(v).__name__}" if shape is None else f"has shape {shape}"
            raise UsageError(f"v {found}; expected an array ({n},) or ({n}, k)")
        xp, pieces, start = arrays.namespace(v), {}, 0
        for name, own in self.parameter_shapes.items():
            end = start + prod(own)
            pieces[name] = xp.reshape(v[start:end, ...], (*own, *shape[1:]))
            start = end
        return pieces

    def flatten(self: OverParameters, pieces: Mapping[str, Array], /) -> Array:
        """The vector (n,) that consists of one array for each parameter; the inverse of `unflatten`.

        Args:
            pieces: an array in the shape of each parameter, by its name, or arrays (*shape, k) for a block.
                They may be of any library and data type, such as gradients or the weights themselves.

        Returns:
            A new vector (n,) or block (n, k) in the library, data type and device of the operator.

        Raises:
            UnknownNameError: the operator covers no parameter of that name.
            UsageError: a parameter is missing, or has another shape.
        """
        shapes = self.parameter_shapes
        for name in pieces:
            if name not in shapes:
                raise UnknownNameError("parameter of the operator", str(name), shapes)
        if missing := [name for name in shapes if name not in pieces]:
            shown = f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
            raise UsageError(
                f"arrays are missing for {shown}; expected one for each of the {len(shapes)} parameters"
            )
        columns: set[tuple[int, ...]] = set()
        for name, own in shapes.items():
            shape = tuple(pieces[name].shape) if arrays.is_array(pieces[name]) else None
            if shape is None or shape[: len(own)] != own or len(shape) > len(own) + 1:
                found = f"is a {type(pieces[name]).__name__}" if shape is None else f"has shape {shape}"
                raise UsageError(
                    f"{name} {found}; expected an array {_text(own)}, or {_text((*own, 'k'))} for a block"
                )
            columns.add(shape[len(own) :])
        if len(columns) > 1:
            raise UsageError("the arrays differ in the number of columns; expected the same k for each")
        k = columns.pop()
        flat = [
            self.xp.reshape(_in_space(pieces[name], self), (prod(own), *k)) for name, own in shapes.items()
        ]
        return self.xp.concat(flat)


def _in_space(x: Any, space: LinearOperator) -> Array:
    if getattr(x, "requires_grad", False):
        x = x.detach()
    if arrays.library(arrays.namespace(x)) != arrays.library(space.xp):
        return arrays.from_host(arrays.to_host(x), space)
    return space.xp.asarray(x, dtype=space.dtype, device=space.device)


def _text(shape: tuple[object, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
