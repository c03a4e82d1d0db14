"""INT8: what is quantised, in which flavour, and how near it stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from export_stage import contract
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graph import ExportReport, metadata, read_model
from export.parity import plausible_clip
from export.quantise import Int8Plan, decide, quantise
from runtime.engine import Engine
from runtime.errors import BadInput, CriterionFailed


def clips() -> list[np.ndarray]:
    return [plausible_clip(contract(), frames, seed=frames) for frames in (20, 33, 57)]


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_int8_stays_near_fp32_and_keeps_the_contract(exported: ExportReport, tmp_path: Path, method: str) -> None:
    model = read_model(exported.path)
    before = metadata(model)
    quantise(model, tmp_path / "int8.onnx", clips(), Int8Plan(method=method), tmp_path)
    assert metadata(read_model(tmp_path / "int8.onnx")) == before
    x = plausible_clip(contract(), 40, seed=9)
    fp32, int8 = (Engine.from_onnx(path, 1).log_probs(x) for path in (exported.path, tmp_path / "int8.onnx"))
    assert 0 < np.abs(fp32 - int8).max() < 0.5


def test_flavour_is_unsigned_activations_and_signed_weights_by_channel(exported: ExportReport, tmp_path: Path) -> None:
    quantise(read_model(exported.path), tmp_path / "int8.onnx", clips(), Int8Plan(), tmp_path)
    model = read_model(tmp_path / "int8.onnx")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = [stored[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros and all(zero.dtype == np.uint8 for zero in zeros)
    weights = [
        (stored[node.input[0]], stored[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and stored.get(node.input[0], np.zeros(0)).dtype == np.int8
    ]
    assert [(weight.shape, scale.shape) for weight, scale in weights] == [((16, 16, 3, 3), (16,))]


def test_first_layer_and_classifier_stay_fp32_with_a_reason(exported: ExportReport, tmp_path: Path) -> None:
    decisions, ranges = quantise(read_model(exported.path), tmp_path / "int8.onnx", clips(), Int8Plan(), tmp_path)
    convolutions = [item for item in decisions if item.op == "Conv"]
    assert [item.precision for item in convolutions] == ["fp32", "int8"]
    assert "first layer" in convolutions[0].why
    classifiers = [item for item in decisions if item.op in ("Gemm", "MatMul")]
    assert [item.precision for item in classifiers] == ["fp32"] and "classifier" in classifiers[0].why
    assert all(low <= 0 <= high for low, high in ranges.values())


def test_weights_keep_seven_bits_where_eight_would_saturate(exported: ExportReport, tmp_path: Path) -> None:
    quantise(read_model(exported.path), tmp_path / "int8.onnx", clips(), Int8Plan(weight_bits=7), tmp_path)
    stored = [numpy_helper.to_array(item) for item in read_model(tmp_path / "int8.onnx").graph.initializer]
    assert max(np.abs(item.astype(int)).max() for item in stored if item.dtype == np.int8 and item.ndim == 4) <= 64


def test_attention_recurrence_and_large_products_get_their_own_rules() -> None:
    weight = numpy_helper.from_array(np.ones((256, 256), np.float32), "large")
    little = numpy_helper.from_array(np.ones((256, 8), np.float32), "little")
    nodes = [
        helper.make_node("Conv", ["input", "large"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "a"], ["b"], "attention"),
        helper.make_node("MatMul", ["b", "large"], ["c"], "feed"),
        helper.make_node("MatMul", ["c", "little"], ["d"], "narrow"),
        helper.make_node("Relu", ["d"], ["e"], "relu"),
        helper.make_node("MatMul", ["e", "large"], ["f"], "classifier"),
        helper.make_node("LogSoftmax", ["f"], ["log_probs"], "softmax"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "log_probs")]
    graph = helper.make_graph(nodes, "rules", values[:1], values[1:], [weight, little])
    decided = {item.node: item.precision for item in decide(helper.make_model(graph))}
    assert decided == {
        "first": "fp32", "attention": "fp32", "feed": "int8", "narrow": "fp32", "classifier": "fp32", "softmax": "fp32",
    }  # fmt: skip


def test_graph_without_gain_is_said_to_have_none(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "log_probs")]
    graph = helper.make_graph([helper.make_node("LogSoftmax", ["input"], ["log_probs"])], "g", values[:1], values[1:])
    with pytest.raises(CriterionFailed, match="no node of this graph gains"):
        quantise(helper.make_model(graph), tmp_path / "int8.onnx", clips(), Int8Plan(), tmp_path)


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"method": "magic"}, {"weight_bits": 4}])
def test_senseless_plans_are_bad_input(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Int8Plan(**wrong)  # type: ignore[arg-type]
