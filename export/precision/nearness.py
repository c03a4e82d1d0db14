"""How near a graph of lower precision stays to the one it was made from, on real clips."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphView
from export.precision.floats import FLOAT, FLOAT16
from export.precision.placement import MOVERS
from runtime.engine import INPUT, OUTPUT, open_session
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto

EXACT = MOVERS | {"Relu", "Max", "Min", "Neg", "Abs", "ReduceMax", "ReduceMin"}  # round nothing


@dataclass(frozen=True)
class Nearness:
    """Differences of log-probabilities over all steps of `clips` clips."""

    clips: int
    steps: int
    largest: float  # largest absolute difference of a log-probability
    divergence: float  # mean Kullback-Leibler divergence of the posteriors of a step, in nats
    flips: int  # steps whose most probable label changed
    finite: bool


def nearness(before: ModelProto, after: ModelProto, clips: Sequence[np.ndarray]) -> Nearness:
    """Run both graphs in ONNX Runtime on the same inputs (1,T',...) and compare. Raises `BadInput` for no clips."""
    if not clips:
        raise BadInput("nothing to compare precision on: no clips")
    largest, divergence, flips, steps, finite = 0.0, 0.0, 0, 0, True
    with tempfile.TemporaryDirectory(prefix="signedge.") as work:
        sessions = []
        for name, model in (("before", before), ("after", after)):
            path = Path(work) / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            sessions.append(open_session(path, threads=1))
        for x in clips:
            wanted, given = (session.run([OUTPUT], {INPUT: x})[0].astype(np.float64) for session in sessions)
            finite = finite and bool(np.isfinite(given).all())
            largest = max(largest, float(np.abs(wanted - given).max()))
            divergence += float((np.exp(wanted) * (wanted - given)).sum())
            flips += int((wanted.argmax(-1) != given.argmax(-1)).sum())
            steps += int(np.prod(wanted.shape[:-1]))
    return Nearness(len(clips), steps, largest, divergence / max(steps, 1), flips, finite)


def has_float16(model: ModelProto) -> bool:
    """Whether anything in a graph is float16."""
    tensors = (item.data_type for item in model.graph.initializer)
    casts = (item.i for node in model.graph.node for item in node.attribute if item.name == "to")
    return FLOAT16 in {*tensors, *casts}


def widened(model: ModelProto) -> ModelProto:
    """A float32 graph with the values of a graph that has float16 in it: every rounding to float16 is kept as a pair of
    casts, and sums inside a node are in float32, as tensor cores' are.

    ONNX Runtime has few float16 kernels on x86. It widens such nodes itself, but leaves out the roundings between them,
    so that it would show less error than a device makes; and where scales are float16, its fusions of Q/DQ give wrong
    values (1.31). What ONNX Runtime is to judge in a device's place is therefore this graph.
    """
    import onnx
    from onnx import helper, numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = GraphView(copy)
    nodes = []
    for node in view.graph.node:
        new = type(node)()
        new.CopyFrom(node)
        nodes.append(new)
        for index, name in enumerate(node.output):
            if not name or view.dtype(name) != FLOAT16 or node.op_type in EXACT:
                continue
            half = view.fresh(f"{name}.half")
            if node.op_type == "Cast":
                new.output[index] = half
            else:
                new.output[index] = view.fresh(f"{name}.exact")
                nodes.append(helper.make_node("Cast", [new.output[index]], [half], to=FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [name], to=FLOAT))
    for tensor in view.graph.initializer:
        if tensor.data_type == FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return copy
