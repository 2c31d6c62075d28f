"""A product recorded as two sequences of operations: what a batch needs once, and what each direction needs.

A product A v through a graph is computed once while PyTorch records its operations. Those that do not depend
on v are replayed once per batch, and their results are kept. The others are replayed for each v. They involve
no autograd, so that a compiler can fuse them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

# What multiplies: the kept results, then one piece per parameter -> one piece per parameter, None for zeros.
Multiply = Callable[..., Sequence[Tensor | None]]


@dataclass(frozen=True)
class Recording:
    """A recorded product.

    Attributes:
        prepare: from the tensors of a batch to the results that its products use.
        multiply: from these results and a direction to the product.
        constants: the tensors that `multiply` reads beside its arguments, such as weights.
        waiting: the name of an operation in `multiply` that waits for a GPU, since a mask or other values
            decide the shape of its result; None if there is none.
    """

    prepare: fx.GraphModule
    multiply: Multiply
    constants: Sequence[Tensor]
    waiting: str | None


def record(
    product: Callable[[list[Tensor], list[Tensor]], Sequence[Tensor | None]],
    tensors: list[Tensor],
    directions: list[Tensor],
) -> Recording:
    """Records `product(tensors, directions)`.

    Args:
        product: linear in the directions.
        tensors: those of a batch. The recording holds for other tensors of the same shapes and types.
        directions: one piece per parameter.

    Raises:
        RuntimeError: a value of a tensor decides what is computed, or an input, a weight or a buffer is
            changed in place.
    """
    module = make_fx(product, tracing_mode="real")(tensors, directions)
    graph = module.graph
    graph.eliminate_dead_code()
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    moving = set(inputs[len(tensors) :])
    _add_dependent(graph, moving)
    for node in graph.nodes:
        for written in _written(node):
            if _is_permanent(written) and written not in moving:
                raise RuntimeError("the model or the loss changes its inputs, weights or buffers in place")
    (output,) = (node for node in graph.nodes if node.op == "output")
    used = {one for node in moving for one in node.all_input_nodes} | set(output.all_input_nodes)
    kept = [node for node in graph.nodes if node in used - moving and node.op != "get_attr"]

    def prepared(node: fx.Node) -> bool:
        return node not in moving

    def multiplied(node: fx.Node) -> bool:
        return node.op == "get_attr" or (node in moving and node.op != "placeholder")

    prepare, multiply = fx.Graph(), fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    for node in filter(prepared, graph.nodes):
        if node is not output:
            new[node] = prepare.node_copy(node, new.__getitem__)
    prepare.output([new[node] for node in kept])
    new = {node: multiply.placeholder(f"kept_{i}") for i, node in enumerate(kept)}
    new |= {node: multiply.node_copy(node) for node in inputs[len(tensors) :]}
    for node in filter(multiplied, graph.nodes):
        new[node] = multiply.node_copy(node, new.__getitem__)
    multiply.output(fx.map_arg(output.args[0], new.__getitem__))
    for part in (prepare, multiply):
        part.eliminate_dead_code()
    constants = [operator.attrgetter(node.target)(module) for node in multiply.nodes if node.op == "get_attr"]
    return Recording(
        fx.GraphModule(module, prepare),
        fx.GraphModule(module, multiply),
        [x for x in constants if isinstance(x, Tensor)],
        next((str(node.target) for node in graph.nodes if node in moving and _waits(node)), None),
    )


def _waits(node: fx.Node) -> bool:
    """Whether values decide the shape of an operation's result, or of an intermediate one."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    indices = {argument.name: value for argument, value in _arguments(node)}.get("indices")
    if isinstance(indices, list | tuple):  # of x[indices], which may be masks
        types = [one.meta["val"].dtype for one in indices if isinstance(one, fx.Node)]
        return torch.bool in types or torch.uint8 in types
    return torch.Tag.dynamic_output_shape in node.target.tags


def _add_dependent(graph: fx.Graph, moving: set[fx.Node]) -> None:
    """Adds to the nodes that change with the direction all that depend on them.

    A buffer that they write into belongs to them, with everything that reads it.
    """
    before = 0
    while len(moving) > before:
        before = len(moving)
        for node in graph.nodes:
            if node.op != "output" and any(one in moving for one in node.all_input_nodes):
                moving.add(node)
                moving.update(one for one in _written(node) if not _is_permanent(one))


def _is_permanent(node: fx.Node) -> bool:
    return node.op in ("placeholder", "get_attr")


def _written(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes whose results an operation writes into, through views as well."""
    for one, info in _aliased(node):
        if info is not None and info.is_write:
            yield from _bases(one)


def _bases(node: fx.Node) -> Iterator[fx.Node]:
    """A node, and the nodes whose results its result may be a view of."""
    yield node
    for one, _ in _aliased(node):
        yield from _bases(one)


def _aliased(node: fx.Node) -> Iterator[tuple[fx.Node, Any]]:
    """The arguments of an operation that its result may share memory with, or that it writes into."""
    if node.target is operator.getitem:
        yield from ((one, None) for one in node.all_input_nodes)
    else:
        for argument, value in _arguments(node):
            if argument.alias_info is not None:
                for one in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(one, fx.Node):
                        yield one, argument.alias_info


def _arguments(node: fx.Node) -> Iterator[tuple[Any, Any]]:
    """The arguments in the schema of an operation of PyTorch, each with its value; none for others."""
    if isinstance(node.target, torch._ops.OpOverload):
        arguments = node.target._schema.arguments
        yield from zip(arguments, node.args, strict=False)
        named = {argument.name: argument for argument in arguments}
        yield from ((named[name], value) for name, value in node.kwargs.items())
