"""Each lowering pass gives what ONNX Runtime gives for the operator itself, and only what needs it is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices import dialect
from export import parity
from export.graph import GraphView, name_nodes
from export.lowering import PASSES, Pass, lower, opset, prove
from export.onnx_graph import metadata, read_model
from export.rules import graph_findings
from runtime.contract import METADATA_KEY, Contract
from runtime.errors import CriterionFailed, Refused

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[Any]], outputs: list[str], version: int = 18,
    constants: dict[str, np.ndarray] | None = None, kind: int = FLOAT, kinds: dict[str, int] | None = None,
    ranks: dict[str, int] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A small graph; `kinds` of inputs other than `kind`; `ranks` of outputs other than that of the first input."""
    rank = len(next(iter(inputs.values())))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, (kinds or {}).get(name, kind), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, [None] * (ranks or {}).get(name, rank)) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    name_nodes(made)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(made: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


def by_pass(made: onnx.ModelProto, item: Pass) -> onnx.ModelProto:
    """The graph with every node that the pass can replace replaced."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    view = GraphView(copy)
    assert item.run is not None
    nodes = list(enumerate(copy.graph.node))
    view.rewrite({index: item.run(view, node) for index, node in nodes if node.op_type in item.ops})
    view.drop_unused()
    assert not item.ops & {node.op_type for node in copy.graph.node}
    onnx.checker.check_model(copy, full_check=True)
    return copy


def assert_pass_keeps(
    name: str, made: onnx.ModelProto, arrays: dict[str, np.ndarray], tolerance: float = 1e-5
) -> onnx.ModelProto:
    after = by_pass(made, PASSES[name])
    for wanted, given in zip(run(made, arrays), run(after, arrays), strict=True):
        assert wanted.shape == given.shape
        assert wanted.dtype == given.dtype
        np.testing.assert_allclose(given.astype(np.float64), wanted, atol=tolerance, rtol=tolerance)
    return after


def noise(*shape: int, seed: int = 0, kind: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(kind)


# Normalisations.


@pytest.mark.parametrize("axis", [-1, -2, 1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("version", [17, 18])
def test_layer_normalization(axis: int, bias: bool, version: int) -> None:
    shape = [2, 3, 4, 5]
    tail = shape[axis:]
    names = ["x", "scale", *(["bias"] if bias else [])]
    node = helper.make_node("LayerNormalization", names, ["y"], axis=axis, epsilon=1e-3)
    constants = {"scale": noise(*tail, seed=1), "bias": noise(*tail, seed=2)}
    made = model([node], {"x": ["batch", 3, 4, 5]}, ["y"], version, {name: constants[name] for name in names[1:]})
    assert_pass_keeps("layer_norm", made, {"x": 10 * noise(*shape) + 3})


def test_layer_normalization_of_float16_sums_in_float32() -> None:
    constants = {"scale": np.ones(64, np.float16), "bias": np.zeros(64, np.float16)}
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"])
    made = model([node], {"x": ["n", 64]}, ["y"], 17, constants, kind=HALF)
    x = (500 * noise(4, 64)).astype(np.float16)  # squares are beyond what float16 holds
    given = run(by_pass(made, PASSES["layer_norm"]), {"x": x})[0]
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    np.testing.assert_allclose(given, exact, atol=5e-3)


def test_layer_normalization_gives_its_other_outputs_where_they_are_read() -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y", "mean", "inverse"])
    made = model([node], {"x": [3, 8]}, ["y", "mean", "inverse"], 17, {"scale": noise(8)})
    assert_pass_keeps("layer_norm", made, {"x": noise(3, 8)})


def test_nodes_of_a_lowered_normalisation_carry_its_name() -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], name="norm")
    after = by_pass(model([node], {"x": [3, 8]}, ["y"], 17, {"scale": noise(8)}), PASSES["layer_norm"])
    assert all(item.name.startswith("norm/") for item in after.graph.node)


def test_rms_normalization() -> None:
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"])
    made = model([node], {"x": ["n", 8]}, ["y"], 23, {"scale": noise(8)})
    assert_pass_keeps("layer_norm", made, {"x": noise(5, 8)})


def group_norm_model() -> onnx.ModelProto:
    constants = {"scale": noise(6, seed=1), "bias": noise(6, seed=2)}
    node = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], name="norm", num_groups=2)
    return model([node], {"x": ["n", 6, "t", 5]}, ["y"], 21, constants)


def test_group_normalization() -> None:
    assert_pass_keeps("group_norm", group_norm_model(), {"x": noise(2, 6, 7, 5)})


def test_group_normalization_of_opset_18_is_refused() -> None:
    made = group_norm_model()
    made.opset_import[0].version = 18  # its scales were one a group; ONNX has withdrawn that form
    with pytest.raises(Refused, match="node norm"):
        by_pass(made, PASSES["group_norm"])


# Activations.


@pytest.mark.parametrize(
    ("op", "version", "given"),
    [
        ("Gelu", 20, {}), ("Gelu", 20, {"approximate": "tanh"}), ("HardSwish", 14, {}), ("Mish", 18, {}),
        ("Reciprocal", 13, {}), ("Shrink", 13, {"lambd": 0.7, "bias": 0.2}),
    ],
)  # fmt: skip
def test_activations(op: str, version: int, given: dict[str, Any]) -> None:
    made = model([helper.make_node(op, ["x"], ["y"], **given)], {"x": ["n", 9]}, ["y"], version)
    assert_pass_keeps("activations", made, {"x": 3 * noise(40, 9)})


def test_swish_and_cast_like() -> None:
    swish = model([helper.make_node("Swish", ["x"], ["y"], alpha=1.5)], {"x": ["n", 9]}, ["y"], 24)
    x = 3 * noise(4, 9)
    given = run(by_pass(swish, PASSES["activations"]), {"x": x})[0]
    np.testing.assert_allclose(given, x / (1 + np.exp(-1.5 * x)), atol=1e-6)  # ONNX Runtime has no Swish of its own
    cast = model([helper.make_node("CastLike", ["x", "like"], ["y"])], {"x": [3], "like": [1]}, ["y"], 15)
    assert_pass_keeps("activations", cast, {"x": noise(3), "like": noise(1)})


# Attention.


def attention_model(version: int, flat: bool = False, mask: str = "", **given: Any) -> onnx.ModelProto:
    names = ["q", "k", "v", *(["mask"] if mask else [])]
    node = helper.make_node("Attention", names, ["y"], **given)
    q, k = (["n", "t", 12], ["n", "s", 12]) if flat else (["n", 3, "t", 4], ["n", 3, "s", 4])
    inputs: dict[str, list[Any]] = {"q": q, "k": k, "v": k, **({"mask": ["t", "s"]} if mask else {})}
    kinds = {"mask": TensorProto.BOOL} if mask == "bool" else {}
    return model([node], inputs, ["y"], version, kinds=kinds)


@pytest.mark.parametrize("version", [23, 24])
@pytest.mark.parametrize(
    ("flat", "mask", "given"),
    [
        (False, "", {}),
        (False, "", {"scale": 0.3}),
        (False, "float", {}),
        (False, "bool", {}),
        (False, "", {"is_causal": 1}),
        (False, "", {"softcap": 1.5}),
        (True, "", {"q_num_heads": 3, "kv_num_heads": 3}),
        (True, "float", {"q_num_heads": 3, "kv_num_heads": 3, "softcap": 2.0}),
        (False, "bool", {"softcap": 1.5}),
    ],
)
def test_attention(version: int, flat: bool, mask: str, given: dict[str, Any]) -> None:
    made = attention_model(version, flat, mask, **given)
    q, k = ((2, 5, 12), (2, 7, 12)) if flat else ((2, 3, 5, 4), (2, 3, 7, 4))
    arrays = {"q": noise(*q), "k": noise(*k, seed=1), "v": noise(*k, seed=2)}
    if mask:
        seen = np.random.default_rng(3).random((5, 7)) < 0.7
        seen[:, 0] = True
        arrays["mask"] = seen if mask == "bool" else noise(5, 7, seed=4)
    assert_pass_keeps("attention", made, arrays)


def test_attention_that_has_no_simpler_form_is_refused() -> None:
    made = attention_model(23, True, q_num_heads=3, kv_num_heads=1)
    with pytest.raises(Refused, match="another number of heads"):
        by_pass(made, PASSES["attention"])
    after, done = lower(made, dialect.load("tensorrt-rtx"))
    assert not done
    findings = graph_findings(GraphView(after), dialect.load("tensorrt-rtx"))
    assert [item.rule for item in findings] == ["operator-missing"]


@pytest.mark.parametrize("causal", [0, 1])
def test_a_query_that_sees_no_key_gets_zeros(causal: int) -> None:
    made = attention_model(24, mask="bool", is_causal=causal)
    arrays = {name: noise(2, 3, 5, 4, seed=seed) for seed, name in enumerate("qkv")}
    arrays["mask"] = np.random.default_rng(3).random((5, 5)) < 0.7
    arrays["mask"][:, 0], arrays["mask"][2] = True, False
    given = run(assert_pass_keeps("attention", made, arrays), arrays)[0]
    assert not given[:, :, 2].any() and given[:, :, 1].all()


def test_a_window_of_attention_is_not_passed_over() -> None:
    made = attention_model(25, left_window_size=1)
    with pytest.raises(Refused, match="its left_window_size cannot be written"):
        by_pass(made, PASSES["attention"])
    open_window = by_pass(attention_model(25, left_window_size=-1, right_window_size=-1), PASSES["attention"])
    assert [node.op_type for node in open_window.graph.node].count("Softmax") == 1


def test_attention_of_halves_takes_its_softmax_in_the_type_asked_for() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], softmax_precision=FLOAT)
    shape = [1, 2, "t", 4]
    made = model([node], {"q": shape, "k": shape, "v": shape}, ["y"], 23, kind=HALF)
    after = by_pass(made, PASSES["attention"])
    place = [item.op_type for item in after.graph.node].index("Softmax")
    assert [item.op_type for item in after.graph.node[place - 1 : place + 2]] == ["Cast", "Softmax", "Cast"]


# The opset.


def downgraded(made: onnx.ModelProto, target: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    view = GraphView(copy)
    opset.downgrade(view, target)
    assert view.opset == target
    onnx.checker.check_model(copy, full_check=True)
    return copy


def assert_downgrade_keeps(made: onnx.ModelProto, target: int, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    after = downgraded(made, target)
    for wanted, given in zip(run(made, arrays), run(after, arrays), strict=True):
        np.testing.assert_array_equal(given, wanted)
    return after


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"])
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_of_reductions_become_attributes(op: str, keep: int) -> None:
    node = helper.make_node(op, ["x", "axes"], ["y"], keepdims=keep)
    made = model([node], {"x": ["n", 4, 5]}, ["y"], 18, {"axes": np.array([0, -1])}, ranks={"y": 3 if keep else 1})
    after = assert_downgrade_keeps(made, 13, {"x": noise(3, 4, 5)})
    assert len(after.graph.node[0].input) == 1


def test_reduction_of_nothing_and_of_everything() -> None:
    nothing = helper.make_node("ReduceMean", ["x"], ["y"], noop_with_empty_axes=1)
    assert_downgrade_keeps(model([nothing], {"x": [3, 4]}, ["y"]), 13, {"x": noise(3, 4)})
    everything = helper.make_node("ReduceMean", ["x"], ["y"])
    assert_downgrade_keeps(model([everything], {"x": [3, 4]}, ["y"]), 13, {"x": noise(3, 4)})


def test_computed_axes_have_no_older_form() -> None:
    shape = helper.make_node("Shape", ["x"], ["axes"])
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="mean")
    made = model([shape, node], {"x": [1]}, ["y"])
    with pytest.raises(Refused, match=r"node mean .*its axes are computed"):
        downgraded(made, 17)


@pytest.mark.parametrize(("size", "parts"), [(6, 3), (7, 3), (7, 4)])
def test_number_of_parts_becomes_their_sizes(size: int, parts: int) -> None:
    names = [f"y{index}" for index in range(parts)]
    node = helper.make_node("Split", ["x"], names, axis=1, num_outputs=parts)
    after = assert_downgrade_keeps(model([node], {"x": ["n", size]}, names), 13, {"x": noise(2, size)})
    assert "num_outputs" not in {item.name for item in after.graph.node[0].attribute}


def test_parts_of_an_unknown_size_are_refused() -> None:
    node = helper.make_node("Split", ["x"], ["a", "b"], name="halves", axis=0, num_outputs=2)
    with pytest.raises(Refused, match="node halves"):
        downgraded(model([node], {"x": ["n", 4]}, ["a", "b"]), 13)


def test_padding_of_some_axes_becomes_padding_of_all() -> None:
    constants = {"pads": np.array([1, 2]), "value": np.array(0.5, np.float32), "axes": np.array([-1])}
    node = helper.make_node("Pad", ["x", "pads", "value", "axes"], ["y"])
    assert_downgrade_keeps(model([node], {"x": ["n", 3, 4]}, ["y"], 18, constants), 13, {"x": noise(2, 3, 4)})


def test_resize_of_some_axes_becomes_resize_of_all() -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", axes=[2, 3], antialias=0)
    made = model([node], {"x": ["n", 2, 4, 4]}, ["y"], 18, {"scales": np.array([2.0, 2.0], np.float32)})
    assert_downgrade_keeps(made, 13, {"x": noise(1, 2, 4, 4)})


def test_antialiasing_has_no_older_form() -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="small", mode="linear", antialias=1)
    made = model([node], {"x": [1, 2, 4, 4]}, ["y"], 18, {"scales": np.array([1, 1, 0.5, 0.5], np.float32)})
    with pytest.raises(Refused, match="node small"):
        downgraded(made, 17)


def test_part_of_a_shape_and_a_reshape_without_zeros() -> None:
    shape = helper.make_node("Shape", ["x"], ["sizes"], start=1)
    reshape = helper.make_node("Reshape", ["x", "flat"], ["z"], allowzero=1)
    back = helper.make_node("Reshape", ["z", "all"], ["y"], allowzero=1)
    join = helper.make_node("Concat", ["one", "sizes"], ["all"], axis=0)
    constants = {"flat": np.array([-1, 4]), "one": np.array([-1])}
    made = model([shape, reshape, join, back], {"x": ["n", 3, 4]}, ["y"], 18, constants)
    after = assert_downgrade_keeps(made, 13, {"x": noise(2, 3, 4)})
    assert not any(item.name in ("allowzero", "start") for node in after.graph.node for item in node.attribute)


def test_sampling_mode_gets_its_older_name() -> None:
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode="linear")
    made = model([node], {"x": [1, 2, 4, 4], "grid": [1, 3, 3, 2]}, ["y"], 20)
    assert_downgrade_keeps(made, 16, {"x": noise(1, 2, 4, 4), "grid": np.tanh(noise(1, 3, 3, 2, seed=1))})


def test_recurrence_and_padded_convolution_of_opset_22() -> None:
    recurrent = helper.make_node("LSTM", ["x", "w", "r"], ["z"], hidden_size=3, layout=0)
    constants = {"w": noise(1, 12, 4), "r": noise(1, 12, 3)}
    made = model([recurrent], {"x": ["t", "n", 4]}, ["z"], 22, constants, ranks={"z": 4})
    assert_downgrade_keeps(made, 13, {"x": noise(6, 2, 4)})


def test_operator_newer_than_the_target_is_refused_by_its_node() -> None:
    made = model([helper.make_node("Gelu", ["x"], ["y"], name="bend")], {"x": [3]}, ["y"], 20)
    with pytest.raises(Refused, match="node bend: Gelu came with opset 20"):
        downgraded(made, 18)


def test_types_that_came_later_are_refused_by_their_node() -> None:
    constants = {"scale": np.float16(0.1), "zero": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="narrow"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="wide"),
    ]
    made = model(nodes, {"x": ["n", 4]}, ["y"], 19, constants, kind=HALF)
    with pytest.raises(Refused, match=r"node narrow \(QuantizeLinear\): opset 17 has it not for FLOAT16"):
        downgraded(made, 17)


def test_bodies_are_refused_although_the_operator_around_them_did_not_change() -> None:
    axes = numpy_helper.from_array(np.array([0]), "axes")
    body = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["z"])], "body", [],
        [helper.make_tensor_value_info("z", FLOAT, [1])], [axes],
    )  # fmt: skip
    choice = helper.make_node("If", ["which"], ["y"], name="choice", then_branch=body, else_branch=body)
    with pytest.raises(Refused, match=r"node choice \(If\)"):
        downgraded(model([choice], {"x": [3]}, ["y"], 18, {"which": np.array(True)}), 17)


def test_resize_of_a_region_of_some_axes_is_refused() -> None:
    given = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    node = helper.make_node("Resize", ["x", "roi", "scales"], ["y"], name="zoom", axes=[2, 3], **given)
    constants = {"roi": np.array([0.1, 0.1, 0.9, 0.9], np.float32), "scales": np.array([2.0, 2.0], np.float32)}
    with pytest.raises(Refused, match="node zoom"):
        downgraded(model([node], {"x": ["n", 2, 4, 4]}, ["y"], 18, constants), 17)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_that_only_newer_opsets_count_are_refused(op: str) -> None:
    for given in ({"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, {"kernel_shape": [1], "strides": [2]}):
        node = helper.make_node(op, ["x"], ["y"], name="pool", ceil_mode=1, **given)
        with pytest.raises(Refused, match=r"node pool .*which windows count"):
            downgraded(model([node], {"x": [1, 2, 6]}, ["y"], 22), 21)
        floored = helper.make_node(op, ["x"], ["y"], **given)
        assert_downgrade_keeps(model([floored], {"x": [1, 2, 6]}, ["y"], 22), 13, {"x": noise(1, 2, 6)})
    plain = helper.make_node(op, ["x"], ["y"], kernel_shape=[2], strides=[2], ceil_mode=1)
    assert_downgrade_keeps(model([plain], {"x": [1, 2, 7]}, ["y"], 22), 13, {"x": noise(1, 2, 7)})


def test_targets_older_than_13_are_refused() -> None:
    made = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, ["y"])
    with pytest.raises(Refused, match="13 at the oldest"):
        downgraded(made, 12)


def test_every_change_of_an_operator_that_tensorrt_has_is_in_a_table() -> None:
    known = set().union(*(dialect.load(name).ops for name in dialect.names()))
    known -= {"If", "Loop", "Scan"}  # refused wherever the opset is lowered
    known -= {"Attention"}  # lowered before, wherever the opset is
    newest = max(dialect.load(name).max_opset for name in dialect.names() if "tensorrt" in name)
    missing = []
    for version in range(opset.OLDEST + 1, newest + 1):
        told = {op for when, op in opset.CONVERTED if when == version}
        told |= opset.SAME.get(version, frozenset()) | opset.NEW.get(version, frozenset())
        missing += [(version, op) for op in sorted((opset._changed(version) & known) - told)]
    assert missing == []


def test_new_operators_are_those_that_onnx_brought_in_that_version() -> None:
    first: dict[str, int] = {}
    for item in onnx.defs.get_all_schemas_with_history():
        if item.domain == "":
            first[item.name] = min(item.since_version, first.get(item.name, 99))
    for version, ops in opset.NEW.items():
        assert {op: first[op] for op in ops} == dict.fromkeys(ops, version)
    for version, ops in opset.SAME.items():
        assert all(first[op] < version for op in ops), version


def test_sizes_that_the_user_gives_may_be_zero() -> None:
    node = helper.make_node("Reshape", ["x", "sizes"], ["y"], name="form", allowzero=1)
    made = model([node], {"x": [3, 4], "sizes": [2]}, ["y"], 14, kinds={"sizes": TensorProto.INT64})
    with pytest.raises(Refused, match=r"node form .*allowzero"):
        downgraded(made, 13)


# Whole graphs.


def test_only_what_the_dialect_needs_is_touched_and_metadata_stays(exported: Any) -> None:
    before = read_model(exported.path)
    same, nothing = lower(before, dialect.load("tensorrt-10.3"))
    assert nothing == []
    assert [node.SerializeToString() for node in same.graph.node] == [
        node.SerializeToString() for node in before.graph.node
    ]
    after, done = lower(before, dialect.load("tensorrt-8.2"))
    assert {item.pass_name for item in done} == {"opset"}
    assert metadata(after) == metadata(before)
    assert before.opset_import[0].version == 18
    assert after.opset_import[0].version == 13


def test_lowering_twice_gives_the_same_bytes(exported: Any) -> None:
    before = read_model(exported.path)
    first, second = (lower(before, dialect.load("tensorrt-8.2"))[0] for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_proof_measures_several_lengths(exported: Any) -> None:
    before = read_model(exported.path)
    contract = Contract.from_json(metadata(before)[METADATA_KEY])
    after, _ = lower(before, dialect.load("tensorrt-8.2"))
    found = prove(before, after, contract)
    assert [(item.frames, item.batch) for item in found] == [*((n, 1) for n in parity.FRAMES), (parity.FRAMES[1], 3)]
    assert max(item.difference for item in found) <= parity.TOLERANCE


def test_proof_catches_a_wrong_lowering(exported: Any) -> None:
    before = read_model(exported.path)
    contract = Contract.from_json(metadata(before)[METADATA_KEY])
    after, _ = lower(before, dialect.load("tensorrt-8.2"))
    weights = max(after.graph.initializer, key=lambda item: np.prod(item.dims))
    weights.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weights), weights.name))
    with pytest.raises(CriterionFailed, match=r"parity failed: at \d+ frames"):
        prove(before, after, contract)


def test_proof_catches_what_goes_wrong_with_several_clips_only(exported: Any) -> None:
    """One clip's result given out for all."""
    before, after = read_model(exported.path), read_model(exported.path)
    contract = Contract.from_json(metadata(before)[METADATA_KEY])
    last = next(node for node in after.graph.node if node.output[0] == "log_probs")
    last.output[0] = "whole"
    for name, value in {"zero": np.array([0]), "one": np.array([1]), "nothing": np.float32(0)}.items():
        after.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    after.graph.node.extend([
        helper.make_node("Slice", ["whole", "zero", "one", "zero"], ["first"]),
        helper.make_node("Mul", ["whole", "nothing"], ["blank"]),
        helper.make_node("Add", ["blank", "first"], ["log_probs"]),
    ])  # fmt: skip
    with pytest.raises(CriterionFailed, match=r"parity failed: at 13 frames \(batch 3\)"):
        prove(before, after, contract)


def test_graph_without_a_contract_is_proved_on_noise() -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"])
    made = model([node], {"x": [1, "frames", 8]}, ["y"], 17, {"scale": noise(8)})
    after, done = lower(made, dialect.load("tensorrt-8.2"))
    assert [item.pass_name for item in done if item.node] == ["layer_norm"]
    assert max(item.difference for item in prove(made, after, None)) < 1e-5


def test_what_no_pass_can_rewrite_is_left_for_the_check_to_name() -> None:
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "body", [], [
        helper.make_tensor_value_info("z", FLOAT, [None])
    ])  # fmt: skip
    choice = helper.make_node("If", ["which"], ["y"], name="choice", then_branch=body, else_branch=body)
    made = model([choice], {"x": [3]}, ["y"], 18, {"which": np.array(True)})
    after, done = lower(made, dialect.load("tensorrt-8.2"))
    assert [node.op_type for node in after.graph.node] == ["If"]
    rules = [item.rule for item in graph_findings(GraphView(after), dialect.load("tensorrt-8.2"))]
    assert "control-flow" in rules
    assert done == []  # the opset is left too: a graph is rewritten whole or not
