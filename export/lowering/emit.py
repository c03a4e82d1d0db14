"""Writing the nodes that take another's place: names, constants of the right type, forms of the graph's own opset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from export.graph import GraphView

if TYPE_CHECKING:
    from onnx import NodeProto


class Emit:
    """Collects the nodes that replace `node`; all are named after it (`NAME/part`)."""

    def __init__(self, view: GraphView, node: NodeProto) -> None:
        self.view = view
        self.node = node
        self.nodes: list[NodeProto] = []
        self.version = view.opset

    def op(self, kind: str, *inputs: str, output: str = "", part: str = "", **attributes: Any) -> str:
        """Add a node of one output and return its name; `output` where it must be a given one."""
        from onnx import helper

        stem = f"{self.node.name}/{part or kind}"
        name = self.view.fresh(stem)
        result = output or self.view.fresh(f"{stem}:0")
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=name, **attributes))
        return result

    def constant(self, value: Any, like: str = "") -> str:
        """A constant; `like` names the tensor whose element type it takes (float32 where that is unknown)."""
        array = np.asarray(value)
        if like:
            array = array.astype(self.type_of(like))
        return self.view.constant(f"{self.node.name}/constant", array)

    def ints(self, *values: int) -> str:
        """A constant list of whole numbers."""
        return self.constant(np.asarray(values, np.int64))

    def type_of(self, name: str) -> np.dtype[Any]:
        """Element type of a tensor, float32 where it is unknown."""
        from onnx import helper

        kind = self.view.dtype(name)
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind) if kind else np.float32)

    def reduce(self, kind: str, x: str, axes: Sequence[int], keep: bool = True, output: str = "") -> str:
        """A reduction over constant axes, which are an input since opset 18 (of ReduceSum since 13)."""
        if self.version >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, x, self.ints(*axes), output=output, keepdims=int(keep))
        return self.op(kind, x, output=output, axes=list(axes), keepdims=int(keep))

    def unsqueeze(self, x: str, axes: Sequence[int], output: str = "") -> str:
        """New axes of size 1 at the places `axes` of the result."""
        return self._axes("Unsqueeze", x, axes, output)

    def squeeze(self, x: str, axes: Sequence[int], output: str = "") -> str:
        """Axes of size 1 taken away."""
        return self._axes("Squeeze", x, axes, output)

    def _axes(self, kind: str, x: str, axes: Sequence[int], output: str) -> str:
        if self.version >= 13:
            return self.op(kind, x, self.ints(*axes), output=output)
        return self.op(kind, x, output=output, axes=list(axes))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axes in another order; nothing where they are in it already."""
        if list(order) == list(range(len(order))):
            return x
        return self.op("Transpose", x, perm=list(order))

    def finish(self, x: str, output: str) -> list[NodeProto]:
        """Let the result carry the name `output` that the rest of the graph reads, and give out the nodes."""
        last = self.nodes[-1] if self.nodes else None
        if last is not None and list(last.output) == [x]:
            last.output[0] = output
        else:
            self.op("Identity", x, output=output)
        return self.nodes
