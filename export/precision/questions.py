"""Questions that the rules of precision ask of a node's place in its graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from export.graph import GraphView, attributes

if TYPE_CHECKING:
    from onnx import NodeProto

SHAPE_OPS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
TO_OUTPUT = ("Add", "LogSoftmax", "Softmax", "Log", *SHAPE_OPS)


def reads_input(view: GraphView, node: NodeProto) -> bool:
    """Whether only changes of shape lie between the node and the network's input."""
    name = node.input[0]
    while name in view.maker and view.maker[name].op_type in SHAPE_OPS:
        name = view.maker[name].input[0]
    return name in view.inputs


def feeds_output(view: GraphView, node: NodeProto) -> bool:
    """Whether the node's result reaches the output through nothing but bias, softmax and changes of shape."""
    names = list(node.output)
    while names:
        if any(name in view.outputs for name in names):
            return True
        users = [user for name in names for user in view.users.get(name, []) if user.op_type in TO_OUTPUT]
        names = [name for user in users for name in user.output]
    return False


def weight_size(view: GraphView, node: NodeProto) -> int:
    """Elements of a product's constant weight."""
    return math.prod(view.constants[node.input[1]].dims)


def reduced(view: GraphView, node: NodeProto) -> int | None:
    """How many values a reduction or average takes together, None where that depends on the input."""
    shape = view.shape(node.input[0])
    told = attributes(node)
    if shape is None:
        return None
    if node.op_type == "AveragePool":
        return math.prod(told["kernel_shape"])
    axes = list(range(2, len(shape))) if node.op_type == "GlobalAveragePool" else told.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        axes = view.ints(node.input[1])
    sizes = [shape[axis] for axis in (range(len(shape)) if axes is None else axes)]
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None
