"""Predicted time of a graph on a target that is not at hand: a roofline a node, from the figures of its profile.

    t = sum over nodes of max(operations / (share x peak), bytes / (share x bandwidth)) + launch

It is made to rank precisions on one target, not to state a latency: the shares of the peaks that small kernels reach
and the time of a launch are assumptions, the same for every target, and were not fitted to any. Fused nodes are counted
as if they were not; conversions between precisions are not counted. What comes out is called predicted wherever it is
shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.profile import Resolved
from export.graph import GraphView
from export.onnx_graph import quiet
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SHARE_OF_PEAK = 0.4
SHARE_OF_BANDWIDTH = 0.6
LAUNCH = 5e-6  # s a kernel, on GPUs
BITS = {"fp32": 32, "fp16": 16, "int8": 8}
# Ops that change names, shapes or addresses only; every runtime here does them in place or within their neighbours.
FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant", "Shape", "Cast", "Transpose"})


@dataclass(frozen=True)
class Work:
    """Of one node: multiply-accumulates (other operations: two for one), elements moved in and out, and of weights."""

    macs: float
    moved: int
    weights: int


@dataclass(frozen=True)
class Machine:
    """A target in numbers: operations a second by precision, bytes a second, seconds to start a kernel."""

    peaks: Mapping[str, float]
    bandwidth: float
    launch: float

    def seconds(self, work: Work, precision: str) -> float:
        """Predicted time of one node."""
        if precision not in self.peaks:
            raise BadInput(f"this target has no {precision}; it has: {', '.join(self.peaks)}")
        compute = 2 * work.macs / (SHARE_OF_PEAK * self.peaks[precision])
        memory = (work.moved + work.weights) * BITS[precision] / 8 / (SHARE_OF_BANDWIDTH * self.bandwidth)
        return max(compute, memory) + self.launch


def machine_of(target: Resolved) -> Machine:
    """A target's figures as the roofline takes them. Raises `BadInput` where the profile lacks them even for FP32."""
    profile = target.profile
    peaks = {name: profile.peak(name) for name in BITS if name not in profile.lacks}
    numbers = {name: figure.value * 1e12 for name, figure in peaks.items() if figure is not None}
    bandwidth = profile.figures.get("bandwidth")
    if bandwidth is None or "fp32" not in numbers:
        lacking = "a bandwidth" if bandwidth is None else "a peak in fp32"
        raise BadInput(f"no times can be predicted for {profile.name}: its profile has not {lacking}; run auto on it")
    return Machine(numbers, bandwidth.value * 1e9, LAUNCH if profile.kind == "gpu" else 0.0)


def predicted_ms(work: Mapping[str, Work], assignment: Mapping[str, str], machine: Machine, default: str) -> float:
    """Predicted time of a graph, ms; nodes that `assignment` does not name compute in `default`."""
    return 1e3 * sum(machine.seconds(item, assignment.get(node, default)) for node, item in work.items())


def work_of(model: ModelProto, frames: int) -> dict[str, Work]:
    """What each node has to do for one clip of `frames` padded frames; nodes that only rename are left out.

    Raises `BadInput` where a shape that decides the work cannot be inferred.
    """
    view = GraphView(_fixed(model, frames))
    found = {}
    for node in view.graph.node:
        if node.op_type in FREE:
            continue
        names = [name for name in (*node.input, *node.output) if name]
        moved = sum(_size(view, node, name) for name in names if not view.is_constant(name))
        weights = sum(_size(view, node, name) for name in names if view.is_constant(name))
        found[node.name] = Work(_macs(view, node), moved, weights)
    return found


def _fixed(model: ModelProto, frames: int) -> ModelProto:
    """The graph for one clip of that length: what computes shapes is folded, so that every shape is a number."""
    import onnxsim

    source = model.graph.input[0]
    dims = [dim.dim_value for dim in source.type.tensor_type.shape.dim]
    shapes = {source.name: [1, frames, *dims[2:]]}
    with quiet():
        fixed, _ = onnxsim.simplify(model, overwrite_input_shapes=shapes, perform_optimization=False)
    return fixed


def _size(view: GraphView, node: NodeProto, name: str) -> int:
    shape = view.shape(name)
    if shape is None or not all(isinstance(axis, int) for axis in shape):
        where = f"'{name}' at node {node.name} ({node.op_type})"
        raise BadInput(f"the size of {where} is not known, so no time can be predicted")
    return math.prod(axis for axis in shape if isinstance(axis, int))


def _macs(view: GraphView, node: NodeProto) -> float:
    out = _size(view, node, node.output[0])
    if node.op_type == "Conv":
        weight = view.shape(node.input[1]) or ()
        return float(out * math.prod(int(axis or 0) for axis in weight[1:]))
    if node.op_type == "ConvTranspose":
        weight = view.shape(node.input[1]) or ()
        return float(_size(view, node, node.input[0]) * math.prod(int(axis or 0) for axis in weight[1:]))
    if node.op_type in ("MatMul", "Gemm"):
        shape = view.shape(node.input[0]) or ()
        transposed = any(item.name == "transA" and item.i for item in node.attribute)
        return float(out * int(shape[0 if transposed else -1] or 0))
    if node.op_type in ("LSTM", "GRU", "RNN"):
        steps, clips = (view.shape(node.input[0]) or (1, 1))[:2]
        weights = _size(view, node, node.input[1]) + _size(view, node, node.input[2])
        return float(int(steps or 1) * int(clips or 1) * weights)
    return out / 2
