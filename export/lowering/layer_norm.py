"""LayerNormalization and RMSNormalization as mean, squares and a division, for runtimes that have neither.

The sums are taken in float32 whatever the input is (squares of float16 overflow beyond 256), as the operators' own
`stash_type` asks. All new nodes are named `NAME/...`, so that a plan of precision can keep them in float32 too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphView, attributes
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

OPS = frozenset({"LayerNormalization", "RMSNormalization"})
SAYS = "the normalisation written as mean, squares and a division"


def run(view: GraphView, node: NodeProto) -> list[NodeProto]:
    """The nodes that replace `node`. Raises `Refused` where the rank must be known and is not."""
    from onnx import TensorProto

    emit, found = Emit(view, node), attributes(node)
    x, scale = node.input[0], node.input[1]
    bias = node.input[2] if len(node.input) > 2 else ""
    axes = _axes(view, node, found.get("axis", -1))
    wide = view.dtype(x) in (0, TensorProto.FLOAT, TensorProto.DOUBLE)
    y = x if wide else emit.op("Cast", x, to=TensorProto.FLOAT)
    kind = np.float32 if not wide else emit.type_of(x)
    mean = ""
    if node.op_type == "LayerNormalization":
        mean = emit.reduce("ReduceMean", y, axes)
        y = emit.op("Sub", y, mean)
    squares = emit.reduce("ReduceMean", emit.op("Mul", y, y), axes)
    epsilon = emit.constant(np.asarray(found.get("epsilon", 1e-5), kind))
    deviation = emit.op("Sqrt", emit.op("Add", squares, epsilon))
    _other_outputs(emit, node, mean, deviation, kind)
    y = emit.op("Div", y, deviation)
    if not wide:
        y = emit.op("Cast", y, to=view.dtype(x))
    y = emit.op("Mul", y, scale)
    if bias:
        y = emit.op("Add", y, bias)
    return emit.finish(y, node.output[0])


def _other_outputs(emit: Emit, node: NodeProto, mean: str, deviation: str, kind: np.dtype | type) -> None:
    """Mean and inverse deviation, where something reads them."""
    read = [name for name in node.output[1:] if name and (name in emit.view.users or name in emit.view.outputs)]
    if len(node.output) > 1 and node.output[1] in read:
        emit.op("Identity", mean, output=node.output[1])
    if len(node.output) > 2 and node.output[2] in read:
        emit.op("Div", emit.constant(np.asarray(1, kind)), deviation, output=node.output[2])


def _axes(view: GraphView, node: NodeProto, axis: int) -> list[int]:
    """The axes normalised over, counted from the end."""
    if axis < 0:
        return list(range(axis, 0))
    rank = view.rank(node.input[0])
    if rank is None:
        raise Refused(f"node {node.name}: its axis {axis} counts from the front, but its number of axes is unknown")
    return list(range(axis - rank, 0))
