"""A model as a pure function of its weights: adapters for functions, Flax (Linen and NNX) and Equinox.

Every adapter takes the model apart into a hashable function, named weights and constants. JAX compiles once
for each function, so that two bindings of one model share what was compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from eigencore.errors import ProblemError
from eigencore.interfaces import Array

Weights: TypeAlias = dict[str, Array]

_EXPECTED = (
    "expected a pair (apply, params) of a function apply(params, x) and a pytree of arrays, a pair of a Flax "
    "Linen module and its variables, a Flax NNX module, or an Equinox module"
)


@dataclass(frozen=True)
class JaxModel:
    """A model as a function of its weights.

    Attributes:
        call: (weights, constants, *arguments) -> outputs; hashable, because JAX compiles once for each.
        weights: the weights by name, in the order of a flat vector.
        constants: arrays that are not weights, such as running statistics.
        channels: "first" or "last", where the convolutions of its library expect the channels of images:
            Flax last; Equinox, and by default JAX itself, first.
    """

    call: Callable[..., Any]
    weights: Weights
    constants: Any
    channels: str = "first"


@dataclass(frozen=True)
class FixedLeaf:
    """A leaf of a pytree that is no array, such as an activation function or a rate of dropout."""

    value: Any


@dataclass(frozen=True)
class PytreeCall:
    """apply(params, x) with the weights put into their places in the pytree of parameters.

    Attributes:
        apply: the function of the pytree.
        structure: the structure of the pytree.
        leaves: for each leaf the name of a weight, a leaf that is no array, or None for the next constant.
    """

    apply: Callable[..., Any]
    structure: Any
    leaves: tuple[str | FixedLeaf | None, ...]

    def __call__(self, weights: Weights, constants: Any, *arguments: Any, **keywords: Any) -> Any:
        rest = iter(constants)

        def value(leaf: str | FixedLeaf | None) -> Any:
            if isinstance(leaf, FixedLeaf):
                return leaf.value
            return next(rest) if leaf is None else weights[leaf]

        params = jax.tree.unflatten(self.structure, [value(leaf) for leaf in self.leaves])
        return self.apply(params, *arguments, **keywords)


@dataclass(frozen=True)
class LinenApply:
    """The apply function of a Flax Linen module, over its parameters and its other variables."""

    module: Any

    def __call__(self, parts: tuple[Any, Any], *arguments: Any, **keywords: Any) -> Any:
        params, others = parts
        return self.module.apply({"params": params, **others}, *arguments, **keywords)


@dataclass(frozen=True)
class NnxApply:
    """The call of a Flax NNX module, which is put together again from its graph and its state."""

    graph: Any

    def __call__(self, parts: tuple[Any, Any], *arguments: Any, **keywords: Any) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, *parts)(*arguments, **keywords)


@dataclass(frozen=True)
class EquinoxApply:
    """The call of an Equinox module, which takes one sample, for all samples of a batch."""

    def __call__(self, module: Any, *arguments: Any, **keywords: Any) -> Any:
        return jax.vmap(lambda *one: module(*one, **keywords))(*arguments)


class ByIdentity:
    """What can't be hashed, such as a function: it equals itself alone, and is compiled for itself."""

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.wrapped(*arguments, **keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and other.wrapped is self.wrapped

    def __hash__(self) -> int:
        return id(self.wrapped)


def hashable(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself if it can be hashed, which JAX requires of what it compiles for."""
    try:
        hash(function)
    except TypeError:
        return ByIdentity(function)
    return function


def as_model(model: Any) -> JaxModel:
    """The model as a function of its weights.

    Raises:
        ProblemError: it is none of the models that the backend knows, or has no weights.

    Example:
        import jax.numpy as jnp
        from eigencore_jax.models import as_model

        model = as_model((lambda params, x: x @ params["w"], {"w": jnp.ones(3)}))
        print(list(model.weights), model.call(model.weights, model.constants, jnp.ones((2, 3))))
    """
    nnx, equinox = sys.modules.get("flax.nnx"), sys.modules.get("equinox")
    if nnx is not None and isinstance(model, nnx.Module):
        return _of_nnx(model)
    if equinox is not None and isinstance(model, equinox.Module):
        return _of_pytree(EquinoxApply(), equinox.nn.inference_mode(model))
    if not (isinstance(model, tuple) and len(model) == 2):
        raise ProblemError(f"the model is a {type(model).__name__}; {_EXPECTED}")
    apply, params = model
    linen = sys.modules.get("flax.linen")
    if linen is not None and isinstance(apply, linen.Module):
        return _of_linen(apply, params)
    if not callable(apply):
        raise ProblemError(f"the model is a pair whose first part is a {type(apply).__name__}; {_EXPECTED}")
    return _of_pytree(apply, params)


def is_weight(leaf: Any) -> bool:
    """Whether a leaf of a pytree is an array of floating-point numbers."""
    return _is_array(leaf) and bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def name_of(path: tuple[Any, ...]) -> str:
    """The place of a leaf in a pytree as a name, with dots between its parts.

    Example:
        import jax
        from eigencore_jax.models import name_of

        leaves, _ = jax.tree_util.tree_flatten_with_path({"layers": [{"w": 1.0}]})
        print([name_of(path) for path, _ in leaves])
    """
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _of_linen(module: Any, variables: Any) -> JaxModel:
    if not (isinstance(variables, Mapping) and "params" in variables):
        raise ProblemError(
            "the model is a Linen module with variables that have no entry 'params'",
            hint="Give the pair (module, variables) with variables = module.init(key, x).",
        )
    others = {name: part for name, part in variables.items() if name != "params"}
    return replace(
        _of_pytree(LinenApply(module), (variables["params"], others), weights_in=0), channels="last"
    )


def _of_nnx(model: Any) -> JaxModel:
    from flax import nnx

    evaluated = nnx.merge(*nnx.split(model))  # a copy: the mode of the given one stays as it is
    evaluated.eval()
    graph, *states = nnx.split(evaluated, nnx.Param, ...)  # the weights, and everything else
    parts = tuple(map(nnx.to_pure_dict, states))
    return replace(_of_pytree(NnxApply(graph), parts, weights_in=0), channels="last")


def _of_pytree(apply: Callable[..., Any], params: Any, weights_in: int | None = None) -> JaxModel:
    """A model from a function of a pytree.

    Args:
        weights_in: the part of the pytree that has the weights, whose names do not mention it; None: they are
            in all of it, and arrays of other than floating-point numbers are constants.
    """
    places, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves: list[str | FixedLeaf | None] = []
    weights: Weights = {}
    constants = []
    for path, leaf in places:
        outside = weights_in is not None and getattr(path[0], "idx", None) != weights_in
        if not _is_array(leaf):
            leaves.append(FixedLeaf(leaf))
            continue
        if outside or not is_weight(leaf):
            leaves.append(None)
            constants.append(leaf)
            continue
        name = name_of(path if weights_in is None else path[1:]) or "weights"
        if name in weights:
            raise ProblemError(f"two weights have the name {name}", hint="Rename the keys of the pytree.")
        leaves.append(name)
        weights[name] = leaf
    if not weights:
        raise ProblemError("the model has no weights: its pytree has no arrays of floating-point numbers")
    call = hashable(PytreeCall(apply, structure, tuple(leaves)))
    return JaxModel(call, weights, tuple(constants))
