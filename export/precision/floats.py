"""Which operands of a node may be float16, by ONNX's own schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.graph import STANDARD, GraphView, subgraphs

if TYPE_CHECKING:
    from onnx import NodeProto
    from onnx.defs import OpSchema

FLOAT, FLOAT16 = 1, 10  # of onnx.TensorProto
# What their result is follows from an attribute, or is no tensor.
TYPED = frozenset(
    {"Bernoulli", "BitCast", "Cast", "Constant", "ConstantOfShape", "EyeLike", "RandomNormal", "RandomNormalLike",
     "RandomUniform", "RandomUniformLike", "SplitToSequence"}
)  # fmt: skip


def computes_floats(node: NodeProto, view: GraphView) -> bool:
    """Whether the node gives out float32, constants aside."""
    return any(name and view.dtype(name) == FLOAT and not view.is_constant(name) for name in node.output)


def float_inputs(node: NodeProto, view: GraphView) -> list[tuple[int, bool]]:
    """The node's inputs that are float32: their index, and whether they follow the type that the node computes in."""
    schema = _schema(node, view.opset)
    found = []
    for index, name in enumerate(node.input):
        if name and view.dtype(name) == FLOAT:
            found.append((index, schema is not None and _follows(schema, index)))
    return found


def may_be_half(node: NodeProto, view: GraphView) -> bool:
    """Whether the node could compute in float16: all its floats may, and no attribute or subgraph fixes their type."""
    schema = _schema(node, view.opset)
    if schema is None or node.op_type in TYPED or subgraphs(node):
        return False
    outputs = [_formal(list(schema.outputs), index) for index in range(len(node.output))]
    halves = {item.type_param_str: "tensor(float16)" in item.allowed_type_strs for item in schema.type_constraints}
    for index, name in enumerate(node.output):
        if name and view.dtype(name) == FLOAT and not halves.get(outputs[index].type_str, False):
            return False
    inputs = [_formal(list(schema.inputs), index).type_str for index, follows in float_inputs(node, view) if follows]
    return all(halves[kind] for kind in inputs)


def _schema(node: NodeProto, opset: int) -> OpSchema | None:
    import onnx

    if node.domain not in STANDARD:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _follows(schema: OpSchema, index: int) -> bool:
    return _formal(list(schema.inputs), index).type_str in {item.type_param_str for item in schema.type_constraints}


def _formal(formals: list[OpSchema.FormalParameter], index: int) -> OpSchema.FormalParameter:
    return formals[min(index, len(formals) - 1)]  # the last one of a variadic operator stands for all that follow
