"""Predicted times: what a node has to do is counted right, and the roofline ranks as it should."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.search.predict import Machine, Work, predicted_ms, work_of
from runtime.errors import BadInput

MACHINE = Machine(peaks={"fp32": 1e12, "fp16": 4e12, "int8": 8e12}, bandwidth=50e9, launch=5e-6)


def small_network() -> onnx.ModelProto:
    """Frames (B,T',3,8,8) -> folded into rows, one convolution, one product with a constant."""
    constants = {
        "rows": np.array([-1, 3, 8, 8]),
        "kernel": np.zeros((4, 3, 3, 3), np.float32),
        "flat": np.array([0, -1]),
        "weight": np.zeros((256, 5), np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["input", "rows"], ["a"], "fold"),
        helper.make_node("Conv", ["a", "kernel"], ["b"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["b", "flat"], ["c"], "flatten"),
        helper.make_node("MatMul", ["c", "weight"], ["log_probs"], "product"),
    ]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", "frames", 3, 8, 8])
    sink = helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", 5])
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", [source], [sink], initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_work_is_counted_by_hand() -> None:
    work = work_of(small_network(), frames=10)
    assert set(work) == {"conv", "product"}  # what only renames costs nothing
    assert work["conv"] == Work(macs=10 * 4 * 64 * 27, moved=10 * 3 * 64 + 10 * 4 * 64, weights=4 * 27)
    assert work["product"] == Work(macs=10 * 5 * 256, moved=10 * 256 + 10 * 5, weights=256 * 5)


def test_work_grows_with_the_clip() -> None:
    once, twice = (work_of(small_network(), frames) for frames in (10, 20))
    assert all(twice[name].macs == 2 * once[name].macs for name in once)


def test_a_heavy_node_is_bound_by_arithmetic_and_a_light_one_by_memory_or_launch() -> None:
    heavy, light = Work(1e9, 1000, 1000), Work(1, 10_000_000, 0)
    assert MACHINE.seconds(heavy, "fp32") / MACHINE.seconds(heavy, "fp16") == pytest.approx(4, rel=0.05)
    assert MACHINE.seconds(light, "fp32") / MACHINE.seconds(light, "fp16") == pytest.approx(2, rel=0.05)
    assert MACHINE.seconds(Work(1, 1, 1), "fp32") == pytest.approx(MACHINE.launch, rel=0.01)


def test_a_graph_takes_the_sum_of_its_nodes() -> None:
    work = {"a": Work(1e9, 0, 0), "b": Work(2e9, 0, 0)}
    mixed = predicted_ms(work, {"b": "int8"}, MACHINE, "fp32")
    assert mixed == pytest.approx(1e3 * (MACHINE.seconds(work["a"], "fp32") + MACHINE.seconds(work["b"], "int8")))


def test_a_precision_that_the_target_lacks_is_refused() -> None:
    with pytest.raises(BadInput, match="has no int8; it has: fp32"):
        Machine({"fp32": 1e12}, 1e9, 0.0).seconds(Work(1, 1, 1), "int8")
