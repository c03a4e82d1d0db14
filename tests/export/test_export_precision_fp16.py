"""FP16: what stays in float32 and why, and that the written graph has one type of float per operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from export_stage import contract
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.graph import GraphView
from export.onnx_graph import ExportReport, metadata, read_model
from export.parity import plausible_clip
from export.precision import make_precision, plan_fp16
from export.precision.floats import FLOAT, FLOAT16, float_inputs
from export.precision.nearness import nearness, widened
from runtime.errors import CriterionFailed

RNG = np.random.default_rng(0)


def clips() -> list[np.ndarray]:
    return [plausible_clip(contract(), frames, seed=frames) for frames in (20, 33)]


def graph(middle: list[Any], **constants: Any) -> ModelProto:
    """input (1,frames,16) -> MatMul -> `middle` (reads x, gives y) -> MatMul, classifier -> log_probs (1,frames,4)."""
    nodes = [
        helper.make_node("MatMul", ["input", "w0"], ["x"], "first"), *middle,
        helper.make_node("MatMul", ["y", "w1"], ["z"], "second"),
        helper.make_node("Relu", ["z"], ["z1"], "relu"),
        helper.make_node("MatMul", ["z1", "w2"], ["z2"], "classifier"),
        helper.make_node("LogSoftmax", ["z2"], ["log_probs"], "softmax"),
    ]  # fmt: skip
    shapes = {"w0": (16, 16), "w1": (16, 16), "w2": (16, 4)}
    held = [numpy_helper.from_array(RNG.normal(0, 0.3, size).astype(np.float32), name) for name, size in shapes.items()]
    held += [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "frames", 16])
    target = helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, [1, "frames", 4])
    made = helper.make_graph(nodes, "g", [source], [target], held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 1, (1, frames, 16)).astype(np.float32) for frames in (5, 9)]


def one_type(model: ModelProto) -> None:
    """Valid, float32 at both ends, and no operator that mixes types of floats."""
    onnx.checker.check_model(model, full_check=True)
    view = GraphView(model)
    assert view.dtype(view.inputs[0]) == view.dtype(view.outputs[0]) == FLOAT
    for node in model.graph.node:
        if node.op_type != "Cast":
            follow = [node.input[index] for index, follows in float_inputs(node, view) if follows]
            types = {view.dtype(name) for name in (*node.input, *node.output) if name} & {FLOAT, FLOAT16}
            assert len(types) <= 1 or not follow, node.name


def test_fp16_stays_near_fp32_and_keeps_the_contract(exported: ExportReport) -> None:
    model = read_model(exported.path)
    made = make_precision(model, "fp16", clips())
    one_type(made.model)
    assert metadata(made.model) == metadata(model)
    assert len(made.to_bytes()) < 0.7 * len(model.SerializeToString())
    assert 0 < made.report["nearness"]["largest"] < 0.05
    assert make_precision(read_model(exported.path), "fp16", clips()).to_bytes() == made.to_bytes()


def test_fp16_and_int8_live_in_one_graph_with_scales_in_fp16(exported: ExportReport) -> None:
    made = make_precision(read_model(exported.path), "int8", clips(), "s8s8", rest="fp16")
    onnx.checker.check_model(made.model, full_check=True)
    assert made.plan.count("int8") and made.plan.count("fp16")
    held = {tensor.name: tensor.data_type for tensor in made.model.graph.initializer}
    scales = {held[n.input[1]] for n in made.model.graph.node if n.op_type.endswith("quantizeLinear")}
    assert scales == {FLOAT16} and GraphView(made.model).opset == 19
    assert made.report["nearness"]["largest"] < 0.5


@pytest.mark.parametrize(
    ("middle", "constants", "node", "reason"),
    [
        ([helper.make_node("Softmax", ["x"], ["y"], "it")], {}, "it", "softmax"),
        ([helper.make_node("LayerNormalization", ["x", "s"], ["y"], "it")], {"s": np.ones(16, "f")}, "it", "normal"),
        ([helper.make_node("Mul", ["x", "s"], ["y"], "it")], {"s": np.float32(1000)}, "it", "values beyond 512"),
        ([helper.make_node("Add", ["x", "s"], ["y0"], "it"), helper.make_node("Softmax", ["y0"], ["y"], "after")],
         {"s": np.array([0] * 15 + [-np.inf], "f")}, "it", "mask"),
        ([helper.make_node("Add", ["x", "s"], ["y0"], "it"), helper.make_node("Softmax", ["y0"], ["y"], "after")],
         {"s": np.array([0] * 15 + [-1e9], "f")}, "it", "mask"),
        ([helper.make_node("Mul", ["x", "s"], ["y"], "it")], {"s": np.full(16, 1e-6, "f")}, "it", "too small"),
        ([helper.make_node("ReduceMean", ["x", "axis"], ["m"], "it"), helper.make_node("Sub", ["x", "m"], ["y"], "s")],
         {"axis": np.array([1])}, "it", "length of the clip"),
        ([helper.make_node("Pow", ["x", "s"], ["y"], "it")], {"s": np.float32(2)}, "it", "powers"),
    ],
)  # fmt: skip
def test_delicate_nodes_stay_in_fp32(middle: list[Any], constants: dict[str, Any], node: str, reason: str) -> None:
    model = graph(middle, **constants)
    made = make_precision(model, "fp16", inputs())
    one_type(made.model)
    told = {item.node: item for item in made.plan.decisions}
    assert told[node].precision == "fp32" and reason in told[node].why
    assert told["first"].precision == "fp16" or reason.startswith("values")
    assert told["classifier"].precision == "fp32" and "classifier" in told["classifier"].why
    assert made.report["nearness"]["divergence"] < 0.02


def test_a_cast_is_shared_by_all_its_readers_and_islands_are_not_worth_one() -> None:
    middle = [
        helper.make_node("Softmax", ["x"], ["a"], "normal"),
        helper.make_node("Mul", ["a", "a"], ["b"], "island"),
        helper.make_node("Softmax", ["b"], ["y"], "again"),
    ]
    made = make_precision(graph(middle), "fp16", inputs())
    assert made.plan.of("island") == "fp32"
    assert "no product near it" in next(item.why for item in made.plan.decisions if item.node == "island")
    assert made.report["casts"] == 4  # into the first product, out of it, into the second, out of its ReLU


def test_a_sum_of_floats_stays_where_it_needs_fewer_casts() -> None:
    middle = [
        helper.make_node("Softmax", ["x"], ["a"], "one", axis=-1),
        helper.make_node("Softmax", ["x"], ["b"], "other", axis=1),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    made = make_precision(graph(middle), "fp16", inputs())
    assert made.plan.of("sum") == "fp32" and made.plan.of("second") == "fp16"
    assert made.report["casts"] == 4  # into the first product, out of it, into the second, out of its ReLU


def test_subgraphs_and_fixed_types_read_float32() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"])], "inner", [],
        [helper.make_tensor_value_info("twice", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])], "other", [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )  # fmt: skip
    middle = [helper.make_node("If", ["yes"], ["y"], "branch", then_branch=inner, else_branch=other)]
    model = graph(middle, yes=np.array(True))
    made = make_precision(model, "fp16", inputs())
    assert made.plan.of("branch") == "fp32" and made.plan.of("first") == "fp16"
    onnx.checker.check_model(made.model, full_check=True)
    assert nearness(model, made.judged, inputs()).largest < 0.05


def test_a_graph_for_judging_keeps_every_rounding() -> None:
    """-2049 is no half: a chain of sums in halves loses what one in float32 keeps."""
    one = numpy_helper.from_array(np.array([-2.0], np.float16), "two")
    nodes = [
        helper.make_node("Cast", ["input"], ["a"], to=FLOAT16),
        helper.make_node("Add", ["a", "two"], ["b"]),
        helper.make_node("Sub", ["b", "two"], ["c"]),
        helper.make_node("Cast", ["c"], ["log_probs"], to=FLOAT),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("input", "log_probs")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [one]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip
    judged = widened(model)
    onnx.checker.check_model(judged, full_check=True)
    exact = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["input"], ["log_probs"])], "g", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip
    assert nearness(exact, judged, [np.array([[-2047.0]], np.float32)]).largest == 1


def test_a_graph_that_cannot_be_half_says_why() -> None:
    product = helper.make_node("MatMul", ["input", "w"], ["a"], "it")
    softmax = helper.make_node("LogSoftmax", ["a"], ["log_probs"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("input", "log_probs")]
    held = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")]
    model = helper.make_model(
        helper.make_graph([product, softmax], "g", values[:1], values[1:], held),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=8,
    )  # fmt: skip
    with pytest.raises(CriterionFailed, match=r"no product of this graph may compute in fp16.*classifier"):
        plan_fp16(model, [np.ones((1, 4), np.float32)])
