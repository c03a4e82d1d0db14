"""INT8: what is quantised, in which flavour, and how near it stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from export_stage import contract
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.onnx_graph import ExportReport, metadata, read_model
from export.parity import plausible_clip
from export.precision import Int8Plan, make_precision, plan_int8, write
from export.precision.int8 import decide
from export.precision.nearness import nearness
from runtime.errors import BadInput, CriterionFailed


def clips() -> list[np.ndarray]:
    return [plausible_clip(contract(), frames, seed=frames) for frames in (20, 33, 57)]


def stored(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def ops(model: ModelProto, op: str) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == op]


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("flavour", ["u8s8", "s8s8"])
def test_int8_stays_near_fp32_and_keeps_the_contract(exported: ExportReport, method: str, flavour: str) -> None:
    model = read_model(exported.path)
    made = make_precision(model, "int8", clips(), flavour, Int8Plan(method=method))
    assert metadata(made.model) == metadata(model)
    near = nearness(model, made.judged, [plausible_clip(contract(), 40, seed=9)])
    assert near.finite and 0 < near.largest < 0.5


def test_equal_arguments_give_equal_bytes(exported: ExportReport) -> None:
    made = [make_precision(read_model(exported.path), "int8", clips()) for _ in range(2)]
    assert made[0].to_bytes() == made[1].to_bytes()
    assert made[0].plan.hash() == made[1].plan.hash()


def test_u8s8_is_unsigned_activations_signed_weights_by_channel_and_whole_biases() -> None:
    model = make_precision(shifted([2, 1]), "int8", pictures()).model
    held = stored(model)
    zeros = [held[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros and all(zero.dtype == np.uint8 for zero in zeros)
    read = [node.input[:2] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in held]
    assert {(name, held[name].dtype.name, held[name].shape, held[scale].shape) for name, scale in read} == {
        ("w1.q", "int8", (8, 8, 3, 3), (8,)), ("w2.q", "int8", (8, 8, 3, 3), (8,)), ("b1.q", "int32", (8,), (8,)),
    }  # fmt: skip


def test_s8s8_is_symmetric_and_leaves_biases_in_floats(exported: ExportReport) -> None:
    model = make_precision(read_model(exported.path), "int8", clips(), "s8s8").model
    held = stored(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert held[node.input[2]].dtype == np.int8 and not held[node.input[2]].any()
    assert not [value for value in held.values() if value.dtype == np.int32]


def test_first_layer_and_classifier_stay_fp32_with_a_reason(exported: ExportReport) -> None:
    plan = plan_int8(read_model(exported.path), clips())
    convolutions = [item for item in plan.decisions if item.op == "Conv"]
    assert [item.precision for item in convolutions] == ["fp32", "int8"]
    assert "first layer" in convolutions[0].why
    classifiers = [item for item in plan.decisions if item.op in ("Gemm", "MatMul")]
    assert [item.precision for item in classifiers] == ["fp32"] and "classifier" in classifiers[0].why
    assert all(low <= 0 <= high for low, high in plan.ranges.values())
    assert {item.node: item.precision for item in plan.decisions} == plan.assignment


def test_weights_keep_seven_bits_where_eight_would_saturate(exported: ExportReport) -> None:
    made = make_precision(read_model(exported.path), "int8", clips(), options=Int8Plan(weight_bits=7))
    weights = [item for item in stored(made.model).values() if item.dtype == np.int8 and item.ndim == 4]
    assert weights and max(np.abs(item.astype(int)).max() for item in weights) <= 64


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_the_range_of_every_tensor_is_honoured(exported: ExportReport, factor: float) -> None:
    """Multiplying any range changes the result, so a damaged scale cannot hide from the gate."""
    model = read_model(exported.path)
    plan = plan_int8(model, clips())
    whole = nearness(model, write(model, plan, "u8s8"), clips())
    for name, (low, high) in plan.ranges.items():
        damaged = dataclasses.replace(plan, ranges={**plan.ranges, name: (low * factor, high * factor)})
        assert nearness(model, write(model, damaged, "u8s8"), clips()).divergence > 10 * whole.divergence, name


def shifted(pool: list[int]) -> ModelProto:
    """Convolution, ReLU, a temporal shift by slices, a pool over time, and a residual convolution."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    def whole(name: str, *values: int) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1", "b1"], ["b"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Slice", ["c", "zero", "four", "one"], ["low"], "front"),
        helper.make_node("Slice", ["c", "four", "end", "one"], ["high"], "back"),
        helper.make_node("Concat", ["high", "low"], ["d"], "shift", axis=1),
        helper.make_node("Conv", ["d", "w2"], ["e"], "third", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["e", "c"], ["f"], "sum"),
        helper.make_node("MaxPool", ["f"], ["g"], "pool", kernel_shape=pool, strides=pool),
        helper.make_node("Conv", ["g", "w2"], ["h"], "fourth", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["h"], ["i"], "average"),
        helper.make_node("Flatten", ["i"], ["j"], "flat"),
        helper.make_node("Gemm", ["j", "w3"], ["k"], "classifier"),
        helper.make_node("LogSoftmax", ["k"], ["log_probs"], "softmax"),
    ]
    held = [weight("w0", 8, 3, 3, 3), weight("w1", 8, 8, 3, 3), weight("b1", 8), weight("w2", 8, 8, 3, 3)]
    held.append(weight("w3", 8, 4))
    held += [whole("zero", 0), whole("one", 1), whole("four", 4), whole("end", 2**62)]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "frames", 12])
    target = helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "shifted", [source], [target], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 1, (1, 3, frames, 12)).astype(np.float32) for frames in (9, 14, 21)]


