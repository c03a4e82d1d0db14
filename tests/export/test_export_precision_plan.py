"""The precision plan: hashed, refused where it does not fit, and written as a valid graph whatever else it says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from export_stage import contract
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.onnx_graph import ExportReport, read_model
from export.parity import plausible_clip
from export.precision import PrecisionPlan, make_precision, plan_int8, scales, write
from export.precision.audit import audit
from export.precision.make import check
from export.precision.nearness import widened
from runtime.engine import open_session
from runtime.errors import BadInput


def plan_of(exported: ExportReport) -> PrecisionPlan:
    return plan_int8(read_model(exported.path), [plausible_clip(contract(), 30, seed=1)])


def test_the_hash_follows_what_is_written_and_not_the_reasons(exported: ExportReport) -> None:
    plan = plan_of(exported)
    assert dataclasses.replace(plan, decisions=[]).hash() == plan.hash()
    name = next(iter(plan.ranges))
    other = {**plan.ranges, name: (0.0, 1.0)}
    changes: list[dict[str, Any]] = [{"weight_bits": 7}, {"assignment": {}}, {"ranges": other}]
    for change in changes:
        assert dataclasses.replace(plan, **change).hash() != plan.hash()


def test_plans_that_do_not_fit_are_refused(exported: ExportReport) -> None:
    model, plan = read_model(exported.path), plan_of(exported)
    with pytest.raises(BadInput, match="no range for tensor"):
        write(model, dataclasses.replace(plan, ranges={}), "u8s8")
    with pytest.raises(BadInput, match="no node 'nowhere'"):
        write(model, PrecisionPlan({"nowhere": "int8"}), "u8s8")
    with pytest.raises(BadInput, match="assigns 'int4'"):
        PrecisionPlan({"node": "int4"})
    with pytest.raises(BadInput, match="no Q/DQ flavour 's4s4'; known: u8s8, s8s8"):
        write(model, plan, "s4s4")
    with pytest.raises(BadInput, match="no precision 'int4'"):
        make_precision(model, "int4", [])


# Plans that no rule makes, but a search may.

BOUNDS = dict.fromkeys(("input", "a", "b", "c", "d", "e", "f", "out"), (-9.0, 9.0))


def branching() -> ModelProto:
    """Products of every form, a mover, a sum, a constant of several readers, and three outputs on the way."""
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "product"),
        helper.make_node("Transpose", ["a"], ["b"], "mover", perm=[1, 0]),
        helper.make_node("MatMul", ["w", "b"], ["c"], "graph"),
        helper.make_node("Gemm", ["c", "w", "row"], ["d"], "layer"),
        helper.make_node("Gemm", ["d", "w", "bias"], ["e"], "vector"),
        helper.make_node("Add", ["e", "w"], ["f"], "sum"),
        helper.make_node("Relu", ["f"], ["out"], "relu"),
    ]
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 4), "row": (1, 4), "bias": (4,)}
    held = [numpy_helper.from_array(rng.normal(0, 0.5, shape).astype("f"), name) for name, shape in shapes.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("input", "a", "b", "out")]
    graph = helper.make_graph(nodes, "branching", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def results(model: ModelProto, folder: Any) -> list[np.ndarray]:
    onnx.save(model, str(folder / "model.onnx"))
    x = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    found: list[np.ndarray] = open_session(folder / "model.onnx", 1).run(None, {"input": x})
    return found


@pytest.mark.parametrize("flavour", ["u8s8", "s8s8"])
@pytest.mark.parametrize("seed", range(24))
def test_any_plan_gives_a_valid_graph_near_the_one_it_was_made_from(seed: int, flavour: str, tmp_path: Any) -> None:
    model, rng = branching(), np.random.default_rng(seed)
    plan = PrecisionPlan({node.name: str(rng.choice(["fp32", "fp16", "int8"])) for node in model.graph.node}, BOUNDS)
    written = write(model, plan, flavour)
    check(written)
    assert [item.name for item in written.graph.output] == ["a", "b", "out"]
    for wanted, given in zip(results(model, tmp_path), results(widened(written), tmp_path), strict=True):
        np.testing.assert_allclose(given, wanted, atol=0.7)


def test_an_output_that_is_also_stored_in_eight_bits_is_given_out_as_it_was_computed(tmp_path: Any) -> None:
    model = branching()
    plan = PrecisionPlan({"product": "fp16", "mover": "int8", "layer": "int8"}, BOUNDS)
    exact, given = (results(item, tmp_path)[0] for item in (model, widened(write(model, plan, "s8s8"))))
    np.testing.assert_allclose(given, exact, atol=0.005)  # of halves; a step of the eight bits is 0.07


FORMS: list[tuple[str, tuple[int, ...], int, dict[str, Any], list[Any]]] = [
    ("MatMul", (6, 5), 1, {}, ["n", 6]), ("Gemm", (6, 5), 1, {}, ["n", 6]),
    ("Gemm", (5, 6), 0, {"transB": 1}, ["n", 6]), ("Conv", (5, 6, 1), 0, {}, [1, 6, "n"]),
    ("ConvTranspose", (6, 5, 1), 1, {}, [1, 6, "n"]),
]  # fmt: skip


@pytest.mark.parametrize("flavour", ["u8s8", "s8s8"])
@pytest.mark.parametrize("op, shape, axis, given, source", FORMS, ids=lambda item: item if type(item) is str else "")
def test_every_product_has_a_scale_for_each_of_its_output_channels(
    op: str, shape: tuple[int, ...], axis: int, given: dict[str, Any], source: list[Any], flavour: str
) -> None:
    """Channels 10,000 times apart keep their digits."""
    by_channel = np.logspace(0, 4, 5).reshape([-1 if place == axis else 1 for place in range(len(shape))])
    value = (np.random.default_rng(0).normal(size=shape) * by_channel).astype(np.float32)
    node = helper.make_node(op, ["input", "w"], ["out"], "it", **given)
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, source)]
    ends.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, [source[0], 5, *source[2:]]))
    graph = helper.make_graph([node], "one", ends[:1], ends[1:], [numpy_helper.from_array(value, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = write(model, PrecisionPlan({"it": "int8"}, {"input": (-3.0, 3.0), "out": (-9e4, 9e4)}), flavour)
    check(found)
    kept = [item for item in audit(model, found, []) if item.what == "weight"]
    (stored,) = (numpy_helper.to_array(item) for item in found.graph.initializer if item.name == "w.scale")
    assert [item.tensor for item in kept] == ["w"] and kept[0].decibel > 30
    others = tuple(place for place in range(len(shape)) if place != axis)
    np.testing.assert_allclose(stored, np.abs(value).max(others) / 127, 1e-6)


def test_what_has_no_one_scale_is_not_moved_in_eight_bits() -> None:
    model = branching()
    for inputs, reason in ((["a", "c"], r"different scales \(a, c\)"), (["a", "w"], "constants or integers")):
        model.graph.node[4].CopyFrom(helper.make_node("Concat", inputs, ["e"], "joined", axis=1))
        with pytest.raises(BadInput, match=rf"moves .*{reason}.* at node joined \(Concat\)"):
            write(model, PrecisionPlan({"joined": "int8", "relu": "int8"}, BOUNDS), "u8s8")


def test_scales_in_halves_need_a_graph_that_can_be_raised_to_their_opset() -> None:
    model = branching()
    model.opset_import[0].version = 17
    with pytest.raises(BadInput, match="opset 18 at least; this one has 17"):
        write(model, PrecisionPlan({"product": "fp16", "layer": "int8"}, BOUNDS), "s8s8")


@pytest.mark.parametrize("floats", [np.float32, np.float16])
@pytest.mark.parametrize("bounds", [(0.0, 6.7), (-3.0, 0.001), (-1.0, 1.0), (0.0, 0.0)])
def test_scales_cover_their_range_and_hold_zero(floats: type[np.floating], bounds: tuple[float, float]) -> None:
    for integers, levels in (("uint8", (0, 255)), ("int8", (-127, 127))):
        scale, zero = scales.activation(bounds, integers, floats)
        assert scale.dtype == floats and scale > 0
        for bound in bounds:
            step = bound / float(scale) + float(zero)
            assert levels[0] - 0.51 <= step <= levels[1] + 0.51
        assert levels[0] <= zero <= levels[1]


def test_weights_round_by_channel_to_nearest() -> None:
    value = np.random.default_rng(0).normal(0, [[1.0], [0.01], [100.0]], (3, 200)).astype(np.float32)
    whole, scale = scales.weight(value, 0, 8, np.float32)
    assert np.abs(whole.astype(int)).max(1).tolist() == [127, 127, 127]
    assert np.all(np.abs(whole * scale[:, None] - value) <= 0.51 * scale[:, None])
