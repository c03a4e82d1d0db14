"""FP16: which nodes may compute in half precision, by rules that each give their reason, with few casts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.calibration import Range, extremes
from export.graph import GraphView, name_nodes
from export.precision.floats import computes_floats, float_inputs, may_be_half
from export.precision.placement import PRODUCTS
from export.precision.plan import Decision, PrecisionPlan
from export.precision.questions import feeds_output, reduced
from runtime.errors import CriterionFailed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGEST = 65504.0  # of float16
SMALLEST_NORMAL = 2.0**-14
WIDE = 512.0  # values beyond it are safe in storage, but leave little room for what is summed of them
LONG = 64  # values summed: beyond it, sums of halves lose digits that a mean needs

NORMALISATIONS = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
     "MeanVarianceNormalization", "RMSNormalization"}
)  # fmt: skip
SUMS = frozenset(
    {"AveragePool", "GlobalAveragePool", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean",
     "ReduceProd", "ReduceSum", "ReduceSumSquare"}
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What the rules look at: the graph, and the largest value that each of its tensors took on real clips."""

    view: GraphView
    seen: Mapping[str, Range]

    def largest(self, node: NodeProto) -> float:
        """Largest absolute value among the node's computed inputs and outputs; infinite where it is not finite."""
        names = [node.input[index] for index, _ in float_inputs(node, self.view)] + list(node.output)
        return max((_largest(self.seen[name]) for name in names if name in self.seen), default=0.0)

    def constants(self, node: NodeProto) -> list[np.ndarray]:
        """The float constants that the node reads."""
        found = (self.view.value(node.input[index]) for index, follows in float_inputs(node, self.view) if follows)
        return [value for value in found if value is not None and value.size]


@dataclass(frozen=True)
class Rule:
    """Says which nodes stay in fp32. The first rule that holds for a node decides."""

    holds: Callable[[Facts, NodeProto], bool]
    why: str
    ops: frozenset[str] | None = None  # None: any

    def fits(self, facts: Facts, node: NodeProto) -> bool:
        """Whether the node stays in fp32 by this rule."""
        return (self.ops is None or node.op_type in self.ops) and self.holds(facts, node)


def _masks(facts: Facts, node: NodeProto) -> bool:
    return node.op_type in ("Add", "Sub", "Where", "Max", "Min", "Clip") and _too_large(facts, node)


def _too_large(facts: Facts, node: NodeProto) -> bool:
    return any(bool(np.any(~(np.abs(value) <= LARGEST))) for value in facts.constants(node))


def _subnormal(facts: Facts, node: NodeProto) -> bool:
    for value in facts.constants(node):
        size = np.abs(value[value != 0])
        if size.size and np.mean(size < SMALLEST_NORMAL) > 0.5:
            return True
    return False


def _long_sum(facts: Facts, node: NodeProto) -> bool:
    return (reduced(facts.view, node) or LONG + 1) > LONG


def _cannot(facts: Facts, node: NodeProto) -> bool:
    return not may_be_half(node, facts.view)


def _any(facts: Facts, node: NodeProto) -> bool:
    return True


RULES = (
    Rule(_cannot, "the operator has no float16 form, or an attribute or subgraph fixes its type"),
    Rule(_any, "normalisation: squares of what it reads leave the range of halves", NORMALISATIONS),
    Rule(_any, "softmax: its exponentials and their sum need the digits of single precision",
         frozenset({"Softmax", "LogSoftmax"})),
    Rule(_any, "powers, exponentials and quotients: small errors of what they read become large ones",
         frozenset({"Pow", "Exp", "Log", "Sqrt", "Reciprocal", "Div", "CumSum", "Softplus"})),
    Rule(_long_sum, f"sums over more than {LONG} values, or over the length of the clip", SUMS),
    Rule(_any, "recurrence: its errors add up over the clip", frozenset({"LSTM", "GRU", "RNN"})),
    Rule(_any, "sampling: its coordinates need more digits than a half has", frozenset({"GridSample", "Resize"})),
    Rule(lambda facts, node: feeds_output(facts.view, node), "classifier: its output is the log-probabilities",
         PRODUCTS | {"Add"}),
    Rule(_masks, "mask: its constant lies beyond what a half can hold"),
    Rule(_too_large, f"a constant lies beyond {LARGEST:.0f}, or is not finite"),
    Rule(_subnormal, "most of a constant's values are too small for a half's full precision"),
    Rule(lambda facts, node: not facts.largest(node) <= WIDE, f"values beyond {WIDE:.0f} were seen on real clips"),
)  # fmt: skip


def plan_fp16(model: ModelProto, clips: Iterable[np.ndarray]) -> PrecisionPlan:
    """Mixed precision for `model`: half wherever no rule objects and a region of halves holds a product.

    clips: real network inputs (1,T',...) float32, on which the range of every tensor is taken. Nodes of `model` get
    names where they have none. Raises `CriterionFailed` if nothing may be half.
    """
    name_nodes(model)
    view = GraphView(model)
    plan = halves(view, extremes(model, float_tensors(view), clips), {})
    if not plan.count("fp16"):
        raise CriterionFailed("no product of this graph may compute in fp16; its rules say: " + _reasons(plan))
    return plan


