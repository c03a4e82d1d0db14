"""The verdict for TensorRT-RTX against the real thing: its parser and builder run on a CPU, so they can be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices import dialect
from devices import profile as profiles
from export.check import check
from export.graph import GraphView, name_nodes
from export.lowering import lower
from export.onnx_graph import ExportReport, read_model
from export.rules import graph_findings

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install 'signedge[rtx]'")
RTX = dialect.load("tensorrt-rtx")


class Silent(trt.ILogger):  # type: ignore[misc, name-defined]
    """Takes what the builder has to say."""

    def __init__(self) -> None:
        super().__init__()

    def log(self, severity: Any, message: str) -> None:
        pass


def builds(model: onnx.ModelProto, capability: str = "SM86") -> bool:
    """Whether the real parser reads the graph and the real builder makes a plan of it."""
    logger = Silent()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    if not trt.OnnxParser(network, logger).parse(model.SerializeToString()):
        return False
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for index in range(network.num_inputs):
        entry = network.get_input(index)
        shape = tuple(entry.shape)
        if -1 in shape:
            sizes = [tuple(size if axis == -1 else axis for axis in shape) for size in (8, 16, 32)]
            profile.set_shape(entry.name, *sizes)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    return builder.build_serialized_network(network, config) is not None


def small(
    op: str, inputs: dict[str, list[Any]], constants: dict[str, Any] | None = None, version: int = 18,
    outputs: tuple[str, ...] = ("y",), order: tuple[str, ...] = (), **given: Any,
) -> onnx.ModelProto:  # fmt: skip
    constants = constants or {}
    node = helper.make_node(op, list(order or (*inputs, *constants)), list(outputs), name="it", **given)
    graph = helper.make_graph(
        [node],
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(made)
    for item in inferred.graph.output:
        if not item.type.tensor_type.elem_type:  # not told by inference, but needed
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    name_nodes(inferred)
    return inferred


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


SCALE = np.float32(0.1)
LSTM = {"w": noise(2, 32, 16), "r": noise(2, 32, 8)}
GRAPHS = {
    "LayerNormalization": small("LayerNormalization", {"x": ["t", 16]}, {"s": noise(16)}),
    "its mean": small("LayerNormalization", {"x": ["t", 16]}, {"s": noise(16)}, outputs=("y", "mean")),
    "Einsum with an ellipsis": small("Einsum", {"x": [2, "t", 5]}, {"w": noise(5, 6)}, equation="...v,vw->...w"),
    "Einsum with a diagonal": small("Einsum", {"x": [4, 4]}, equation="ii->i"),
    "Einsum with a capital": small("Einsum", {"x": [4, 3]}, equation="Ab->bA"),
    "BiLSTM": small("LSTM", {"x": ["t", 1, 16]}, LSTM, hidden_size=8, direction="bidirectional"),
    "BiLSTM of two minds": small(
        "LSTM", {"x": ["t", 1, 16]}, LSTM, hidden_size=8, direction="bidirectional",
        activations=["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Relu", "Tanh"],
    ),
    "GridSample": small("GridSample", {"x": [1, 1, 4, 4], "g": [1, 2, 2, 2]}, version=20),
    "Conv over time": small("Conv", {"x": [1, 8, "t"]}, {"w": noise(8, 8, 3)}),
    "MaxPool": small("MaxPool", {"x": [1, 2, 4, 4]}, kernel_shape=[2, 2]),
    "positions of maxima": small("MaxPool", {"x": [1, 2, 4, 4]}, outputs=("y", "at"), kernel_shape=[2, 2]),
    "MaxPool with gaps": small("MaxPool", {"x": [1, 2, 8, 8]}, kernel_shape=[2, 2], dilations=[2, 2]),
    "TopK": small("TopK", {"x": [5000]}, {"k": np.array([3])}, outputs=("y", "at")),
    "TopK of too many": small("TopK", {"x": [5000]}, {"k": np.array([4000])}, outputs=("y", "at")),
    "Resize": small("Resize", {"x": [1, 1, 8, 8]}, {"s": np.array([1, 1, 2, 2], np.float32)}, order=("x", "", "s"),
                    mode="linear"),
    "antialiased Resize": small("Resize", {"x": [1, 1, 8, 8]}, {"s": np.array([1, 1, 0.5, 0.5], np.float32)},
                                order=("x", "", "s"), mode="linear", antialias=1),
    "signed Q": small("QuantizeLinear", {"x": [4, 4]}, {"s": SCALE, "z": np.int8(0)}),
    "Q with a zero point": small("QuantizeLinear", {"x": [4, 4]}, {"s": SCALE, "z": np.int8(3)}),
    "quantised bias": small("DequantizeLinear", {}, {"b": np.ones(4, np.int32), "s": SCALE, "z": np.int32(0)}),
    "dynamic quantisation": small("DynamicQuantizeLinear", {"x": [4]}, outputs=("y", "s", "z")),
    "NonZero": small("NonZero", {"x": [4]}),
    "Unique": small("Unique", {"x": [4]}),
    "GroupNormalization": small(
        "GroupNormalization", {"x": [1, 4, 8]}, {"s": noise(4), "b": noise(4)}, 21, num_groups=2
    ),
    "RMSNormalization": small("RMSNormalization", {"x": ["t", 16]}, {"s": noise(16)}, 23),
    "Gelu": small("Gelu", {"x": ["t", 16]}, version=20),
    "Mish": small("Mish", {"x": ["t", 16]}),
    "numbers of 16 bits": small("Cast", {"x": [4]}, to=TensorProto.INT16),
    "BatchNormalization in training": small(
        "BatchNormalization", {"x": [2, 3]}, {name: np.ones(3, np.float32) for name in "abcd"}, 15, training_mode=1,
        outputs=("y", "mean", "var"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_verdict_agrees_with_parser_and_builder(name: str) -> None:
    fits = not graph_findings(GraphView(GRAPHS[name]), RTX)
    assert builds(GRAPHS[name]) == fits


def test_unsigned_numbers_are_refused_although_they_are_read() -> None:
    # The parser takes them for signed ones and says so in a warning: other numbers come out.
    model = small("QuantizeLinear", {"x": [4, 4]}, {"s": SCALE, "z": np.uint8(0)})
    assert builds(model)
    assert "qdq-unsigned" in {item.rule for item in graph_findings(GraphView(model), RTX)}


@pytest.mark.parametrize("name", ["Einsum with a capital", "its mean"])
def test_what_lowering_makes_fit_is_built(name: str) -> None:
    after, done = lower(GRAPHS[name], RTX)
    if name == "its mean":
        assert [item.rule for item in graph_findings(GraphView(GRAPHS[name]), RTX)] == ["layer-normalization-outputs"]
    assert done
    assert builds(after)


@pytest.mark.parametrize("flat", [True, False])
def test_attention_is_built_once_lowered(flat: bool) -> None:
    # The operator itself is not given to the builder: it ends the process.
    if flat:
        given: dict[str, Any] = {"q_num_heads": 2, "kv_num_heads": 2}
        model = small("Attention", {"q": [1, "t", 16], "k": [1, "t", 16], "v": [1, "t", 16]}, version=23, **given)
    else:
        shape = [1, 2, "t", 8]
        model = small("Attention", {"q": shape, "k": shape, "v": shape}, version=23, is_causal=1)
    after, done = lower(model, RTX)
    assert [item.pass_name for item in done] == ["attention"]
    assert builds(after)


def test_products_in_fp32_are_refused_on_turing_as_the_builder_does(exported: ExportReport) -> None:
    model = read_model(exported.path)
    for target, capability in (("t4", "SM75"), ("rtx-3090", "SM86")):
        verdict = check(model, profiles.load(target), RTX, "fp32")
        assert verdict.fits == builds(model, capability)
        assert {item.rule for item in verdict.refusals} <= {"fp32-products"}
