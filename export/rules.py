"""What a dialect's facts mean for the nodes of a graph: one test a kind of limit, one finding a broken one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.dialect import Dialect, Limit
from export.graph import STANDARD, GraphView, attributes, known_sizes

if TYPE_CHECKING:
    from onnx import NodeProto

INT32 = np.iinfo(np.int32)
LEGACY = frozenset({"ImageScaler", "ParametricSoftplus", "ScaledTanh"})  # experimental once, still read by TensorRT


@dataclass(frozen=True)
class Finding:
    """Something about a node (or the whole graph: empty node) that a person should know."""

    node: str
    op: str
    rule: str
    says: str  # a plain sentence
    remedy: str  # what would make it fit; empty where nothing needs to
    lowering: str = ""  # the pass that makes it fit
    refuses: bool = True  # False: a note


def graph_findings(view: GraphView, dialect: Dialect) -> list[Finding]:
    """Everything in the graph that the dialect does not read, in graph order."""
    return [*_opset(view, dialect), *_ends(view, dialect), *_nodes(view, dialect)]


def _opset(view: GraphView, dialect: Dialect) -> Iterator[Finding]:
    if view.opset > dialect.max_opset:
        says = f"the graph has opset {view.opset}, {dialect.name} reads {dialect.max_opset} at most"
        remedy = f"the graph rewritten in opset {dialect.max_opset}"
        yield Finding("", "", "opset-too-new", f"{says}: {dialect.opset_says}", remedy, lowering="opset")
    elif view.opset < dialect.min_opset:
        says = f"the graph has opset {view.opset}, {dialect.name} reads {dialect.min_opset} at least"
        yield Finding("", "", "opset-too-old", says, "export it anew with a newer opset")


def _ends(view: GraphView, dialect: Dialect) -> Iterator[Finding]:
    """Inputs and outputs of types that the dialect has not."""
    for name in (*view.inputs, *view.outputs):
        kind = _kind(view, name)
        if kind and kind not in dialect.types | dialect.end_types:
            place = view.maker.get(name)
            says = f"{dialect.name} has no inputs or outputs of type {kind} (here '{name}')"
            node, op = (place.name, place.op_type) if place is not None else ("", "")
            yield Finding(node, op, "type-missing", says, "export it in FLOAT, INT32 or INT64")


def _kind(view: GraphView, name: str) -> str:
    """A tensor's element type as ONNX names it, empty where it is unknown."""
    from onnx import TensorProto

    return TensorProto.DataType.Name(view.dtype(name)) if name and view.dtype(name) else ""


def _nodes(view: GraphView, dialect: Dialect) -> Iterator[Finding]:
    for node in view.graph.node:
        if node.domain not in STANDARD:
            if node.domain not in dialect.domains:
                says = f"{node.op_type} of the domain {node.domain} is no ONNX operator, and {dialect.name} has it not"
                yield Finding(node.name, node.op_type, "foreign-operator", says, "export it with ONNX's own operators")
            continue
        if not dialect.has(node.op_type) or not _of_onnx(node):
            says, lowering = f"{dialect.name} has no {node.op_type}", lowering_for(node.op_type)
            yield _with_remedy(node, "operator-missing", says, lowering, "write the network without it")
            continue
        broken = [item for item in dialect.limits_of(node.op_type) if breaks(view, node, item)]
        for limit in broken:
            yield _with_remedy(
                node, limit.rule, f"{dialect.name}, {node.op_type}: {limit.says}", limit.remedy, limit.instead
            )
        if not broken:
            yield from _types(view, node, dialect)


def _of_onnx(node: NodeProto) -> bool:
    """Whether ONNX knows the operator: a dialect that has all of them has none beside them."""
    import onnx

    return bool(onnx.defs.has(node.op_type)) or node.op_type in LEGACY


def _with_remedy(node: NodeProto, rule: str, says: str, lowering: str, otherwise: str) -> Finding:
    from export.lowering import PASSES

    remedy = PASSES[lowering].says if lowering else otherwise
    return Finding(node.name, node.op_type, rule, says, remedy, lowering)


