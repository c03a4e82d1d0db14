"""Einsum written as matrix products gives what ONNX Runtime's own Einsum gives, for equations drawn at random."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graph import GraphView, name_nodes
from export.lowering import einsum
from runtime.errors import Refused

SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 3, 2, 4, 2), strict=True))


def model(equation: str, shapes: list[list[int | str | None]], opset: int = 18) -> onnx.ModelProto:
    """A graph of one Einsum; a name or None leaves a size open."""
    names = [f"x{index}" for index in range(len(shapes))]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    _, arrow, right = equation.partition("->")
    rank = len(right) if arrow and "." not in equation else None
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None if rank is None else [None] * rank)
    node = helper.make_node("Einsum", names, ["y"], name="sum", equation=equation)
    graph = helper.make_graph([node], "one", inputs, [output])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    name_nodes(made)
    return made


def lowered(made: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without Einsum."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    view = GraphView(copy)
    view.rewrite({0: einsum.run(view, copy.graph.node[0])})
    view.drop_unused()
    assert "Einsum" not in {node.op_type for node in copy.graph.node}
    return copy


def values(made: onnx.ModelProto, arrays: list[np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{index}": array for index, array in enumerate(arrays)})[0]


def assert_same(equation: str, sizes: list[list[int]], declared: list[list[int | str | None]]) -> None:
    rng = np.random.default_rng(len(equation))
    arrays = [rng.normal(size=size).astype(np.float32) for size in sizes]
    made = model(equation, declared)
    expected = np.einsum(equation, *arrays)
    if "." not in equation and "->" in equation:  # else the result's number of axes is not declared
        onnx.checker.check_model(lowered(made), full_check=True)
    given = values(lowered(made), arrays)
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=1e-4)


def random_case(rng: np.random.Generator, operands: int) -> tuple[str, list[str]]:
    """An equation without diagonals, and the letters of each operand."""
    letters = list("abcdefgh"[: int(rng.integers(2, 9))])
    widths = rng.integers(1, min(5, len(letters)) + 1, operands)
    terms = ["".join(rng.permutation(letters)[:width]) for width in widths]
    used = sorted(set("".join(terms)))
    result = "".join(rng.permutation(used)[: int(rng.integers(0, len(used) + 1))])
    return f"{','.join(terms)}->{result}", terms


@pytest.mark.parametrize("seed", range(120))
def test_random_equations_with_sizes_known_or_open(seed: int) -> None:
    rng = np.random.default_rng(seed)
    equation, terms = random_case(rng, operands=1 + seed % 3)
    sizes = [[SIZES[letter] for letter in term] for term in terms]
    hidden = {letter for letter in SIZES if rng.random() < 0.5}
    names = {letter: letter.upper() if rng.random() < 0.5 else None for letter in SIZES}
    declared = [[names[letter] if letter in hidden else SIZES[letter] for letter in term] for term in terms]
    assert_same(equation, sizes, declared)


@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("nkctv,kvw->nctw", [[2, 3, 4, 7, 5], [3, 5, 5]]),  # ST-GCN: joints by their graph
        ("nctv,vw->nctw", [[2, 4, 7, 5], [5, 6]]),
        ("bhqd,bhkd->bhqk", [[2, 3, 5, 4], [2, 3, 6, 4]]),  # attention
        ("...ij,...jk->...ik", [[2, 3, 4, 5], [2, 3, 5, 6]]),
        ("...ij,jk", [[2, 3, 4, 5], [5, 6]]),
        ("...i,...i->...", [[2, 3, 4], [3, 4]]),  # an ellipsis of fewer axes is stretched
        ("bij,bjk->bik", [[1, 4, 5], [3, 5, 6]]),  # so is a size of 1, as a batch
        ("ij,jk->ik", [[4, 1], [5, 6]]),  # or in a sum
        ("i,j->ij", [[4], [3]]),
        ("i,i->", [[4], [4]]),
        ("ij->ji", [[4, 3]]),
        ("ij->", [[4, 3]]),
        ("Ab,bC->AC", [[4, 3], [3, 2]]),
        ("ij,kl->ik", [[4, 3], [2, 5]]),  # summed on each side alone
        ("ab,bc,cd->ad", [[2, 3], [3, 4], [4, 5]]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_forms_that_networks_use(equation: str, sizes: list[list[int]], known: bool) -> None:
    declared: list[list[int | str | None]] = [
        [size if known or size == 1 else None for size in operand] for operand in sizes
    ]
    assert_same(equation, sizes, declared)


def test_axes_of_size_1_beside_open_ones_are_merged() -> None:
    declared: list[list[int | str | None]] = [[None, "A", 4], [None, None, 1, None], []]
    assert_same("dAb,baeA,->ae", [[2, 1, 4], [4, 3, 1, 1], []], declared)


def test_contraction_of_the_joints_runs_at_any_length_and_needs_one_product() -> None:
    made = lowered(model("nkctv,kvw->nctw", [["batch", 3, 4, "frames", 5], [3, 5, 5]]))
    ops = [node.op_type for node in made.graph.node]
    assert ops.count("MatMul") == 1
    assert not {"Shape", "Gather"} & set(ops)  # no size has to be read while running
    for frames in (1, 9, 30):
        rng = np.random.default_rng(frames)
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4, frames, 5), (3, 5, 5))]
        np.testing.assert_allclose(values(made, arrays), np.einsum("nkctv,kvw->nctw", *arrays), atol=1e-4)


def test_diagonal_is_refused_by_its_node() -> None:
    with pytest.raises(Refused, match=r"node sum .*'ii' \(a diagonal\)"):
        lowered(model("ii->i", [[3, 3]]))


def test_ellipsis_over_an_unknown_number_of_axes_is_refused() -> None:
    made = model("...i->...", [[3, 4]])
    made.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(Refused, match="how many axes"):
        lowered(made)


def test_older_opsets_get_their_own_forms() -> None:
    made = model("ijk,kl->il", [[2, 3, 4], [4, 5]], opset=12)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (4, 5))]
    np.testing.assert_allclose(values(lowered(made), arrays), np.einsum("ijk,kl->il", *arrays), atol=1e-4)
