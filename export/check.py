"""Does a graph fit a target: which node does not, by which rule, and what would make it fit. No device is touched.

The verdict joins four questions: what the runtime's version reads (the dialect, `export/rules.py`), what lowering can
rewrite, what the hardware computes in (the profile), and what of the precision asked for will not happen as asked.
A refusal always says why and what would help; what works otherwise than one may think is a note.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices import dialect as dialects
from devices.dialect import Dialect
from devices.schema import PRECISIONS, Profile
from export.graph import GraphView, known_sizes, name_nodes
from export.lowering import Lowered, attempt, lower
from export.rules import Finding, breaks, graph_findings
from runtime.errors import BadInput

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Finding", "Verdict", "check"]

QUANTISED = ("QuantizeLinear", "DequantizeLinear")
TOLD_NODES = 3  # nodes named in one line of a summary


@dataclass(frozen=True)
class Verdict:
    """Whether a graph fits, after what changes, and what to know of it."""

    fits: bool
    target: str
    dialect: str
    precision: str
    findings: list[Finding]
    lowered: list[Lowered]  # what lowering did (or would do) to make it fit

    @property
    def refusals(self) -> list[Finding]:
        """The findings because of which it does not fit."""
        return [item for item in self.findings if item.refuses]

    @property
    def reason(self) -> str:
        """The first refusal: node, why, and what would help."""
        first = self.refusals[0]
        where = f"node {first.node} ({first.op}): " if first.node else ""
        return f"{where}{first.says}{'; would fit: ' + first.remedy if first.remedy else ''}"

    @property
    def notes(self) -> list[Finding]:
        """What is to be known although it fits."""
        return [item for item in self.findings if not item.refuses]


def check(model: ModelProto, profile: Profile, dialect: Dialect, precision: str, dla: bool = False) -> Verdict:
    """Judge `model` for a target in a precision, with `dla` on its deep learning accelerator.

    Raises `BadInput` for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"no precision '{precision}'; known: {', '.join(PRECISIONS)}")
    named = _copied(model)
    lowered, done, stuck = attempt(named, dialect)
    view = GraphView(lowered)
    findings = [_not_lowered(item, stuck) for item in graph_findings(view, dialect)]
    findings = _with_other_software(findings, named, profile, dialect)
    findings += _precision(view, profile, dialect, precision, dla)
    if dla:
        findings += _dla(view, profile, dialect, precision)
    fits = not any(item.refuses for item in findings)
    return Verdict(fits, profile.name, dialect.name, precision, findings, done)


def _copied(model: ModelProto) -> ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy)
    return copy


def _not_lowered(finding: Finding, stuck: dict[str, str]) -> Finding:
    """A finding of the lowered graph: a lowering that it still names could not rewrite the node, so it is no remedy."""
    if not finding.lowering:
        return finding
    reason = stuck.get(finding.node, "")
    says = f"{finding.says}; it could not be rewritten{f': {reason}' if reason else ''}"
    instead = "write the network without it" if finding.node else "export it anew in an older opset"
    return dataclasses.replace(finding, says=says, remedy=instead, lowering="")


def _with_other_software(
    findings: list[Finding], model: ModelProto, profile: Profile, dialect: Dialect
) -> list[Finding]:
    """Add to the remedies which other software of the target reads the graph, if one does."""
    if not findings:
        return []
    for row in profile.software:
        if row.dialect != dialect.name:
            other = dialects.load(row.dialect)
            if not graph_findings(GraphView(lower(model, other)[0]), other):
                return [_also(item, f"{row.name} ({row.dialect}) on {profile.name} reads it") for item in findings]
    return findings


def _also(finding: Finding, remedy: str) -> Finding:
    return dataclasses.replace(finding, remedy=f"{finding.remedy}; or: {remedy}")


def _note(node: str, op: str, rule: str, says: str) -> Finding:
    return Finding(node, op, rule, says, "", refuses=False)