def lowering_for(op: str) -> str:
    """The pass that writes an operator in others, empty where there is none."""
    from export.lowering import PASSES

    return next((name for name, item in PASSES.items() if op in item.ops), "")


def _types(view: GraphView, node: NodeProto, dialect: Dialect) -> Iterator[Finding]:
    results = [name for name in node.output if name not in view.outputs]  # the outputs have their own rule
    casts = node.op_type in ("Cast", "CastLike")
    for name in results if casts else (*node.input, *results):
        kind = _kind(view, name)
        if kind and kind not in dialect.types:
            says = f"{dialect.name} has no tensors of type {kind} inside a graph (here {name})"
            yield Finding(node.name, node.op_type, "type-missing", says, "export it in FLOAT, INT32 or INT64")
    if dialect.narrows_int64:
        for index, name in enumerate(node.input):
            value = view.value(name) if name else None
            if value is None or value.dtype != np.int64 or not value.size:
                continue
            ends = node.op_type == "Slice" and index in (1, 2)  # 'to the end' means the same when clamped
            if not ends and (value.max() > INT32.max or value.min() < INT32.min):
                says = f"{dialect.name} makes INT64 to INT32; the constant {name} does not fit"
                yield Finding(node.name, node.op_type, "int64-range", says, "use numbers below 2^31")


def breaks(view: GraphView, node: NodeProto, limit: Limit) -> bool:
    """Whether a node breaks a limit."""
    return TESTS[limit.test](view, node, limit.value)


# The tests, by the names that dialects use. Each: (view, node, the limit's value) -> the node breaks the limit.


def _always(view: GraphView, node: NodeProto, value: Any) -> bool:
    return bool(value)


def _attribute_only(view: GraphView, node: NodeProto, value: dict[str, Any]) -> bool:
    found = attributes(node)
    return any(name in found and found[name] != wanted for name, wanted in value.items())


def _attribute_one_of(view: GraphView, node: NodeProto, value: dict[str, list[Any]]) -> bool:
    found = attributes(node)
    return any(name in found and found[name] not in wanted for name, wanted in value.items())


def _attribute_all_ones(view: GraphView, node: NodeProto, value: str) -> bool:
    return any(item != 1 for item in attributes(node).get(value, []))


def _attribute_largest(view: GraphView, node: NodeProto, value: dict[str, int]) -> bool:
    found = attributes(node)
    return any(max(found.get(name, [0])) > largest for name, largest in value.items())


def _attribute_matches(view: GraphView, node: NodeProto, value: dict[str, str]) -> bool:
    found = attributes(node)
    return any(re.search(pattern, str(found.get(name, ""))) for name, pattern in value.items())


