"""How near a graph of lower precision stays to the one it was made from, on real clips."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import GraphView
from export.precision.floats import FLOAT, FLOAT16, float_inputs
from export.precision.plan import PrecisionPlan
from runtime.engine import INPUT, OUTPUT, open_session
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto


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


def rounded(model: ModelProto, plan: PrecisionPlan) -> ModelProto:
    """A float32 graph that rounds to float16 whatever a node that `plan` puts in fp16 reads or gives out.

    ONNX Runtime has few float16 kernels on x86: it widens such nodes to float32 and leaves out the rounding between
    them, so that running the fp16 graph itself would show less error than a device makes. This one keeps each rounding
    (sums inside a node are in float32, as tensor cores' are).
    """
    import onnx
    from onnx import helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = GraphView(copy)
    nodes, done = [], {}

    def halved(name: str, wanted: str = "") -> str:
        if name not in done:
            half, back = view.fresh(f"{name}.half"), wanted or view.fresh(f"{name}.rounded")
            nodes.append(helper.make_node("Cast", [name], [half], to=FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [back], to=FLOAT))
            done[name] = back
        return done[name]

    for node in view.graph.node:
        new = type(node)()
        new.CopyFrom(node)
        if plan.of(node.name) != "fp16":
            nodes.append(new)
            continue
        for index, follows in float_inputs(node, view):
            maker = view.maker.get(node.input[index])
            if follows and (maker is None or plan.of(maker.name) != "fp16"):
                new.input[index] = halved(node.input[index])
        nodes.append(new)
        for index, name in enumerate(node.output):
            if name and view.dtype(name) == FLOAT:
                new.output[index] = view.fresh(f"{name}.exact")
                halved(new.output[index], name)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return copy
