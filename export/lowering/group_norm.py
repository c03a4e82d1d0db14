"""GroupNormalization as a reshape, mean, squares and a division, for runtimes that have it not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphView, attributes
from export.lowering.emit import Emit
from runtime.errors import Refused

if TYPE_CHECKING:
    from onnx import NodeProto

OPS = frozenset({"GroupNormalization"})
SAYS = "the normalisation written as a reshape, mean, squares and a division"


def run(view: GraphView, node: NodeProto) -> list[NodeProto]:
    """The nodes that replace `node`: x (N,C,...). Raises `Refused` where the rank is unknown, and before opset 21."""
    from onnx import TensorProto

    emit, found = Emit(view, node), attributes(node)
    x, scale, bias = node.input[:3]
    rank, groups = view.rank(x), int(found["num_groups"])
    if view.opset < 21:
        raise Refused(f"node {node.name} (GroupNormalization): ONNX has withdrawn the form of opset 18; export with 21")
    if rank is None:
        raise Refused(f"node {node.name} (GroupNormalization): its number of axes is unknown")
    wide = view.dtype(x) in (0, TensorProto.FLOAT, TensorProto.DOUBLE)
    kind = emit.type_of(x) if wide else np.dtype(np.float32)
    y = x if wide else emit.op("Cast", x, to=TensorProto.FLOAT)
    y = emit.op("Reshape", y, emit.ints(0, groups, -1))
    y = emit.op("Sub", y, emit.reduce("ReduceMean", y, [2]))
    squares = emit.reduce("ReduceMean", emit.op("Mul", y, y), [2])
    epsilon = emit.constant(np.asarray(found.get("epsilon", 1e-5), kind))
    y = emit.op("Div", y, emit.op("Sqrt", emit.op("Add", squares, epsilon)))
    if not wide:
        y = emit.op("Cast", y, to=view.dtype(x))
    y = emit.op("Reshape", y, emit.op("Shape", x))
    ones = [1] * (rank - 2)
    y = emit.op("Mul", y, emit.op("Reshape", scale, emit.ints(-1, *ones)))
    y = emit.op("Add", y, emit.op("Reshape", bias, emit.ints(-1, *ones)))
    return emit.finish(y, node.output[0])
