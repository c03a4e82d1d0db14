"""Small graphs for builders of plans: FP32, FP16 by casts, INT8 by symmetric Q/DQ with a float bias."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

CHANNELS, CLASSES = 32, 40
TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


def graph(precision: str = "fp32", op: str = "LogSoftmax") -> ModelProto:
    """input (1,T,32) -> convolution over time, ReLU, classifier -> log_probs (1,T,40); `op` is the last node's."""
    kind, dtype = TYPES.get(precision, TYPES["fp32"])
    draw = np.random.default_rng(0)
    weights = {
        "kernel": draw.normal(0, 0.1, (64, CHANNELS, 3)).astype(dtype),
        "classes": draw.normal(0, 0.1, (64, CLASSES)).astype(dtype),
    }
    nodes = [_node("Transpose", "turn", ["input"], "turned", perm=[0, 2, 1])]
    source, kernel, classes, extra = "turned", "kernel", "classes", {}
    if precision == "fp16":
        nodes.append(_node("Cast", "narrow", ["turned"], "narrowed", to=kind))
        source = "narrowed"
    if precision == "int8":
        extra = {"scale": np.float32(0.05), "zero": np.int8(0)}
        source, kernel = _through_int8(nodes, "turned"), _through_int8(nodes, "kernel")
    nodes += [
        _node("Conv", "conv", [source, kernel], "convolved", pads=[1, 1]),
        _node("Relu", "relu", ["convolved"], "positive"),
        _node("Transpose", "back", ["positive"], "steps", perm=[0, 2, 1]),
    ]
    source = "steps"
    if precision == "int8":
        source, classes = _through_int8(nodes, "steps"), _through_int8(nodes, "classes")
    nodes.append(_node("MatMul", "classifier", [source, classes], "scores"))
    last = "scores"
    if precision == "fp16":
        nodes.append(_node("Cast", "widen", ["scores"], "widened", to=TensorProto.FLOAT))
        last = "widened"
    nodes.append(_node(op, "last", [last], "log_probs", **({"axis": -1} if op == "LogSoftmax" else {})))
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in {**weights, **extra}.items()]
    made = helper.make_graph(
        nodes, "steps",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "frames", CHANNELS])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, [1, "frames", CLASSES])], stored,
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _through_int8(nodes: list[NodeProto], name: str) -> str:
    nodes.append(_node("QuantizeLinear", f"{name}_q", [name, "scale", "zero"], f"{name}_quantised"))
    nodes.append(_node("DequantizeLinear", f"{name}_dq", [f"{name}_quantised", "scale", "zero"], f"{name}_again"))
    return f"{name}_again"


def _node(op: str, name: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=name, **attributes)