def _precision(view: GraphView, profile: Profile, dialect: Dialect, precision: str, dla: bool) -> Iterator[Finding]:
    """What the hardware and the runtime make of the precision."""
    if precision in profile.lacks:
        lack = profile.lacks[precision]
        says = f"{profile.name} does not compute in {precision}: {lack.reason}"
        yield Finding("", "", f"hardware-{precision}", says, lack.instead)
    elif precision not in dialect.precisions:
        says = f"{dialect.name} builds {', '.join(dialect.precisions)} only"
        yield Finding("", "", f"runtime-{precision}", says, f"--precision {dialect.precisions[0]}")
    yield from _hardware_gaps(view, profile, dialect)
    yield from _quantised(view, profile, dialect, precision)
    if precision != "fp32" and precision not in profile.lacks:
        yield _typing(dialect, precision, dla)
        for node in view.graph.node:
            if precision in dialect.quiet_precision.get(node.op_type, ()):
                says = f"no kernel of {dialect.name} runs {node.op_type} in {precision}; it stays in float"
                yield _note(node.name, node.op_type, f"stays-float-{precision}", says)


def _hardware_gaps(view: GraphView, profile: Profile, dialect: Dialect) -> Iterator[Finding]:
    from onnx import TensorProto

    for gap in dialect.gaps:
        if gap.compute_capability != profile.compute_capability:
            continue
        for node in view.graph.node:
            kinds = {TensorProto.DataType.Name(view.dtype(name)) for name in node.output if view.dtype(name)}
            if node.op_type in gap.ops and kinds & set(gap.types):
                says = f"{dialect.name} on compute capability {gap.compute_capability}, {node.op_type}: {gap.says}"
                yield Finding(node.name, node.op_type, gap.rule, says, gap.instead)


def typing_of(dialect: Dialect, dla: bool) -> str:
    """weak, strong or both: see `devices.dialect.Dialect`; its DLA has a way of its own."""
    return dialect.dla.typing if dla and dialect.dla else dialect.typing


def _typing(dialect: Dialect, precision: str, dla: bool) -> Finding:
    if precision == "int8" and dla and typing_of(dialect, dla) == "weak":
        how = "ranges of tensors that stand beside the graph, and the builder's flag: its DLA reads no Q/DQ"
    elif precision == "int8":
        how = f"Q/DQ nodes in the graph ({dialect.qdq.says})"
    elif typing_of(dialect, dla) == "weak":
        how = "the builder's flag; what must stay FP32 is held there layer by layer"
    else:
        how = "the types of the graph: casts are written into it"
    return _note("", "", f"how-{precision}", f"{dialect.name} takes {precision} from {how}")


def _quantised(view: GraphView, profile: Profile, dialect: Dialect, precision: str) -> Iterator[Finding]:
    """Q/DQ that the graph holds already."""
    from onnx import TensorProto

    nodes = [node for node in view.graph.node if node.op_type in QUANTISED]
    if not nodes:
        return
    first = nodes[0]
    if "int8" in profile.lacks and precision != "int8":  # else it was said
        lack = profile.lacks["int8"]
        says = f"the graph is quantised (Q/DQ from here on), and {profile.name} does not compute in int8: {lack.reason}"
        yield Finding(first.name, first.op_type, "hardware-int8", says, f"a graph without Q/DQ; {lack.instead}")
    elif precision != "int8":
        says = f"the graph is quantised already (Q/DQ from here on): the engine is int8, not {precision}"
        yield _note(first.name, first.op_type, "already-int8", says)
    signed = [node for node in nodes if node.op_type == "QuantizeLinear" and _kind(view, node) == TensorProto.INT8]
    if dialect.runtime == "onnxruntime" and signed:
        says = "signed activations are slower than float here; unsigned ones (u8s8) are fast"
        yield _note(signed[0].name, "QuantizeLinear", "slow-flavour", says)


def _kind(view: GraphView, node: NodeProto) -> int:
    return view.dtype(node.output[0])


