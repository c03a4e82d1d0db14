"""The view of a graph: what it knows of constants, neighbours and shapes, and that its changes keep the graph whole."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph import GraphView, attributes, known_sizes, name_nodes, read_names


@pytest.fixture
def model() -> onnx.ModelProto:
    """x (batch, frames, 4) -> Relu -> MatMul with w (4,3) -> y; a Constant node holds a bias that Add reads."""
    bias = helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0])
    nodes = [
        bias, helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "frames", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "frames", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    name_nodes(made)
    return made


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)})[0]


def test_constants_are_initializers_and_constant_nodes(model: onnx.ModelProto) -> None:
    view = GraphView(model)
    assert view.is_constant("w") and view.is_constant("b") and not view.is_constant("a")
    np.testing.assert_array_equal(view.value("b"), np.float32([1, 2, 3]))
    assert view.value("a") is None and view.ints("") is None and view.ints("w") == [1] * 12
    assert view.weighted(model.graph.node[2]) and not view.weighted(model.graph.node[1])


def test_neighbours(model: onnx.ModelProto) -> None:
    view = GraphView(model)
    assert view.inputs == ["x"] and view.outputs == ["y"]
    producer = view.producer("m", "MatMul", "Gemm")
    assert producer is not None and producer.op_type == "MatMul"
    assert view.producer("m", "Conv") is None and view.producer("x") is None
    user = view.only_user("a")
    assert user is not None and user.op_type == "MatMul"
    assert view.only_user("y") is None  # the graph gives it out


def test_shapes_are_inferred_with_names_and_not_taken_from_stale_notes(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 64, 4]))
    view = GraphView(model)
    assert view.shape("a") == ("batch", "frames", 4)
    assert view.shape("m") == ("batch", "frames", 3)
    assert view.rank("w") == 2 and view.shape("nowhere") is None and view.rank("nowhere") is None
    assert view.dtype("m") == TensorProto.FLOAT and view.dtype("nowhere") == 0
    assert known_sizes((1, 2)) and not known_sizes((1, "frames")) and not known_sizes((None,))


def test_replacing_a_node_keeps_order_and_results(model: onnx.ModelProto) -> None:
    before = run(model)
    view = GraphView(model)
    zero = view.constant("zero", np.float32(0))
    assert view.is_constant(zero) and view.shape(zero) == ()
    view.replace(model.graph.node[1], [helper.make_node("Max", ["x", zero], ["a"], name=view.fresh("Relu_1"))])
    assert [node.op_type for node in model.graph.node] == ["Constant", "Max", "MatMul", "Add"]
    assert view.maker["a"].op_type == "Max" and view.users["x"][0].op_type == "Max"
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model), before)


def test_names_are_fresh_and_unique(model: onnx.ModelProto) -> None:
    view = GraphView(model)
    assert view.fresh("new") == "new" and view.fresh("new") == "new_1" and view.fresh("w") == "w_1"
    for node in model.graph.node:
        node.name = "same"
    name_nodes(model)
    assert len({node.name for node in model.graph.node}) == 4


def test_a_name_that_was_given_stays_with_its_node(model: onnx.ModelProto) -> None:
    for node, name in zip(model.graph.node, ("Relu_1", "", "MatMul_2", ""), strict=True):
        node.name = name
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["Relu_1", "Relu_1_1", "MatMul_2", "Add_3"]


def test_a_name_inside_a_body_is_not_fresh(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["inside"], "adding")], "body", [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [None, None, 4])],
    )  # fmt: skip
    model.graph.node.append(helper.make_node("If", ["b"], ["c"], then_branch=body, else_branch=body))
    view = GraphView(model)
    assert view.fresh("inside") == "inside_1" and view.fresh("adding") == "adding_1"


def test_what_nothing_reads_is_dropped(model: onnx.ModelProto) -> None:
    view = GraphView(model)
    view.constant("unused", np.zeros(3))
    view.replace(model.graph.node[3], [helper.make_node("Identity", ["m"], ["y"], name="out")])
    view.drop_unused()
    assert [node.op_type for node in model.graph.node] == ["Relu", "MatMul", "Identity"]
    assert [item.name for item in model.graph.initializer] == ["w"]


def test_tensors_that_a_body_takes_from_outside_count_as_read(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["a", "a"], ["z"])], "body", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, None, 4])],
    )  # fmt: skip
    choice = helper.make_node("If", ["which"], ["c"], name="choice", then_branch=body, else_branch=body)
    assert sorted(set(read_names(choice))) == ["a", "which"]
    model.graph.node.append(choice)
    assert [node.op_type for node in GraphView(model).users["a"]] == ["MatMul", "If"]


def test_attributes_are_python_values() -> None:
    node = helper.make_node("Einsum", ["x"], ["y"], equation="ij->ji")
    assert attributes(node) == {"equation": "ij->ji"}


def test_opset_is_that_of_onnx_itself(model: onnx.ModelProto) -> None:
    model.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))
    view = GraphView(model)
    assert view.opset == 17
    view.set_opset(13)
    assert [(item.domain, item.version) for item in model.opset_import] == [("com.microsoft", 1), ("", 13)]