def halves(view: GraphView, seen: Mapping[str, Range], int8: Mapping[str, str]) -> PrecisionPlan:
    """The plan for what is not in eight bits already (`int8`: node -> precision), from ranges `seen`."""
    facts = Facts(view, seen)
    nodes = [node for node in view.graph.node if computes_floats(node, view)]
    why = {}
    for node in nodes:
        reason = next((rule.why for rule in RULES if rule.fits(facts, node)), "")
        if node.name not in int8 and reason:
            why[node.name] = reason
    free = [node for node in nodes if node.name not in why and node.name not in int8]
    alone = {node.name for region in _regions(view, free, int8) for node in region}
    spared = _spared(view, {node.name: node for node in free if node.name not in alone}, int8)
    decisions, assignment = [], {}
    for node in nodes:
        if node.name in int8:
            continue
        if node.name in why:
            precision, reason = "fp32", why[node.name]
        elif node.name in alone:
            precision, reason = "fp32", "no product near it gains: casts would cost more than halves save"
        elif node.name in spared:
            precision, reason = "fp32", "between floats on most sides: in half it would need more casts"
        else:
            precision, reason = "fp16", f"no rule against it; largest value seen {facts.largest(node):.3g}"
        assignment[node.name] = precision
        decisions.append(Decision(node.name, node.op_type, precision, reason))
    return PrecisionPlan(assignment, {}, decisions)


def with_halves(view: GraphView, plan: PrecisionPlan, seen: Mapping[str, Range]) -> PrecisionPlan:
    """`plan` with FP16, by its rules, for what is not in eight bits."""
    eight = {node: precision for node, precision in plan.assignment.items() if precision == "int8"}
    half = halves(view, seen, eight)
    told = {item.node: item for item in (*half.decisions, *(item for item in plan.decisions if item.node in eight))}
    decisions = [told[node.name] for node in view.graph.node if node.name in told]
    return dataclasses.replace(plan, assignment={**half.assignment, **eight}, decisions=decisions)


def float_tensors(view: GraphView) -> list[str]:
    """The float32 tensors of a graph that are computed, its inputs included."""
    made = [name for node in view.graph.node if computes_floats(node, view) for name in node.output]
    return [name for name in (*view.inputs, *made) if name and view.dtype(name) == 1 and not view.is_constant(name)]


def _regions(view: GraphView, free: list[NodeProto], int8: Mapping[str, str]) -> list[list[NodeProto]]:
    """Connected regions of nodes that may be half but hold no product and touch no eight bits."""
    place = {node.name: node for node in free}
    seen: set[str] = set()
    found = []
    for start in free:
        if start.name in seen:
            continue
        region, waiting, gains = [], [start], False
        seen.add(start.name)
        while waiting:
            node = waiting.pop()
            region.append(node)
            gains = gains or node.op_type in PRODUCTS or node.op_type == "Einsum"
            near = [view.maker[name] for name in node.input if name in view.maker]
            near += [user for name in node.output for user in view.users.get(name, [])]
            gains = gains or any(item.name in int8 for item in near)
            for item in near:
                if item.name in place and item.name not in seen:
                    seen.add(item.name)
                    waiting.append(item)
        if not gains:
            found.append(region)
    return found


def _spared(view: GraphView, half: dict[str, NodeProto], int8: Mapping[str, str]) -> set[str]:
    """Those nodes of `half`, products aside, that save casts by staying in fp32; taken one by one until none does."""

    def floats(node: NodeProto | None) -> bool:
        return node is None or (node.name not in half and node.name not in int8)

    def cast(name: str) -> bool:
        if view.is_constant(name) or view.dtype(name) != 1:
            return False
        readers = [floats(user) for user in view.users.get(name, []) if user.name not in int8]
        readers += [True] * (name in view.outputs)
        maker = view.maker.get(name)
        if maker is not None and maker.name in int8:
            return False
        return any(reader != floats(maker) for reader in readers)

    spared: set[str] = set()
    changed = True
    while changed:
        changed = False
        for name, node in list(half.items()):
            if node.op_type in PRODUCTS:
                continue
            touched = {item for item in (*node.input, *node.output) if item}
            before = sum(map(cast, touched))
            del half[name]
            if sum(map(cast, touched)) < before:
                spared.add(name)
                changed = True
            else:
                half[name] = node
    return spared


def _largest(bounds: Range) -> float:
    size = max(abs(bounds[0]), abs(bounds[1]))
    return float("inf") if np.isnan(size) else size


def _reasons(plan: PrecisionPlan) -> str:
    return "; ".join(sorted({item.why for item in plan.decisions if item.op in PRODUCTS})) or "it has none"
