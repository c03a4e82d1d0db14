"""Passes that rewrite a graph in what a dialect reads, and the proof that it computes the same afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.dialect import Dialect
from export import parity
from export.graph import GraphView, name_nodes
from export.lowering import activations, attention, einsum, group_norm, layer_norm, opset
from export.rules import graph_findings
from runtime.contract import Contract
from runtime.errors import CriterionFailed, Refused

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True)
class Pass:
    """One way to write operators in others."""

    says: str
    ops: frozenset[str]  # operators that it can replace
    run: Callable[[GraphView, NodeProto], list[NodeProto]] | None  # None: works on the whole graph


PASSES: dict[str, Pass] = {
    "layer_norm": Pass(layer_norm.SAYS, layer_norm.OPS, layer_norm.run),
    "group_norm": Pass(group_norm.SAYS, group_norm.OPS, group_norm.run),
    "einsum": Pass(einsum.SAYS, einsum.OPS, einsum.run),
    "attention": Pass(attention.SAYS, attention.OPS, attention.run),
    "activations": Pass(activations.SAYS, activations.OPS, activations.run),
    "opset": Pass(opset.SAYS, opset.OPS, None),
}


@dataclass(frozen=True)
class Lowered:
    """One change that a pass made."""

    pass_name: str
    node: str
    why: str


def lower(model: ModelProto, dialect: Dialect) -> tuple[ModelProto, list[Lowered]]:
    """A copy of `model` with what `dialect` does not read rewritten, and what was done.

    Only what needs it is touched; metadata stays. What no pass can rewrite is left as it is, for `check` to name.
    """
    lowered, done, _ = attempt(model, dialect)
    return lowered, done


def attempt(model: ModelProto, dialect: Dialect) -> tuple[ModelProto, list[Lowered], dict[str, str]]:
    """`lower`, and of each node that its pass could not rewrite (of the whole graph: "") the reason."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy)
    view = GraphView(copy)
    stuck: dict[str, str] = {}
    done = _rewrite_nodes(view, dialect, stuck)
    if view.opset > dialect.max_opset:
        done += _older_opset(view, dialect, stuck)
    if done:
        view.drop_unused()
    return copy, done, stuck


def _rewrite_nodes(view: GraphView, dialect: Dialect, stuck: dict[str, str]) -> list[Lowered]:
    done: list[Lowered] = []
    while True:
        findings = {item.node: item for item in graph_findings(view, dialect) if item.lowering and item.node}
        change: dict[int, Sequence[NodeProto]] = {}
        for index, node in enumerate(view.graph.node):
            found = findings.get(node.name)
            if found is None or node.name in stuck:
                continue
            run = PASSES[found.lowering].run
            assert run is not None
            try:
                change[index] = run(view, node)
                done.append(Lowered(found.lowering, node.name, found.says))
            except Refused as error:
                stuck[node.name] = str(error)
        if not change:
            return done
        view.rewrite(change)


def _older_opset(view: GraphView, dialect: Dialect, stuck: dict[str, str]) -> list[Lowered]:
    import onnx

    before = onnx.ModelProto()
    before.CopyFrom(view.model)
    newest = view.opset
    try:
        changes = opset.downgrade(view, dialect.max_opset)
    except Refused as error:
        view.model.CopyFrom(before)
        view.refresh()
        stuck[""] = str(error)
        return []
    why = f"{dialect.name} reads opset {dialect.max_opset} at most"
    return [Lowered("opset", "", f"opset {newest} to {dialect.max_opset}: {why}")] + [
        Lowered("opset", node, what) for node, what in changes
    ]


def prove(
    before: ModelProto, after: ModelProto, contract: Contract | None, tolerance: float = parity.TOLERANCE
) -> list[parity.Difference]:
    """Run both graphs in ONNX Runtime on the same clips of several lengths, and measure how far they are apart.

    With a contract, the clips are plausible ones of the lengths `parity.FRAMES`, and three at once where the graph
    leaves their number open; without, inputs are noise, of one clip and several lengths where it leaves sizes open.
    Raises `CriterionFailed` naming the length where a graph cannot run, gives another shape, or is further off than
    `tolerance`.
    """
    sessions = [_session(model) for model in (before, after)]
    found = []
    for frames, clips, inputs in _cases(before, contract):
        results = [_run(session, inputs, frames) for session in sessions]
        difference = 0.0
        for wanted, given in zip(*results, strict=True):
            if wanted.shape != given.shape:
                change = f"{wanted.shape} became {given.shape}"
                raise CriterionFailed(f"lowering changed the shape of the result at {frames} frames: {change}")
            if wanted.size:
                difference = max(difference, float(np.abs(wanted.astype(np.float64) - given).max()))
        found.append(parity.Difference(frames, clips, difference))
    parity.require(found, tolerance)
    return found


def _cases(model: ModelProto, contract: Contract | None) -> list[tuple[int, int, dict[str, np.ndarray]]]:
    """(frames, clips, inputs) of every run."""
    from onnx import helper

    if contract is not None:
        return _plausible(GraphView(model), contract)
    cases = []
    for frames in (16, 24, 64):
        rng = np.random.default_rng(frames)
        inputs = {}
        for item in model.graph.input:
            if item.name not in {tensor.name for tensor in model.graph.initializer}:
                tensor = item.type.tensor_type
                sizes = [dim.dim_value or (1 if place == 0 else frames) for place, dim in enumerate(tensor.shape.dim)]
                noise = rng.normal(size=sizes)
                inputs[item.name] = noise.astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        cases.append((frames, 1, inputs))
    return cases


def _plausible(view: GraphView, contract: Contract) -> list[tuple[int, int, dict[str, np.ndarray]]]:
    several = not contract.padding.frames and not isinstance((view.shape(view.inputs[0]) or (1,))[0], int)
    one = contract.padding.frames
    lengths = dict.fromkeys(min(frames, one) if one else frames for frames in parity.FRAMES)  # longer: windows
    cases = [(frames, 1) for frames in lengths] + [(parity.FRAMES[1], 3)] * several
    made = []
    for frames, clips in cases:
        x = np.concatenate([parity.plausible_clip(contract, frames, seed) for seed in range(clips)])
        made.append((frames, clips, {view.inputs[0]: x}))
    return made


def _session(model: ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CriterionFailed(f"ONNX Runtime cannot open the graph: {str(error).splitlines()[0]}") from error


def _run(session: Any, inputs: dict[str, np.ndarray], frames: int) -> list[np.ndarray]:
    try:
        return session.run(None, inputs)
    except Exception as error:
        raise CriterionFailed(f"the graph cannot run {frames} frames: {str(error).splitlines()[0]}") from error