def _input(node: NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _resolves(view: GraphView, name: str) -> bool:
    """Whether a tensor is a constant, or made of one by nodes that change only how it is written."""
    while name in view.maker and name not in view.constants:
        node = view.maker[name]
        if node.op_type not in ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity"):
            return False
        name = node.input[0]
    return name in view.constants


def _input_constant(view: GraphView, node: NodeProto, value: list[int]) -> bool:
    return any(not _resolves(view, _input(node, index)) for index in value if _input(node, index))


def _input_absent(view: GraphView, node: NodeProto, value: list[int]) -> bool:
    return any(_input(node, index) for index in value)


def _input_present(view: GraphView, node: NodeProto, value: list[int]) -> bool:
    return not all(_input(node, index) for index in value)


def _input_at_most(view: GraphView, node: NodeProto, value: dict[str, int]) -> bool:
    for index, largest in value.items():
        numbers = view.ints(_input(node, int(index)))
        if numbers and max(numbers) > largest:
            return True
    return False


def _input_type_only(view: GraphView, node: NodeProto, value: dict[str, list[str]]) -> bool:
    kinds = {index: _kind(view, _input(node, int(index))) for index in value}
    return any(kind and kind not in value[index] for index, kind in kinds.items())


def _outputs_at_most(view: GraphView, node: NodeProto, value: int) -> bool:
    return any(name and (name in view.users or name in view.outputs) for name in node.output[value:])


def _dynamic_shape(view: GraphView, node: NodeProto, value: Any) -> bool:
    shape = view.shape(node.input[0])
    return shape is None or not known_sizes(shape)


def _rank_only(view: GraphView, node: NodeProto, value: list[int]) -> bool:
    rank = view.rank(node.input[0])
    return rank is not None and rank not in value


def _squeezes_unnamed_axes(view: GraphView, node: NodeProto, value: Any) -> bool:
    unnamed = not _input(node, 1) and "axes" not in attributes(node)
    return unnamed and _dynamic_shape(view, node, value)


def einsum_terms(node: NodeProto) -> list[str]:
    """The operands' parts of an Einsum's equation, without blanks."""
    left = str(attributes(node).get("equation", "")).replace(" ", "").partition("->")[0]
    return left.split(",")


def _einsum_operands_at_most(view: GraphView, node: NodeProto, value: int) -> bool:
    return len(node.input) > value


def _einsum_repeats(view: GraphView, node: NodeProto, value: Any) -> bool:
    terms = [term.replace(".", "") for term in einsum_terms(node)]
    return any(len(set(term)) != len(term) for term in terms)


def _einsum_broadcasts(view: GraphView, node: NodeProto, value: Any) -> bool:
    sizes: dict[str, set[Any]] = {}
    for term, name in zip(einsum_terms(node), node.input, strict=False):
        shape = view.shape(name)
        if shape is not None and "." not in term and len(shape) == len(term):
            for letter, axis in zip(term, shape, strict=True):
                sizes.setdefault(letter, set()).add(axis)
    return any(1 in found and len(found) > 1 for found in sizes.values())


DEFAULT_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def _directions_differ(view: GraphView, node: NodeProto, value: Any) -> bool:
    found = attributes(node)
    if found.get("direction", "forward") != "bidirectional":
        return False
    names = [item.decode() if isinstance(item, bytes) else item for item in found.get("activations", [])]
    names = [name.lower() for name in names] or 2 * DEFAULT_ACTIVATIONS[node.op_type]
    half = len(names) // 2
    return names[:half] != names[half:]


def _zero_point_nonzero(view: GraphView, node: NodeProto, value: Any) -> bool:
    name = _input(node, 2)
    if not name:
        return False
    found = view.value(name)
    return found is None or bool(np.any(found))


def _scales_per_axis_of_activation(view: GraphView, node: NodeProto, value: Any) -> bool:
    scales = view.shape(_input(node, 1))
    several = scales is not None and scales not in ((), (1,))
    return several and not _resolves(view, node.input[0])


TESTS: dict[str, Callable[[GraphView, NodeProto, Any], bool]] = {
    "always": _always,
    "attribute_only": _attribute_only,
    "attribute_one_of": _attribute_one_of,
    "attribute_all_ones": _attribute_all_ones,
    "attribute_largest": _attribute_largest,
    "attribute_matches": _attribute_matches,
    "input_constant": _input_constant,
    "input_absent": _input_absent,
    "input_present": _input_present,
    "input_at_most": _input_at_most,
    "input_type_only": _input_type_only,
    "outputs_at_most": _outputs_at_most,
    "dynamic_shape": _dynamic_shape,
    "rank_only": _rank_only,
    "einsum_operands_at_most": _einsum_operands_at_most,
    "einsum_repeats": _einsum_repeats,
    "einsum_broadcasts": _einsum_broadcasts,
    "directions_differ": _directions_differ,
    "zero_point_nonzero": _zero_point_nonzero,
    "scales_per_axis_of_activation": _scales_per_axis_of_activation,
    "squeezes_unnamed_axes": _squeezes_unnamed_axes,
}