@pytest.mark.parametrize("pool", [[2, 1], [3, 1], [1, 2]])
def test_shift_pool_and_sum_stay_in_integers_of_one_scale(pool: list[int]) -> None:
    model = shifted(pool)
    made = make_precision(model, "int8", pictures())
    told = {item.node: item for item in made.plan.decisions}
    assert [told[name].precision for name in ("second", "relu", "shift", "sum", "pool")] == ["int8"] * 5
    assert "temporal shift" in told["shift"].why and "residual" in told["sum"].why
    assert set(made.plan.ranges) == {"a", "c", "e", "f", "h"}  # what is moved (low, high, d, g) has none of its own
    kept = {node.name: node for node in made.model.graph.node}
    assert kept["shift"].input[:] == ["high.q", "low.q"]
    assert not ops(made.model, "MaxPool") and len(ops(made.model, "Max")) == 1
    assert nearness(model, made.judged, pictures()).divergence < 0.002


def test_a_pool_that_overlaps_stays_in_floats() -> None:
    model = shifted([2, 1])
    next(node for node in model.graph.node if node.name == "pool").attribute[1].ints[:] = [1, 1]
    made = make_precision(model, "int8", pictures())
    assert made.plan.of("pool") == "fp32" and ops(made.model, "MaxPool")


def test_tensorrt_gets_pairs_before_layers_and_before_the_other_branch_of_a_sum() -> None:
    made = make_precision(shifted([2, 1]), "int8", pictures(), "s8s8")
    makers = {name: node for node in made.model.graph.node for name in node.output}
    kept = {node.name: node for node in made.model.graph.node}
    for layer in ("second", "third", "fourth"):
        assert [makers[name].op_type for name in kept[layer].input[:2]] == ["DequantizeLinear"] * 2
    assert [makers[name].op_type for name in kept["sum"].input] == ["Conv", "DequantizeLinear"]
    assert makers[kept["shift"].input[0]].op_type == "Slice"


def test_a_dead_channel_keeps_its_bias() -> None:
    model = shifted([2, 1])
    for tensor in model.graph.initializer:
        if tensor.name == "w1":
            value = numpy_helper.to_array(tensor).copy()
            value[3] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, "w1"))
    held = stored(make_precision(model, "int8", pictures()).model)
    assert np.all(np.abs(held["b1.q"] * held["b1.scale"] - stored(model)["b1"]) <= 0.51 * held["b1.scale"])
    assert held["b1.scale"][3] < 1e-6  # not the coarse unit of a weight that is not there


def test_attention_recurrence_and_large_products_get_their_own_rules() -> None:
    weight = numpy_helper.from_array(np.ones((256, 256), np.float32), "large")
    little = numpy_helper.from_array(np.ones((256, 8), np.float32), "little")
    joints = numpy_helper.from_array(np.ones((17, 17), np.float32), "joints")
    nodes = [
        helper.make_node("MatMul", ["input", "large"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "a"], ["b"], "attention"),
        helper.make_node("MatMul", ["b", "joints"], ["b1"], "adjacency"),
        helper.make_node("MatMul", ["joints", "b1"], ["b2"], "partitions"),
        helper.make_node("MatMul", ["b2", "large"], ["c"], "feed"),
        helper.make_node("MatMul", ["c", "little"], ["d"], "narrow"),
        helper.make_node("Relu", ["d"], ["e"], "relu"),
        helper.make_node("MatMul", ["e", "large"], ["f"], "classifier"),
        helper.make_node("LogSoftmax", ["f"], ["log_probs"], "softmax"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "log_probs")]
    graph = helper.make_graph(nodes, "rules", values[:1], values[1:], [weight, little, joints])
    told = {item.node: item for item in decide(helper.make_model(graph))}
    assert {name: item.precision for name, item in told.items()} == {
        "first": "fp32", "attention": "fp32", "adjacency": "fp32", "partitions": "fp32", "feed": "int8",
        "narrow": "fp32", "classifier": "fp32", "softmax": "fp32",
    }  # fmt: skip
    assert "attention" in told["attention"].why
    assert all("graph product" in told[name].why for name in ("adjacency", "partitions"))


def test_graph_without_gain_is_said_to_have_none() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "log_probs")]
    graph = helper.make_graph([helper.make_node("LogSoftmax", ["input"], ["log_probs"])], "g", values[:1], values[1:])
    with pytest.raises(CriterionFailed, match="no node of this graph gains"):
        make_precision(helper.make_model(graph), "int8", clips())


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"method": "magic"}, {"weight_bits": 4}])
def test_senseless_plans_are_bad_input(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Int8Plan(**wrong)  # type: ignore[arg-type]
