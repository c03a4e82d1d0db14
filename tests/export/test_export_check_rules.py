"""Each rule fires on a small graph that breaks it, names the node, and stays silent on its neighbour that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices import dialect
from devices.dialect import TESTS as NAMED_TESTS
from export.graph import GraphView, name_nodes
from export.lowering import PASSES
from export.rules import TESTS, graph_findings

FLOAT = TensorProto.FLOAT


def graph(
    node: onnx.NodeProto, inputs: dict[str, Any], constants: dict[str, Any] | None = None, version: int = 13,
    more: tuple[onnx.NodeProto, ...] = (),
) -> onnx.ModelProto:  # fmt: skip
    """One node, `more` before it. An input is a shape of floats, or (type, shape)."""
    typed = {name: item if isinstance(item, tuple) else (FLOAT, item) for name, item in inputs.items()}
    made = helper.make_model(
        helper.make_graph(
            [*more, node],
            "small",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in typed.items()],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", version)],
        ir_version=10,
    )
    name_nodes(made)
    return made


def rules(made: onnx.ModelProto, name: str) -> list[str]:
    return [item.rule for item in graph_findings(GraphView(made), dialect.load(name))]


def node(op: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **given: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name="it", **given)


RECURRENT = {"w": np.zeros((2, 12, 4), np.float32), "r": np.zeros((2, 12, 3), np.float32)}
BOTH_WAYS = {"direction": "bidirectional", "hidden_size": 3}
SCALE, ZERO = np.float32(0.1), np.int8(0)
CASES: list[tuple[str, str, onnx.ModelProto, onnx.ModelProto | None]] = [
    (
        "tensorrt-8.2", "einsum-ellipsis",
        graph(node("Einsum", "x", "z", equation="...ij,...jk->...ik"), {"x": [2, 3, 4], "z": [2, 4, 5]}),
        graph(node("Einsum", "x", "z", equation="bij,bjk->bik"), {"x": [2, 3, 4], "z": [2, 4, 5]}),
    ),
    (
        "tensorrt-10.3", "einsum-letters",
        graph(node("Einsum", "x", equation="Ab->bA"), {"x": [3, 4]}),
        graph(node("Einsum", "x", equation="...ab->...ba"), {"x": [3, 4]}),
    ),
    (
        "tensorrt-8.6", "einsum-diagonal",
        graph(node("Einsum", "x", equation="ii->i"), {"x": [3, 3]}),
        graph(node("Einsum", "x", equation="ij->i"), {"x": [3, 3]}),
    ),
    (
        "tensorrt-8.6", "einsum-broadcast",
        graph(node("Einsum", "x", "z", equation="bi,bi->bi"), {"x": [1, 3], "z": ["n", 3]}),
        graph(node("Einsum", "x", "z", equation="bi,bi->bi"), {"x": ["n", 3], "z": ["n", 3]}),
    ),
    (
        "tensorrt-8.6", "einsum-operands",
        graph(node("Einsum", "x", "x", "x", equation="ab,bc,cd->ad"), {"x": [3, 3]}),
        graph(node("Einsum", "x", "x", equation="ab,bc->ac"), {"x": [3, 3]}),
    ),
    (
        "tensorrt-10.3", "recurrence-directions",
        graph(node("LSTM", "x", "w", "r", activations=["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Relu", "Tanh"],
                   **BOTH_WAYS), {"x": ["t", 1, 4]}, RECURRENT),
        graph(node("LSTM", "x", "w", "r", **BOTH_WAYS), {"x": ["t", 1, 4]}, RECURRENT),
    ),
    (
        "tensorrt-10.3", "recurrence-layout",
        graph(node("LSTM", "x", "w", "r", layout=1, **BOTH_WAYS), {"x": [1, "t", 4]}, RECURRENT, 14),
        graph(node("LSTM", "x", "w", "r", layout=0, **BOTH_WAYS), {"x": ["t", 1, 4]}, RECURRENT, 14),
    ),
    (
        "tensorrt-10.3", "lstm-input-forget",
        graph(node("LSTM", "x", "w", "r", input_forget=1, **BOTH_WAYS), {"x": ["t", 1, 4]}, RECURRENT),
        None,
    ),
    (
        "tensorrt-10.3", "pool-indices",
        graph(node("MaxPool", "x", outputs=("y", "at"), kernel_shape=[2, 2]), {"x": [1, 2, 4, 4]}),
        graph(node("MaxPool", "x", outputs=("y",), kernel_shape=[2, 2]), {"x": [1, 2, 4, 4]}),
    ),
    (
        "tensorrt-8.2", "pool-dilations",
        graph(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 1]), {"x": [1, 2, 4, 4]}),
        graph(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[1, 1]), {"x": [1, 2, 4, 4]}),
    ),
    (
        "tensorrt-8.2", "pool-rank",
        graph(node("MaxPool", "x", kernel_shape=[2] * 4), {"x": [1, 2, 4, 4, 4, 4]}),
        graph(node("MaxPool", "x", kernel_shape=[2]), {"x": [1, 2, "t"]}),
    ),
    (
        "tensorrt-8.2", "convolution-weights",
        graph(node("Conv", "x", "w"), {"x": [1, 2, 4, 4], "w": [3, 2, 1, 1]}),
        graph(node("Conv", "x", "w"), {"x": [1, 2, 4, 4]},
              {"q": np.zeros((3, 2, 1, 1), np.int8), "s": SCALE, "z": ZERO},
              more=(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="weights"),)),
    ),
    (
        "tensorrt-10.3", "axes-constant",
        graph(node("ReduceMean", "x", "axes"), {"x": [3, 4], "axes": (TensorProto.INT64, [1])}, version=18),
        graph(node("ReduceMean", "x", "axes"), {"x": [3, 4]}, {"axes": np.array([1])}, 18),
    ),
    (
        "tensorrt-8.2", "squeeze-unnamed",
        graph(node("Squeeze", "x"), {"x": [1, "t", 4]}),
        graph(node("Squeeze", "x"), {"x": [1, 3, 4]}),
    ),
    (
        "tensorrt-8.2", "topk-constant",
        graph(node("TopK", "x", "k", outputs=("y", "at")), {"x": [9], "k": (TensorProto.INT64, [1])}),
        graph(node("TopK", "x", "k", outputs=("y", "at")), {"x": [9]}, {"k": np.array([3])}),
    ),
    (
        "tensorrt-10.3", "topk-size",
        graph(node("TopK", "x", "k", outputs=("y", "at")), {"x": [9999]}, {"k": np.array([3840])}),
        graph(node("TopK", "x", "k", outputs=("y", "at")), {"x": [9999]}, {"k": np.array([3839])}),
    ),
    (
        "tensorrt-10.3", "topk-sorted",
        graph(node("TopK", "x", "k", outputs=("y", "at"), sorted=0), {"x": [9]}, {"k": np.array([3])}),
        None,
    ),
    (
        "tensorrt-10.3", "resize-antialias",
        graph(node("Resize", "x", "", "s", mode="linear", antialias=1), {"x": [1, 1, 4, 4]},
              {"s": np.ones(4, np.float32)}, 18),
        graph(node("Resize", "x", "", "s", mode="linear"), {"x": [1, 1, 4, 4]}, {"s": np.ones(4, np.float32)}, 18),
    ),
    (
        "tensorrt-10.3", "resize-mode",
        graph(node("Resize", "x", "", "s", mode="cubic"), {"x": [1, 1, 4, 4]}, {"s": np.ones(4, np.float32)}),
        None,
    ),
    (
        "tensorrt-8.5", "grid-sample",
        graph(node("GridSample", "x", "g"), {"x": [1, 1, 4, 4, 4], "g": [1, 2, 2, 2, 3]}, version=17),
        graph(node("GridSample", "x", "g"), {"x": [1, 1, 4, 4], "g": [1, 2, 2, 2]}, version=17),
    ),
    (
        "tensorrt-8.5", "reverse-sequence",
        graph(node("ReverseSequence", "x", "n"), {"x": ["t", 2], "n": (TensorProto.INT64, [2])}),
        graph(node("ReverseSequence", "x", "n"), {"x": [9, 2], "n": (TensorProto.INT64, [2])}),
    ),
    (
        "tensorrt-8.6", "layer-normalization-outputs",
        graph(node("LayerNormalization", "x", "s", outputs=("y", "mean")), {"x": [3, 4]}, {"s": np.ones(4, np.float32)},
              17),
        graph(node("LayerNormalization", "x", "s"), {"x": [3, 4]}, {"s": np.ones(4, np.float32)}, 17),
    ),
    (
        "tensorrt-8.6", "scatter-reduction",
        graph(node("ScatterND", "x", "at", "z", reduction="add"),
              {"x": [4], "at": (TensorProto.INT64, [2, 1]), "z": [2]}, version=16),
        graph(node("ScatterND", "x", "at", "z"), {"x": [4], "at": (TensorProto.INT64, [2, 1]), "z": [2]}, version=16),
    ),
    (
        "tensorrt-10.3", "data-dependent",
        graph(node("NonZero", "x"), {"x": [4]}), graph(node("Relu", "x"), {"x": [4]}),
    ),
    (
        "tensorrt-10.3", "qdq-zero-point",
        graph(node("QuantizeLinear", "x", "s", "z"), {"x": [4]}, {"s": SCALE, "z": np.int8(3)}),
        graph(node("QuantizeLinear", "x", "s", "z"), {"x": [4]}, {"s": SCALE, "z": ZERO}),
    ),
    (
        "tensorrt-10.3", "qdq-unsigned",
        graph(node("QuantizeLinear", "x", "s", "z"), {"x": [4]}, {"s": SCALE, "z": np.uint8(0)}), None,
    ),
    (
        "tensorrt-10.3", "qdq-data",  # ONNX Runtime's quantised bias
        graph(node("DequantizeLinear", "b", "s", "z"), {}, {"b": np.zeros(4, np.int32), "s": SCALE, "z": np.int32(0)}),
        None,
    ),
    (
        "tensorrt-8.5", "qdq-zero-point-given",
        graph(node("DequantizeLinear", "x", "s"), {"x": (TensorProto.INT8, [4])}, {"s": SCALE}),
        graph(node("DequantizeLinear", "x", "s", "z"), {"x": (TensorProto.INT8, [4])}, {"s": SCALE, "z": ZERO}),
    ),
    (
        "tensorrt-10.3", "qdq-activation-scales",
        graph(node("QuantizeLinear", "x", "s", "z", axis=1), {"x": [2, 3]},
              {"s": np.ones(3, np.float32), "z": np.zeros(3, np.int8)}),
        graph(node("QuantizeLinear", "x", "s", "z", axis=1), {},
              {"x": np.ones((2, 3), np.float32), "s": np.ones(3, np.float32), "z": np.zeros(3, np.int8)}),
    ),
    (
        "tensorrt-10.16", "attention-rank",
        graph(node("Attention", "q", "q", "q", q_num_heads=2, kv_num_heads=2), {"q": [1, 5, 8]}, version=23),
        graph(node("Attention", "q", "q", "q"), {"q": [1, 2, 5, 4]}, version=23),
    ),
    (
        "tensorrt-8.2", "operator-missing",
        graph(node("HardSwish", "x"), {"x": [4]}, version=14), graph(node("Relu", "x"), {"x": [4]}),
    ),
    (
        "tensorrt-10.3", "type-missing",
        graph(node("Cast", "x", to=TensorProto.INT16), {"x": [4]}),
        graph(node("Cast", "x", to=TensorProto.INT32), {"x": [4]}),
    ),
    (
        "tensorrt-8.2", "int64-range",
        graph(node("Add", "x", "big"), {"x": (TensorProto.INT64, [1])}, {"big": np.array([1 << 40])}),
        graph(node("Slice", "x", "start", "end"), {"x": [9]}, {"start": np.array([0]), "end": np.array([1 << 62])}),
    ),
    (
        "tensorrt-8.6", "opset-too-new",
        graph(node("Relu", "x"), {"x": [4]}, version=18), graph(node("Relu", "x"), {"x": [4]}, version=17),
    ),
    (
        "tensorrt-10.3", "opset-too-old",
        graph(node("Relu", "x"), {"x": [4]}, version=8), graph(node("Relu", "x"), {"x": [4]}, version=9),
    ),
    (
        "openvino", "operator-missing",
        graph(node("STFT", "x", "step", "", "n"), {"x": [1, 64, 1]}, {"step": np.int64(8), "n": np.int64(16)}, 17),
        graph(node("Relu", "x"), {"x": [4]}),
    ),
    (
        "tensorrt-rtx", "training",
        graph(node("BatchNormalization", "x", "a", "a", "a", "a", training_mode=1), {"x": [2, 3]},
              {"a": np.ones(3, np.float32)}, 14),
        graph(node("BatchNormalization", "x", "a", "a", "a", "a"), {"x": [2, 3]}, {"a": np.ones(3, np.float32)}, 14),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "breaks", "keeps"), CASES, ids=[f"{item[0]}-{item[1]}" for item in CASES])
def test_rule_fires_on_the_node_that_breaks_it_only(
    name: str, rule: str, breaks: onnx.ModelProto, keeps: onnx.ModelProto | None
) -> None:
    found = {item.rule: item for item in graph_findings(GraphView(breaks), dialect.load(name))}
    assert rule in found
    if not rule.startswith("opset"):
        assert found[rule].node in ("it", "weights")
    assert found[rule].says and found[rule].remedy
    if keeps is not None:
        assert rules(keeps, name) in ([], ["opset-too-new"])


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
@pytest.mark.parametrize("name", [item for item in dialect.names() if "tensorrt" in item])
def test_control_flow_is_refused_with_words_by_every_tensorrt(op: str, name: str) -> None:
    found = dialect.load(name)
    limit = next(item for item in found.limits_of(op) if item.rule == "control-flow")
    assert "known only while running" in limit.says
    assert not limit.remedy


def test_operator_of_a_foreign_domain_is_refused() -> None:
    made = graph(helper.make_node("Conv_TRT", ["x"], ["y"], name="it", domain="local"), {"x": [4]})
    made.opset_import.append(helper.make_opsetid("local", 1))
    found = graph_findings(GraphView(made), dialect.load("onnxruntime"))
    assert [(item.node, item.rule) for item in found] == [("it", "foreign-operator")]


def test_operator_that_nobody_knows_is_refused() -> None:
    made = graph(helper.make_node("Telepathy", ["x"], ["y"], name="it"), {"x": [4]})
    for name in dialect.names():
        assert rules(made, name) == ["operator-missing"]


def test_every_test_that_dialects_may_name_exists() -> None:
    assert set(TESTS) == set(NAMED_TESTS)


def test_every_remedy_is_a_pass_that_can_replace_the_operator() -> None:
    for name in dialect.names():
        for limit in dialect.load(name).limits:
            if limit.remedy:
                assert set(limit.ops) <= PASSES[limit.remedy].ops, f"{name}, {limit.rule}"
