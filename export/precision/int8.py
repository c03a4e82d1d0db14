"""INT8: which nodes compute in eight bits and on which ranges, by rules that each give their reason.

What the rules rest on was measured on ONNX Runtime, x86 with VNNI, one thread (python -m export.benchmarks.placements):
convolutions carry nearly all of the time and gain 2 to 3.5 times. What stands between them decides the rest: where
residual sums, temporal shifts and pools stay in floats, every edge costs a conversion; where they move and add
integers of one scale, LRINet's INT8 engine is a quarter faster than with convolutions alone. The first convolution has
3 input channels and stays faster, and more exact, in floats. Attention gains nothing measurable; ST-GCN's products with
its adjacency took 0.27 ms in eight bits where floats took 0.22.
Of the calibration methods, the plain range (minmax) stayed nearest to FP32 on a trained LRINet; the others clip what
its ReLUs need. The gate, not the method, has the last word. On GPUs the same rules are untested on hardware.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.calibration import METHODS, clipped, observe
from export.graph import GraphView, name_nodes
from export.precision import flavour as flavours
from export.precision.floats import FLOAT
from export.precision.fp16 import NORMALISATIONS, float_tensors, with_halves
from export.precision.placement import PRODUCTS, Placement, moved, pieces
from export.precision.plan import Decision, PrecisionPlan
from export.precision.questions import feeds_output, reads_input, weight_size
from runtime.errors import BadInput, CriterionFailed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SMALL = 1 << 14  # elements of a weight below which a matrix product is not worth its conversions


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


Chosen = dict[str, str]  # node -> precision, of the nodes before the one in question


@dataclass(frozen=True)
class Rule:
    """Says what the nodes of `ops` compute in where `holds`. The first rule that holds for a node decides."""

    ops: frozenset[str]
    holds: Callable[[GraphView, NodeProto, Chosen], bool]
    precision: str
    why: str


def _always(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    return True


def _two_activations(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    return not any(view.is_constant(name) for name in node.input[:2])


def _first(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    return reads_input(view, node)


def _last(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    return feeds_output(view, node)


def _graph_product(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    """A constant that mixes joints: the first operand, or a square one that is no layer."""
    if view.is_constant(node.input[0]):
        return True
    shape = view.shape(node.input[1])
    square = shape is not None and len(shape) >= 2 and shape[-1] == shape[-2]
    return square and weight_size(view, node) < SMALL and not _layer(view, node)


def _layer(view: GraphView, node: NodeProto) -> bool:
    """Whether a bias follows the product, as it does in a layer."""
    user = view.only_user(node.output[0])
    return user is not None and user.op_type == "Add" and any(view.is_constant(name) for name in user.input)


def _small(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    return node.op_type in ("Gemm", "MatMul") and weight_size(view, node) < SMALL


def _unusual(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    """Forms of a product that no eight-bit kernel takes."""
    from export.graph import attributes

    told = attributes(node)
    scaled = node.op_type == "Gemm" and (told.get("alpha", 1.0) != 1.0 or told.get("beta", 1.0) != 1.0)
    shape = view.shape(node.input[1]) or ()
    stacked = node.op_type == "MatMul" and len(shape) != 2
    grouped = node.op_type == "ConvTranspose" and told.get("group", 1) != 1
    return scaled or stacked or grouped or bool(told.get("transA", 0)) or _varying_bias(view, node)


def _varying_bias(view: GraphView, node: NodeProto) -> bool:
    """Whether the bias is computed, or is no vector."""
    if len(node.input) < 3 or not node.input[2]:
        return False
    shape = view.shape(node.input[2]) or ()
    return not view.is_constant(node.input[2]) or len(shape) != 1


def _sum_behind_convolution(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    makers = [view.maker.get(name) for name in node.input]
    computed = all(maker is not None for maker in makers) and not any(view.is_constant(name) for name in node.input)
    return computed and any(m is not None and m.op_type == "Conv" and chosen.get(m.name) == "int8" for m in makers)


def _behind_eight_bits(view: GraphView, node: NodeProto, chosen: Chosen) -> bool:
    maker = view.maker.get(node.input[0])
    alone = view.only_user(node.input[0]) is not None
    return maker is not None and alone and chosen.get(maker.name) == "int8"


RULES = (
    Rule(PRODUCTS, _two_activations, "fp32", "both operands are activations (attention): the softmax between them "
         "needs floats, and at these sizes the conversions cost more than eight bits save"),
    Rule(frozenset({"MatMul"}), _graph_product, "fp32", "graph product (adjacency): a few joints wide, so that moving "
         "data is its cost; in eight bits it was slower"),
    Rule(PRODUCTS, _first, "fp32", "first layer: few channels, no gain, and its errors reach all layers"),
    Rule(PRODUCTS, _last, "fp32", "classifier: its output is the log-probabilities"),
    Rule(PRODUCTS, _unusual, "fp32", "a form of product that no eight-bit kernel takes"),
    Rule(PRODUCTS, _small, "fp32", "small matrix product: conversions cost more than it saves"),
    Rule(PRODUCTS, _always, "int8", "constant weights: carries the time"),
    Rule(frozenset({"Einsum"}), _always, "fp32", "graph product or attention: no runtime multiplies it in eight bits"),
    Rule(frozenset({"LSTM", "GRU", "RNN"}), _always, "fp32", "recurrent: no static INT8 kernel"),
    Rule(NORMALISATIONS | {"Softmax", "LogSoftmax"}, _always, "fp32", "normalisation: wide range, little time"),
    Rule(frozenset({"Add"}), _sum_behind_convolution, "int8", "residual sum behind a convolution: eight bits stay so"),
    Rule(frozenset({"Relu"}), _behind_eight_bits, "int8", "goes with the layer before it"),
    Rule(frozenset({"Add", "Mul"}), _always, "fp32", "sums of features outside convolutions: wide ranges, little time"),
)  # fmt: skip

MOVED = "moves data only: one scale on both sides, so eight bits pass through"
SHIFTED = "joins pieces of one tensor (temporal shift): one scale on both sides, so eight bits pass through"


def takes_eight_bits(view: GraphView, node: NodeProto) -> bool:
    """Whether a product has a form that eight-bit kernels compute: a search may then try what the rules would not."""
    return view.weighted(node) and not _two_activations(view, node, {}) and not _unusual(view, node, {})


def decide(model: ModelProto, flavour: str = "u8s8", forced: Mapping[str, str] | None = None) -> list[Decision]:
    """The precision of every node that a rule speaks of, in graph order.

    forced: node -> precision of those that a search decides; what depends on them follows by the rules.
    """
    view = GraphView(model)
    forced = forced or {}
    chosen: dict[str, Decision] = {}
    so_far: Chosen = {}
    for node in view.graph.node:
        if view.dtype(node.output[0]) not in (0, FLOAT):  # arithmetic of shapes
            continue
        rule = next((item for item in RULES if node.op_type in item.ops and item.holds(view, node, so_far)), None)
        if node.name in forced:
            so_far[node.name] = forced[node.name]
            chosen[node.name] = Decision(node.name, node.op_type, forced[node.name], "found by the search")
        elif rule is not None:
            chosen[node.name] = Decision(node.name, node.op_type, rule.precision, rule.why)
            so_far[node.name] = rule.precision
    for node in _movers(view, so_far, flavours.load(flavour)):
        why = SHIFTED if node.op_type == "Concat" else MOVED
        chosen[node.name] = Decision(node.name, node.op_type, "int8", why)
    return [chosen[node.name] for node in view.graph.node if node.name in chosen]


def _movers(view: GraphView, chosen: Chosen, flavour: flavours.Flavour) -> list[NodeProto]:
    """The nodes that move nothing but one tensor of eight bits, on its way to readers of eight bits."""
    if flavour.moves != "integers":
        return []
    eight = {name for name, precision in chosen.items() if precision == "int8"}
    readers = set(eight)
    for node in reversed(view.graph.node):
        if not moved(node) or view.dtype(node.output[0]) != FLOAT:
            continue
        if node.op_type == "MaxPool" and not pieces(node):
            continue  # bytes are pooled slowly where the pool cannot be taken apart
        users = [user for name in node.output for user in view.users.get(name, [])]
        given = any(name in view.outputs for name in node.output)
        if users and not given and all(user.name in readers and user.op_type != "Relu" for user in users):
            readers.add(node.name)
    root: dict[str, str] = {}
    found = []
    for node in view.graph.node:
        if node.name not in readers - eight:
            continue
        sources = {root.get(name, name) for name in moved(node)}
        if len(sources) == 1 and not any(view.is_constant(name) for name in moved(node)):
            root.update(dict.fromkeys(node.output, sources.pop()))
            found.append(node)
    return found


def plan_int8(
    model: ModelProto,
    clips: Iterable[np.ndarray],
    options: Int8Plan | None = None,
    flavour: str = "u8s8",
    rest: str = "fp32",
) -> PrecisionPlan:
    """INT8 for the nodes that gain by it, `rest` (fp32, or fp16 by its own rules) for the others.

    clips: network inputs (1,T',...) float32. Nodes of `model` get names where they have none. Raises
    `CriterionFailed` if nothing in the graph is worth INT8.
    """
    options = options or Int8Plan()
    name_nodes(model)
    return plan_for(model, decide(model, flavour), clips, options, flavour, rest)


def plan_for(
    model: ModelProto,
    decisions: list[Decision],
    clips: Iterable[np.ndarray],
    options: Int8Plan,
    flavour: str = "u8s8",
    rest: str = "fp32",
) -> PrecisionPlan:
    """The plan that follows from decisions made by others (a search, a test); see `plan_int8`."""
    if rest not in ("fp32", "fp16"):
        raise BadInput(f"what is not in INT8 computes in fp32 or fp16, not in '{rest}'")
    assignment = {item.node: item.precision for item in decisions}
    if "int8" not in assignment.values():
        raise CriterionFailed(
            "no node of this graph gains by INT8 (its rules: export/precision/int8.py); build fp32 instead"
        )
    view = GraphView(model)
    roots = Placement(view, assignment, flavours.load(flavour)).roots()
    tensors = list(dict.fromkeys([*roots, *float_tensors(view)])) if rest == "fp16" else roots
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        seen, samples = observe(model, tensors, roots, clips, Path(work))
    ranges = {name: clipped(name, samples[name], seen[name], options.method) for name in roots}
    plan = PrecisionPlan(assignment, ranges, decisions, options.weight_bits)
    return with_halves(view, plan, seen) if rest == "fp16" else plan