def _dla(view: GraphView, profile: Profile, dialect: Dialect, precision: str) -> Iterator[Finding]:
    """What of the graph the deep learning accelerator takes."""
    if profile.dla is None:
        yield Finding("", "", "dla-missing", f"{profile.name} has no DLA", "leave out --dla")
        return
    facts = dialect.dla
    if facts is None or (facts.devices and profile.name not in facts.devices):
        says = f"{dialect.name} does not drive the DLA of {profile.name}"
        readers = [row.name for row in profile.software if dialects.load(row.dialect).dla is not None]
        other = f"{readers[0]} does; or " if readers and facts is None else ""
        yield Finding("", "", "dla-not-driven", says, f"{other}build for its GPU (without --dla)")
        return
    if precision not in facts.precisions:
        says = f"on DLA signedge builds {', '.join(facts.precisions)} only, not {precision}"
        yield Finding("", "", f"dla-{precision}", says, f"--precision {facts.precisions[0]}")
    entry = view.inputs[0]
    if not known_sizes(view.shape(entry) or (None,)):
        says = f"DLA takes fixed sizes only, and the input '{entry}' leaves {_open_axes(view, entry)} open"
        yield Finding("", "", "dla-dynamic", says, "make it for clips of one length (--frames N)")
    left = [node for node in view.graph.node if not _taken(view, node, facts)]
    if len(left) == len(view.graph.node):
        says = f"DLA takes no node of this graph: {facts.says}"
        yield Finding("", "", "dla-nothing", says, "build for its GPU (without --dla)")
    else:
        taken, stretches = _stretches(view, left)
        says = f"DLA takes {taken} of {len(view.graph.node)} nodes, in {stretches} parts; between them works the GPU"
        yield _note("", "", "dla-share", says)
    for node in left:
        yield _note(node.name, node.op_type, "dla-fallback", f"{node.op_type} runs on the GPU: DLA does not take it so")


def _stretches(view: GraphView, left: list[NodeProto]) -> tuple[int, int]:
    """(nodes that DLA takes, groups of them that are joined by tensors alone)."""
    on_gpu = {node.output[0] for node in left}
    group: dict[str, int] = {}  # tensors of DLA -> number of their group
    for node in view.graph.node:
        if node.output[0] not in on_gpu:
            joined = {group[name] for name in node.input if name in group}
            mine = min(joined, default=len(group))
            group = {name: mine if number in joined else number for name, number in group.items()}
            group[node.output[0]] = mine
    return len(group), len(set(group.values()))


def _taken(view: GraphView, node: NodeProto, facts: dialects.Dla) -> bool:
    if node.op_type not in facts.ops:
        return False
    return not any(breaks(view, node, limit) for limit in facts.limits if node.op_type in limit.ops)


def _open_axes(view: GraphView, name: str) -> str:
    return ", ".join(str(axis or "?") for axis in view.shape(name) or () if not isinstance(axis, int)) or "all axes"


def summary(verdict: Verdict) -> list[str]:
    """The verdict in lines for a person: passes, refusals and notes, nodes of the same told together."""
    lines = []
    for name in dict.fromkeys(item.pass_name for item in verdict.lowered):
        items = [item for item in verdict.lowered if item.pass_name == name]
        lines.append(f"lowering {name}: {items[0].why}{_nodes([item.node for item in items])}")
    for (rule, says, remedy), nodes in _grouped(verdict.refusals).items():
        lines += [f"refused by {rule}: {says}{_nodes(nodes)}", f"  would fit: {remedy}"]
    for (_, says, _), nodes in _grouped(verdict.notes).items():
        lines.append(f"note: {says}{_nodes(nodes)}")
    return lines


def _grouped(findings: list[Finding]) -> dict[tuple[str, str, str], list[str]]:
    """Nodes of the findings that say the same."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for item in findings:
        found.setdefault((item.rule, item.says, item.remedy), []).append(item.node)
    return found


def _nodes(names: list[str]) -> str:
    named = [name for name in names if name]
    if not named:
        return ""
    more = f" and {len(named) - TOLD_NODES} more" if len(named) > TOLD_NODES else ""
    return f" ({', '.join(named[:TOLD_NODES])}{more})"
