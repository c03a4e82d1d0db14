"""INT8 for ONNX Runtime on x86: which nodes, which ranges, written as Q/DQ (unsigned activations, signed weights).

What is quantised and why (measured on LRINet's shapes, 1 thread): convolutions carry nearly all of the time and gain
2 to 3.5 times; quantising the residual additions, shifts and concatenations around them gains nothing or loses (each
change of layout costs more than the narrower data save) and adds error. The first convolution has 3 input channels
and stays faster, and more exact, in FP32. Attention and small matrix products (STGT) gain nothing measurable.
Of the calibration methods, the plain range (minmax) stayed nearest to FP32 on a trained LRINet; the others clip what
its ReLUs need. The gate, not the method, has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.calibration import METHODS, Range, ranges
from export.onnx_graph import quiet
from runtime.errors import BadInput, CriterionFailed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True)
class Int8Plan:
    """The choices of one INT8 compilation."""

    clips: int = 48  # calibration clips
    method: str = "minmax"  # of export.calibration.METHODS
    seed: int = 0
    weight_bits: int = 8  # 7 where 8-bit products would saturate (no VNNI)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"no calibration method '{self.method}'; known: {', '.join(METHODS)}")
        if self.clips < 1:
            raise BadInput(f"calibration needs one clip at least; {self.clips} were asked for")
        if self.weight_bits not in (7, 8):
            raise BadInput(f"weights have 7 or 8 bits, not {self.weight_bits}")


@dataclass(frozen=True)
class Decision:
    """What one node computes in, and why."""

    node: str
    op: str
    precision: str  # int8 or fp32
    why: str


class _View:
    """The questions that rules ask of a graph."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def weighted(self, node: NodeProto) -> bool:
        """Whether the second operand is a constant."""
        return len(node.input) > 1 and node.input[1] in self.constants

    def reads_input(self, node: NodeProto) -> bool:
        """Whether only changes of shape lie between the node and the network's input."""
        name = node.input[0]
        while name in self.maker and self.maker[name].op_type in ("Reshape", "Transpose", "Squeeze", "Unsqueeze"):
            name = self.maker[name].input[0]
        return name == self.graph.input[0].name

    def feeds_output(self, node: NodeProto) -> bool:
        """Whether the node's result reaches the output through nothing but bias, softmax and changes of shape."""
        passing = ("Add", "LogSoftmax", "Softmax", "Log", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
        names = list(node.output)
        while names:
            if any(name == self.graph.output[0].name for name in names):
                return True
            users = [user for name in names for user in self.users.get(name, []) if user.op_type in passing]
            names = [name for user in users for name in user.output]
        return False


@dataclass(frozen=True)
class Rule:
    """Says what the nodes of `ops` compute in where `fits` holds. The first rule that fits a node decides."""

    ops: frozenset[str]
    fits: Callable[[_View, NodeProto], bool]
    precision: str
    why: str


PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
SMALL = 1 << 14  # elements of a weight below which a matrix product is not worth its conversions


def _always(view: _View, node: NodeProto) -> bool:
    return True


def _two_activations(view: _View, node: NodeProto) -> bool:
    return not view.weighted(node)


def _small_matrix(view: _View, node: NodeProto) -> bool:
    return node.op_type != "Conv" and math.prod(view.constants[node.input[1]].dims) < SMALL


RULES = (
    Rule(PRODUCTS, _two_activations, "fp32", "both operands are activations (attention, graph products)"),
    Rule(PRODUCTS, _View.reads_input, "fp32", "first layer: few channels, no gain, and its errors reach all layers"),
    Rule(PRODUCTS, _View.feeds_output, "fp32", "classifier: its output is the log-probabilities"),
    Rule(PRODUCTS, _small_matrix, "fp32", "small matrix product: conversions cost more than it saves"),
    Rule(PRODUCTS, _always, "int8", "constant weights: carries the time"),
    Rule(frozenset({"LSTM", "GRU"}), _always, "fp32", "recurrent: no static INT8 kernel"),
    Rule(
        frozenset({"LayerNormalization", "Softmax", "LogSoftmax", "BatchNormalization"}), _always, "fp32",
        "normalisation: its range is wide and its cost small",
    ),
    Rule(
        frozenset({"Add", "Mul", "Max", "MaxPool", "Concat"}), _always, "fp32",
        "moves or adds features: INT8 saves no time here and adds error",
    ),
)  # fmt: skip


def decide(model: ModelProto) -> list[Decision]:
    """The precision of every node that a rule speaks of, in graph order. A ReLU goes with the layer before it."""
    view = _View(model)
    decisions = []
    for node in model.graph.node:
        rule = next((rule for rule in RULES if node.op_type in rule.ops and rule.fits(view, node)), None)
        if rule is not None:
            decisions.append(Decision(node.name, node.op_type, rule.precision, rule.why))
    return decisions


def name_nodes(model: ModelProto) -> None:
    """Give every node a unique name, since decisions are told by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def observed_tensors(model: ModelProto, nodes: Iterable[str]) -> list[str]:
    """The activations whose ranges are needed to quantise `nodes`: input, output, and the ReLU's output behind it."""
    view = _View(model)
    wanted = set(nodes)
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in wanted:
            names.update(dict.fromkeys([node.input[0], node.output[0]]))
            relus = [user.output[0] for user in view.users.get(node.output[0], []) if user.op_type == "Relu"]
            names.update(dict.fromkeys(relus))
    return list(names)


def quantise(
    model: ModelProto, out: Path, clips: Iterable[np.ndarray], plan: Int8Plan, work: Path
) -> tuple[list[Decision], dict[str, Range]]:
    """Write an INT8 copy of `model` to `out`; return the decisions and the range of every quantised tensor.

    clips: network inputs (1,T',...) float32; work: a folder for temporary files. Static Q/DQ, per-channel signed
    weights, unsigned activations (U8S8), the flavour that ONNX Runtime runs fast on x86. Raises `CriterionFailed` if
    nothing in the graph is worth INT8.
    """
    name_nodes(model)
    decisions = decide(model)
    nodes = [item.node for item in decisions if item.precision == "int8"]
    if not nodes:
        raise CriterionFailed("no node of this graph gains by INT8 (its rules: export/quantise.py); build fp32 instead")
    found = ranges(model, observed_tensors(model, nodes), clips, plan.method, work)
    write_qdq(model, out, nodes, found, plan, work)
    return decisions, found


def write_qdq(
    model: ModelProto, out: Path, nodes: Iterable[str], found: dict[str, Range], plan: Int8Plan, work: Path
) -> None:
    """Write the Q/DQ form of `nodes` with the ranges `found` to `out`, metadata kept."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

    view = _View(model)
    chosen = set(nodes)
    relus = [
        user.name
        for node in model.graph.node
        if node.name in chosen
        for user in view.users.get(node.output[0], [])
        if user.op_type == "Relu" and len(view.users[node.output[0]]) == 1
    ]
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in found.items()}
    cache = work / "ranges.json"
    with quiet():
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), cache)
        quantize_static(
            model, out, None,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=plan.weight_bits == 7,
            nodes_to_quantize=[*chosen, *relus],
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=cache,
        )  # fmt: skip
    cache.unlink()
    written = onnx.load(str(out))
    del written.graph.value_info[:]
    del written.metadata_props[:]  # the quantiser adds its own
    written.metadata_props.extend(model.metadata_props)
    out.write_bytes(written.SerializeToString(deterministic=True))
