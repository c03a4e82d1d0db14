"""Which tensors of a graph are stored in eight bits, given the precisions of its nodes, and whose scale each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from export.graph import GraphView, attributes
from export.precision.flavour import Flavour

if TYPE_CHECKING:
    from onnx import NodeProto

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# What gives out values that it read, wherever it puts them: integers pass through as well as floats.
MOVERS = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
     "Unsqueeze"}
)  # fmt: skip


def moved(node: NodeProto) -> list[str]:
    """The tensors whose values a mover moves (not its shapes, axes and indices); empty for any other node."""
    if node.op_type not in MOVERS or node.domain not in ("", "ai.onnx"):
        return []
    if node.op_type == "MaxPool" and len(node.output) > 1:  # it gives indices too
        return []
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


def pieces(node: NodeProto) -> tuple[int, int] | None:
    """(axis, size) of a MaxPool over pieces of one axis that neither overlap nor reach beyond its ends, else None."""
    if node.op_type != "MaxPool" or len(node.output) > 1:
        return None
    told = attributes(node)
    kernel, ones = told["kernel_shape"], [1] * len(told["kernel_shape"])
    long = [index for index, size in enumerate(kernel) if size > 1]
    plain = told.get("strides", ones) == kernel and told.get("dilations", ones) == ones and not told.get("ceil_mode", 0)
    padded = any(told.get("pads", [])) or told.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return (long[0] + 2, kernel[long[0]]) if len(long) == 1 and plain and not padded else None


class Placement:
    """Answers where eight bits begin and end. `precisions` is a plan's assignment: node -> precision."""

    def __init__(self, view: GraphView, precisions: Mapping[str, str], flavour: Flavour) -> None:
        self.view, self.precisions, self.flavour = view, precisions, flavour
        self._root: dict[str, str] = {}
        for node in view.graph.node:
            if self.moves_eight_bits(node):
                source = self.root(moved(node)[0])
                self._root.update(dict.fromkeys(node.output, source))

    def is_int8(self, node: NodeProto) -> bool:
        """Whether the plan puts the node in eight bits."""
        return self.precisions.get(node.name) == "int8"

    def moves_eight_bits(self, node: NodeProto) -> bool:
        """Whether the node moves eight-bit data."""
        return self.is_int8(node) and bool(moved(node))

    def root(self, tensor: str) -> str:
        """The tensor whose scale `tensor` has: the one whose values were moved to become it."""
        return self._root.get(tensor, tensor)

    def reads(self, node: NodeProto) -> list[str]:
        """Inputs that an int8 node reads through Q/DQ, weights aside; empty for any other node."""
        if not self.is_int8(node) or node.op_type == "Relu":
            return []
        if moved(node):
            return moved(node)
        read = [name for name in dict.fromkeys(node.input) if name and not self.view.is_constant(name)]
        if node.op_type in PRODUCTS:
            return read[:1] if self.view.weighted(node) else read
        if node.op_type in self.flavour.outputs:
            return read
        return [name for name in read if not self._fused(name)]  # a product's sum takes it before it is rounded

    def result(self, node: NodeProto) -> str:
        """The tensor that an int8 node stores in eight bits although no reader asks for it; "" for none.

        The result of a ReLU stands for that of the layer before it, with which it is fused.
        """
        if not self.is_int8(node) or moved(node):
            return ""
        if node.op_type == "Relu":
            before = self.view.maker.get(node.input[0])
            return node.output[0] if before is not None and self._gives_out(before) else ""
        return node.output[0] if self._gives_out(node) and self.relu_of(node) is None else ""

    def relu_of(self, node: NodeProto) -> NodeProto | None:
        """The ReLU that is fused with an int8 node."""
        user = self.view.only_user(node.output[0])
        return user if user is not None and user.op_type == "Relu" and self.is_int8(user) else None

    def roots(self) -> list[str]:
        """The tensors that need a range, in graph order."""
        found: dict[str, None] = {}
        for node in self.view.graph.node:
            found.update(dict.fromkeys(self.root(name) for name in self.reads(node)))
            if self.result(node):
                found[self.result(node)] = None
        return list(found)

    def _gives_out(self, node: NodeProto) -> bool:
        return self.is_int8(node) and node.op_type in self.flavour.outputs

    def _fused(self, tensor: str) -> bool:
        maker = self.view.maker.get(tensor)
        return (
            maker is not None
            and self.is_int8(maker)
            and maker.op_type in PRODUCTS
            and self.view.only_user(tensor) is not None
        )


def channel_axis(node: NodeProto) -> int:
    """The axis of a product's weight that runs along the output's channels (from the end for MatMul)."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attributes(node).get("transB", 0) else 1
    return -1
