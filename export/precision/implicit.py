"""Eight bits without Q/DQ: ranges of tensors beside the graph, as DLA before TensorRT 11 wants them, and their judging.

TensorRT calls it implicit quantisation: its builder may store any tensor in eight bits whose range it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from export.calibration import Range
from export.graph import GraphView
from export.precision.plan import PrecisionPlan
from export.precision.scales import activation

if TYPE_CHECKING:
    from onnx import ModelProto


def largest(view: GraphView, plan: PrecisionPlan, seen: Mapping[str, Range]) -> dict[str, float]:
    """Largest absolute value of every tensor that a node of eight bits reads or makes.

    Such a builder wants ranges at both ends of a node: the plan's where it has one, else what was seen on real clips.
    """
    nodes = [node for node in view.graph.node if plan.of(node.name) == "int8"]
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name in seen)
    found = {name: max(-low, high) for name in names for low, high in [plan.ranges.get(name, seen[name])]}
    return {name: value for name, value in found.items() if value > 0}


def rounded(model: ModelProto, ranges: Mapping[str, float]) -> ModelProto:
    """A copy of `model` in which whoever reads one of these tensors reads it rounded to eight bits.

    It is what is judged: a builder that keeps some of them wider loses less.
    """
    from onnx import ModelProto, NodeProto, helper, numpy_helper

    copy = ModelProto.FromString(model.SerializeToString())
    given, nodes = list(copy.graph.node), list[NodeProto]()
    pairs = {}
    for name, value in ranges.items():
        stored, terms = f"{name}.stored", [f"{name}.stored_scale", f"{name}.stored_zero"]
        for term, array in zip(terms, activation((-value, value), "int8", np.float32), strict=True):
            copy.graph.initializer.append(numpy_helper.from_array(array, term))
        pairs[name] = (
            helper.make_node("QuantizeLinear", [name, *terms], [f"{stored}_q"], name=f"{stored}_q"),
            helper.make_node("DequantizeLinear", [f"{stored}_q", *terms], [f"{stored}_dq"], name=f"{stored}_dq"),
        )
    for name in [item.name for item in copy.graph.input if item.name in pairs]:
        nodes.extend(pairs[name])
    for node in given:
        for place, name in enumerate(node.input):
            if name in pairs:
                node.input[place] = pairs[name][1].output[0]
        nodes.append(node)
        for name in node.output:
            nodes.extend(pairs.get(name, ()))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
